"""Independent computations side by side: several at a time, as threads and memory allow.

One alternates between large products, which use every core, and small ones, which do not. Those
beside it fill the gaps. Each is the same program with its own key, so that the bits do not depend
on how many run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from translimit.core.resources import available_threads

T = TypeVar("T")


class _StoppedError(Exception):
    """Another one failed, or all were interrupted."""


def calls_at_once(calls: int, need: int, free: float | int) -> int:
    """How many run side by side where nobody says: they take at most half of what is free.

    Args:
        calls: how many there are.
        need: bytes of one.
        free: bytes.
    """
    return max(1, min(calls, available_threads(), int(free / (2 * need))))


def side_by_side(
    calls: Sequence[Callable[[Callable[[float], object]], T]],
    at_once: int,
    progress: Callable[[float], object] | None,
) -> list[T]:
    """The results of calls, in their order.

    Args:
        calls: each takes a function of the fraction of it that is done.
        at_once: how many run side by side.
        progress: takes the fraction of all that is done; what it raises stops all.

    Raises:
        Exception: what the first call raised that did.
    """
    done = [0.0] * len(calls)
    lock, stop = threading.Lock(), threading.Event()

    def one(index: int) -> T:
        def report(fraction: float) -> None:
            if stop.is_set():
                raise _StoppedError
            with lock:
                done[index] = fraction
                if progress is not None:
                    progress(sum(done) / len(calls))

        return calls[index](report)

    if at_once == 1:
        return [one(index) for index in range(len(calls))]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(one, index) for index in range(len(calls))]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # an interrupt too: the others end with the step they are in
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]
