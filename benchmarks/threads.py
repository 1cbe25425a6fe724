"""From which size on a factorisation gains by a second BLAS thread.

    python benchmarks/threads.py [--busy]

For each size, float64: milliseconds of the wall and of the processor with one thread and with all
cores, for the factorisations that the limits use, called through JAX. `core.blas` holds BLAS to one
thread below the size at which all cores begin to pay (`translimit.core.blas.LARGE`). With --busy
one process a core counts meanwhile, as on a machine that is shared.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from commands import busy
from translimit.core.blas import LARGE, openblas_libraries

SIZES = (16, 48, 96, 192, 256, 384, 512, 768, 1024)
FACTORISATIONS: dict[str, Callable[..., Any]] = {
    "cholesky": jax.jit(jnp.linalg.cholesky),
    "qr": jax.jit(lambda matrix: jnp.linalg.qr(matrix, mode="r")),
    "eigh": jax.jit(jnp.linalg.eigh),
}


def milliseconds(function: Callable[..., Any], matrix: jax.Array) -> tuple[float, float]:
    """Wall and processor milliseconds a call: the best of three blocks of calls."""
    jax.block_until_ready(function(matrix))
    calls = max(2, int(2e7 / len(matrix) ** 3))
    found = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            jax.block_until_ready(function(matrix))
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = min(found)
    return 1e3 * wall / calls, 1e3 * cpu / calls


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="BLAS threads of factorisations")
    parser.add_argument("--busy", action="store_true", help="beside one busy process a core")
    options = parser.parse_args()
    libraries = openblas_libraries()
    if not libraries:
        print("no OpenBLAS whose threads can be set from here")
        return 0
    several = max(one.get_threads() for one in libraries)
    print(f"wall (processor) milliseconds with 1 and {several} threads; LARGE = {LARGE}")
    print(f"{'rows':>6}" + "".join(f"{name:>34}" for name in FACTORISATIONS))
    with jax.enable_x64(True), busy() if options.busy else contextlib.nullcontext():
        for size in SIZES:
            normal = np.random.default_rng(0).normal(size=(size, size))
            matrix = jnp.asarray(normal @ normal.T / size + np.eye(size))
            row = f"{size:>6}"
            for function in FACTORISATIONS.values():
                cells = []
                for threads in (1, several):
                    for one in libraries:
                        one.set_threads(threads)
                    wall, cpu = milliseconds(function, matrix)
                    cells.append(f"{wall:.2f} ({cpu:.2f})")
                row += f"{' / '.join(cells):>34}"
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
