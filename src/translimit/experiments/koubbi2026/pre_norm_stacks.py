r"""Pre-LN stacks at GPT-2's sizes against the recursion of their Gram matrix, layer by layer.

Cells `D=...,L=... BLOCK MASK`: networks with drawn weights of GPT-2's initialisation, with
attention alone or with the feed-forward block, with and without the causal mask; beside them the
recursion of infinite width and the Gram chain of the same width. The feed-forward block changes
the course, so that numbers of attention alone do not describe a whole block.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Two
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

    from translimit.describe import PreNormArchitecture

BLOCKS = ("attention", "whole block")
MASKS = ("plain", "causal")
#: The largest mean gap along depth that still counts as agreement.
TOLERANCE = 0.03


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        sizes: width, layers and heads of every stack.
        tokens: how many enter, independent.
        networks: networks with drawn weights, at least 2.
    """

    sizes: Annotated[tuple[tuple[Count, Count, Count], ...], Distinct()] = ((256, 12, 4),)
    tokens: Count = 24
    networks: Two = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if any(dim % heads for dim, _, heads in self.sizes):
            raise core.ConfigError(
                "sizes", f"got {self.sizes}", "pass (dim, layers, heads), heads dividing dim"
            )


class PreNormStacks(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the weights that are drawn."""
        dim, layers, _ = cell.parameters["size"]
        kinds = len(BLOCKS) * len(MASKS)
        return Cost((45.0 + 9e-7 * dim**2 * layers * config.networks) / kinds)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """Both blocks and both masks of every size."""
        return tuple(
            Cell(
                _name(size, block, mask),
                {"size": list(size), "block": block, "causal": mask == "causal"},
            )
            for size, block, mask in itertools.product(config.sizes, BLOCKS, MASKS)
        )

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names at the sizes of the demo."""
        return _claim_names(Config())

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Networks in single precision, the recursion and the chain in double."""
        import xarray as xr

        parameters = cell.parameters
        whole = parameters["block"] == "whole block"
        architecture = _architecture(parameters["size"], whole, parameters["causal"])
        stack = models.PreNormStack(architecture)
        # The same tokens in all cells of a size.
        start = cell.shared_key("tokens", architecture.dim, architecture.layers)
        tokens = stack.draw_tokens(config.tokens, replicas=config.networks, key=start)
        drawn = stack.simulate(
            tokens, replicas=config.networks, key=core.named_key(key, "weights")
        ).mean_overlaps
        problem = limits.homogenized.PreNormRecursion(architecture, tokens=config.tokens)
        recursion = core.solve(problem, key=core.named_key(key, "recursion")).mean_overlaps
        chain = core.solve(
            problem,
            limits.homogenized.GramChain(config.networks),
            key=core.named_key(key, "chain"),
        ).mean_overlaps
        about = {"long_name": "mean overlap of two tokens"}
        return xr.Dataset(
            {
                "drawn": (("network", "layer"), np.asarray(drawn, dtype=float), about),
                "recursion": (("batch", "layer"), recursion, about),
                "chain": (("copy", "layer"), chain, about),
            },
            coords={"layer": ("layer", np.arange(architecture.layers + 1), {"long_name": "layer"})},
            attrs={
                "branch_square": architecture.branch_square,
                "score_std": architecture.score_std,
                "first_step": architecture.branch_square / architecture.initial_squares[1],
                "reference": common.REFERENCE,
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Recursion and chain against networks, and attention alone against whole blocks."""
        claims = []
        for size in config.sizes:
            for block, mask in itertools.product(BLOCKS, MASKS):
                data = results[_name(size, block, mask)]
                claims.append(
                    _claim(
                        _name(size, block, mask),
                        f"The recursion predicts the mean overlap of networks ({_words(size)}, "
                        f"{block}, {mask}; mean gap along depth).",
                        data["drawn"].values,
                        data["recursion"].values,
                    )
                )
            whole = results[_name(size, "whole block", "causal")]
            alone = results[_name(size, "attention", "causal")]
            claims.append(
                _claim(
                    _name(size, "attention alone", "for a whole block"),
                    "The recursion of attention alone predicts whole blocks as well "
                    f"({_words(size)}, causal).",
                    whole["drawn"].values,
                    alone["recursion"].values,
                )
            )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Overlaps along depth, one figure a size."""
        return [_figure(config, results, size) for size in config.sizes]


def _architecture(size: list[int], whole: bool, causal: bool) -> PreNormArchitecture:
    """GPT-2's initialisation at a size, with or without the feed-forward block."""
    dim, layers, heads = size
    sizes = {"n_embd": dim, "n_layer": layers, "n_head": heads}
    read = describe.read_architecture({"model_type": "gpt2", **sizes})
    kept = read.feed_forward if whole else None
    return replace(read, causal=causal, feed_forward=kept)


def _name(size: tuple[int, ...], block: str, mask: str) -> str:
    return f"D={size[0]},L={size[1]} {block} {mask}".replace(" ", "-")


def _words(size: tuple[int, ...]) -> str:
    return f"width {size[0]}, {size[1]} layers"


def _claim_names(config: Config) -> tuple[str, ...]:
    names = []
    for size in config.sizes:
        names += [_name(size, *pair) for pair in itertools.product(BLOCKS, MASKS)]
        names.append(_name(size, "attention alone", "for a whole block"))
    return tuple(names)


def _claim(name: str, statement: str, drawn: np.ndarray, recursion: np.ndarray) -> Claim:
    """Mean gap along depth, one value a network; the recursion brings its sampling error."""
    gaps = (drawn - recursion.mean(axis=0)).mean(axis=1)
    sampling = common.estimate(recursion.mean(axis=1)).stderr
    return Claim(
        name=name,
        statement=statement,
        prediction=0.0,
        estimate=common.estimate(gaps, discretisation=sampling),
        tol=TOLERANCE,
        reference=common.REFERENCE,
    )


def _figure(config: Config, results: Results, size: tuple[int, ...]) -> FigureSpec:
    datasets = {
        (block, mask): results[_name(size, block, mask)]
        for block, mask in itertools.product(BLOCKS, MASKS)
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(BLOCKS), sharey=True)
        for ax, block in zip(axes, BLOCKS, strict=True):
            for series, mask in enumerate(MASKS):
                data = datasets[block, mask]
                layers, colour = data["layer"].values, figures.COLOURS[series]
                limit, spread = data["recursion"].mean("batch"), data["chain"].std("copy", ddof=1)
                ax.fill_between(
                    layers, limit - spread, limit + spread, color=colour, alpha=0.15, linewidth=0
                )
                dash = "-" if series == 0 else "--"
                common.line(ax, layers, limit, series, f"recursion, {mask}", dash)
                mean, stderr = common.mean_and_stderr(data["drawn"])
                common.points(ax, layers, mean, stderr, series, f"networks, {mask}")
            ax.set_ylim(-0.02, 1.02)
            figures.finish(
                ax,
                xlabel="layer",
                ylabel="mean overlap of the tokens" if block == BLOCKS[0] else "",
                title=block,
            )

    rows = tuple(
        (block, mask, int(layer), float(mean), float(stderr), float(limit), float(spread))
        for (block, mask), data in datasets.items()
        for layer, mean, stderr, limit, spread in zip(
            data["layer"].values,
            *common.mean_and_stderr(data["drawn"]),
            data["recursion"].mean("batch").values,
            data["chain"].std("copy", ddof=1).values,
            strict=True,
        )
    )
    return FigureSpec(
        name=f"overlaps-D={size[0]}-L={size[1]}",
        title=f"Pre-LN stacks of {_words(size)}",
        caption=f"Mean overlap of {config.tokens} independent tokens in "
        f"{config.networks} networks of {_words(size)} and {size[2]} heads with GPT-2's "
        "initialisation (points, bars of one standard error), and the recursion of infinite width "
        "(lines); the band is one standard deviation of a single network, from the Gram chain. "
        "Left: attention alone; right: with the feed-forward block.",
        draw=draw,
        table=Table(
            ("block", "mask", "layer", "networks", "stderr", "recursion", "spread of one network"),
            rows,
        ),
        shown=len(datasets) * config.networks,
        size=(9.0, 3.8),
    )


EXPERIMENT = PreNormStacks(
    name="koubbi2026/pre-norm-stacks",
    title="Pre-LN stacks at GPT-2's sizes",
    summary="The tokens of a random pre-LN stack align from layer to layer. A deterministic "
    "recursion of their Gram matrix predicts how fast, with and without a causal mask, for "
    "attention alone and with the feed-forward block; networks with all weights drawn are held "
    "against it.",
    citations=("koubbi2026", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(sizes=((768, 12, 12),), tokens=48, networks=24),
        "paper": Config(sizes=((768, 12, 12), (1600, 48, 25)), tokens=128, networks=32),
    },
)
