"""The kinds of options that several commands have: how they are typed, and what the help says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

#: What the help says of an option that a command asks for by itself.
REQUIRED = "(required)"
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
Run = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
Experiments = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="EXPERIMENT...", help_behavior_hint=""),
]
Factory = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FACTORY")]


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """What all commands that open a run have in common: whose code may be loaded for it."""

    own: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="from", metavar="MODULE:OBJECT", help_behavior_hint=""),
    ] = ()
    """An experiment of your own, whose code may be loaded; the files of a run name no code."""
