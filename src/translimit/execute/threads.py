"""How many threads a numerical library may use, set before it loads.

A sum over more threads is another order of additions, hence other bits: the number of threads is
part of what a run fixes. The libraries read these variables once, when they load.
"""

from __future__ import annotations

import os

from translimit.core import ArgumentError

#: XLA's CPU client, then the BLAS and OpenMP libraries below NumPy and SciPy.
VARIABLES = (
    "PJRT_NPROC",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def thread_limits(threads: int) -> dict[str, str]:
    """The environment variables that hold a process to `threads` threads.

    Raises:
        ArgumentError: fewer than one thread.
    """
    if threads < 1:
        raise ArgumentError("threads", f"got {threads}", "pass at least 1")
    return dict.fromkeys(VARIABLES, str(threads))


def limit_threads(threads: int) -> None:
    """Limit the libraries that this process has not loaded yet.

    Raises:
        ArgumentError: fewer than one thread.
    """
    os.environ.update(thread_limits(threads))
