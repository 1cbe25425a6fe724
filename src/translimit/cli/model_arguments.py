"""The options of the commands about a model: its configuration, its sizes, or its factory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from translimit.cli.executors import ProgramOptions
from translimit.cli.options import Factory, File, Flag, Folder
from translimit.describe import OptimizerName


@dataclass(frozen=True, kw_only=True)
class PredictCommand(ProgramOptions):
    """Say what the limits predict for an architecture at initialisation, on the user's own input.

    Example: translimit predict gpt2 --plot page.png
    """

    config: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="CONFIG",
            help="A config.json of Hugging Face or the folder that holds it, a file of our own "
            "format, a public model as gpt2, or sizes as heads=12,head_dim=64,layers=12.",
        ),
    ]
    json: Flag = False
    """Print one JSON document."""
    plot: File = None
    """A .png, .pdf or .svg file for a page of panels."""
    text: File = None
    """A text that enters, by the tokenizer beside the configuration, or byte by byte."""
    tokenizer: File = None
    """A tokenizer.json, where it is not beside the configuration."""
    ids: File = None
    """A file of token ids that enter."""
    image: File = None
    """An image that enters a model of images."""
    gram: File = None
    """A file of the inner products of the tokens over the width [n, n]."""
    tokens: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of tokens that enter; by default all of a file, those of an image, else 48."""
    threshold: float = 0.5
    """Mean overlap of two tokens that counts as collapse, in (0, 1)."""
    networks: int = 0
    """Networks of the model's own sizes to simulate for the error of the width and the spread."""
    variants: Flag = False
    """Solve other choices as well: sizes of weights, places of norms, norms of queries."""
    fix: Flag = False
    """Look for standard deviations that keep the signal, and solve the stack with them."""
    forward: Flag = False
    """Only what layers do to tokens, in a third of the time: no gradients."""
    whole: Flag = False
    """Of more than 256 tokens also the spread over networks, and tokens that all differ."""
    seed: int = 0
    """Seed of the sampling."""


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
            help="The tuned size: head_dim=16,heads=4,layers=2 (or width=64,...), what changes "
            "alone (layers=4), a TOML or JSON file, a config.json of Hugging Face, or a public "
            "model as gpt2.",
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
    decay: Literal["constant", "timescale", "independent", "inverse_width", "sqrt_width"] = (
        "constant"
    )
    """What stays of the weight decay: rate times decay, or another choice (see Scaling rules)."""
    tied: Flag = False
    """Take token embedding and readout as one tensor; a config.json tells it by itself."""
    fold_scores: Flag = False
    """Put the score scale into the queries, for modules that fix it at head_dim^-1/2."""
    change_mlp_ratio: Flag = False
    """Allow another ratio of hidden units to width in the target."""
    allow: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FACT...", help_behavior_hint="")] = ()
    """Facts of configurations that may differ, as vocabulary where it is padded."""
    facts: Annotated[
        tuple[
            Literal["branch_gain", "packed_qkv", "plain_gates", "qk_norm", "scaled_embedding"], ...
        ],
        tyro.conf.arg(metavar="FACT...", help_behavior_hint=""),
    ] = ()
    """What sizes do not tell of the modules: branch_gain, packed_qkv, plain_gates (gates of experts
    that do not sum to 1), qk_norm, scaled_embedding; a config.json tells it by itself."""
    unsafe: Flag = False
    """Allow what was not verified: exponents outside [1/2, 1], memories below 1/2."""
    batch: Annotated[str | None, tyro.conf.arg(metavar="B0:B", help_behavior_hint="")] = None
    """The batch of the base and of the target, as 256:1024."""
    steps: Annotated[str | None, tyro.conf.arg(metavar="T0:T", help_behavior_hint="")] = None
    """The steps of the base and of the target, as 1000:4000."""
    betas: tuple[float, float] = (0.9, 0.999)
    """With --batch: Adam's memories at the base."""
    momentum: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """With --batch: the momentum at the base; by default the optimiser's own."""
    memory: Literal["rescaled", "kept"] = "rescaled"
    """With --batch: memories in examples, or as they are."""
    duration: str = "keep"
    """With --steps: keep the rate, or sqrt to divide it by the root of the examples, both folklore;
    or the fitted power of the examples, as -0.3."""
    dataset: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """With --batch and --steps: examples there are, in the unit of the batch, to tell epochs."""
    critical: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """With --batch: the critical batch, where it was measured."""
    clipping: Flag = False
    """Say that the norm of the gradient is clipped."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """A published recipe to print instead; `translimit recipes list` names them."""
    force: Flag = False
    """With --recipe: print along depth what a recipe without a rule of depth does."""
    export: Annotated[
        Literal["megatron", "torchtitan", "pytorch"] | None,
        tyro.conf.arg(metavar="{megatron,torchtitan,pytorch}", help_behavior_hint=""),
    ] = None
    """The framework for which a table of overrides is printed: YAML, or JSON with --json."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """The learning rate tuned at the base: rates are told in absolute numbers; for --export."""
    adam_lr: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """With --export and Muon: the rate of the AdamW beside it, tuned at the base."""
    muon_adjust: Literal["none", "original", "match_rms_adamw", "unit_rms_norm"] = "original"
    """The shape factor that the implementation of Muon has."""
    min_lr: float = 0.0
    """With --export megatron: the smallest rate of the schedule."""
    eps: float = 1e-8
    """With --export: Adam's epsilon at the base."""
    weight_decay: float = 0.0
    """With --export: the weight decay at the base; with --steps, to tell its time scale."""
    ledger: File = None
    """Your own verified horizons beside the shipped ones: the horizons.json that `translimit
    transfer` writes."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class RecipesCommand:
    """List published recipes of scaling, show one, or print where two differ.

    Example: translimit recipes diff megatron translimit --base width=64,heads=4,layers=2 --target
    width=256,heads=8,layers=2
    """

    words: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="{list,show,diff} [NAME...]", help_behavior_hint=""),
    ] = ("list",)
    """What to do: list, show NAME, or diff A B."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "width=64,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    target: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "width=256,heads=8,layers=2"
    """The size to train, in the same form."""
    optimizer: Annotated[
        OptimizerName | None, tyro.conf.arg(help_behavior_hint="(default: adamw, or its own)")
    ] = None
    """The optimiser of both; by default adamw, or the first that a recipe defines."""
    force: Flag = False
    """Compare along depth although a recipe has no rule of depth."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class CoordCheckCommand(ProgramOptions):
    """Check along heads, head dimension and depth whether a model follows the rules.

    The factory turns a `checks.Trial` into a `checks.TorchModel` or `JaxModel`.

    A refuted check is a result: the exit status stays 0.

    Example: translimit coord-check small_models:gpt2 --axis head_dim --plot check.png
    """

    factory: Factory
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
    seeds: tuple[int, ...] = (3, 6, 12, 24)
    """Independent starts at each look; the check stops when every promise is decided."""
    no_larger: Flag = False
    """Never add a larger size at the last look, where an open coordinate still bends."""
    budget: float = 600.0
    """Seconds an axis may take: a look that would exceed it is not taken."""
    standard: Flag = False
    """Check the factory's standard parameterization against the rules."""
    plot: File = None
    """A .png, .pdf or .svg file for the panels; with several axes, one named after it for each."""
    out: Folder = None
    """The folder of finished networks; by default runs/coord-check-FACTORY-DIGEST."""
    fresh: Flag = False
    """Compute again what is there."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class TransferCommand(ProgramOptions):
    """Sweep the learning rate at several sizes, and say whether the best one stays.

    With several numbers of updates every one has a verdict: a rate that transfers after 60 updates
    may not after 1000, and a schedule that decays changes which.

    Example: translimit transfer small_models:llama --axis head_dim --multiples
    1 2 --seeds 1 --steps 20
    """

    factory: Factory
    """A function as module:function, importable from the current folder."""
    base: Annotated[str, tyro.conf.arg(metavar="SIZES")] = "head_dim=8,heads=4,layers=2"
    """The tuned size, as for `translimit scale`."""
    axis: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim",)
    """Sizes to change, one at a time."""
    multiples: tuple[int, ...] = (1, 2, 4)
    """Multiples of the base along an axis, at least 2."""
    log2_rates: tuple[int, int] = (-10, -3)
    """First and last exponent of the grid of base rates; at a constant rate the grid of longer runs
    is shifted down, toward one over the root of their length."""
    points: int = 1
    """Rates in a factor of two; 2 reads drifts and regrets near their tolerances better."""
    steps: tuple[int, ...] = (50,)
    """Numbers of updates on fresh batches, after which the loss is taken; several at a constant
    rate are one run."""
    schedule: Literal["constant", "cosine", "wsd", "linear", "own"] = "constant"
    """What multiplies the rates of the factory's optimiser; own: the factory schedules."""
    seeds: int = 6
    """Number of independent starts; fewer than 6 decide nothing."""
    rules_only: Flag = False
    """Leave the factory's standard parameterization out."""
    plot: File = None
    """A .png, .pdf or .svg file for the panels; with several axes, one named after it for each."""
    out: Folder = None
    """The folder of finished networks; by default runs/transfer-FACTORY-DIGEST."""
    fresh: Flag = False
    """Compute again what is there."""
    json: Flag = False
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
    """A config.json of Hugging Face, a file of our own format, or the name of a public model."""
    port: int = 8765
    """The port of this machine to listen on; 0 takes a free one."""
    no_browser: Flag = False
    """Print the address and open no browser."""
