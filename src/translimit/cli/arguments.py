"""The commands and their options, as frozen dataclasses that tyro turns into a parser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ExecutionOptions
from translimit.core import ConfigError

_Flag = tyro.conf.FlagCreatePairsOff
_Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class ListCommand:
    """Show the experiments, their claims, their presets and what they cost.

    Example: translimit list
    """

    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(ExecutionOptions):
    """Run experiments, or finish the run that was interrupted; whole cells are kept.

    Example: translimit run castin2025/digits --preset demo
    """

    experiments: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT...")
    ] = ()
    """Names from `translimit list`, or module:OBJECT."""
    preset: Literal["demo", "standard", "paper"] = "demo"
    """The sizes to start from."""
    out: Path | None = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    seed: int = 0
    """Of every random stream."""
    set: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE"),
    ] = ()
    """Change the configuration of every chosen experiment that has the key."""
    config: Path | None = None
    """A TOML or JSON file of configuration values."""
    fresh: Annotated[bool, _Flag] = False
    """Remove the run that is there and start over."""
    plan: Annotated[bool, _Flag] = False
    """Print cells, memory and time, or why they cannot fit; start and write nothing."""
    json: Annotated[bool, _Flag] = False
    """With --plan: print one JSON document."""

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
class StatusCommand:
    """Show what is done, running and failed of a run, what is left, and how to finish it.

    Example: translimit status runs/castin2025-digits-demo-*
    """

    run: _Folder
    """The folder of a run."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True)
class MergeCommand:
    """Join runs of the same version and settings into one folder: the union of their whole cells.

    Claims are checked where all cells are there; else the printed command finishes the run.

    Example: translimit merge here/runs/digits there/runs/digits --out runs/digits
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")] = ()
    """Folders of runs, at least two."""
    out: Path | None = None
    """The folder of the joined run; a new one, or one of the same run."""


@dataclass(frozen=True)
class ExportCommand:
    """Write a run into one netCDF file for a colleague: a group a cell, claims as attributes.

    Example: translimit export runs/castin2025-digits-demo-* --out digits.nc
    """

    run: _Folder
    """The folder of a run."""
    out: Path | None = None
    """The file, ending in .nc."""
    partial: Annotated[bool, _Flag] = False
    """Export the whole cells of a run that is not finished."""


@dataclass(frozen=True)
class ClaimsCommand:
    """Show the ledger of a run: predictions, estimates, floors and verdicts.

    Example: translimit claims runs/castin2025-digits-demo-*
    """

    run: _Folder
    """The folder of a run."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True)
class ReportCommand:
    """Build, or build again, the self-contained report of a run.

    Example: translimit report runs/castin2025-digits-demo-*
    """

    run: _Folder
    """The folder of a run."""


@dataclass(frozen=True)
class GalleryCommand(ExecutionOptions):
    """Run every experiment, or those that are named, and show all figures on one page.

    Runs that are whole are kept; the page is written again after each run.

    Example: translimit gallery --preset standard
    """

    experiments: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT...")
    ] = ()
    """Names from `translimit list`, or module:OBJECT; all by default."""
    preset: Literal["demo", "standard", "paper"] = "standard"
    """The sizes."""
    out: Path | None = None
    """The folder of the runs and the page; by default runs/gallery-PRESET."""
    only_page: Annotated[bool, _Flag] = False
    """Compute nothing: show the runs that are there."""


@dataclass(frozen=True)
class CiteCommand:
    """Print BibTeX of the papers and software behind a run, or behind translimit.

    Example: translimit cite runs/castin2025-digits-demo-*
    """

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """The folder of a run; without one, the papers of the four theories."""


