"""An ensemble of digit transformers in one program, against torch runs one after another.

    python benchmarks/training.py [--steps T] [--torch-runs R] [--out FILE]

8 seeds x 8 learning rates of the vision transformer (N, H, L) = (8, 4, 2) on digits, batch 32,
AdamW in float32. Ours is one call of `train.train` on every core that JAX takes, compilation and
data included; and besides, two processes of one thread with half of the seeds each, which is how
`translimit run` takes cells to two cores, start of the interpreters included. Theirs is plain
PyTorch eager, the same network, at one thread and at two: the faster thread count is taken, R
whole runs are timed and their time is scaled to 64. Processor seconds stand beside the clock's: on
a shared machine they say more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from translimit import data, describe, train

SHAPE = describe.TransformerShape(
    head_dim=8, heads=4, layers=2, tokens=8, outputs=10, patch_dim=8, mlp_ratio=2.0
)
SEEDS, BATCH = 8, 32
RATES = tuple(float(rate) for rate in np.geomspace(1e-4, 3e-2, 8))
RUNS = SEEDS * len(RATES)


class Block(nn.Module):
    """Pre-LN attention and MLP."""

    def __init__(self):
        super().__init__()
        dim = SHAPE.dim
        self.first, self.second = (nn.LayerNorm(dim, eps=SHAPE.norm_eps) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, SHAPE.hidden), nn.Linear(SHAPE.hidden, dim)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """The stream [batch, tokens, dim] after the block."""
        batch, tokens, dim = h.shape
        u = self.first(h)
        q, k, v = (
            layer(u).view(batch, tokens, SHAPE.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        h = h + self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return h + self.down(functional.gelu(self.up(self.second(h))))


class VisionTransformer(nn.Module):
    """The network of `SHAPE`."""

    def __init__(self):
        super().__init__()
        dim = SHAPE.dim
        self.embedding = nn.Linear(SHAPE.patch_dim or 1, dim)
        self.positions = nn.Parameter(0.5 * torch.randn(SHAPE.tokens, dim))
        self.blocks = nn.ModuleList(Block() for _ in range(SHAPE.layers))
        self.norm, self.readout = nn.LayerNorm(dim), nn.Linear(dim, SHAPE.outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs [batch, outputs]."""
        h = self.embedding(x) + self.positions
        for block in self.blocks:
            h = block(h)
        return self.readout(self.norm(h).mean(1))


def now() -> np.ndarray:
    """Seconds of the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def torch_seconds(rate: float, steps: int) -> tuple[np.ndarray, float]:
    """Seconds of one run, and its mean loss over the last tenth."""
    source, losses = data.digit_patches(), []
    start = now()
    model = VisionTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        inputs, labels = source.batch(0, step, BATCH)
        loss = functional.cross_entropy(
            model(torch.from_numpy(inputs)), torch.from_numpy(labels).long()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = now() - start
    return seconds, float(np.mean(losses[-max(1, steps // 10) :]))


def our_seconds(steps: int, seeds: int = SEEDS, part: int = 0) -> tuple[np.ndarray, Any]:
    """Seconds of the ensemble, and its history."""
    training = train.Training(steps=steps, rates=RATES, seeds=seeds, batch=BATCH)
    start = now()
    history = train.train(SHAPE, None, data.digit_patches(), training, key=jax.random.key(part))
    return now() - start, history


def process_seconds(steps: int, count: int = 2) -> float:
    """Seconds of the clock for the ensemble in several processes of one thread each."""
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    environment = {**os.environ, **one, "PJRT_NPROC": "1"}
    command = [sys.executable, __file__, "--steps", str(steps), "--part"]
    start = time.perf_counter()
    parts = [
        subprocess.Popen([*command, f"{SEEDS // count},{index}"], env=environment)
        for index in range(count)
    ]
    if any(part.wait() for part in parts):
        raise RuntimeError("a process of the ensemble failed")
    return time.perf_counter() - start


def main() -> int:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--torch-runs", type=int, default=4)
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        our_seconds(options.steps, *map(int, options.part.split(",")))
        return 0
    steps, count = options.steps, options.torch_runs
    ours, history = our_seconds(steps)
    again, _ = our_seconds(steps)
    apart = process_seconds(steps)
    torch.manual_seed(0)
    short = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch_seconds(RATES[4], 20)
        short[threads] = float(torch_seconds(RATES[4], 100)[0][0])
    threads = min(short, key=lambda number: short[number])
    torch.set_num_threads(threads)
    picked = np.linspace(0, len(RATES) - 1, count).round().astype(int)
    runs = [torch_seconds(RATES[index], steps) for index in picked]
    theirs = RUNS / count * np.sum([seconds for seconds, _ in runs], axis=0)
    ratio, warm = theirs / ours, theirs / again
    cores = os.environ.get("PJRT_NPROC", str(os.cpu_count()))
    last = np.nanmean(history.losses[:, picked, -max(1, steps // 10) :], axis=(0, 2))
    print(f"{RUNS} runs of {steps} steps, {SHAPE.parameter_count} parameters, batch {BATCH}")
    print(f"  ours, {cores} threads: {ours[0]:.1f} s with compilation, {again[0]:.1f} s without")
    print(
        f"  torch eager, {threads} thread(s): {theirs[0]:.1f} s "
        f"({count} of {RUNS} runs timed; 100 steps took "
        + ", ".join(f"{seconds:.2f} s at {number}" for number, seconds in short.items())
        + ")"
    )
    print(f"  ratio {ratio[0]:.2f} with compilation, {warm[0]:.2f} without")
    print(
        f"  ours in two processes of one thread: {apart:.1f} s with compilation, "
        f"ratio {theirs[0] / apart:.2f}"
    )
    print(
        f"  processor seconds: ours {ours[1]:.1f} with compilation and {again[1]:.1f} without, "
        f"torch {theirs[1]:.1f}, ratio {ratio[1]:.2f} and {warm[1]:.2f}"
    )
    for index, (_, loss), mean in zip(picked, runs, last, strict=True):
        print(f"  loss at rate {RATES[index]:.1e}: ours {mean:.3f}, torch {loss:.3f}")
    if options.out:
        result = {
            "ours_s": ours.tolist(),
            "ours_compiled_s": again.tolist(),
            "ours_two_processes_s": apart,
            "torch_s": theirs.tolist(),
            "torch_threads": threads,
            "our_threads": cores,
            "ratio": ratio.tolist(),
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
