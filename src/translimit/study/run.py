"""Running experiments: compute what is missing, keep what is whole, then check the claims."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from translimit.core import CellError, DiskFullError, StoreError, Verdict, progress_bar
from translimit.execute import AbstractExecutor, Job, JobResult, ProcessPool
from translimit.store import CellState, RunFolder, RunWriter, writing
from translimit.study.needs import require_memory
from translimit.study.plan import Plan, PlannedExperiment, plan_run

_COMPUTE = "translimit.study.cells:compute_cell"
_PACKAGES = (
    "diffrax", "equinox", "jax", "jaxlib", "lineax", "numpy", "optimistix", "scipy",
    "translimit", "xarray", "zarr",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        computed: the cells computed now, as `experiment: cell`.
        kept: the cells that were whole already.
        damaged: what was found damaged and computed again.
        claims: the ledger by experiment name, as plain data.
        seconds: wall time of this session.
    """

    path: Path
    computed: tuple[str, ...]
    kept: tuple[str, ...]
    damaged: tuple[CellState, ...]
    claims: Mapping[str, Sequence[Mapping[str, Any]]]
    seconds: float

    @property
    def folder(self) -> RunFolder:
        """The run, open for reading."""
        return RunFolder.open(self.path)

    def verdicts(self) -> dict[str, int]:
        """How many claims there are of each verdict."""
        found = [claim["verdict"] for claims in self.claims.values() for claim in claims]
        return {verdict.value: found.count(verdict.value) for verdict in Verdict}


def run_experiments(
    names: Sequence[str],
    *,
    preset: str = "demo",
    out: str | Path | None = None,
    executor: AbstractExecutor | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    config_file: str | Path | None = None,
    fresh: bool = False,
    progress: Callable[[float], object] | bool = True,
    threads: int = 1,
) -> Run:
    """Run experiments into a folder, or finish the run that is there.

    Cells that are whole are kept; damaged ones are computed again. The same seed gives the same
    bits whatever the executor, since every cell runs with the same number of threads.

    Args:
        names: experiments, or `module:OBJECT`.
        preset: the sizes to start from: "demo", "standard" or "paper".
        out: the folder; by default `runs/<experiments>-<preset>-<digest>`.
        executor: by default a process pool with a worker per core.
        seed: of every random stream.
        overrides: configuration values as text, applied to each experiment that has the key.
        config_file: TOML or JSON, applied before the overrides (see `plan_run`).
        fresh: remove the run that is there and start over.
        progress: True for a bar on standard error (quiet when standard output is no terminal),
            or a function of the fraction of the cells done.
        threads: per cell.

    Raises:
        ConfigError: an unknown experiment, preset or key; a value of the wrong type.
        MemoryLimitError: a cell needs more memory than a worker's share of what is free.
        StoreError: the folder cannot be used; a full disk is a `DiskFullError`.
        CellError: some cells failed; the others are stored and are kept by the next start.
    """
    plan = plan_run(
        [names] if isinstance(names, str) else names,
        preset=preset,
        seed=seed,
        overrides=overrides,
        config_file=config_file,
        threads=threads,
    )
    started = time.monotonic()
    chosen = None if out is None else Path(out)
    path = plan.path(chosen)
    executor = executor or ProcessPool()
    require_memory(plan, path, executor, fresh=fresh)
    info = _info(plan, chosen, executor)
    with writing(path, info, fresh=fresh) as run:
        before = float((run.previous or {}).get("wall_seconds", 0.0))

        def close(status: str, **changes: Any) -> None:
            seconds = round(before + time.monotonic() - started, 3)
            run.update(status=status, wall_seconds=seconds, **changes)

        states = run.states()
        missing = [state for state in states if not state.whole]
        if missing:
            run.remove_claims()
        try:
            failures = _compute(run, plan, missing, executor, progress)
            if failures:
                run.remove_temporaries()  # the marks of workers that died
                close("incomplete", failed=failures)
                raise _cell_error(run, failures, len(states))
            ledger = check_claims(run, plan.experiments)
        except CellError:
            raise
        except BaseException:
            run.remove_temporaries()
            with contextlib.suppress(StoreError):
                close("interrupted")
            raise
        devices = {(state.manifest or {}).get("device", "unknown") for state in run.states()}
        close("complete", failed=[], devices=sorted(devices))
    return Run(
        path=path,
        computed=tuple(_label(state) for state in missing),
        kept=tuple(_label(state) for state in states if state.whole),
        damaged=tuple(state for state in missing if state.state == "damaged"),
        claims=ledger,
        seconds=time.monotonic() - started,
    )


