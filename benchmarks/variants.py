"""2,000 tokens through a whole flow, variant by variant: seconds and peak resident memory.

    python benchmarks/variants.py [--tokens N] [--out FILE]

Every variant runs in a fresh process: canonical parameters in R^2, float32, to t = 1 with the
default method. Seconds are given with and without compilation, and as ratios to softmax in the
same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from support.memory import peak_gib

VARIANTS = ("softmax", "multi-head", "l2", "sinkhorn", "linear", "sigmoid")


def child(variant: str, tokens: int) -> None:
    """One flow, twice; prints a line of JSON."""
    import numpy as np

    from translimit import solve
    from translimit.experiments.castin2025.canonical import canonical_attention
    from translimit.limits.meanfield import ParticleFlow

    cloud = np.random.default_rng(0).uniform(-1, 1, (tokens, 2)).astype(np.float32)
    attention = canonical_attention(variant)
    row: dict[str, object] = {"variant": variant, "tokens": tokens}
    for name in ("cold", "warm"):
        start = time.perf_counter()
        solution = solve(ParticleFlow(attention=attention, initial=cloud, t1=1.0), save=[1.0])
        row[f"{name}_seconds"] = time.perf_counter() - start
    row |= {"steps": int(solution.steps_taken), "peak_gib": peak_gib()}
    print(json.dumps(row))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="2,000 tokens through a whole flow")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.tokens)
        return 0
    rows = []
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--child", variant, "--tokens", str(options.tokens)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{options.tokens} tokens in R^2 to t = 1, float32")
    print(f"{'variant':<12}{'cold s':>9}{'warm s':>9}{'/ softmax':>11}{'steps':>7}{'peak GiB':>10}")
    for row in rows:
        ratio = row["warm_seconds"] / rows[0]["warm_seconds"]
        print(
            f"{row['variant']:<12}{row['cold_seconds']:>9.2f}{row['warm_seconds']:>9.2f}"
            f"{ratio:>11.2f}{row['steps']:>7}{row['peak_gib']:>10.2f}"
        )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
