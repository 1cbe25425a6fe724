"""An executor on a batch scheduler: one array job of Slurm through submitit.

Every array task starts a worker process of its own and gives it its share of the jobs, one after
the other. This process submits, waits, and may be lost: the array then ends by itself as soon as
its jobs notice that the run was started again (see `translimit.store`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from translimit.core import (
    ArgumentError,
    available_cores,
    config,
    nearest,
    require_package,
)
from translimit.execute.base import (
    AbstractExecutor,
    Job,
    JobRecord,
    JobResult,
    ResultRecord,
    load_function,
    lost,
)
from translimit.execute.child import Child, died
from translimit.execute.environment import (
    job_environment,
    own_search_path,
    search_path,
    variable,
)

_CLUSTERS = ("slurm", "local")
#: Array tasks at most: Slurm's default limit is 1001.
_LARGEST_ARRAY = 1000
#: Seconds between two looks at what has ended.
_POLL = {"slurm": 5.0, "local": 0.1}


@dataclass(frozen=True)
class BatchScheduler(AbstractExecutor):
    """Runs jobs as one array job of a batch scheduler (extra `slurm`).

    A job whose array task was ended from outside (its time or memory was over, its node lost, or
    cancelled by somebody) has that as its result, with all jobs of that task: jobs that had
    stored their result by then find it when they are started again. Results come when an array
    task ends. The folder of logs must be seen by all nodes, as the run folder must.

    Attributes:
        cluster: "slurm", or "local" for processes of this machine, to try things out.
        partition: of Slurm; empty for its default.
        account: of Slurm; empty for its default.
        qos: of Slurm; empty for its default.
        constraint: on nodes, in Slurm's words; empty for none.
        time: minutes that an array task may take.
        memory: gigabytes of an array task.
        cpus: cores of an array task; 0 for the threads of a job.
        gpus: of an array task, if the device is "gpu".
        parallel: array tasks that run at the same time, at most.
        tasks: array tasks among which the jobs are divided, at most; 0 for 1000, or locally as
            many as run at once.
        logs: the folder of submitit's scripts and of what the jobs print; not in a run folder.
    """

    cluster: str = "slurm"
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: int = 240
    memory: float = 4.0
    cpus: int = 0
    gpus: int = 1
    parallel: int = 256
    tasks: int = 0
    logs: str = "translimit-jobs"

    def __post_init__(self) -> None:
        if self.cluster not in _CLUSTERS:
            raise ArgumentError(
                "cluster", f"got {self.cluster!r}", nearest(self.cluster, _CLUSTERS)
            )
        for name, least in (("time", 1), ("cpus", 0), ("gpus", 1), ("parallel", 1), ("tasks", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(name, f"got {getattr(self, name)}", f"pass at least {least}")
        if not self.memory > 0:
            raise ArgumentError(
                "memory", f"got {self.memory}", "pass a positive number of gigabytes"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> BatchScheduler:
        """A scheduler from `key=value` as text.

        Raises:
            ConfigError: an unknown key (with the nearest known one), or a value of the wrong type.
        """
        texts = {field.name for field in fields(cls) if field.type == "str"}
        values = {
            key: text if key in texts else config.parse_value(text)
            for key, text in settings.items()
        }
        return config.from_json(cls, values, where="--slurm")

    def require(self) -> None:
        """Refuse where submitit is not installed (see `AbstractExecutor.require`)."""
        require_package("submitit", "slurm")

    def run(
        self, function: str, jobs: Sequence[Job], *, threads: int = 1, device: str = "cpu"
    ) -> Iterator[JobResult]:
        """Call a function on every job (see `AbstractExecutor.run`).

        Raises:
            ArgumentError: no scheduler is found here, or it refuses the request.
            MissingExtraError: submitit is not installed.
        """
        settings = job_environment(threads, device)
        load_function(function)
        if not jobs:
            return
        shares = _shares(jobs, self._tasks(threads))
        submitted = self._submit(function, shares, settings, threads, device)
        running = dict(zip(submitted, shares, strict=True))
        try:
            while running:
                for one in [one for one in running if one.done()]:
                    yield from _results(one, running.pop(one))
                if running:
                    time.sleep(_POLL[self.cluster])
        finally:
            for one in running:
                with contextlib.suppress(Exception):
                    one.cancel()
            for one in running:  # nothing is written afterwards, as far as we can see
                with contextlib.suppress(Exception):
                    one.wait()

    def _tasks(self, threads: int) -> int:
        if self.cluster == "local":
            return self.tasks or max(1, available_cores() // threads)
        return self.tasks or _LARGEST_ARRAY

    def _submit(
        self,
        function: str,
        shares: Sequence[Sequence[Job]],
        settings: Mapping[str, str],
        threads: int,
        device: str,
    ) -> list[Any]:
        """One array job, a task for each share."""
        self.require()
        import submitit

        words = {name: getattr(self, name) for name in ("partition", "account", "qos")}
        words["constraint"] = self.constraint
        asked: dict[str, Any] = {
            "name": "translimit",
            "timeout_min": self.time,
            "mem_gb": self.memory,
            "cpus_per_task": self.cpus or threads,
            "gpus_per_node": self.gpus if device == "gpu" else 0,
            "tasks_per_node": 1,
            "nodes": 1,
            "slurm_array_parallelism": self.parallel,
            **{f"slurm_{name}": word for name, word in words.items() if word},
        }
        plain = [[asdict(job) for job in share] for share in shares]
        number = len(plain)
        try:
            executor = submitit.AutoExecutor(folder=Path(self.logs), cluster=self.cluster)
            executor.update_parameters(**asked)
            # Where submitit's own process finds this module.
            with variable("PYTHONPATH", own_search_path()):
                return executor.map_array(
                    serve, [function] * number, plain, [dict(settings)] * number,
                    [search_path()] * number,
                )  # fmt: skip
        except Exception as error:  # submitit has types of its own, and raises many others
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ArgumentError(
                "cluster",
                f"{self.cluster} takes no job ({reason})",
                "submit where the cluster is, or correct what --slurm key=value asks for",
            ) from error


def serve(
    function: str,
    jobs: Sequence[JobRecord],
    settings: Mapping[str, str],
    search: Sequence[str],
) -> list[ResultRecord]:
    """What an array task runs: its jobs on worker processes, from plain data to plain data."""
    child, results = None, []
    for one in jobs:
        job = Job(one["name"], one["arguments"])
        child = child or Child(function, {**os.environ, **settings}, search)
        result = child.ask(job)
        if result is None:
            result = died(job, child.end())
            child = None
        elif result.out_of_memory:
            child.end()
            child = None
        results.append(cast("ResultRecord", asdict(result)))
    if child is not None:
        child.end()
    return results


def _shares(jobs: Sequence[Job], tasks: int) -> list[list[Job]]:
    """The jobs divided among at most so many array tasks, like cards."""
    number = min(len(jobs), tasks)
    return [list(jobs[first::number]) for first in range(number)]


def _results(submitted: Any, share: Sequence[Job]) -> Iterator[JobResult]:
    try:
        answers = submitted.result()
    except Exception as error:
        state = getattr(submitted, "state", "unknown")
        for job in share:
            yield lost(job, f"its array task {submitted.job_id} was lost ({state})", str(error))
        return
    for answer in answers:
        yield JobResult.from_json(answer)