@dataclass(frozen=True)
class PredictCommand:
    """Say what the limits predict for an architecture at initialisation.

    Example: translimit predict docs/examples/gpt2.json --plot overlaps.png
    """

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """A config.json of Hugging Face (GPT-2, Llama, Mistral, Qwen2, GPT-NeoX, ViT), or our own."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""
    plot: Path | None = None
    """Draw the mean overlap by layer into this file (.png, .pdf or .svg)."""
    tokens: int | None = None
    """How many tokens enter; by default those of an image, else 48."""
    threshold: float = 0.5
    """Mean overlap that counts as collapse, in (0, 1)."""
    seed: int = 0
    """Of the Monte Carlo."""


@dataclass(frozen=True, kw_only=True)
class DmftCommand(ExecutionOptions):
    """Solve the training dynamics of a configuration, train networks, and compare them.

    Networks grow in heads, head dimension or layers towards the limit of infinitely many heads.
    CONFIG sets what differs from the demo preset of bordelon2024/dmft-networks; a wrong key is
    answered with all that are known.

    Example: translimit dmft docs/examples/dmft.toml
    """

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """A TOML or JSON file: task (digits, text, synthetic, or an .npz with inputs and targets),
    architecture, axis, sizes, seeds."""
    out: Path | None = None
    """The run folder; by default runs/NAMES-PRESET-DIGEST."""
    seed: int = 0
    """Of every random stream."""
    fresh: Annotated[bool, _Flag] = False
    """Remove the run that is there and start over."""


@dataclass(frozen=True)
class ScaleCommand:
    """Say what a larger transformer must change so that values tuned at a small one carry over.

    Example: translimit scale --base width=64,heads=4,layers=2 --target width=256,heads=8,layers=8
    --optimizer adamw
    """

    base: Annotated[str, tyro.conf.arg(metavar="SIZES")]
    """The tuned one: head_dim=16,heads=4,layers=2 (or width=64,...), a TOML or JSON file, or a
    config.json of Hugging Face."""
    target: Annotated[str, tyro.conf.arg(metavar="SIZES")]
    """The one to train."""
    optimizer: Literal["sgd", "momentum", "adam", "adamw", "sign", "muon"]
    """Whose learning rates."""
    style: Literal["canonical", "folded", "single_lr", "unit_init"] = "folded"
    """Where multipliers stand; folded is for unmodified modules."""
    alpha_a: float = 1.0
    """Exponent of the attention logits, in [1/2, 1]."""
    alpha_l: float = 1.0
    """Exponent of the residual branches, in [1/2, 1]."""
    decay: Literal["constant", "independent", "sqrt_width"] = "constant"
    """What of the weight decay stays: rate times decay, the decay, or a rule for long training."""
    tied: Annotated[bool, _Flag] = False
    """Token embedding and readout are one tensor (a config.json tells it by itself)."""
    fold_logits: Annotated[bool, _Flag] = False
    """The module's logit scale is fixed at head_dim^-1/2: put the rest into the queries."""
    change_mlp_ratio: Annotated[bool, _Flag] = False
    """Allow another ratio of hidden units to width in the target, with rules by fan-in."""
    export: Literal["megatron", "torchtitan"] | None = None
    """Print the rules as a table of overrides for this framework: YAML, or JSON with --json."""
    lr: float | None = None
    """With --export: the learning rate tuned at the base."""
    min_lr: float = 0.0
    """With --export megatron: the smallest rate of the schedule."""
    eps: float = 1e-8
    """With --export: Adam's epsilon at the base."""
    weight_decay: float = 0.0
    """With --export: the weight decay at the base."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True)
class CoordCheckCommand:
    """Check whether a model is parameterized as the rules say, along heads, head size and depth.

    A factory is a function of one `translimit.checks.Trial` that returns a `TorchModel` or a
    `JaxModel`. A refuted check is a result: the exit status stays 0.

    Example: translimit coord-check examples.small_models:gpt2 --axis head_dim --plot check.png
    """

    factory: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FACTORY")]
    """module:function, importable from the current folder."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "head_dim=8,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    axis: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim", "heads", "layers")
    """Which sizes to change, one at a time."""
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    """Of the base along an axis; at least 3."""
    rate: float = 0.01
    """Learning rate at the base, at which the loss falls clearly within the steps."""
    steps: tuple[int, ...] = (0, 1, 2, 5, 10)
    """Numbers of updates after which to look."""
    seeds: int = 4
    """Independent starts."""
    standard: Annotated[bool, _Flag] = False
    """Check the factory's standard parameterization against the rules."""
    plot: Path | None = None
    """Draw the panels of every axis into files named after this one (.png, .pdf or .svg)."""
    out: Path | None = None
    """Where finished networks are kept; by default runs/coord-check-FACTORY-DIGEST."""
    fresh: Annotated[bool, _Flag] = False
    """Compute again what is there."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True)
class TransferCommand:
    """Sweep the learning rate at several sizes: does the best one stay where it is?

    Example: translimit transfer examples.small_models:llama --axis head_dim --multiples 1 2
    --seeds 1 --steps 20
    """

    factory: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FACTORY")]
    """module:function, importable from the current folder."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "head_dim=8,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    axis: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim",)
    """Which sizes to change, one at a time."""
    multiples: tuple[int, ...] = (1, 2, 4)
    """Of the base along an axis; at least 2."""
    log2_rates: tuple[int, int] = (-10, -3)
    """First and last exponent of the grid of base rates, in factors of two."""
    steps: int = 50
    """Updates on fresh batches, after which the loss is taken."""
    seeds: int = 2
    """Independent starts."""
    rules_only: Annotated[bool, _Flag] = False
    """Leave the factory's standard parameterization out."""
    plot: Path | None = None
    """Draw the panels of every axis into files named after this one (.png, .pdf or .svg)."""
    out: Path | None = None
    """Where finished networks are kept; by default runs/transfer-FACTORY-DIGEST."""
    fresh: Annotated[bool, _Flag] = False
    """Compute again what is there."""
    json: Annotated[bool, _Flag] = False
    """Print one JSON document."""


@dataclass(frozen=True)
class ExploreCommand:
    """Open a page on which sliders move what each limit predicts; nothing leaves this machine.

    Example: translimit explore docs/examples/gpt2.json --port 8000
    """

    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")] = None
    """A config.json of Hugging Face, or a file of our own format, to start from."""
    port: int = 8765
    """Where to listen on this machine; 0 takes a free port."""
    no_browser: Annotated[bool, _Flag] = False
    """Print the address and open no browser."""


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
}
