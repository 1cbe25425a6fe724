"""Running experiments: compute what is missing, keep what is whole, then check the claims."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from translimit.core import CellError, DiskFullError, StoreError, progress_bar, require_count
from translimit.execute import (
    AbstractExecutor,
    Job,
    JobResult,
    ProcessPool,
    run_jobs,
)
from translimit.experiments import KEYS
from translimit.store import (
    PATIENCE,
    CellFailure,
    CellRetries,
    CellState,
    ClaimRecord,
    RemoteCells,
    RunFolder,
    RunStart,
    RunWriter,
    count_errata,
    count_verdicts,
    writing,
)
from translimit.study.needs import require_memory
from translimit.study.plan import Plan, PlannedExperiment, plan_run

_COMPUTE = "translimit.study.cells:compute_cell"
#: Failed cells that an error message names.
_SHOWN = 5
#: Attempts in a row that may find the disk full before the rest of the run is left undone.
_FULL_IN_A_ROW = 3
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
        retried: the cells that are whole now and failed at first, each with its number of
            `attempts` and the `errors` of the failed ones.
        claims: the ledger by experiment name, as plain data.
        seconds: wall time of this session.
    """

    path: Path
    computed: tuple[str, ...]
    kept: tuple[str, ...]
    damaged: tuple[CellState, ...]
    retried: tuple[CellRetries, ...]
    claims: Mapping[str, Sequence[ClaimRecord]]
    seconds: float

    @property
    def folder(self) -> RunFolder:
        """The run, open for reading."""
        return RunFolder.open(self.path)

    def verdicts(self) -> dict[str, int]:
        """How many claims there are of each verdict."""
        return count_verdicts(self.claims)

    def errata(self) -> int:
        """How many printed forms are refuted beside the claims that correct them."""
        return count_errata(self.claims)


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
    device: str = "auto",
    retries: int = 1,
    patience: float = PATIENCE,
    store: str | None = None,
) -> Run:
    """Run experiments into a folder, or finish the run that is there.

    Cells that are whole are kept; damaged ones are computed again. The same seed gives the same
    bits whatever the executor, since every cell runs with the same number of threads on the same
    device. A cell that fails (it raises, runs out of memory, loses its worker or its node, or
    finds the disk full or the run folder gone) does not stop the others, and is tried again when
    they have ended; where the disk is full three times in a row, the rest is left undone.

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
        device: of every cell, "cpu" or "gpu"; "auto" looks at this machine.
        retries: how often a cell that failed is tried again.
        patience: seconds that a cell waits for a run folder or store that is out of reach.
        store: a URL (see `RemoteCells`) through which cells travel, for workers that do not see
            the run folder; what is whole there is fetched and not computed.

    Raises:
        ConfigError: an unknown experiment, preset or key; a value of the wrong type.
        MemoryLimitError: a cell needs more memory than a worker's share of what is free.
        MissingExtraError: the executor needs a package that is not installed; nothing is written.
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
        device=device,
    )
    started = time.monotonic()
    chosen = None if out is None else Path(out)
    path = plan.path(chosen)
    executor = executor or ProcessPool()
    executor.require()
    require_count(retries, "retries", 0)
    require_memory(plan, path, executor, fresh=fresh, store=store)
    remote = None if store is None else RemoteCells(store, patience=patience)
    info = _info(plan, chosen, executor, store)
    with writing(path, info, fresh=fresh) as run:
        before = float((run.previous or {}).get("wall_seconds", 0.0))

        def close(status: str, **changes: Any) -> None:
            seconds = round(before + time.monotonic() - started, 3)
            run.update(status=status, wall_seconds=seconds, **changes)

        if remote is not None:
            _begin_remote(run, remote, fresh)
        states = run.states()
        missing = [state for state in states if not state.whole]
        if missing:
            run.remove_claims()
        faults = _Faults(run)
        try:
            _compute(run, plan, missing, executor, progress, faults, retries, patience, remote)
            failures = faults.remaining()
            if failures:
                run.remove_temporaries()  # of workers that were lost
                close("incomplete", failed=failures, retried=faults.retried)
                raise _cell_error(run, failures, len(states))
            ledger = check_claims(run, plan.experiments)
        except CellError:
            raise
        except BaseException:
            run.remove_temporaries()
            with contextlib.suppress(StoreError):
                close("interrupted", failed=faults.failed, retried=faults.retried)
            raise
        run.remove_temporaries()  # of workers that were lost
        devices = {(state.manifest or {}).get("device", "unknown") for state in run.states()}
        close("complete", failed=[], retried=faults.retried, devices=sorted(devices))
    return Run(
        path=path,
        computed=tuple(_label(state) for state in missing),
        kept=tuple(_label(state) for state in states if state.whole),
        damaged=tuple(state for state in missing if state.state == "damaged"),
        retried=tuple(faults.retried),
        claims=ledger,
        seconds=time.monotonic() - started,
    )


class _Faults:
    """What went wrong in a run: cells that failed for good, and those that did so at first."""

    def __init__(self, run: RunWriter):
        self.run = run
        self.failed: list[CellFailure] = []
        self.retried: list[CellRetries] = []
        self.full = 0  # attempts in a row that found the disk full

    def watch(self, attempt: JobResult) -> None:
        """Give up where the disk stays full: whatever is computed is lost."""
        self.full = self.full + 1 if attempt.exception == DiskFullError.__name__ else 0
        if self.full == _FULL_IN_A_ROW:
            raise _disk_full_error(self.run, attempt)

    def note(self, result: JobResult) -> None:
        """Take down how a cell ended."""
        if result.error is not None:
            errors = [*result.earlier, result.error]
            self.failed.append(
                {
                    "cell": result.name,
                    "error": result.error,
                    "details": result.details,
                    "attempts": result.attempts,
                    "errors": errors,
                }
            )
        elif result.attempts > 1:
            self.retried.append(
                {"cell": result.name, "attempts": result.attempts, "errors": list(result.earlier)}
            )

    def remaining(self) -> list[CellFailure]:
        """The failures but of cells that are whole (only word of them was lost), in order."""
        if self.failed:
            whole = {_label(state) for state in self.run.states() if state.whole}
            self.failed = [failure for failure in self.failed if failure["cell"] not in whole]
        return sorted(self.failed, key=lambda failure: failure["cell"])


def _compute(
    run: RunWriter,
    plan: Plan,
    missing: Sequence[CellState],
    executor: AbstractExecutor,
    progress: Callable[[float], object] | bool,
    faults: _Faults,
    retries: int,
    patience: float,
    remote: RemoteCells | None,
) -> None:
    """Compute the missing cells; what goes wrong is noted in `faults`."""
    if not missing:
        return
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
                    "device": plan.device,
                    "token": run.token,
                    "patience": patience,
                    "store": None if remote is None else remote.url,
                }
                jobs[name] = Job(name, arguments, family=one.name)
    results = run_jobs(
        executor,
        _COMPUTE,
        list(jobs.values()),
        threads=plan.threads,
        device=plan.device,
        retries=retries,
        watch=faults.watch,
    )
    with contextlib.ExitStack() as stack:
        report = _progress(stack, progress, f"{len(jobs)} cells")
        stack.callback(results.close)
        report(0.0)
        for done, result in enumerate(results, start=1):
            if remote is not None and result.error is None:
                result = _fetched(run, remote, result)
            faults.note(result)
            if result.error is not None:
                run.update(failed=faults.failed)  # for those who look meanwhile
            report(done / len(jobs))


def _begin_remote(run: RunWriter, remote: RemoteCells, fresh: bool) -> None:
    """Begin a start in the store, and take over what is whole there."""
    remote.new_start(run.token)
    for state, address in zip(run.states(), run.addresses(), strict=True):
        if fresh:
            remote.forget(address)
        elif not state.whole:
            remote.fetch(address)


def _fetched(run: RunWriter, remote: RemoteCells, result: JobResult) -> JobResult:
    """The result of a job whose cell is taken over from the store, or what is wrong with it."""
    (address,) = (a for a in run.addresses() if f"{a.experiment}: {a.cell}" == result.name)
    if remote.fetch(address):
        return result
    return replace(result, error=f"its cell is not whole in {remote.url}")


def check_claims(
    run: RunWriter, experiments: Sequence[PlannedExperiment]
) -> dict[str, list[ClaimRecord]]:
    """Compute the claims from what is stored, and store them."""
    ledger = {
        one.name: [
            cast("ClaimRecord", claim.to_json())
            for claim in one.experiment.check(one.config, run.read_cells(one.name))
        ]
        for one in experiments
    }
    run.write_claims(ledger)
    return RunFolder.claims(run)


def _info(plan: Plan, out: Path | None, executor: AbstractExecutor, store: str | None) -> RunStart:
    """What `run.json` says when a run starts."""
    packages = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[package] = metadata.version(package)
    return {
        "status": "running",
        "digest": plan.digest,
        "command": plan.command(out) + (f" --store {shlex.quote(store)}" if store else ""),
        "preset": plan.preset,
        "seed": plan.seed,
        "threads": plan.threads,
        "device": plan.device,
        "keys": KEYS,
        "overrides": [f"{key}={value}" for key, value in plan.overrides.items()],
        "executor": type(executor).__name__,
        "workers": executor.local_workers(threads=plan.threads, device=plan.device),
        "experiments": plan.entries(),
        "packages": packages,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}, {os.cpu_count()} cores",
        "devices": [],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "wall_seconds": 0.0,
        "failed": [],
        "retried": [],
    }


def _cell_error(run: RunWriter, failures: Sequence[CellFailure], total: int) -> CellError:
    shown = "; ".join(f"{failure['cell']} ({failure['error']})" for failure in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    attempts = max(failure["attempts"] for failure in failures)
    times = f" after {attempts} attempts" if attempts > 1 else ""
    kept = ", the others are kept" if len(failures) < total else ""
    return CellError(
        f"{len(failures)} of {total} cells failed{times}{kept}: {shown}{more}; "
        f"tracebacks are in {run.path / 'run.json'}; try again with: {run.command}",
        {failure["cell"]: failure["details"] for failure in failures},
    )


def _disk_full_error(run: RunWriter, result: JobResult) -> DiskFullError:
    states = run.states()
    whole = sum(state.whole for state in states)
    error = str(result.error).removeprefix(f"{DiskFullError.__name__}: ")
    told = re.search(r"the disk is full \((.*)\); ", error)
    cause = told[1] if told else error
    return DiskFullError(
        run.path,
        f"the disk is full ({cause}), and {whole} of {len(states)} cells are whole and kept",
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
