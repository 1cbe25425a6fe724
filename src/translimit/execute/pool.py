"""An executor of worker processes on this machine.

A worker that dies takes down its own job and no other, and a new one takes its place. So does one
that ran out of memory, because what it still holds may be the reason.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from translimit.core import ArgumentError, available_cores
from translimit.execute.base import AbstractExecutor, Job, JobResult, load_function
from translimit.execute.child import Child, died
from translimit.execute.environment import job_environment, require_gpus, search_path


@dataclass(frozen=True)
class ProcessPool(AbstractExecutor):
    """Runs jobs in worker processes of this machine, which end with this process however it ends.

    On device "gpu" every worker sees one GPU, in turn. A worker stays with one family of jobs as
    long as there are any, then takes up one that no other worker is at, and helps out last: so a
    program is compiled by one worker, and not by all of them at the same moment.

    Attributes:
        workers: how many at once; by default one per core and thread of a job, or one per GPU.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ArgumentError("workers", f"got {self.workers}", "pass at least 1")

    def local_workers(self, *, threads: int = 1, device: str = "cpu") -> int:
        """As many as asked for; by default one per GPU, or one per `threads` cores."""
        gpus = require_gpus("the pool") if device == "gpu" else ()
        return self.workers or len(gpus) or max(1, available_cores() // threads)

    def run(
        self, function: str, jobs: Sequence[Job], *, threads: int = 1, device: str = "cpu"
    ) -> Iterator[JobResult]:
        """Call a function on every job, several at once (see `AbstractExecutor.run`)."""
        environment = {**os.environ, **job_environment(threads, device)}
        load_function(function)
        gpus = require_gpus("the pool") if device == "gpu" else ()
        number = self.local_workers(threads=threads, device=device)
        waiting = _Waiting(jobs)
        results: queue.SimpleQueue[JobResult | BaseException] = queue.SimpleQueue()
        lanes = []
        for index in range(min(number, len(jobs))):
            shown = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}
            lanes.append(_Lane(function, {**environment, **shown}, waiting, results))
        try:
            for lane in lanes:
                lane.thread.start()
            for _ in jobs:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            waiting.close()
            for lane in lanes:
                lane.stop()


class _Waiting:
    """The jobs that have not started, shared by the lanes."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs = list(jobs)
        self.lock = threading.Lock()
        self.families: dict[int, str] = {}  # of each lane's last job

    def take(self, lane: int) -> Job | None:
        """The next job of a lane; None where there is none left."""
        with self.lock:
            if not self.jobs:
                return None
            own = self.families.pop(lane, None)
            taken = set(self.families.values())
            place = next(
                (i for i, job in enumerate(self.jobs) if job.family == own),
                next((i for i, job in enumerate(self.jobs) if job.family not in taken), 0),
            )
            job = self.jobs.pop(place)
            self.families[lane] = job.family
            return job

    def leave(self, lane: int) -> None:
        """A lane takes no more jobs."""
        with self.lock:
            self.families.pop(lane, None)

    def close(self) -> None:
        with self.lock:
            self.jobs.clear()


class _Lane:
    """One worker after the other in a thread of its own: gives it jobs and notices its death."""

    def __init__(
        self,
        function: str,
        environment: Mapping[str, str],
        waiting: _Waiting,
        results: queue.SimpleQueue[JobResult | BaseException],
    ):
        self.function, self.environment = function, environment
        self.waiting, self.results = waiting, results
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.child: Child | None = None
        self.stopped = False
        self.lock = threading.Lock()  # no worker starts once the lane is stopped

    def stop(self) -> None:
        """Kill the worker and wait for the thread; nothing is written afterwards."""
        with self.lock:
            self.stopped = True
            if self.child is not None:
                self.child.kill()
        if self.thread.ident is not None:
            self.thread.join()

    def _serve(self) -> None:
        try:
            while not self.stopped and (job := self.waiting.take(id(self))) is not None:
                self.results.put(self._attempt(job))
        except BaseException as error:
            self.results.put(error)
        finally:
            self.waiting.leave(id(self))
            self._reap()

    def _attempt(self, job: Job) -> JobResult:
        child = self._living()
        result = None if child is None else child.ask(job)
        if result is None:
            return died(job, self._reap())
        if result.out_of_memory:
            self._reap()
        return result

    def _living(self) -> Child | None:
        """The running worker, started where there is none; None once the lane is stopped."""
        with self.lock:
            if self.child is None and not self.stopped:
                self.child = Child(self.function, self.environment, search_path())
            return self.child

    def _reap(self) -> str:
        """How the worker ended, in words; it is gone afterwards."""
        with self.lock:
            child, self.child = self.child, None
        return "was stopped" if child is None else child.end()
