"""The commands and their options, as frozen dataclasses that tyro turns into a parser.

The first line of a command's help says in the imperative what it does, and an example follows.
The help of an option that takes a value names the value; that of a switch is an imperative. It is
one line: tyro keeps the line breaks of a field's docstring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from translimit.cli.diagnose_arguments import DiagnoseCommand
from translimit.cli.extrapolate_arguments import ExtrapolateCommand
from translimit.cli.model_arguments import (
    CoordCheckCommand,
    ExploreCommand,
    PredictCommand,
    RecipesCommand,
    ScaleCommand,
    TransferCommand,
)
from translimit.cli.options import Flag, Folder
from translimit.cli.run_arguments import (
    CiteCommand,
    ClaimsCommand,
    DmftCommand,
    ExportCommand,
    GalleryCommand,
    ListCommand,
    MergeCommand,
    ReportCommand,
    RunCommand,
    StatusCommand,
)


@dataclass(frozen=True)
class ExampleCommand:
    """Write example files into the current folder, or list them.

    They are yours to change; a file that is there is never written over.

    Example: translimit example gpt2.json
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME...", help_behavior_hint=""),
    ] = ()
    """The files to write; without one, all are listed."""
    out: Folder = None
    """The folder to write into; by default the current one."""


@dataclass(frozen=True)
class CacheCommand:
    """Say where compiled programs are kept, how many and how large, or remove them.

    Example: translimit cache --clear
    """

    clear: Flag = False
    """Remove all that is kept."""
    json: Flag = False
    """Print one JSON document."""


Command = (
    ListCommand
    | RunCommand
    | StatusCommand
    | MergeCommand
    | ExportCommand
    | ClaimsCommand
    | ReportCommand
    | CiteCommand
    | GalleryCommand
    | PredictCommand
    | DiagnoseCommand
    | ExtrapolateCommand
    | DmftCommand
    | ScaleCommand
    | RecipesCommand
    | CoordCheckCommand
    | TransferCommand
    | ExploreCommand
    | ExampleCommand
    | CacheCommand
)

COMMANDS: dict[str, type[Command]] = {
    "list": ListCommand,
    "run": RunCommand,
    "status": StatusCommand,
    "merge": MergeCommand,
    "export": ExportCommand,
    "claims": ClaimsCommand,
    "report": ReportCommand,
    "cite": CiteCommand,
    "gallery": GalleryCommand,
    "predict": PredictCommand,
    "diagnose": DiagnoseCommand,
    "extrapolate": ExtrapolateCommand,
    "dmft": DmftCommand,
    "scale": ScaleCommand,
    "recipes": RecipesCommand,
    "coord-check": CoordCheckCommand,
    "transfer": TransferCommand,
    "explore": ExploreCommand,
    "example": ExampleCommand,
    "cache": CacheCommand,
}
