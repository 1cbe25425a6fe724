"""An executor on a Ray cluster: one that is running, or one started on this machine for the run.

What crosses the network is plain data: an import path, JSON, and PYTHONPATH. Ray finds the function
`_attempt` of this module by its name, so the nodes need translimit (and the module of a job) either
installed or on the same path as here.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from translimit.core import ArgumentError, available_cores, require_package, visible_gpus
from translimit.execute.base import AbstractExecutor, Job, JobResult, attempt, load_function, lost
from translimit.execute.environment import job_environment, own_search_path

#: Shared memory of a cluster started here: results are a few bytes, so Ray's smallest will do.
_OBJECT_STORE = 100 * 2**20


@dataclass(frozen=True)
class RayCluster(AbstractExecutor):
    """Runs jobs as tasks of a Ray cluster (extra `ray`).

    A job whose worker or node is lost has that as its result; Ray itself starts nothing again. Its
    workers are fresh interpreters that serve this call of `run` and are reused from job to job.
    The driver holds a bounded number of tasks at Ray, however many jobs there are. If the node of
    the driver (the head, where the cluster was started here) is lost, the run is interrupted.

    Attributes:
        address: `host:port` of a running cluster, "auto" for the one of this machine, or None: a
            cluster on this machine that lives as long as the run. A cluster that is secured by a
            token needs RAY_AUTH_MODE and RAY_AUTH_TOKEN in the environment of this process.
        cpus_per_cell: cores that a job reserves; by default its threads.
        gpus_per_cell: GPUs, or the share of one, that a job on device "gpu" reserves.
        workers: cores of a cluster that is started here; by default all.
    """

    address: str | None = None
    cpus_per_cell: float | None = None
    gpus_per_cell: float = 1.0
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ArgumentError("workers", f"got {self.workers}", "pass at least 1")
        if self.workers is not None and self.address is not None:
            raise ArgumentError(
                "workers", "a running cluster has its own", "leave workers or the address out"
            )
        for name in ("cpus_per_cell", "gpus_per_cell"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(name, f"got {value}", "pass a positive number")

    def require(self) -> None:
        """Refuse where Ray is not installed (see `AbstractExecutor.require`)."""
        require_package("ray", "ray")

    def run(
        self, function: str, jobs: Sequence[Job], *, threads: int = 1, device: str = "cpu"
    ) -> Iterator[JobResult]:
        """Call a function on every job, wherever the cluster has room.

        See `AbstractExecutor.run`.

        Raises:
            ArgumentError: no cluster answers at the address, or a job asks for more than the
                cluster that would be started here has.
            MissingExtraError: Ray is not installed.
        """
        environment = {**job_environment(threads, device), "PYTHONPATH": own_search_path()}
        load_function(function)
        if not jobs:
            return
        cpus = self.cpus_per_cell or float(threads)
        gpus = self.gpus_per_cell if device == "gpu" else 0.0
        with self._cluster(cpus, gpus) as ray:
            task = ray.remote(_attempt).options(
                num_cpus=cpus,
                num_gpus=gpus,
                max_retries=0,
                runtime_env={"env_vars": environment},
                scheduling_strategy="SPREAD",
            )
            # Enough to keep every core busy and to let a growing cluster see that there is more.
            width = 16 + 2 * int(ray.cluster_resources().get("CPU", 1) / cpus)
            waiting = deque(jobs)
            running: dict[Any, Job] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < width:
                        job = waiting.popleft()
                        running[task.remote(function, job.name, dict(job.arguments))] = job
                    (ready,), _ = ray.wait(list(running), num_returns=1)
                    yield _result(ray, ready, running.pop(ready))
            finally:
                for unfinished in running:
                    with contextlib.suppress(Exception):
                        ray.cancel(unfinished, force=True)

    @contextlib.contextmanager
    def _cluster(self, cpus: float, gpus: float) -> Iterator[Any]:
        """Ray, connected; a cluster that was started here ends with the context."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.address is None and "RAY_AUTH_MODE" not in os.environ:
            # Ray listens on the machine's own address: let nobody else in.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        self.require()
        import ray

        if ray.is_initialized():  # by the program around us: its cluster, and its to end
            yield ray
            return
        common: Mapping[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self.address is None:
            cores, devices = self.workers or available_cores(), len(visible_gpus())
            if cpus > cores or gpus > devices:
                raise ArgumentError(
                    "cpus_per_cell" if cpus > cores else "gpus_per_cell",
                    f"a cell asks for {cpus:g} CPU and {gpus:g} GPU, and there are {cores} CPU and "
                    f"{devices} GPU",
                    "ask for less, or give the address of a larger cluster",
                )
            ray.init(
                num_cpus=cores,
                num_gpus=devices,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                **common,
            )
        else:
            try:
                ray.init(address=self.address, **common)
            except Exception as error:
                reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
                raise ArgumentError(
                    "address",
                    f"no Ray cluster answers at {self.address!r} ({reason[0]})",
                    "start one with `ray start --head`, or leave the address out",
                ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _attempt(function: str, name: str, arguments: Mapping[str, Any]) -> str:
    """What a node runs: one job, from plain data to a result as JSON."""
    return json.dumps(asdict(attempt(function, Job(name, arguments))))


def _result(ray: Any, ready: Any, job: Job) -> JobResult:
    try:
        return JobResult.from_json(json.loads(ray.get(ready)))
    except Exception as error:
        ends = {
            "WorkerCrashedError": "its worker process died",
            "NodeDiedError": "its node was lost",
            "LocalRayletDiedError": "its node was lost",
            "OutOfMemoryError": "its worker was ended, because its node ran out of memory",
        }
        kind = type(error).__name__
        line = (str(error).strip().splitlines() or [""])[0]
        return lost(job, ends.get(kind, f"Ray lost it ({kind}: {line})"), str(error))
