"""Random heads: Gram matrices against explicit weights, and the SDE against a long chain.

    python benchmarks/homogenized.py [--quick] [--out FILE]

Explicit weights draw heads * 3 dim^2 normals a layer; integrated out, the same law costs
heads * tokens^3, whatever the dimension. The stochastic limit costs tau / step whatever the layers
and heads of the network that it stands for. Each pair is first checked to have the same mean
overlap. Times are compiled beforehand, for one replica or path: the fastest of repeats, and for the
long chain the time of the replicas of the check divided by their number.
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

from translimit import solve
from translimit.core import AnyArray
from translimit.describe import GaussianHeads
from translimit.limits.homogenized import OverlapSDE, SphereEuler
from translimit.models import RandomHeadChain

TOKENS, DIM, HEADS = 16, 512, 16
#: The chain of the second comparison, and the step of the limit.
LONG_LAYERS, LONG_HEADS, LONG_STEP = 10_000, 64, 0.16
SDE_STEP = 0.04
REPEATS = 3
#: Largest difference of means, in standard errors, that counts as one law.
LARGEST_Z = 4.5


def fastest(run: Any) -> float:
    run(0)
    times = []
    for repeat in range(REPEATS):
        start = time.perf_counter()
        run(repeat + 1)
        times.append(time.perf_counter() - start)
    return min(times)


def deviation(one: AnyArray, two: AnyArray) -> float:
    one, two = np.asarray(one), np.asarray(two)
    stderr = np.hypot(one.std(ddof=1) / len(one) ** 0.5, two.std(ddof=1) / len(two) ** 0.5)
    return float(abs(one.mean() - two.mean()) / stderr)


def gram_against_explicit(replicas: int) -> dict[str, Any]:
    """At n = 16, d = 512, H = 16: seconds a layer, and z of the means after a few layers."""
    law = GaussianHeads.of_score_std(1.5, dim=DIM)
    overlaps = (0.3 + 0.7 * np.eye(TOKENS)).astype(np.float32)
    tokens = np.linalg.cholesky(overlaps) @ np.eye(TOKENS, DIM, dtype=np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    chain = RandomHeadChain(law=law, step=1.0, heads=HEADS, layers=4)
    explicit = chain.simulate(tokens, replicas=replicas, key=jax.random.key(0)).mean_overlaps[:, -1]
    gram = chain.simulate_overlaps(
        overlaps, replicas=50 * replicas, key=jax.random.key(1)
    ).mean_overlaps[:, -1]
    long = RandomHeadChain(law=law, step=1.0, heads=HEADS, layers=400)
    by_weights = fastest(lambda seed: chain.simulate(tokens, key=jax.random.key(seed))) / 4
    by_gram = fastest(lambda seed: long.simulate_overlaps(overlaps, key=jax.random.key(seed))) / 400
    return {
        "explicit_s_per_layer": by_weights,
        "gram_s_per_layer": by_gram,
        "ratio": by_weights / by_gram,
        "z": deviation(explicit, gram),
        "means": [float(explicit.mean()), float(gram.mean())],
    }


def sde_against_chain(paths: int) -> dict[str, Any]:
    """The limit against the Gram-level chain of 10,000 layers with 64 heads."""
    law = GaussianHeads.of_score_std(1.5, dim=DIM)
    start = np.eye(TOKENS, dtype=np.float32)
    chain = RandomHeadChain(law=law, step=LONG_STEP, heads=LONG_HEADS, layers=LONG_LAYERS)
    t1 = LONG_LAYERS * LONG_STEP**2 / LONG_HEADS
    problem = OverlapSDE(law=law, initial=start, t1=t1)

    def limit(seed: int, count: int = 2) -> Any:
        method = SphereEuler(max_step=SDE_STEP, paths=count)
        return solve(problem, method, key=jax.random.key(seed), save=[t1]).mean_overlaps[:, -1]

    many = limit(0, 100 * paths)
    begin = time.perf_counter()
    finite = chain.simulate_overlaps(start, replicas=paths, key=jax.random.key(3)).mean_overlaps[
        :, -1
    ]
    by_chain = (time.perf_counter() - begin) / paths
    by_limit = fastest(limit) / 2
    return {
        "diffusive_time": t1,
        "chain_s": by_chain,
        "sde_s": by_limit,
        "ratio": by_chain / by_limit,
        "z": deviation(finite, many),
        "means": [float(finite.mean()), float(many.mean())],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer replicas in the checks")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    replicas = 4 if options.quick else 16
    results = {"gram": gram_against_explicit(replicas)}
    row = results["gram"]
    print(f"n = {TOKENS}, d = {DIM}, H = {HEADS}, seconds a layer")
    print(f"  explicit weights {row['explicit_s_per_layer']:.2e}")
    print(f"  Gram matrices    {row['gram_s_per_layer']:.2e}  ratio {row['ratio']:.0f}")
    print(f"  means {row['means'][0]:.4f}, {row['means'][1]:.4f}, z = {row['z']:.1f}", flush=True)
    results["sde"] = sde_against_chain(replicas)
    row = results["sde"]
    print(f"L = {LONG_LAYERS}, H = {LONG_HEADS}, tau = {row['diffusive_time']:.3g}, one network")
    print(f"  chain (Gram)     {row['chain_s']:.2f} s")
    print(f"  stochastic limit {row['sde_s']:.2e} s  ratio {row['ratio']:.0f}")
    print(f"  means {row['means'][0]:.3f}, {row['means'][1]:.3f}, z = {row['z']:.1f}")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    same = all(part["z"] < LARGEST_Z for part in results.values())
    print("one law" if same else "DIFFERENT LAWS")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
