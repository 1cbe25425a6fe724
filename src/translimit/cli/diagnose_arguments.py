"""The options of `translimit diagnose`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ProgramOptions
from translimit.cli.options import File, Flag, Folder


@dataclass(frozen=True, kw_only=True)
class DiagnoseCommand(ProgramOptions):
    """Hold a trained checkpoint against its null model and the limit.

    MODEL is a folder with config.json and model.safetensors, nanoGPT's ckpt.pt, or a Llama's
    .gguf. Without an input it reads windows of the packaged text; verdicts need eight sequences.

    Example: translimit diagnose --demo
    """

    model: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[MODEL]", help_behavior_hint=""),
    ] = None
    """The folder or file; with --demo none."""
    text: File = None
    """A text whose paragraphs are the sequences, by the tokenizer.json of the folder."""
    ids: File = None
    """A file of token ids, one sequence a line."""
    image: Annotated[
        tuple[Path, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="FILE", help_behavior_hint=""),
    ] = ()
    """An image for a model of images; once for every image."""
    null: str = "matched"
    """The null: matched, reference, spectrum, permuted, part:W1,W2 (any matrices), or none."""
    null_entry: Literal["measured", "drawn"] = "measured"
    """Tokens that enter the null: the checkpoint's own, or of redrawn tables."""
    draws: int = 8
    """Drawn networks of the null."""
    seed: int = 0
    """Seed of the drawn networks."""
    against: Folder = None
    """A checkpoint of the same shape before tuning: what moved, layer by layer."""
    skip: Annotated[
        Literal["layers", "heads"] | None,
        tyro.conf.arg(metavar="{layers,heads}", help_behavior_hint=""),
    ] = None
    """Rank layers or heads by what is lost without them."""
    checkpoints: Annotated[
        tuple[Path, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint=""),
    ] = ()
    """An earlier checkpoint, named by its step as in step-100; once for every one."""
    outliers: Flag = False
    """Name outlying tokens and coordinates, and print the table without them."""
    demo: Flag = False
    """Diagnose the embedded byte model."""
    yes: Flag = False
    """Start even what takes hours."""
    json: Flag = False
    """Print one JSON document."""
    out: Folder = None
    """A folder for diagnosis.html and diagnosis.json."""
