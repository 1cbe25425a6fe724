"""Where a command computes its cells: the options, and the executor that they ask for."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from translimit.core import ConfigError

if TYPE_CHECKING:
    from translimit.execute import AbstractExecutor


@dataclass(frozen=True, kw_only=True)
class ProgramOptions:
    """What all commands that compute have in common."""

    no_cache: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")
    ] = False
    """Compile every program anew and keep none (see `translimit cache`)."""


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(ProgramOptions):
    """What `run` and the commands like it have in common."""

    executor: Literal["serial", "pool", "ray", "slurm"] = "pool"
    """What computes the cells: this process, worker processes, Ray, or an array job of Slurm."""
    workers: int = 0
    """Workers of the pool, or cores of a Ray cluster started here; 0 is one per core or GPU."""
    address: Annotated[str, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = ""
    """With --executor ray: a running cluster, or auto to find it; else one is started here."""
    cpus_per_cell: float = 0.0
    """With --executor ray: cores that a cell reserves; 0 is one per thread."""
    gpus_per_cell: float = 0.0
    """With --executor ray and device gpu: GPUs, or a share of one, for each cell; 0 is one."""
    slurm: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(
            metavar="KEY=VALUE",
            help="With --executor slurm: one or more of partition, account, qos, constraint, time "
            "(minutes), memory (GB), cpus, gpus, parallel, tasks, logs; cluster=local tries it out "
            "on this machine.",
        ),
    ] = ()
    retries: int = 1
    """How often a cell that failed is tried again."""
    store: Annotated[str, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = ""
    """Where cells travel through if workers do not see the run folder, as s3://bucket/run."""
    threads: int = 1
    """Threads of each cell; another number may give other last digits."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Device of every cell; auto is gpu if this machine has one that JAX can use."""


def use_programs(options: ProgramOptions) -> None:
    """Use and keep compiled programs, unless the command says otherwise; loads JAX."""
    from translimit.core import PROGRAMS_SWITCH, keep_programs

    if options.no_cache:
        os.environ[PROGRAMS_SWITCH] = "off"
    keep_programs()


#: Options that belong to some executors only.
_BELONGS = {
    "workers": ("pool", "ray"),
    "address": ("ray",),
    "cpus_per_cell": ("ray",),
    "gpus_per_cell": ("ray",),
    "slurm": ("slurm",),
}
_DEFAULTS = {field.name: field.default for field in fields(ExecutionOptions)}


def make_executor(options: ExecutionOptions, device: str) -> AbstractExecutor:
    """The executor that the options ask for.

    Raises:
        ConfigError: an option that does not belong to the executor, or an unusable value.
    """
    for name, executors in _BELONGS.items():
        if getattr(options, name) != _DEFAULTS[name] and options.executor not in executors:
            raise ConfigError(
                f"--{name.replace('_', '-')}",
                f"the {options.executor} executor has none",
                f"leave it out, or use --executor {' or '.join(executors)}",
            )
    if options.gpus_per_cell and device == "cpu":
        raise ConfigError("--gpus-per-cell", "the device is cpu", "add --device gpu")
    from translimit.execute import BatchScheduler, ProcessPool, RayCluster, Serial

    if options.executor == "serial":
        return Serial()
    if options.executor == "pool":
        return ProcessPool(options.workers or None)
    if options.executor == "ray":
        return RayCluster(
            address=options.address or None,
            cpus_per_cell=options.cpus_per_cell or None,
            gpus_per_cell=options.gpus_per_cell or 1.0,
            workers=options.workers or None,
        )
    return BatchScheduler.from_settings(_settings(options.slurm))


def _settings(groups: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """`--slurm key=value` as a mapping."""
    settings: dict[str, str] = {}
    for word in [word for group in groups for word in group or ("",)]:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(
                "--slurm", f"got {word!r}", "write key=value, and experiments before it"
            )
        if key in settings:
            raise ConfigError("--slurm", f"{key} is set twice", "set it once")
        settings[key] = value
    return settings
