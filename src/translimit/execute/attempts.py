"""The one place where a failed job is started again, whatever the executor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from translimit.core import require_count
from translimit.execute.base import AbstractExecutor, Job, JobResult


def run_jobs(
    executor: AbstractExecutor,
    function: str,
    jobs: Sequence[Job],
    *,
    threads: int = 1,
    device: str = "cpu",
    retries: int = 1,
    watch: Callable[[JobResult], object] = lambda result: None,
) -> Generator[JobResult]:
    """Call a function on every job, and again on those that failed.

    What failed is tried again when all other jobs have ended: memory or a disk that was short may
    be free by then, and a job that takes its worker down cannot hold the others up. A batch
    scheduler gets one array job for each round.

    Args:
        executor: where they run.
        function: `package.module:name`.
        jobs: in the order in which they should start.
        threads: per job.
        device: "cpu" or "gpu".
        retries: how often a job that failed (raised, or lost its worker or node) is started again.
        watch: is told the result of every attempt, also of those that are tried again; what it
            raises ends everything.

    Yields:
        One result per job: a success at once, a failure after its last attempt, each with the
        number of attempts and the errors of the earlier ones. Closing the iterator stops what is
        running.

    Raises:
        ArgumentError: a negative number of retries, or what the executor refuses.
    """
    require_count(retries, "retries", 0)
    errors: dict[str, tuple[str, ...]] = {}
    waiting = list(jobs)
    for attempt in range(1, retries + 2):
        failed = set()
        results = executor.run(function, waiting, threads=threads, device=device)
        try:
            for result in results:
                watch(result)
                if result.error is not None and attempt <= retries:
                    failed.add(result.name)
                    errors[result.name] = (*errors.get(result.name, ()), result.error)
                else:
                    earlier = errors.get(result.name, ())
                    yield replace(result, attempts=attempt, earlier=earlier)
        finally:
            getattr(results, "close", lambda: None)()
        waiting = [job for job in waiting if job.name in failed]
        if not waiting:
            return
