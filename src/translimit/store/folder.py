"""A run folder as a reader sees it: configuration, cells, claims, and where the report goes.

runs/<experiment>-<preset>-<digest>/
  run.json                        how the run was made, and its status
  cells/<experiment>/<cell>/      data.zarr and manifest.json
  claims.json                     the ledger
  figures/, report.html           drawn from the above
"""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translimit.core import ConfigError, Json, StoreError, nearest
from translimit.store.cells import CellAddress, CellState, cell_state, read_cell
from translimit.store.jsonfiles import load_json
from translimit.store.records import ClaimRecord, ExperimentEntry, LedgerRecord, RunRecord
from translimit.store.shapes import LEDGER, RUN, as_stored, load_record, require_shape

if TYPE_CHECKING:
    import xarray

#: The number of this layout; a folder with another number is refused.
FORMAT = 1
RUN_FILE = "run.json"
CLAIMS_FILE = "claims.json"


class RunFolder:
    """A run folder, open for reading.

    Attributes:
        path: the folder.
        info: the contents of `run.json`.
    """

    def __init__(self, path: Path, info: RunRecord):
        self.path, self.info = path, info

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run for reading; nothing is changed and no lock is taken.

        Raises:
            StoreError: there is no run folder, its `run.json` is unreadable, or it has another
                format.
        """
        path = Path(path)
        if not path.is_dir() or not (path / RUN_FILE).exists():
            problem = "is not a run folder" if path.exists() else "does not exist"
            raise StoreError(path, problem, "pass the folder that `translimit run` printed")
        info = load_json(path / RUN_FILE)
        require_format(path, info)
        require_shape(info, RUN, path / RUN_FILE)
        return cls(path, cast("RunRecord", as_stored(info, path / RUN_FILE)))

    @property
    def experiments(self) -> tuple[str, ...]:
        """The names of the run's experiments."""
        return tuple(entry["name"] for entry in self.info["experiments"])

    def experiment(self, name: str) -> ExperimentEntry:
        """The entry of one experiment in `run.json`.

        Raises:
            ConfigError: the run has no such experiment.
        """
        for entry in self.info["experiments"]:
            if entry["name"] == name:
                return entry
        raise ConfigError(
            "experiment", f"{name!r} is not in {self.path}", nearest(name, self.experiments)
        )

    def states(self) -> list[CellState]:
        """What is stored of each cell, in the order of the run; digests are computed anew."""
        return [cell_state(address) for address in self.addresses()]

    def read_cell(self, experiment: str, cell: str) -> xarray.Dataset:
        """One cell's labelled arrays, in memory.

        Raises:
            ConfigError: the run has no such experiment or cell.
            StoreError: the cell is missing or damaged.
        """
        cells = {a.cell: a for a in self.addresses() if a.experiment == experiment}
        if cell not in cells:
            self.experiment(experiment)
            raise ConfigError("cell", f"unknown cell {cell!r}", nearest(cell, cells))
        return read_cell(cells[cell])

    def read_cells(self, experiment: str) -> dict[str, xarray.Dataset]:
        """All cells of an experiment, by cell name, in memory.

        Raises:
            ConfigError: the run has no such experiment.
            StoreError: a cell is missing or damaged.
        """
        return {
            cell["name"]: self.read_cell(experiment, cell["name"])
            for cell in self.experiment(experiment)["cells"]
        }

    def claims(self) -> dict[str, list[ClaimRecord]]:
        """The ledger, as `Claim.to_json` wrote it, by experiment name.

        Raises:
            StoreError: the run has no ledger yet, or it is unreadable.
        """
        path = self.path / CLAIMS_FILE
        if not path.exists():
            raise StoreError(path, "has not been written", f"finish the run: {self.command}")
        return load_record(path, LEDGER, LedgerRecord)["experiments"]

    @property
    def command(self) -> str:
        """The command line that finishes or remakes this run.

        Its words are quoted anew: people paste it into a shell, and the file may be anybody's.

        Raises:
            StoreError: what the file holds is not a call of `translimit run`.
        """
        try:
            words = shlex.split(str(self.info["command"]))
        except ValueError:
            words = []
        if words[:2] != ["translimit", "run"]:
            raise StoreError(
                self.path / RUN_FILE,
                "gives no command of `translimit run` that makes the run",
                "restore the file or run again with --fresh",
            )
        return shlex.join(words)

    @cached_property
    def figures(self) -> Path:
        """The folder of the figures (it may not exist yet)."""
        return self.path / "figures"

    @cached_property
    def report(self) -> Path:
        """The file of the report (it may not exist yet)."""
        return self.path / "report.html"

    def addresses(self) -> list[CellAddress]:
        """Where each cell belongs, in the order of the run."""
        return [
            CellAddress(self.path, entry["name"], cell["name"], cell["digest"])
            for entry in self.info["experiments"]
            for cell in entry["cells"]
        ]


def require_format(path: Path, info: Json) -> None:
    """Refuse what is not a `run.json` of this format."""
    if not isinstance(info, dict) or "format" not in info or "experiments" not in info:
        raise StoreError(
            path / RUN_FILE, "does not describe a run", "run again with --fresh or another --out"
        )
    if info["format"] != FORMAT:
        raise StoreError(
            path,
            f"is a run folder of format {info['format']} (this version reads {FORMAT})",
            "run again with --fresh, or choose another --out",
        )