def _compute(
    run: RunWriter,
    plan: Plan,
    missing: Sequence[CellState],
    executor: AbstractExecutor,
    progress: Callable[[float], object] | bool,
) -> list[dict[str, str]]:
    """Compute the missing cells and return the failures."""
    if not missing:
        return []
    wanted = {_label(state) for state in missing}
    jobs = {}
    for one, entry in zip(plan.experiments, plan.entries(), strict=True):
        for cell in entry["cells"]:
            name = f"{one.name}: {cell['name']}"
            if name in wanted:
                arguments = {
                    "run": str(run.path.resolve()),
                    "source": one.source,
                    "configuration": entry["config"],
                    "preset": plan.preset,
                    "cell": cell,
                    "seed": plan.seed,
                    "threads": plan.threads,
                }
                jobs[name] = Job(name, arguments)
    failures = []
    results = executor.run(_COMPUTE, list(jobs.values()), threads=plan.threads)
    with contextlib.ExitStack() as stack:
        report = _progress(stack, progress, f"{len(jobs)} cells")
        stack.callback(getattr(results, "close", lambda: None))
        report(0.0)
        for done, result in enumerate(results, start=1):
            if result.error is not None:
                failures.append(
                    {"cell": result.name, "error": result.error, "details": result.details}
                )
            elif "disk_full" in result.value:
                raise _disk_full_error(run, result)
            if result.error is not None:
                run.update(failed=failures)
            report(done / len(jobs))
    return sorted(failures, key=lambda failure: failure["cell"])


def check_claims(
    run: RunWriter, experiments: Sequence[PlannedExperiment]
) -> dict[str, list[dict[str, Any]]]:
    """Compute the claims from what is stored, and store them."""
    ledger = {
        one.name: [
            claim.to_json() for claim in one.experiment.claims(one.config, run.read_cells(one.name))
        ]
        for one in experiments
    }
    run.write_claims(ledger)
    return RunFolder.claims(run)


def _info(plan: Plan, out: Path | None, executor: AbstractExecutor) -> dict[str, Any]:
    """What `run.json` says when a run starts."""
    packages = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[package] = metadata.version(package)
    return {
        "status": "running",
        "digest": plan.digest,
        "command": plan.command(out),
        "preset": plan.preset,
        "seed": plan.seed,
        "threads": plan.threads,
        "overrides": [f"{key}={value}" for key, value in plan.overrides.items()],
        "executor": type(executor).__name__,
        "workers": executor.local_workers(),
        "experiments": plan.entries(),
        "packages": packages,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}, {os.cpu_count()} cores",
        "devices": [],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "wall_seconds": 0.0,
        "failed": [],
    }


def _cell_error(run: RunWriter, failures: Sequence[Mapping[str, str]], total: int) -> CellError:
    listed = "; ".join(f"{failure['cell']} ({failure['error']})" for failure in failures)
    return CellError(
        f"{len(failures)} of {total} cells failed, the others are kept: {listed}; "
        f"tracebacks are in {run.path / 'run.json'}; try again with: {run.command}",
        {failure["cell"]: failure["details"] for failure in failures},
    )


def _disk_full_error(run: RunWriter, result: JobResult) -> DiskFullError:
    whole = sum(state.whole for state in run.states())
    return DiskFullError(
        run.path,
        f"the disk is full ({result.value['disk_full']}); {whole} whole cells are kept",
        f"free space and resume with: {run.command}",
    )


def _progress(
    stack: contextlib.ExitStack, progress: Callable[[float], object] | bool, label: str
) -> Callable[[float], object]:
    if progress is True:
        return stack.enter_context(progress_bar(label))
    return progress or (lambda fraction: None)


def _label(state: CellState) -> str:
    return f"{state.experiment}: {state.cell}"
