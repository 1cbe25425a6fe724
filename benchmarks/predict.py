"""Seconds of what `predict` asks of a stack, against its sizes and against drawn networks.

    python benchmarks/predict.py [--quick] [--large] [--out FILE]

1. A stack of GPT-2's kind (12 layers, 48 tokens, width 768, heads of 64), with one of the three
   sizes changed at a time: seconds of the wall (of the processor) of the recursion forward and
   backward, of the recursion forward alone, of the spread over networks, and of 16 networks with
   all weights drawn by the careful NumPy of `support/network_numpy.py`, forward and backward. All
   are timed warm: what compiles is called once before, and the seconds of the first calls of
   recursion and spread are told beside. All sizes are measured in one run. Fitted exponents are
   slopes of the logarithms, with the standard error that the scatter about the line gives.
2. That all answer the same question: the mean overlap after the last layer, by drawn networks and
   by the chain of the same width, in standard errors of their difference; the spread's deviation
   over networks beside that of the drawn ones.
3. With --large: a stack of a 70B model's sizes with 512 tokens, and GPT-2 with 1,024 tokens, with
   as many heads as `predict` draws for them, in single precision as there.

The drawn networks cost the same each: where 16 would take longer than a few seconds, fewer are
timed and scaled. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from support import network_numpy
from translimit import solve
from translimit.core import available_cores
from translimit.describe import (
    Activation,
    Attention,
    Embedding,
    FeedForward,
    Frequencies,
    Norm,
    Normalisation,
    Stack,
    pre_norm_stack,
)
from translimit.limits.signal import Chain, Recursion, SignalPropagation, spread
from translimit.predict.signals import FEW_PAIRS, Effort

BASE = {"layers": 12, "tokens": 48, "dim": 768}
SWEEPS = {
    "layers": (6, 12, 24, 48),
    "tokens": (24, 48, 96, 192),
    "dim": (192, 384, 768, 1536),
}
HEAD, STD = 64, 0.02
#: Networks that are compared with, and those that part 2 takes to tell their mean and deviation.
NETWORKS, CHECKED = 16, 32
#: Seconds after which no further drawn network is timed.
PATIENCE = 4.0
#: Largest difference of means, in standard errors, that counts as one law.
LARGEST_Z = 4.5
ANSWERS = ("recursion", "forward", "spread", "drawn")
#: Seconds of the wall that part 3 may take.
LARGE_TARGETS = {
    "70B, 512 tokens, recursion": 20.0,
    "70B, 512 tokens, spread": 90.0,
    "GPT-2, 1024 tokens, forward": 30.0,
}

Seconds = tuple[float, float]


def gpt2(layers: int, dim: int) -> Stack:
    out = STD / math.sqrt(2 * layers)
    return pre_norm_stack(
        dim,
        layers,
        Attention(dim // HEAD, HEAD, STD, STD, STD, out),
        FeedForward(4 * dim, Activation.GELU_TANH, STD, out),
        norm=Normalisation(Norm.LAYER, 1e-5),
        embedding=Embedding(STD, position_std=STD),
    )


def llama_70b() -> Stack:
    attention = Attention(
        64, 128, STD, STD, STD, STD, kv_heads=8, rotary=Frequencies.geometric(128, 5e5)
    )
    units = FeedForward(28_672, Activation.SILU, STD, STD, gated=True)
    norm = Normalisation(Norm.RMS, 1e-5)
    return pre_norm_stack(8192, 80, attention, units, norm=norm, embedding=Embedding(STD))


def text_ids(tokens: int) -> np.ndarray:
    """Ids with repeats, as a text has."""
    return np.arange(tokens) ** 2 % (tokens - 1)


def timed(run: Callable[[], Any]) -> Seconds:
    """Seconds of the wall and of the processor of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def least(run: Callable[[], Any], repeats: int) -> Seconds:
    """The least of several calls, of each clock for itself."""
    found = [timed(run) for _ in range(repeats)]
    return min(wall for wall, _ in found), min(processor for _, processor in found)


