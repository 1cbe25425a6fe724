"""Sinkhorn's potentials against POT's kernel form: one cost matrix, start and marginal error.

    python benchmarks/sinkhorn.py [--quick] [--out FILE]

Both compute in float64 from potentials of zero until no column marginal is off by more than 1e-9 of
itself. POT (`ot.sinkhorn`, method "sinkhorn") is given the cost matrix ready-made and exactly as
many iterations as it needs for that, found beforehand, so that its stop rule costs it no round; it
still looks at its error at every tenth. Ours is the public call
`Sinkhorn(...).potentials(cloud)`, which makes the scores and looks at its error in every round.
Seconds are the least of interleaved repeats in one process, compilation left out, on all cores.

Two clouds: one that needs about 20 rounds, and one of stronger scores that needs about 100. The
couplings are compared in the run.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ot

from translimit.attention import Sinkhorn

TOL = 1e-9
TARGET = 1.0
#: Factors of the scores of normal tokens in R^3.
STRENGTHS = {"weak": 0.8, "strong": 3.0}


def make(tokens: int, strength: float) -> tuple[Sinkhorn, np.ndarray]:
    """An attention and its cloud; scores are strength <x, B y> with |B| of order one."""
    rng = np.random.default_rng(0)
    Q, K = rng.normal(size=(2, 3, 3)) / np.sqrt(3)
    return Sinkhorn(Q=strength * Q, K=K, V=np.eye(3), tol=TOL), rng.normal(size=(tokens, 3))


def error_of(plan: np.ndarray) -> float:
    """The largest error of a column marginal, relative to it."""
    return float(np.abs(len(plan) * plan.sum(axis=0) - 1).max())


def by_pot(cost: np.ndarray, iterations: int) -> Any:
    weights = np.full(len(cost), 1 / len(cost))
    return ot.sinkhorn(weights, weights, cost, 1.0, "sinkhorn", iterations, stopThr=0.0, warn=False)


def iterations_of_pot(cost: np.ndarray, guess: int) -> int:
    """The least number of iterations after which POT's error is at most the tolerance."""
    low, high = 0, guess
    while error_of(by_pot(cost, high)) > TOL:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if error_of(by_pot(cost, middle)) > TOL else (low, middle)
    return high


def least(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Least wall seconds of each function, with the processor's in that repeat; interleaved."""
    best = {}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            function()
            took = time.perf_counter() - wall, time.process_time() - processor
            best[name] = min(best.get(name, took), took)
    return best


def compare(tokens: int, name: str, repeats: int) -> dict[str, Any]:
    """Both solvers on one cloud."""
    attention, cloud = make(tokens, STRENGTHS[name])
    scores = (cloud @ np.asarray(attention.A).T) @ cloud.T
    found = attention.potentials(cloud)
    iterations = iterations_of_pot(-scores, int(found.iterations))
    seconds = least(
        {
            "ours": lambda: attention.potentials(cloud),
            "pot": lambda: by_pot(-scores, iterations),
        },
        repeats,
    )
    ours = np.exp(scores - found.f[:, None] - found.g) / tokens**2
    pot = by_pot(-scores, iterations)
    difference = float(np.abs(ours / pot - 1).max())
    ratio = seconds["pot"][0] / seconds["ours"][0]
    agree = max(error_of(ours), error_of(pot)) <= TOL and difference < 10 * TOL
    return {
        "tokens": tokens,
        "cloud": name,
        "largest_score": float(np.abs(scores).max()),
        "ours_seconds": seconds["ours"],
        "pot_seconds": seconds["pot"],
        "ratio": ratio,
        "ours_iterations": int(found.iterations),
        "pot_iterations": iterations,
        "ours_error": error_of(ours),
        "pot_error": error_of(pot),
        "largest_relative_difference": difference,
        "pass": agree and ratio >= TARGET,
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    rows = []
    print(f"POT over ours, float64, marginals to {TOL:g}; target: ratio >= {TARGET:g}")
    print("  tokens  cloud    ours ms (cpu)      POT ms (cpu)   ratio  rounds      errors")
    for tokens, repeats in ((1024, 20), (4096, 5)):
        for name in STRENGTHS:
            row = compare(tokens, name, 2 if options.quick else repeats)
            rows.append(row)
            ours, pot = row["ours_seconds"], row["pot_seconds"]
            print(
                f"{tokens:8d}  {name:6}  {ours[0] * 1e3:7.1f} ({ours[1] * 1e3:7.1f})  "
                f"{pot[0] * 1e3:7.1f} ({pot[1] * 1e3:7.1f})  {row['ratio']:6.2f}  "
                f"{row['ours_iterations']:3d} {row['pot_iterations']:3d}  "
                f"{row['ours_error']:.1e} {row['pot_error']:.1e}  couplings differ by "
                f"{row['largest_relative_difference']:.1e}  {'pass' if row['pass'] else 'MISS'}",
                flush=True,
            )
    if options.out:
        result = {"machine": platform.processor() or platform.machine(), "rows": rows}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
