"""An executor of worker processes on this machine.

Each worker is a fresh interpreter with the thread limits in its environment, so that its bits do
not depend on what this process has loaded, and programs need no `__main__` guard. A worker that
dies takes down its own job and no other; that job is tried once more on a new worker (it may have
been killed for memory that is free by then).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from translimit.core import ArgumentError, available_cores
from translimit.execute.base import AbstractExecutor, Job, JobResult, load_function
from translimit.execute.threads import thread_limits


@dataclass(frozen=True)
class ProcessPool(AbstractExecutor):
    """Runs jobs in worker processes.

    Attributes:
        workers: how many at once; as many as cores by default.
        retries: how often a job is tried again after its worker died.
    """

    workers: int | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ArgumentError("workers", f"got {self.workers}", "pass 1 or more")
        if self.retries < 0:
            raise ArgumentError("retries", f"got {self.retries}", "pass 0 or more")

    def local_workers(self) -> int:
        """As many as asked for, by default one per core."""
        return self.workers or available_cores()

    def run(self, function: str, jobs: Sequence[Job], *, threads: int = 1) -> Iterator[JobResult]:
        """Call a function on every job, several at once (see `AbstractExecutor.run`)."""
        # By default every process would reserve most of a GPU's memory for itself.
        shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment = {**shared, **os.environ, **thread_limits(threads)}
        load_function(function)
        waiting = _Waiting(list(jobs))
        results: queue.SimpleQueue[JobResult | BaseException] = queue.SimpleQueue()
        lanes = [
            _Lane(function, environment, waiting, results, self.retries)
            for _ in range(min(self.local_workers(), len(jobs)))
        ]
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


@dataclass
class _Waiting:
    """The jobs that have not started, shared by the lanes."""

    jobs: list[Job]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> Job | None:
        with self.lock:
            return self.jobs.pop(0) if self.jobs else None

    def close(self) -> None:
        with self.lock:
            self.jobs.clear()


def _worker_program() -> str:
    """A program that finds modules exactly where this process does, and serves jobs."""
    search = [path or os.getcwd() for path in sys.path]
    return (
        f"import sys; sys.path[:] = {search!r}; from translimit.execute.worker import main; main()"
    )


class _Lane:
    """One worker after the other in a thread of its own: gives it jobs and notices its death."""

    def __init__(
        self,
        function: str,
        environment: dict[str, str],
        waiting: _Waiting,
        results: queue.SimpleQueue[Any],
        retries: int,
    ):
        self.function, self.environment, self.waiting = function, environment, waiting
        self.results, self.retries = results, retries
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self.lock = threading.Lock()  # no worker starts once the lane is stopped

    def stop(self) -> None:
        """Kill the worker and wait for the thread; nothing is written afterwards."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
        if self.thread.ident is not None:
            self.thread.join()

    def _serve(self) -> None:
        try:
            while not self.stopped and (job := self.waiting.take()) is not None:
                self.results.put(self._attempt(job))
        except BaseException as error:
            self.results.put(error)
        finally:
            self._reap()

    def _attempt(self, job: Job) -> JobResult:
        """The result of a job, on a new worker where one died."""
        request = json.dumps({"name": job.name, "arguments": dict(job.arguments)})
        deaths = []
        for _ in range(1 + self.retries):
            answer = b""
            with contextlib.suppress(BrokenPipeError):
                process = self._worker()
                if process is None:
                    break
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(request.encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            if answer.endswith(b"\n"):
                return JobResult(**json.loads(answer))
            deaths.append(self._reap())
        ends = " and then ".join(deaths) or "was stopped"
        return JobResult(job.name, error=f"its worker process {ends}")

    def _worker(self) -> subprocess.Popen[bytes] | None:
        """The running worker, started where there is none; None once the lane is stopped."""
        with self.lock:
            if self.stopped:
                return None
            if self.process is not None:
                return self.process
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _worker_program()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self.environment,
            )
        opening = {"parent": os.getpid(), "function": self.function}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(opening).encode() + b"\n")
        return self.process

    def _reap(self) -> str:
        """How the worker ended, in words; it is gone afterwards."""
        with self.lock:
            process, self.process = self.process, None
        if process is None:
            return "was stopped"
        try:
            process.communicate(timeout=5)  # the end of its input tells a living worker to leave
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        code = process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"
