"""The executor without machinery: one job after the other, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from translimit.execute.base import AbstractExecutor, Job, JobResult, call, load_function
from translimit.execute.threads import thread_limits


@dataclass(frozen=True)
class Serial(AbstractExecutor):
    """Runs jobs one after the other in this process: easy to debug.

    The thread limit holds for libraries that this process has not loaded yet; in a program that
    already computed with JAX or NumPy, `ProcessPool(workers=1)` is the way to the same bits.
    """

    def local_workers(self) -> int:
        """One."""
        return 1

    def run(self, function: str, jobs: Sequence[Job], *, threads: int = 1) -> Iterator[JobResult]:
        """Call a function on every job in turn (see `AbstractExecutor.run`)."""
        limits = thread_limits(threads)
        before = {name: os.environ.get(name) for name in limits}
        os.environ.update(limits)
        try:
            called = load_function(function)
            for job in jobs:
                yield call(called, job)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
