"""What an executor is: a way to call one function on many jobs, in any order."""

from __future__ import annotations

import abc
import importlib
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from translimit.core import ArgumentError


@dataclass(frozen=True)
class Job:
    """One call: plain JSON data under a unique name."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """How a job ended; a job that raised, or whose worker died, is a result too.

    Attributes:
        name: of the job.
        value: the plain data that the function returned.
        error: one line, or None when the job succeeded.
        details: the traceback of the error, where there is one.
    """

    name: str
    value: Any = None
    error: str | None = None
    details: str = ""


@dataclass(frozen=True)
class AbstractExecutor(abc.ABC):
    """Runs independent jobs; subclasses are final."""

    def local_workers(self) -> int | None:
        """How many jobs share this machine at once; None where they run on other machines."""
        return None

    @abc.abstractmethod
    def run(self, function: str, jobs: Sequence[Job], *, threads: int = 1) -> Iterator[JobResult]:
        """Call a function on every job.

        Args:
            function: `package.module:name` of a function from keyword arguments (the job's plain
                data) to plain data.
            jobs: in the order in which they should start.
            threads: per job, for the numerical libraries.

        Yields:
            One result per job, as they complete. Closing the iterator stops what is running and
            starts nothing more.

        Raises:
            ArgumentError: the function cannot be imported, or fewer than one thread.
        """


def load_function(path: str) -> Callable[..., Any]:
    """The function at `package.module:name`.

    Raises:
        ArgumentError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError("function", f"cannot load {path!r} ({error})", "check it") from error


def call(function: Callable[..., Any], job: Job) -> JobResult:
    """Run one job here; what it raises becomes its result (an interrupt does not).

    The value goes through JSON, so that it is the same plain data whatever the executor.
    """
    try:
        return JobResult(job.name, json.loads(json.dumps(function(**job.arguments))))
    except (Exception, SystemExit) as error:
        line = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return JobResult(job.name, error=line, details=traceback.format_exc())
