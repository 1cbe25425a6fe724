"""The covariance SDE against networks with weights, and the cost of its steps.

    python benchmarks/shaped.py [--tokens M] [--dim N] [--steps-only] [--out FILE]

1. Time for the same standard error of the mean correlation: the SDE of 64 tokens against networks
   of width and depth 1,024 with every weight drawn (float32). Each network and each path is one
   sample of the same law up to O(1/n), so that the ratio of times a sample, corrected by the
   variances, is the ratio of times. Networks are timed on a part of their layers, which all cost
   the same; variance and bias of the finite width are measured on the exact compressed chain.
2. Milliseconds a step and path, for one path and for many, against the plain NumPy step of
   `support/shaped_numpy.py`, whose law tests/limits/shaped/test_paths.py holds against ours. Both
   take 40 steps from the identity, in turn; the least of all rounds counts. Ours are the paths of
   a `solve`, warm, without the pairs of paths that tell the error of the step: NumPy tells none.
   Run it on a quiet machine, with OPENBLAS_NUM_THREADS=1 and without.
3. Error of log det at equal step, against Euler-Maruyama.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from support import shaped_numpy
from translimit import solve
from translimit.core import AnyArray, available_cores
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    EulerMaruyama,
    StructurePreserving,
    linear_log_det_law,
)
from translimit.limits.shaped.paths import Ensemble
from translimit.models import CompressedShapedTransformer, ShapedTransformer

LINEAR = Block(gamma=0.6, lam=0.8, tau0=float("inf"))


def warm_seconds(run: Any, repeats: int = 3) -> float:
    """The best of several calls after one that compiles."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def mean_correlation(cov: AnyArray) -> np.ndarray:
    """Mean off-diagonal correlation of each covariance."""
    cov = np.asarray(cov)
    norms = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    rho = cov / norms[..., :, None] / norms[..., None, :]
    tokens = cov.shape[-1]
    return (rho.sum(axis=(-2, -1)) - tokens) / (tokens * (tokens - 1))


def against_networks(tokens: int, dim: int) -> dict[str, float]:
    """Part 1."""
    start = 0.8 * np.eye(tokens) + 0.2
    block = Block(gamma=0.5, tau0=4.0)
    key = jax.random.key(0)
    sde = CovarianceSDE(block=block, initial=start, t1=1.0)
    method = StructurePreserving(paths=64)
    solution = solve(sde, method, key=key, save=[1.0])
    sde_seconds = warm_seconds(lambda: solve(sde, method, key=key, save=[1.0]), 2) / method.paths
    exploded = float(np.mean(np.isfinite(solution.blow_up_time)))
    paths = mean_correlation(solution.cov[:, 0][~np.isfinite(solution.blow_up_time)])

    chain = CompressedShapedTransformer(block=block, dim=dim, layers=dim)
    networks = mean_correlation(chain.simulate(start, key=key, seeds=64).cov[:, -1])
    part = 16
    network = ShapedTransformer(block=block, dim=dim, layers=part)
    single = start.astype(np.float32)
    layers = warm_seconds(lambda: network.simulate(single, key=key, seeds=1), 2) / part
    network_seconds = layers * dim
    bias = networks.mean() - paths.mean()
    noise = np.hypot(networks.std() / len(networks) ** 0.5, paths.std() / len(paths) ** 0.5)
    return {
        "tokens": tokens,
        "dim": dim,
        "sde_seconds_a_path": sde_seconds,
        "sde_steps": float(np.mean(solution.steps_taken)),
        "network_seconds": network_seconds,
        "exploded": exploded,
        "sde_sd": float(paths.std()),
        "network_sd": float(networks.std()),
        "bias": float(bias),
        "bias_stderr": float(noise),
        "ratio": network_seconds * networks.var() / (sde_seconds * paths.var()),
    }


