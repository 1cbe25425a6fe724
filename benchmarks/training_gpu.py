"""Training on a GPU: tokens per second, fraction of the card's rate, and torch beside it.

    python benchmarks/training_gpu.py [--steps T] [--tiny] [--no-compile] [--out FILE]

Two parts. A causal language model of GPT-2's sizes (12 layers, 12 heads of 64, 1,024 tokens) on
bytes, in bfloat16 with float32 weights: ours is `train.train` with its batches and its loop, the
first chunk left out, since it compiles; torch is the same network under autocast with its fused
attention and fused AdamW, eager and compiled. The rate of the card is that of one 8,192-cubed
product in bfloat16, measured in the same run; operations of a token are 6 for each weight of the
matrices and 6 L d T for causal attention. And the ensemble of `benchmarks/training.py`: 64 digit
transformers in one program, against torch eager on the same card, one after another.

Without a GPU it says so and ends; `--tiny` runs small sizes anywhere, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional

import training as small
from translimit import data, describe, train

GPT2 = {"head_dim": 64, "heads": 12, "layers": 12, "tokens": 1024, "mlp_ratio": 4.0}
TINY = {"head_dim": 8, "heads": 2, "layers": 2, "tokens": 32, "mlp_ratio": 4.0}


class Block(nn.Module):
    """Pre-LN causal attention and MLP."""

    def __init__(self, shape: describe.TransformerShape):
        super().__init__()
        self.heads, dim = shape.heads, shape.dim
        self.first, self.second = (nn.LayerNorm(dim, eps=shape.norm_eps) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, shape.hidden), nn.Linear(shape.hidden, dim)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """The stream [batch, tokens, dim] after the block."""
        batch, tokens, dim = h.shape
        u = self.first(h)
        q, k, v = (
            layer(u).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return h + self.down(functional.gelu(self.up(self.second(h))))


class LanguageModel(nn.Module):
    """The torch network of a shape."""

    def __init__(self, shape: describe.TransformerShape):
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary or 256, shape.dim)
        self.positions = nn.Parameter(0.5 * torch.randn(shape.tokens, shape.dim))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm, self.readout = nn.LayerNorm(shape.dim), nn.Linear(shape.dim, shape.outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, tokens, outputs]."""
        h = self.embedding(tokens) + self.positions
        for block in self.blocks:
            h = block(h)
        return self.readout(self.norm(h))


