"""The commands and their options, as frozen dataclasses that tyro turns into a parser.

The first line of a command's help says in the imperative what it does, and an example follows.
The help of an option that takes a value names the value; that of a switch is an imperative. It is
one line: tyro keeps the line breaks of a field's docstring.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ExecutionOptions, ProgramOptions
from translimit.core import ConfigError
from translimit.describe import OptimizerName

#: What the help says of an option that a command asks for by itself.
_REQUIRED = "(required)"
_Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
_Run = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
_File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
_Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
_Experiments = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="EXPERIMENT...", help_behavior_hint=""),
]
_Factory = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FACTORY")]


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """What all commands that open a run have in common: whose code may be loaded for it."""

    own: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="from", metavar="MODULE:OBJECT", help_behavior_hint=""),
    ] = ()
    """An experiment of your own, whose code may be loaded; the files of a run name no code."""


@dataclass(frozen=True)
class ListCommand:
    """Show the experiments, their claims, their presets and what they cost.

    Example: translimit list
    """

    json: _Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(ExecutionOptions, OwnCode):
    """Run experiments, or finish the run that was interrupted; whole cells are kept.

    Example: translimit run castin2025/digits --preset demo
    """

    experiments: _Experiments = ()
    """Names from `translimit list`, or module:OBJECT."""
    preset: Literal["demo", "standard", "paper"] = "demo"
    """The sizes to start from."""
    out: _Folder = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    seed: int = 0
    """Seed of every random stream."""
    set: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE"),
    ] = ()
    """A value of the configuration, for every chosen experiment that has the key."""
    config: _File = None
    """A TOML or JSON file of configuration values."""
    fresh: _Flag = False
    """Remove the run that is there and start over."""
    plan: _Flag = False
    """Print cells, memory and time, or why they cannot fit, and start nothing."""
    json: _Flag = False
    """Print the plan as one JSON document."""

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

    run: _Run
    """The folder of a run."""
    json: _Flag = False
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
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint=_REQUIRED)] = (
        None
    )
    """The folder of the joined run: a new one, or one of the same run."""


@dataclass(frozen=True)
class ExportCommand(OwnCode):
    """Write a run into one netCDF file: a group for each cell, claims as attributes.

    Example: translimit export runs/castin2025-digits-demo-* --out digits.nc
    """

    run: _Run
    """The folder of a run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=_REQUIRED)] = None
    """The file to write, ending in .nc."""
    partial: _Flag = False
    """Export what is whole of a run that is not finished."""


@dataclass(frozen=True)
class ClaimsCommand(OwnCode):
    """Show the ledger of a run: predictions, estimates, floors and verdicts.

    Example: translimit claims runs/castin2025-digits-demo-*
    """

    run: _Run
    """The folder of a run."""
    json: _Flag = False
    """Print one JSON document."""


@dataclass(frozen=True)
class ReportCommand(OwnCode):
    """Build, or build again, the self-contained report of a run.

    Example: translimit report runs/castin2025-digits-demo-*
    """

    run: _Run
    """The folder of a run."""


@dataclass(frozen=True)
class GalleryCommand(ExecutionOptions, OwnCode):
    """Run every experiment, or those that are named, and show all figures on one page.

    Runs that are whole are kept; the page is written again after each run.

    Example: translimit gallery castin2025/digits koubbi2026/collapse --preset demo
    """

    experiments: _Experiments = ()
    """Names from `translimit list`, or module:OBJECT; all by default."""
    preset: Literal["demo", "standard", "paper"] = "standard"
    """The sizes to start from."""
    out: _Folder = None
    """The folder of the runs and the page; by default runs/gallery-PRESET."""
    only_page: _Flag = False
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
class PredictCommand(ProgramOptions):
    """Say what the limits predict for an architecture at initialisation.

    Example: translimit predict gpt2.json --plot overlaps.png
    """

    config: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="CONFIG",
            help="A config.json of Hugging Face (GPT-2, Llama, Mistral, Qwen2, GPT-NeoX, ViT), or "
            "a file of our own format.",
        ),
    ]
    json: _Flag = False
    """Print one JSON document."""
    plot: _File = None
    """A .png, .pdf or .svg file for the mean overlap by layer."""
    tokens: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of tokens that enter; by default those of an image, else 48."""
    threshold: float = 0.5
    """Mean overlap of different tokens that counts as collapse, in (0, 1)."""
    seed: int = 0
    """Seed of the sampling."""


@dataclass(frozen=True, kw_only=True)
class DmftCommand(ExecutionOptions):
    """Solve the training dynamics of a configuration, train networks, and compare them.

    Networks grow in heads, head dimension or layers towards their limit.

    CONFIG changes the demo preset of bordelon2024/dmft-networks.

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
    out: _Folder = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    seed: int = 0
    """Seed of every random stream."""
    fresh: _Flag = False
    """Remove the run that is there and start over."""


