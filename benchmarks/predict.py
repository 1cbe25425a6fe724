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
3. With --large: whole commands in processes of their own, each twice with the user's cache: GPT-2
   with 48 tokens, and with 1,024 forward beside simulated networks; a model of 70B sizes with 512
   tokens, with gradients, and with all that can be told.

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
import subprocess
import sys
import tempfile
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
    Norm,
    Normalisation,
    Stack,
    pre_norm_stack,
)
from translimit.limits.signal import Chain, Recursion, SignalPropagation, spread

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
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "rope_theta": 5e5,
    "vocab_size": 128256,
}
#: Part 3: configuration, options, and seconds of the wall that the second call may take.
COMMANDS: dict[str, tuple[dict[str, Any], tuple[str, ...], float]] = {
    "GPT-2, 48 tokens": (GPT2, (), 2.0),
    "GPT-2, 1024 tokens, forward, networks": (
        GPT2,
        ("--tokens", "1024", "--forward", "--networks", "2"),
        30.0,
    ),
    "70B, 512 tokens": (LLAMA, ("--tokens", "512"), 20.0),
    "70B, 512 tokens, whole": (LLAMA, ("--tokens", "512", "--whole"), 90.0),
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


def whole_command(config: dict[str, Any], options: tuple[str, ...]) -> dict[str, float]:
    """Seconds of the wall and of the processor, and bytes at the peak, of one command."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "translimit", "predict", str(path), *options]
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return {
        "wall": time.perf_counter() - start,
        "processor": used.ru_utime + used.ru_stime,
        "memory": 1024.0 * used.ru_maxrss,
    }


def large() -> list[dict[str, Any]]:
    """Part 3, against its targets."""
    rows = []
    for name, (config, options, target) in COMMANDS.items():
        for call in ("first", "second"):
            row = {"name": name, "call": call, "target": target, **whole_command(config, options)}
            row["pass"] = row["wall"] <= target
            rows.append(row)
            print(
                f"{name:36} {call:6} {row['wall']:8.1f} ({row['processor']:.1f}) s, "
                f"{row['memory'] / 1e9:.2f} GB; target {target:g} s"
                f"  {'pass' if row['pass'] else 'MISS'}",
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