def step_cost(tokens: int, paths: int, steps: int = 40, seconds: float = 1.0) -> dict[str, float]:
    """Ours and NumPy's milliseconds a step and path, wall and processor time."""
    block = Block(gamma=0.5, tau0=4.0)
    method = StructurePreserving(paths=paths)
    h = method.first_max_step(block, tokens)
    ensemble = Ensemble(block, np.eye(tokens), np.asarray(np.inf), method, jax.random.key(0))
    rng = np.random.default_rng(0)

    def ours() -> None:
        ensemble.paths(paths, np.array([steps * h]), h)

    def plain() -> None:
        factor = np.broadcast_to(np.eye(tokens), (paths, tokens, tokens)).copy()
        for _ in range(steps):
            factor = shaped_numpy.step(rng, factor, h, block.gamma, block.tau0)

    runs = {"ours": ours, "numpy": plain}
    walls: dict[str, list[float]] = {name: [] for name in runs}
    processors: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(walls["ours"]) < 3:
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            walls[name].append(time.perf_counter() - wall)
            processors[name].append(time.process_time() - processor)
    row: dict[str, float] = {"tokens": tokens, "paths": paths}
    for name in runs:
        row[f"{name}_ms"] = 1e3 * min(walls[name]) / steps / paths
        row[f"{name}_processor_ms"] = 1e3 * min(processors[name]) / steps / paths
    row["ratio"] = row["numpy_ms"] / row["ours_ms"]
    row["median_ratio"] = float(np.median(walls["numpy"]) / np.median(walls["ours"]))
    return row


def step_costs() -> list[dict[str, float]]:
    """Part 2, printed row by row."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    print(f"ms a step and path (of processors); {available_cores()} cores, BLAS threads: {threads}")
    print(f"{'tokens':>8}{'paths':>7}{'ours':>20}{'NumPy':>20}{'ratio':>8}{'of medians':>12}")
    rows = []
    for tokens, many in ((16, 32), (64, 32), (128, 32), (256, 8)):
        for paths in (1, many):
            row = step_cost(tokens, paths)
            rows.append(row)
            ours, plain = (
                f"{row[f'{name}_ms']:.4g} ({row[f'{name}_processor_ms']:.4g})"
                for name in ("ours", "numpy")
            )
            print(
                f"{tokens:>8}{paths:>7}{ours:>20}{plain:>20}"
                f"{row['ratio']:>8.2f}{row['median_ratio']:>12.2f}",
                flush=True,
            )
    return rows


def log_det_errors() -> list[dict[str, float]]:
    """Part 3."""
    exact, _ = linear_log_det_law(LINEAR, np.eye(3), 0.8)
    rows = []
    for step in (0.08, 0.04, 0.02):
        row: dict[str, float] = {"step": step}
        for name, kind in (("structured", StructurePreserving), ("euler", EulerMaruyama)):
            sde = CovarianceSDE(block=LINEAR, initial=np.eye(3), t1=0.8)
            method = kind(paths=20_000, max_step=step)
            values = solve(sde, method, key=jax.random.key(1), save=[0.8]).log_det
            row[name] = float(np.median(values)) - exact
        rows.append(row)
    return rows


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description="the covariance SDE against networks")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--steps-only", action="store_true", help="part 2 alone")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    options = parser.parse_args()
    if options.steps_only:
        step_costs()
        return 0
    versus = against_networks(options.tokens, options.dim)
    print(
        f"{options.tokens} tokens, gamma^2 = 1/4, tau0 = 4, t = 1; networks of width and depth "
        f"{options.dim}"
    )
    print(
        f"  SDE: {1e3 * versus['sde_seconds_a_path']:.1f} ms a path "
        f"({versus['sde_steps']:.0f} steps), {100 * versus['exploded']:.1f} % of paths stopped"
    )
    print(f"  network with weights: {versus['network_seconds']:.1f} s")
    print(
        f"  standard deviation of the mean correlation: SDE {versus['sde_sd']:.4f}, "
        f"networks {versus['network_sd']:.4f}"
    )
    print(f"  bias of the finite width: {versus['bias']:+.4f} ± {versus['bias_stderr']:.4f}")
    print(f"  time for the same standard error: networks / SDE = {versus['ratio']:.0f}")
    costs = step_costs()
    errors = log_det_errors()
    print(f"{'step':>8}{'log det, structured':>22}{'Euler-Maruyama':>18}")
    for row in errors:
        print(f"{row['step']:>8g}{row['structured']:>+22.3f}{row['euler']:>+18.3f}")
    if options.out:
        rows = {"networks": versus, "steps": costs, "log_det": errors}
        options.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
