"""Tokens a second of one larger causal model in float32, beside torch eager on the same device.

    python benchmarks/larger_model.py [--layers L] [--dim D] [--tokens T] [--batch B] [--steps N]

Ours is `train.train` as a user calls it, with its batches and its loop; the first chunk, which
compiles, is left out. Theirs is the same network in plain PyTorch with its fused attention and
AdamW. They take turns, as many rounds as asked for, and the best of each counts, in seconds of the
clock and of the processor. The rate of the machine is that of 2,048-cubed products in float32,
measured by torch in the same run; operations of a token are 6 for each weight of a matrix and
6 L d T for causal attention.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from training_gpu import LanguageModel, wait
from translimit import data, describe, train

RATE = 3e-4


def now() -> np.ndarray:
    """Seconds of the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def our_seconds(shape: describe.TransformerShape, batch: int, steps: int) -> tuple[Any, float]:
    """Seconds a step of `train.train` after its first chunk, and the last loss."""
    marks: list[np.ndarray] = []
    history = train.train(
        shape,
        None,
        data.byte_text(tokens=shape.tokens),
        train.Training(steps=1 + steps, rates=(RATE,), batch=batch),
        key=jax.random.key(0),
        # A chunk ends at an observation: here of the loss of one sequence, and nothing in between.
        observe=(train.ProbeLoss(),),
        observe_at=(1, 1 + steps),
        probe=1,
        progress=lambda _: marks.append(now()),
    )
    return (marks[-1] - marks[0]) / steps, float(history.losses[0, 0, -1])


def torch_seconds(
    shape: describe.TransformerShape, batch: int, steps: int, device: str
) -> tuple[Any, float]:
    """Seconds a step of torch eager after one step, and the last loss."""
    torch.manual_seed(0)
    source = data.byte_text(tokens=shape.tokens)
    network = LanguageModel(shape).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    start, loss = now(), torch.zeros(())
    for step in range(1 + steps):
        if step == 1:
            wait(device)
            start = now()
        inputs, targets = source.batch(0, step, batch)
        x, y = (torch.from_numpy(np.asarray(a, np.int64)).to(device) for a in (inputs, targets))
        loss = functional.cross_entropy(network(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    wait(device)
    return (now() - start) / steps, loss.item()


def product_rate(device: str, size: int = 2048) -> float:
    """Operations a second of square products in float32."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    times = []
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        wait(device)
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)


def main() -> int:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("layers", 8), ("dim", 512), ("tokens", 256), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    shape = describe.TransformerShape(
        64, options.dim // 64, layers=options.layers, tokens=options.tokens, mlp_ratio=4.0,
        vocabulary=256, outputs=256, causal=True, pooled=False,
    )  # fmt: skip
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    peak = product_rate(device)
    matrices = shape.layers * (4 * shape.dim**2 + 2 * shape.dim * shape.hidden)
    operations = 6.0 * (matrices + shape.dim * shape.outputs)
    operations += 6.0 * shape.layers * shape.dim * shape.tokens
    step = options.batch * shape.tokens
    print(
        f"{shape.parameter_count / 1e6:.0f} M parameters, {shape.layers} layers of {shape.dim}, "
        f"batch {options.batch} x {shape.tokens} tokens, float32, {device}; "
        f"a product: {peak / 1e9:,.0f} Gflop/s"
    )
    runs = {
        "ours": lambda: our_seconds(shape, options.batch, options.steps),
        "torch eager": lambda: torch_seconds(shape, options.batch, options.steps, device),
    }
    found: dict[str, list[Any]] = {name: [] for name in runs}
    losses: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            seconds, losses[name] = run()
            found[name].append(seconds)
    result: dict[str, Any] = {"product_flops": peak, "operations_per_token": operations}
    for name, rows in found.items():
        wall, processor = np.min(rows, axis=0)
        result[name] = {"wall_s": wall, "processor_s": processor, "loss": losses[name]}
        print(
            f"  {name:12s} {step / wall:8,.0f} tokens/s ({wall:.2f} s a step, {processor:.2f} of "
            f"processors), {step * operations / wall / peak:.2f} of the product's rate, "
            f"loss {losses[name]:.3f}",
            flush=True,
        )
    ratios = {
        kind: result["torch eager"][kind] / result["ours"][kind]
        for kind in ("wall_s", "processor_s")
    }
    result["ratio"] = ratios
    print(f"  ratio {ratios['wall_s']:.2f}, of processor seconds {ratios['processor_s']:.2f}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
