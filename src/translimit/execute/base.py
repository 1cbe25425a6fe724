"""What an executor is: a way to call one function on many jobs, in any order."""

from __future__ import annotations

import abc
import importlib
import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from translimit.core import ArgumentError, Json, JsonObject, keep_as_told


class JobRecord(TypedDict):
    """A job as plain data."""

    name: str
    arguments: JsonObject
    family: str


@dataclass(frozen=True)
class Job:
    """One call: plain JSON data under a unique name.

    Attributes:
        name: unique among the jobs of a run.
        arguments: of the function, plain data.
        family: jobs of one family compile the same programs, so that a worker which has computed
            one is quicker with the next (see `ProcessPool`).
    """

    name: str
    arguments: JsonObject = field(default_factory=dict)
    family: str = ""


class ResultRecord(TypedDict):
    """A result of a job as plain data."""

    name: str
    value: Json
    error: str | None
    details: str
    exception: str
    attempts: int
    earlier: Sequence[str]


@dataclass(frozen=True)
class JobResult:
    """How a job ended; a job that raised, or whose worker or node was lost, is a result too.

    Attributes:
        name: of the job.
        value: the plain data that the function returned.
        error: one line, or None when the job succeeded.
        details: the traceback of the error, where there is one.
        exception: the name of the exception's type; empty where nothing was raised, as when a
            worker was lost.
        attempts: how often the job was started (see `run_jobs`).
        earlier: the errors of the attempts before the last one.
    """

    name: str
    value: Json = None
    error: str | None = None
    details: str = ""
    exception: str = ""
    attempts: int = 1
    earlier: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, plain: ResultRecord) -> JobResult:
        """What `dataclasses.asdict` and JSON made of a result, as a result again."""
        return cls(**{**plain, "earlier": tuple(plain["earlier"])})

    @property
    def out_of_memory(self) -> bool:
        """Whether the job itself was told that there is no memory left."""
        exhausted = "RESOURCE_EXHAUSTED" in (self.error or "")
        return exhausted or self.exception.endswith("MemoryError")


@dataclass(frozen=True)
class AbstractExecutor(abc.ABC):
    """Runs independent jobs; subclasses are final.

    Every executor guarantees: each job is started once by each call of `run`, and has exactly one
    result, whatever became of its worker; it sees `job_environment(threads, device)` before a
    numerical library loads (`Serial` says what it can); jobs and values are plain data, and the
    function an import path, so that nothing of this process is needed where the job runs. What to
    do about a failed job is not its business: `run_jobs` starts it again.
    """

    def local_workers(self, *, threads: int = 1, device: str = "cpu") -> int | None:
        """How many jobs share this machine at once; None where they may run on others."""
        return None

    def require(self) -> None:
        """Refuse before anything is written, where what the executor runs on is not installed.

        Raises:
            MissingExtraError: the message names the extra.
        """
        return

    @abc.abstractmethod
    def run(
        self, function: str, jobs: Sequence[Job], *, threads: int = 1, device: str = "cpu"
    ) -> Iterator[JobResult]:
        """Call a function on every job.

        Args:
            function: `package.module:name` of a function from keyword arguments (the job's plain
                data) to plain data.
            jobs: in the order in which they should start.
            threads: per job, for the numerical libraries.
            device: "cpu" or "gpu", for JAX.

        Yields:
            One result per job, as they complete. Closing the iterator stops what is running and
            starts nothing more.

        Raises:
            ArgumentError: the function cannot be imported, fewer than one thread, or a device
                that there is not.
        """


def load_function(path: str) -> Callable[..., object]:
    """The function at `package.module:name`.

    Raises:
        ArgumentError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError(
            "function", f"cannot load {path!r} ({error})", "pass package.module:name"
        ) from error


def call(function: Callable[..., object], job: Job) -> JobResult:
    """Run one job here; what it raises becomes its result (an interrupt does not).

    The value goes through JSON, so that it is the same plain data whatever the executor.
    """
    try:
        return JobResult(job.name, json.loads(json.dumps(function(**job.arguments))))
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        line = f"{kind}: {error}".strip().splitlines()[0]
        return JobResult(job.name, error=line, details=traceback.format_exc(), exception=kind)


def attempt(function: str, job: Job) -> JobResult:
    """One job where it runs, from plain data to a result: the far end of every executor."""
    try:
        called = load_function(function)
        keep_as_told()
        return call(called, job)
    except ArgumentError as error:
        return JobResult(job.name, error=str(error), exception="ArgumentError")


def lost(job: Job, how: str, details: str = "") -> JobResult:
    """The result of a job whose worker or node was lost."""
    return JobResult(job.name, error=how, details=details)