@dataclass(frozen=True)
class ScaleCommand:
    """Say what a larger transformer must change so that tuned values carry over.

    Example: translimit scale --base width=64,heads=4,layers=2 --target
    width=256,heads=8,layers=8 --optimizer adamw
    """

    base: Annotated[
        str,
        tyro.conf.arg(
            metavar="SIZES",
            help="The tuned size: head_dim=16,heads=4,layers=2 (or width=64,...), a TOML or JSON "
            "file, or a config.json of Hugging Face.",
        ),
    ]
    target: Annotated[str, tyro.conf.arg(metavar="SIZES")]
    """The size to train, in the same form."""
    optimizer: OptimizerName
    """The optimiser of both."""
    style: Literal["canonical", "folded", "single_lr", "unit_init"] = "folded"
    """Where multipliers stand; folded is for unmodified modules."""
    alpha_a: float = 1.0
    """Exponent of the attention scores, in [1/2, 1]."""
    alpha_l: float = 1.0
    """Exponent of the residual branches, in [1/2, 1]."""
    decay: Literal["constant", "independent", "sqrt_width"] = "constant"
    """What stays of the weight decay: rate times decay, the decay, or a rule for long training."""
    tied: _Flag = False
    """Take token embedding and readout as one tensor; a config.json tells it by itself."""
    fold_scores: _Flag = False
    """Put the score scale into the queries, for modules that fix it at head_dim^-1/2."""
    change_mlp_ratio: _Flag = False
    """Allow another ratio of hidden units to width in the target, with rules by fan-in."""
    export: Annotated[
        Literal["megatron", "torchtitan"] | None,
        tyro.conf.arg(metavar="{megatron,torchtitan}", help_behavior_hint=""),
    ] = None
    """The framework for which a table of overrides is printed: YAML, or JSON with --json."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """With --export: the learning rate tuned at the base."""
    min_lr: float = 0.0
    """With --export megatron: the smallest rate of the schedule."""
    eps: float = 1e-8
    """With --export: Adam's epsilon at the base."""
    weight_decay: float = 0.0
    """With --export: the weight decay at the base."""
    json: _Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class CoordCheckCommand(ProgramOptions):
    """Check along heads, head dimension and depth whether a model follows the rules.

    The factory turns a `checks.Trial` into a `checks.TorchModel` or `JaxModel`.

    A refuted check is a result: the exit status stays 0.

    Example: translimit coord-check small_models:gpt2 --axis head_dim --plot check.png
    """

    factory: _Factory
    """A function as module:function, importable from the current folder."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "head_dim=8,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    axis: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim", "heads", "layers")
    """Sizes to change, one at a time."""
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    """Multiples of the base along an axis, at least 3."""
    rate: float = 0.01
    """Learning rate at the base, with which the loss falls clearly within the steps."""
    steps: tuple[int, ...] = (0, 1, 2, 5, 10)
    """Numbers of updates after which to look."""
    seeds: int = 4
    """Number of independent starts."""
    standard: _Flag = False
    """Check the factory's standard parameterization against the rules."""
    plot: _File = None
    """A .png, .pdf or .svg file for the panels; with several axes, one named after it for each."""
    out: _Folder = None
    """The folder of finished networks; by default runs/coord-check-FACTORY-DIGEST."""
    fresh: _Flag = False
    """Compute again what is there."""
    json: _Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class TransferCommand(ProgramOptions):
    """Sweep the learning rate at several sizes, and say whether the best one stays.

    Example: translimit transfer small_models:llama --axis head_dim --multiples
    1 2 --seeds 1 --steps 20
    """

    factory: _Factory
    """A function as module:function, importable from the current folder."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "head_dim=8,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    axis: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim",)
    """Sizes to change, one at a time."""
    multiples: tuple[int, ...] = (1, 2, 4)
    """Multiples of the base along an axis, at least 2."""
    log2_rates: tuple[int, int] = (-10, -3)
    """First and last exponent of the grid of base rates, in factors of two."""
    steps: int = 50
    """Number of updates on fresh batches, after which the loss is taken."""
    seeds: int = 2
    """Number of independent starts."""
    rules_only: _Flag = False
    """Leave the factory's standard parameterization out."""
    plot: _File = None
    """A .png, .pdf or .svg file for the panels; with several axes, one named after it for each."""
    out: _Folder = None
    """The folder of finished networks; by default runs/transfer-FACTORY-DIGEST."""
    fresh: _Flag = False
    """Compute again what is there."""
    json: _Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class ExploreCommand(ProgramOptions):
    """Open an offline page on which sliders move what each limit predicts.

    Example: translimit explore gpt2.json --port 8000
    """

    config: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[CONFIG]", help_behavior_hint=""),
    ] = None
    """A config.json of Hugging Face, or a file of our own format, to start from."""
    port: int = 8765
    """The port of this machine to listen on; 0 takes a free one."""
    no_browser: _Flag = False
    """Print the address and open no browser."""


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
    out: _Folder = None
    """The folder to write into; by default the current one."""


@dataclass(frozen=True)
class CacheCommand:
    """Say where compiled programs are kept, how many and how large, or remove them.

    Example: translimit cache --clear
    """

    clear: _Flag = False
    """Remove all that is kept."""
    json: _Flag = False
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
    | DmftCommand
    | ScaleCommand
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
    "dmft": DmftCommand,
    "scale": ScaleCommand,
    "coord-check": CoordCheckCommand,
    "transfer": TransferCommand,
    "explore": ExploreCommand,
    "example": ExampleCommand,
    "cache": CacheCommand,
}
