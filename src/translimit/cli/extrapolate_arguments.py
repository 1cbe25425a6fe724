"""The options of `translimit extrapolate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ProgramOptions
from translimit.cli.options import File, Flag

Names = Annotated[str | None, tyro.conf.arg(metavar="NAMES", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class ExtrapolateCommand(ProgramOptions):
    """Say what a larger network's loss will be, from runs of a few small ones.

    RUNS is a CSV file with a row for every loss (layers, seed, lr, step, loss, ...), or for every
    run, with a column file that names an export of wandb or TensorBoard.

    Example: translimit extrapolate runs.csv --axis layers --target 64
    """

    runs: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[RUNS]", help_behavior_hint=""),
    ] = None
    """The file; with --demo, where its runs are written."""
    axis: Names = None
    """The size that grows, or several: head_dim,heads,layers; by default all that vary."""
    together: Annotated[
        str | None, tyro.conf.arg(name="with", metavar="NAMES", help_behavior_hint="")
    ] = None
    """Sizes that move with it, as in width,heads."""
    target: Annotated[str | None, tyro.conf.arg(metavar="SIZES", help_behavior_hint="")] = None
    """The size that is asked for, one for every axis, as in 64 or 16,8,64."""
    at_step: Real = None
    """The number of updates that is asked for; by default the last that all runs have."""
    lr: str = "best"
    """A learning rate of the runs, or best: the lowest loss at the largest size."""
    rate: Literal["1", "0.5", "both"] = "both"
    """The power of 1/n: 1 of means in the limits, 0.5 as along width at fixed data, or both."""
    unpaired: Flag = False
    """Take seeds of different sizes for different starts and batches."""
    floor: float = 0.0
    """Irreducible loss, for the collapse of curves."""
    parameters: Real = None
    """Parameters of the blocks whose best shape is asked for, of head_dim, heads and layers."""
    mlp_ratio: float = 4.0
    """With --parameters: hidden units over width."""
    gated: Flag = False
    """With --parameters: count the gate of the MLP."""
    against: File = None
    """Runs of another recipe: better, worse or undecided at the target."""
    demo: Flag = False
    """Train small networks on the embedded digits and extrapolate them."""
    json: Flag = False
    """Print one JSON document."""
    plot: File = None
    """A .png, .pdf or .svg file for the curves and the band."""