def drawn_networks(count: int, layers: int, tokens: int, dim: int) -> list[np.ndarray]:
    """Mean overlaps by level of networks with all weights drawn."""
    sizes = {"layers": layers, "dim": dim, "heads": dim // HEAD, "std": STD}
    streams = np.random.default_rng(0).spawn(count)
    return [network_numpy.simulate(rng, text_ids(tokens), **sizes)[0] for rng in streams]


def drawn_seconds(layers: int, tokens: int, dim: int) -> Seconds:
    """Seconds of 16 drawn networks, from as many as patience allows; the first warms up."""
    drawn_networks(1, layers, tokens, dim)
    count, total = 0, np.zeros(2)
    while count < NETWORKS and (not count or total[0] < PATIENCE):
        total += timed(lambda: drawn_networks(1, layers, tokens, dim))
        count += 1
    wall, processor = total * NETWORKS / count
    return float(wall), float(processor)


def runs_of(stack: Stack, tokens: int) -> dict[str, Callable[[], Any]]:
    """The answers that are compiled, by name."""
    initial, key = stack.initial_cov(text_ids(tokens)), jax.random.key(0)
    both = SignalPropagation(stack=stack, initial=initial)
    alone = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
    return {
        "recursion": lambda: solve(both, Recursion(), key=key),
        "forward": lambda: solve(alone, Recursion(), key=key),
        "spread": lambda: spread(alone, key=key),
    }


@functools.cache
def measure(layers: int, tokens: int, dim: int, repeats: int) -> dict[str, Any]:
    """All answers at one size."""
    row: dict[str, Any] = {"layers": layers, "tokens": tokens, "dim": dim}
    for name, run in runs_of(gpt2(layers, dim), tokens).items():
        row[f"{name}_first"] = timed(run)
        row[name] = least(run, repeats)
    row["drawn"] = drawn_seconds(layers, tokens, dim)
    return row


def exponent(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """The slope of the logarithms, and its standard error from the scatter about the line."""
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / max(1, len(x) - 2) / float(x @ x))
    return slope, error


def sweep(name: str, sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Part 1 for one of the sizes."""
    print(f"\nseconds of the wall (of the processor) against {name}, else {_but(name)}")
    print(f"{name:>8}{'first call':>12}" + "".join(f"{one:>18}" for one in ANSWERS) + "   drawn /")
    print(" " * (20 + 18 * len(ANSWERS)) + "   (recursion + spread)")
    rows = []
    for size in sizes:
        row = measure(**{**BASE, name: size}, repeats=repeats)
        rows.append(row)
        cells = "".join(f"{row[one][0]:>9.2f} ({row[one][1]:6.2f})" for one in ANSWERS)
        first = row["recursion_first"][0] + row["spread_first"][0]
        both = [row["recursion"][clock] + row["spread"][clock] for clock in (0, 1)]
        row["ratio"], row["processor_ratio"] = (row["drawn"][c] / both[c] for c in (0, 1))
        print(
            f"{size:>8}{first:>12.1f}{cells}{row['ratio']:>9.1f} ({row['processor_ratio']:.1f})",
            flush=True,
        )
    found = {}
    for clock, label in enumerate(("wall", "processor")):
        found[label] = {
            one: exponent(np.array(sizes, float), np.array([row[one][clock] for row in rows]))
            for one in ANSWERS
        }
        cells = "".join(f"{f'{a:.2f} ± {e:.2f}':>18}" for a, e in found[label].values())
        print(f"{'exponent':>8}{label:>12}{cells}", flush=True)
    return {"rows": rows, "exponents": found}


def _but(name: str) -> str:
    return ", ".join(f"{size} {one}" for one, size in BASE.items() if one != name)


def one_question(networks: int) -> dict[str, Any]:
    """Part 2: the mean overlap after the last layer at the base sizes."""
    layers, tokens, dim = BASE["layers"], BASE["tokens"], BASE["dim"]
    runs = runs_of(gpt2(layers, dim), tokens)
    drawn = np.array(drawn_networks(networks, layers, tokens, dim))[:, -1]
    stack = gpt2(layers, dim)
    initial = stack.initial_cov(text_ids(tokens))
    alone = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
    chain = solve(alone, Chain(networks), key=jax.random.key(1))
    limit, told = runs["forward"](), runs["spread"]()
    finite = _mean_overlaps(chain.covs[:, -1])
    copies = _mean_overlaps(limit.covs[:, -1])
    error = math.hypot(_error(drawn), _error(finite))
    return {
        "networks": networks,
        "drawn": (float(drawn.mean()), _error(drawn)),
        "chain": (float(finite.mean()), _error(finite)),
        "recursion": (float(copies.mean()), _error(copies)),
        "z": abs(float(drawn.mean() - finite.mean())) / error,
        "drawn_std": (float(drawn.std(ddof=1)), float(drawn.std(ddof=1)) / (2 * networks) ** 0.5),
        "spread_std": float(told.std["overlap"][-1]),
    }


def _mean_overlaps(covs: np.ndarray) -> np.ndarray:
    s = 1 / np.sqrt(np.diagonal(covs, axis1=1, axis2=2))
    n = covs.shape[-1]
    return (np.einsum("cij,ci,cj->c", covs, s, s) - n) / (n * (n - 1))


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5


def large_run(stack: Stack, tokens: int, *, back: bool) -> tuple[Callable[[], Any], ...]:
    """Recursion and spread of many tokens, as `predict` asks for them."""
    effort, initial = Effort.of(stack), stack.initial_cov(text_ids(tokens))
    top = "identity" if back else None
    problem = SignalPropagation(stack=stack, initial=initial, top_gradient=top)
    method, key = Recursion(effort.pairs, effort.copies, float32=True), jax.random.key(0)
    return (
        lambda: solve(problem, method, key=key),
        lambda: spread(problem, key=key, pairs=FEW_PAIRS),
    )


def large() -> list[dict[str, Any]]:
    """Part 3, against its targets."""
    runs = large_run(llama_70b(), 512, back=True), large_run(gpt2(12, 768), 1024, back=False)
    cases = zip(LARGE_TARGETS, (runs[0][0], runs[0][1], runs[1][0]), strict=True)
    rows = []
    for name, run in cases:
        wall, processor = timed(run)
        target = LARGE_TARGETS[name]
        rows.append({"name": name, "first": (wall, processor), "target": target})
        rows[-1]["pass"] = wall <= target
        print(
            f"{name:32} {wall:8.1f} ({processor:.1f}) s, compilation included; target {target:g} s"
            f"  {'pass' if rows[-1]['pass'] else 'MISS'}",
            flush=True,
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three sizes each, one repeat")
    parser.add_argument("--large", action="store_true", help="only part 3")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    print(f"{available_cores()} cores, BLAS threads: {threads}")
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    same = True
    if options.large:
        results["large"] = large()
    else:
        for name, sizes in SWEEPS.items():
            few = sizes[:3] if options.quick else sizes
            results[name] = sweep(name, few, 1 if options.quick else 3)
        found = results["question"] = one_question(NETWORKS if options.quick else CHECKED)
        print(f"\nmean overlap after layer {BASE['layers']}, {found['networks']} drawn networks")
        for name in ("drawn", "chain", "recursion"):
            print(f"  {name:10} {found[name][0]:.4f} ± {found[name][1]:.4f}")
        told, error = found["drawn_std"]
        print(
            f"  deviation over networks {told:.4f} ± {error:.4f}, spread {found['spread_std']:.4f}"
        )
        same = found["z"] < LARGEST_Z
        print(f"  drawn against chain z = {found['z']:.1f}: {'one law' if same else 'DIFFERENT'}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
