"""The executor without machinery: one job after the other, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from translimit.execute.base import AbstractExecutor, Job, JobResult, call, load_function
from translimit.execute.environment import job_environment, require_gpus


@dataclass(frozen=True)
class Serial(AbstractExecutor):
    """Runs jobs one after the other in this process: easy to debug.

    Threads and device hold for libraries that this process has not loaded yet; in a program that
    already computed with JAX or NumPy, `ProcessPool(workers=1)` is the way to the same bits. A job
    that kills its process kills this one.
    """

    def local_workers(self, *, threads: int = 1, device: str = "cpu") -> int:
        """One."""
        return 1

    def run(
        self, function: str, jobs: Sequence[Job], *, threads: int = 1, device: str = "cpu"
    ) -> Iterator[JobResult]:
        """Call a function on every job in turn (see `AbstractExecutor.run`)."""
        settings = job_environment(threads, device)
        if device == "gpu":
            require_gpus("the serial executor")
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
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