def wait(device: str) -> None:
    """Until the card has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def our_rate(shape: describe.TransformerShape, batch: int, steps: int) -> tuple[float, float]:
    """Tokens per second of `train.train` after its first chunk, and the last loss."""
    marks: list[float] = []
    training = train.Training(
        steps=3 * steps, rates=(3e-4,), batch=batch, precision="bfloat16",
        optimizer=train.Optimizer("adamw"),
    )  # fmt: skip
    history = train.train(
        shape,
        None,
        data.byte_text(tokens=shape.tokens),
        training,
        key=jax.random.key(0),
        # Each chunk ends at an observation: of the loss of one sequence.
        observe=(train.ProbeLoss(),),
        observe_at=(steps, 2 * steps, 3 * steps),
        probe=1,
        progress=lambda _: marks.append(time.perf_counter()),
    )
    done = 2 * steps * batch * shape.tokens
    return done / (marks[-1] - marks[-1 - (len(marks) * 2) // 3]), float(history.losses[0, 0, -1])


def torch_rate(
    shape: describe.TransformerShape, batch: int, steps: int, compiled: bool, device: str
) -> tuple[float, float]:
    """Tokens per second of torch after some steps of warm-up, and the last loss."""
    torch.manual_seed(0)
    source = data.byte_text(tokens=shape.tokens)
    network: Any = LanguageModel(shape).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=3e-4, betas=(0.9, 0.95), fused=device == "cuda"
    )
    if compiled:
        network = torch.compile(network)
    start, loss = 0.0, torch.zeros(())
    warm = 5
    for step in range(warm + steps):
        if step == warm:
            wait(device)
            start = time.perf_counter()
        inputs, targets = source.batch(0, step, batch)
        x, y = (torch.from_numpy(np.asarray(a, np.int64)).to(device) for a in (inputs, targets))
        with torch.autocast(device, torch.bfloat16):
            outputs = network(x)
        loss = functional.cross_entropy(outputs.float().flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    wait(device)
    return steps * batch * shape.tokens / (time.perf_counter() - start), loss.item()


def card_rate(size: int) -> float:
    """Operations per second of one square product in bfloat16."""
    a, b = (jax.random.normal(jax.random.key(i), (size, size), jnp.bfloat16) for i in range(2))
    product = jax.jit(lambda a, b: a @ b)
    product(a, b).block_until_ready()
    start = time.perf_counter()
    for _ in range(10):
        a = product(a, b) * jnp.bfloat16(size**-0.5)
    a.block_until_ready()
    return 10 * 2.0 * size**3 / (time.perf_counter() - start)


def ensemble(steps: int, device: str) -> dict[str, float]:
    """Seconds of 64 digit transformers: ours in one program, torch one after another."""
    ours = [float(small.our_seconds(steps)[0][0]) for _ in range(2)]
    source = data.digit_patches()

    def alone(count: int) -> float:
        network = small.VisionTransformer().to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=device == "cuda")
        start = time.perf_counter()
        for step in range(count):
            inputs, labels = source.batch(0, step, small.BATCH)
            x = torch.from_numpy(inputs).to(device)
            y = torch.from_numpy(labels).long().to(device)
            loss = functional.cross_entropy(network(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        wait(device)
        return time.perf_counter() - start

    alone(20)
    theirs = alone(steps) * small.RUNS
    return {"ours_s": ours[0], "ours_compiled_s": ours[1], "torch_s": theirs}


def main() -> int:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on any machine")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not options.tiny and (device == "cpu" or jax.default_backend() != "gpu"):
        print("no GPU is there (or JAX or torch does not see it): nothing was measured")
        return 0
    shape = describe.TransformerShape(
        **(TINY if options.tiny else GPT2),
        vocabulary=256, outputs=256, causal=True, pooled=False,
    )  # fmt: skip
    steps, batch = (2, 2) if options.tiny else (options.steps, options.batch)
    print(f"{jax.devices()[0].device_kind}: JAX {jax.__version__}, torch {torch.__version__}")
    card = card_rate(64 if options.tiny else 8192)
    matrices = shape.layers * (4 * shape.dim**2 + 2 * shape.dim * shape.hidden)
    matrices += shape.dim * shape.outputs
    operations = 6.0 * matrices + 6.0 * shape.layers * shape.dim * shape.tokens
    print(f"one product in bfloat16: {card / 1e12:.0f} Tflop/s")
    print(
        f"{shape.parameter_count / 1e6:.0f} M parameters, batch {batch} x {shape.tokens} tokens, "
        f"{operations / 1e6:.0f} Mflop a token"
    )
    result: dict[str, Any] = {"card_flops": card, "operations_per_token": operations}
    rows = [("ours", lambda: our_rate(shape, batch, steps))]
    rows.append(("torch eager", lambda: torch_rate(shape, batch, steps, False, device)))
    if not options.no_compile and not options.tiny:
        rows.append(("torch compiled", lambda: torch_rate(shape, batch, steps, True, device)))
    for name, measure in rows:
        rate, loss = measure()
        result[name] = {"tokens_per_s": rate, "loss": loss}
        print(
            f"  {name:15s} {rate:12,.0f} tokens/s, {rate * operations / card:.2f} of the product's "
            f"rate, loss {loss:.3f}",
            flush=True,
        )
    mine = result["ours"]["tokens_per_s"]
    for name, _ in rows[1:]:
        print(f"  ratio to {name}: {mine / result[name]['tokens_per_s']:.2f}")
    found = ensemble(10 if options.tiny else 500, device)
    result["ensemble"] = found
    print(
        f"64 digit transformers: ours {found['ours_s']:.1f} s with compilation and "
        f"{found['ours_compiled_s']:.1f} s without, torch {found['torch_s']:.0f} s; ratio "
        f"{found['torch_s'] / found['ours_s']:.1f} and "
        f"{found['torch_s'] / found['ours_compiled_s']:.1f}"
    )
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
