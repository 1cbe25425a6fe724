"""The options of the commands about experiments and their runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ExecutionOptions
from translimit.cli.options import REQUIRED, Experiments, File, Flag, Folder, OwnCode, Run
from translimit.core import ConfigError


@dataclass(frozen=True)
class ListCommand:
    """Show the experiments, one a line by paper, or the claims of those that are named.

    Example: translimit list --question collapse
    """

    experiments: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[EXPERIMENT ...]", help_behavior_hint=""),
    ] = ()
    """Names; their claims are told for every preset, and what a preset leaves out."""
    paper: Annotated[str, tyro.conf.arg(metavar="PAPER", help_behavior_hint="")] = ""
    """Only those of one paper, as koubbi2026."""
    question: Annotated[str, tyro.conf.arg(metavar="WORDS", help_behavior_hint="")] = ""
    """Only those whose title, summary or claims have all these words."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(ExecutionOptions, OwnCode):
    """Run experiments, or finish the run that was interrupted; whole cells are kept.

    Example: translimit run castin2025/digits --preset demo
    """

    experiments: Experiments = ()
    """Names from `translimit list`, or module:OBJECT."""
    preset: Literal["demo", "standard", "paper"] = "demo"
    """The sizes to start from."""
    out: Folder = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    seed: int = 0
    """Seed of every random stream."""
    set: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE"),
    ] = ()
    """A value of the configuration, for every chosen experiment that has the key."""
    config: File = None
    """A TOML or JSON file of configuration values."""
    fresh: Flag = False
    """Remove the run that is there and start over."""
    plan: Flag = False
    """Print cells, memory and time, or why they cannot fit, and start nothing."""
    json: Flag = False
    """Print the plan as one JSON document."""

    @classmethod
    def executed_as(
        cls, options: ExecutionOptions, experiments: tuple[str, ...], *, out: Path | None
    ) -> RunCommand:
        """The command that runs experiments into a folder as another command says."""
        same = {field.name: getattr(options, field.name) for field in fields(ExecutionOptions)}
        return cls(experiments=experiments, out=out, **same)

    def settings(self) -> tuple[list[str], dict[str, str]]:
        """The experiments and the overrides; a name that follows `--set key=value` is a name.

        Raises:
            ConfigError: a setting that is not key=value, or is given twice.
        """
        names, overrides = list(self.experiments), {}
        for group in self.set:
            for position, word in enumerate(group):
                key, equals, value = word.partition("=")
                if not equals and position > 0:
                    names.append(word)
                elif not equals or not key:
                    raise ConfigError("--set", f"got {word!r}", "write key=value")
                elif key in overrides:
                    raise ConfigError("--set", f"{key} is set twice", "set it once")
                else:
                    overrides[key] = value
            if not group:
                raise ConfigError("--set", "has no value", "write key=value")
        return names, overrides


@dataclass(frozen=True)
class StatusCommand(OwnCode):
    """Show what of a run is done, failed and left, and how to finish it.

    Example: translimit status runs/castin2025-digits-demo-*
    """

    run: Run
    """The folder of a run."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True)
class MergeCommand(OwnCode):
    """Join the whole cells of runs of the same settings into one folder.

    Claims are checked if all cells are there; else the next command is printed.

    Example: translimit merge here/runs/digits there/runs/digits --out runs/digits
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN...", help_behavior_hint=""),
    ] = ()
    """Folders of at least two runs."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint=REQUIRED)] = None
    """The folder of the joined run: a new one, or one of the same run."""


@dataclass(frozen=True)
class ExportCommand(OwnCode):
    """Write a run into one netCDF file: a group for each cell, claims as attributes.

    Example: translimit export runs/castin2025-digits-demo-* --out digits.nc
    """

    run: Run
    """The folder of a run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=REQUIRED)] = None
    """The file to write, ending in .nc."""
    partial: Flag = False
    """Export what is whole of a run that is not finished."""


@dataclass(frozen=True)
class ClaimsCommand(OwnCode):
    """Show the ledger of a run: predictions, estimates, floors and verdicts.

    Example: translimit claims runs/castin2025-digits-demo-*
    """

    run: Run
    """The folder of a run."""
    json: Flag = False
    """Print one JSON document."""
    audit: Flag = False
    """Put wrong theories in the place of the right ones: every rival, and every prediction times
    1.1; none may be supported, some must be refuted."""


@dataclass(frozen=True)
class ReportCommand(OwnCode):
    """Build, or build again, the self-contained report of a run.

    Example: translimit report runs/castin2025-digits-demo-*
    """

    run: Run
    """The folder of a run."""


@dataclass(frozen=True)
class GalleryCommand(ExecutionOptions, OwnCode):
    """Run every experiment, or those that are named, and show all figures on one page.

    Runs that are whole are kept; the page is written again after each run.

    Example: translimit gallery castin2025/digits koubbi2026/collapse --preset demo
    """

    experiments: Experiments = ()
    """Names from `translimit list`, or module:OBJECT; all by default."""
    preset: Literal["demo", "standard", "paper"] = "standard"
    """The sizes to start from."""
    out: Folder = None
    """The folder of the runs and the page; by default runs/gallery-PRESET."""
    only_page: Flag = False
    """Show the runs that are there and compute nothing."""


@dataclass(frozen=True)
class CiteCommand(OwnCode):
    """Print BibTeX of the papers and software behind a run, or behind translimit.

    Example: translimit cite
    """

    run: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[RUN]", help_behavior_hint=""),
    ] = None
    """The folder of a run; by default the papers of the four theories are cited."""


@dataclass(frozen=True, kw_only=True)
class DmftCommand(ExecutionOptions):
    """Solve the training dynamics of a configuration, train networks, and compare them.

    Networks grow in heads, head dimension or layers towards their limit.

    CONFIG changes the demo preset of bordelon2024/dmft-networks. With --best-rate the limit is
    solved, and networks are trained, at many learning rates instead: what is sought is the best of
    them (bordelon2024/dmft-own-best-rate).

    Example: translimit dmft dmft.toml
    """

    config: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="CONFIG",
            help="A TOML or JSON file: task (digits, text, synthetic, or an .npz with inputs and "
            "targets), architecture, axis, sizes, seeds.",
        ),
    ]
    out: Folder = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    best_rate: Flag = False
    """Look for the best learning rate, and where training diverges."""
    json: Flag = False
    """Print the claims, and with --best-rate the losses at all rates, as one JSON document."""
    seed: int = 0
    """Seed of every random stream."""
    fresh: Flag = False
    """Remove the run that is there and start over."""
