"""Joining runs: the union of their whole cells in one folder, as if one run had computed them.

A cell is fixed by its digest (configuration, parameters, seed, threads, version), so whole cells of
several machines belong together exactly if their runs agree in these. Runs of the same experiments
are joined, and runs of different experiments whose settings one command can give. A cell that two
runs hold must be the same in both, bit for bit.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from translimit._version import __version__
from translimit.core import ArgumentError, ConfigError, StoreError, config, unwritable
from translimit.experiments import KEYS, Cell, get_experiment, trusted_source
from translimit.store import (
    CellAddress,
    CellState,
    ClaimRecord,
    ExperimentEntry,
    RunFolder,
    RunRecord,
    RunWriter,
    cell_state,
    copy_cell,
    count_errata,
    count_verdicts,
    first_difference,
    writing,
)
from translimit.study.plan import PlannedExperiment, plan_run, run_digest
from translimit.study.run import check_claims

#: What every run to be joined must have in common.
_SHARED: tuple[Literal["translimit", "preset", "seed", "threads", "device"], ...] = (
    "translimit",
    "preset",
    "seed",
    "threads",
    "device",
)

#: Experiment and cell, to where it is whole and what is stored there.
_Copies = dict[tuple[str, str], list[tuple[CellAddress, CellState]]]


@dataclass(frozen=True)
class Merged:
    """A joined run.

    Attributes:
        path: its folder.
        cells: how many it has.
        whole: how many of them are whole.
        claims: the ledger by experiment, or None where it could not be checked.
        not_loaded: experiments whose code was not loaded, so that no claim was checked.
        command: the command line that finishes it.
        notes: what may make numbers differ in their last digits, in sentences.
    """

    path: Path
    cells: int
    whole: int
    claims: Mapping[str, Sequence[ClaimRecord]] | None
    not_loaded: tuple[str, ...]
    command: str
    notes: tuple[str, ...]

    def verdicts(self) -> dict[str, int]:
        """How many claims there are of each verdict."""
        return count_verdicts(self.claims or {})

    def errata(self) -> int:
        """How many printed forms are refuted beside the claims that correct them."""
        return count_errata(self.claims or {})


def merge_runs(
    paths: Sequence[str | Path], out: str | Path, experiments: Sequence[str] = ()
) -> Merged:
    """Join runs into a folder; they are read and stay as they are.

    Claims are checked if all cells are there and the code of all experiments may be loaded.

    Args:
        paths: the folders of at least two runs.
        out: a new folder, or one that holds the joined run in part.
        experiments: those of neither translimit nor an installed package, as `module:OBJECT`,
            whose code may be loaded; the files of a run name none.

    Raises:
        ArgumentError: fewer than two runs, or `out` is one of them.
        ConfigError: something of `experiments` cannot be loaded, or runs of different experiments
            are to be joined and the code of one may not be loaded.
        StoreError: the runs differ in version, preset, seed, threads or a configuration; no single
            command gives the settings of both; two of them hold different data of the same cell;
            the folder cannot be written.
    """
    runs = [RunFolder.open(path) for path in paths]
    if len(runs) < 2:
        raise ArgumentError("RUN", f"got {len(runs)}", "name at least two")
    if Path(out).resolve() in {run.path.resolve() for run in runs}:
        raise ArgumentError("--out", f"{out} is one of the runs", "name another folder")
    entries = _union(runs)
    sources = {entry["name"]: trusted_source(entry["name"], experiments) for entry in entries}
    not_loaded = tuple(name for name, source in sources.items() if source is None)
    info = _info(runs, entries, sources, Path(out))
    copies = _copies(runs)
    with writing(out, info) as joined:
        for address in joined.addresses():
            _bring(joined, address, copies.get((address.experiment, address.cell), []))
        states = joined.states()
        whole = [state for state in states if state.whole]
        ledger = None
        if len(whole) == len(states) and not not_loaded:
            ledger = check_claims(joined, _planned(joined, sources))
        else:
            joined.remove_claims()
        devices = {str((state.manifest or {}).get("device", "unknown")) for state in whole}
        status = "incomplete" if ledger is None else "complete"
        joined.update(status=status, devices=sorted(devices))
        return Merged(
            path=joined.path,
            cells=len(states),
            whole=len(whole),
            claims=ledger,
            not_loaded=not_loaded,
            command=joined.command,
            notes=_notes(runs, devices),
        )


def _union(runs: Sequence[RunFolder]) -> list[ExperimentEntry]:
    """The experiments of all runs, each once; refuses those that do not belong together."""
    first = runs[0]
    if first.info["translimit"] != __version__:
        raise StoreError(
            first.path,
            f"is a run of translimit {first.info['translimit']} (this is {__version__})",
            f"join it with translimit {first.info['translimit']}",
        )
    found: dict[str, tuple[RunFolder, ExperimentEntry]] = {}
    for run in runs:
        if run.info.get("keys") != KEYS:
            raise StoreError(
                run.path,
                "was made when the random streams of cells were named otherwise",
                "look at it as it is, or run the same command again in a new folder",
            )
        for key in _SHARED:
            if run.info[key] != first.info[key]:
                raise _differ(run, first, f"{key}: {run.info[key]!r} and {first.info[key]!r}")
        for entry in run.info["experiments"]:
            owner, known = found.setdefault(entry["name"], (run, entry))
            if entry["config"] != known["config"] or entry["cells"] != known["cells"]:
                ours: RunRecord = {**owner.info, "experiments": [known]}
                theirs: RunRecord = {**run.info, "experiments": [entry]}
                raise _differ(run, owner, first_difference(theirs, ours))
    return [entry for _, entry in found.values()]


def _info(
    runs: Sequence[RunFolder],
    entries: Sequence[ExperimentEntry],
    sources: Mapping[str, str | None],
    out: Path,
) -> RunRecord:
    """What `run.json` of the joined run says; its command gives its configurations."""
    first = runs[0].info
    command = shlex.split(runs[0].command)
    configurations = {entry["name"]: entry["config"] for entry in entries}
    digest = run_digest(configurations, first["seed"], first["threads"], first["device"])
    words = _without_out(command)
    if len(entries) > len(first["experiments"]):
        # What sets values must set the same values in all of them: resolve the joint command.
        for name, source in sources.items():
            if source is None:
                raise ConfigError(
                    "--from",
                    f"the code of {name} belongs neither to translimit nor to an installed "
                    "package, and one command for different experiments needs it",
                    "name it as module:OBJECT",
                )
        names = [source for source in sources.values() if source is not None]
        config_file = words[words.index("--config") + 1] if "--config" in words else None
        joint = plan_run(
            names,
            preset=first["preset"],
            seed=first["seed"],
            overrides={
                key: value for key, _, value in (text.partition("=") for text in first["overrides"])
            },
            config_file=config_file,
            threads=first["threads"],
            device=first["device"],
        )
        if joint.digest != digest:
            wanted: RunRecord = {**first, "experiments": joint.entries()}
            stored: RunRecord = {**first, "experiments": list(entries)}
            raise StoreError(
                runs[1].path,
                f"was set otherwise than {runs[0].path} ({first_difference(stored, wanted)} "
                "by its command), so no command would finish both",
                "finish them apart",
            )
        words = _without_out(shlex.split(joint.command(None)))
    return {
        **first,
        "status": "incomplete",
        "digest": digest,
        "command": shlex.join([*words, "--out", str(out)]),
        "executor": "merge",
        "experiments": list(entries),
        "started": min(run.info["started"] for run in runs),
        "wall_seconds": round(sum(run.info["wall_seconds"] for run in runs), 3),
        "failed": [],
        "retried": [],
    }


def _without_out(words: Sequence[str]) -> list[str]:
    """The words of a command but its `--out FOLDER`."""
    if "--out" not in words:
        return list(words)
    place = list(words).index("--out")
    return [*words[:place], *words[place + 2 :]]


def _copies(runs: Sequence[RunFolder]) -> _Copies:
    """The whole copies of every cell, which agree."""
    found: _Copies = {}
    for run in runs:
        for address in run.addresses():
            state = cell_state(address)
            if state.whole:
                _require_agreement(found, address, state)
    return found


def _require_agreement(found: _Copies, address: CellAddress, state: CellState) -> None:
    """Note another copy of a cell, or refuse one that differs from those that are known."""
    copies = found.setdefault((address.experiment, address.cell), [])
    for other, known in copies:
        theirs, ours = state.manifest, known.manifest
        if theirs is None or ours is None:
            continue
        names = sorted({*theirs["files"], *ours["files"]})
        for name in names:
            if theirs["files"].get(name) != ours["files"].get(name):
                raise StoreError(
                    address.folder,
                    f"{name} differs from that of the same cell in {other.run} (computed on "
                    f"{theirs.get('device')} and {ours.get('device')})",
                    "leave one of the runs out, or remove one of the two cells",
                )
    copies.append((address, state))


def _bring(
    joined: RunWriter, address: CellAddress, copies: Sequence[tuple[CellAddress, CellState]]
) -> None:
    """Copy a cell where it is not whole already; what is there must be the same too."""
    there = cell_state(address)
    if there.whole:
        _require_agreement({(address.experiment, address.cell): list(copies)}, address, there)
    elif copies:
        try:
            copy_cell(copies[0][0], address)
        except StoreError:
            raise
        except OSError as error:
            remedy = "choose a writable folder with --out"
            raise unwritable(joined.path, error, remedy=remedy, again="join again") from error


def _planned(run: RunFolder, sources: Mapping[str, str | None]) -> list[PlannedExperiment]:
    """The experiments of a run, resolved from what it stores, by the code that may be loaded."""
    planned = []
    for entry in run.info["experiments"]:
        source = sources[entry["name"]] or ""
        experiment = get_experiment(source)
        if run.info["preset"] not in experiment.presets:
            raise StoreError(
                run.path,
                f"is of the preset {run.info['preset']!r}, which {entry['name']} does not have",
                "join runs that this version has made",
            )
        kind = type(experiment.presets[run.info["preset"]])
        cells = tuple(Cell(cell["name"], cell["parameters"]) for cell in entry["cells"])
        resolved = config.from_json(kind, entry["config"])
        planned.append(PlannedExperiment(source, experiment, resolved, cells))
    return planned


def _notes(runs: Sequence[RunFolder], devices: set[str]) -> tuple[str, ...]:
    """Differences that are allowed and may change last digits."""
    notes = []
    first = runs[0]
    for run in runs[1:]:
        for package in sorted({*first.info["packages"], *run.info["packages"]}):
            here, there = (one.info["packages"].get(package) for one in (first, run))
            if here != there:
                notes.append(f"{package} is {here} in {first.path} and {there} in {run.path}")
    if len(devices) > 1:
        notes.append(f"cells were computed on {', '.join(sorted(devices))}")
    return tuple(notes)


def _differ(run: RunFolder, other: RunFolder, difference: str) -> StoreError:
    return StoreError(
        run.path,
        f"does not belong to {other.path} ({difference})",
        "join runs of the same configuration, seed, threads and version",
    )
