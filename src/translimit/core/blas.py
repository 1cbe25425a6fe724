"""One BLAS thread while small matrices are factorised, and the setting of before afterwards.

JAX's factorisations on the CPU are calls of SciPy's LAPACK. Its BLAS starts a thread for every
core, whatever the size: on a matrix of 48 rows they wait for each other longer than they compute,
and where another process holds a core they wait for its time slice. A BLAS has one setting for the
whole process, so it is changed for the length of a call and put back by the last of the calls that
run at the same time, in whatever thread and however they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

#: Rows from which a factorisation gains by a second thread (measured: `benchmarks/threads.py`).
LARGE = 512


@dataclasses.dataclass(frozen=True)
class OpenBLAS:
    """One OpenBLAS of this process, whose number of threads is one setting for all of them.

    Attributes:
        get_threads: the number of threads that it uses now.
        set_threads: use so many.
    """

    get_threads: Callable[[], int]
    set_threads: Callable[[int], object]


@functools.cache
def openblas_libraries() -> tuple[OpenBLAS, ...]:
    """SciPy's OpenBLAS, which jaxlib calls, and others of this process, as NumPy's.

    Those that are built on OpenMP, and MKL, limit the thread that asks and no other, so that they
    are left out: JAX calls them from threads of its own. Variables of their own limit those.
    """
    import scipy.linalg.cython_lapack  # noqa: F401  loads the library that is looked for

    found = []
    with _same_environment():
        import threadpoolctl
    for one in threadpoolctl.threadpool_info():
        if one["internal_api"] == "openblas" and one["threading_layer"] == "pthreads":
            library = ctypes.CDLL(one["filepath"])
            affixes = itertools.product(("", "scipy_"), ("", "64_", "_64"))
            for prefix, suffix in affixes:
                get, set_ = (f"{prefix}openblas_{do}_num_threads{suffix}" for do in ("get", "set"))
                if hasattr(library, get):
                    found.append(OpenBLAS(getattr(library, get), getattr(library, set_)))
                    break
    return tuple(found)


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what is added to the environment: threadpoolctl sets a variable when it loads."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]


class _Shared:
    """How many calls hold the limit now, and what the libraries had before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.before: list[tuple[OpenBLAS, int]] = []

    def enter(self) -> None:
        with self.lock:
            if self.calls == 0:
                several = [(one, one.get_threads()) for one in openblas_libraries()]
                self.before = [(one, number) for one, number in several if number > 1]
                for one, _ in self.before:
                    one.set_threads(1)
            self.calls += 1

    def leave(self) -> None:
        with self.lock:
            self.calls -= 1
            if self.calls == 0:
                for one, number in self.before:
                    one.set_threads(number)


_shared = _Shared()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold OpenBLAS to one thread; calls that are nested or run side by side share the limit.

    NumPy's products in other threads of the program have one thread meanwhile, too.
    """
    _shared.enter()
    try:
        yield
    finally:
        _shared.leave()


def call_with_blas(function: Callable[..., Any], *args: Any) -> Any:
    """Call a compiled function, with one BLAS thread where its matrices are small.

    What it factorises is taken to be no larger than the largest matrix among its arguments, whose
    size is the smaller of its two last axes: clouds of many tokens in few dimensions are small.
    With the limit on, the call returns when its arrays are there.

    Args:
        function: of pytrees of concrete arrays.
        args: what it is called with.
    """
    sizes = (min(np.shape(leaf)[-2:]) for leaf in jax.tree.leaves(args) if np.ndim(leaf) >= 2)
    if max(sizes, default=0) >= LARGE:
        return function(*args)
    with one_blas_thread():
        return jax.block_until_ready(function(*args))
