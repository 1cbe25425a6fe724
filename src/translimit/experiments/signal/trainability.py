r"""Trainability map: which gains and variances, and how many layers, keep tokens and gradients.

Post-LN stacks with SiLU gates, over the gain gamma_A of attention, the variance w_1 = w_up of the
gates' inputs, and depth. From unrelated tokens the recursion says whether they collapse (mean
overlap above 0.9 at the top) and whether an independent gradient explodes or vanishes on its way
down (its root mean square leaves [0.1, 10] times that at the top). A stack with neither can start
to train. Drawn networks at one depth say whether the map is theirs. Beside it the map of exponents
between nearly equal tokens, and that of attention which does not mix.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    IncreasingSizes,
    MultipleOf,
    Positives,
    Two,
)
from translimit.experiments.signal import stacks
from translimit.experiments.signal.depth_exponents import stack

#: Overlap above which tokens have collapsed, and by how much a gradient's rms may change.
COLLAPSED, FACTOR = 0.9, 10.0
#: Width of the recursion's stack, which decides the dimension of no head.
WIDTH = 64
REGIONS: tuple[str, ...] = ("vanishing", "collapsed", "trainable", "exploding")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """The map, and networks.

    Attributes:
        gains: gamma_A, of attention.
        variances: w_1 = w_up, of the inputs of SiLU gates.
        depths: layers of the map.
        drawn_depth: layers of the networks.
        tokens: n.
        dim: width of networks.
        networks: with drawn weights at every point, at least 2.
    """

    gains: Positives = (0.1, 0.3, 1.2)
    variances: Positives = (0.5, 1.0, 3.0)
    depths: Annotated[IncreasingSizes, Distinct()] = (6, 24, 96)
    drawn_depth: Count = 24
    tokens: Two = 12
    dim: Annotated[int, MultipleOf(64)] = 256
    networks: Two = 16


@dataclass(frozen=True)
class At:
    """One point of the map."""

    gain: float
    variance: float


@dataclass(frozen=True)
class Law(ex.Arrays):
    """Overlap at the top and log of the gradient's rms, bottom over top, by depth.

    The exponents are those of nearly equal tokens: of 1 - R, and of the gradient.
    """

    overlap: Annotated[Float[np.ndarray, " depth"], "by the recursion"]
    gradient: Annotated[Float[np.ndarray, " depth"], "by the recursion"]
    unmixed: Annotated[Float[np.ndarray, " depth"], "gradient, attention that does not mix"]
    angle_exponent: Annotated[Float[np.ndarray, " depth"], "log of 1 - R, top over bottom"]
    gradient_exponent: Annotated[Float[np.ndarray, " depth"], "log of the gradient's rms"]


def compute_law(config: Config, at: At, keys: ex.Keys) -> Law:
    """The recursion of every depth, from unrelated tokens."""
    rows = []
    for layers in config.depths:
        one = stack(WIDTH, layers, at.gain, at.variance, gated=True)
        found = core.solve(
            limits.signal.SignalPropagation(stack=one, initial=np.eye(config.tokens)),
            limits.signal.Recursion(pairs=8, copies=2),
            key=core.named_key(keys.own, layers),
        )
        gradient = 0.5 * math.log(found.grad_square[0] / found.grad_square[-1])
        law = limits.signal.exponents(one, config.tokens)
        passed = law.log_gradient(layers, config.tokens)
        assert law.exponents is not None and passed is not None  # noqa: PT018  (post-LN stacks)
        # Attention that lets every token through unmixed multiplies by 1 what mixing divides.
        unmixed = gradient + 0.5 * layers * math.log1p(at.gain)
        angle = layers * law.exponents.angle
        rows.append((float(found.overlap[-1]), gradient, unmixed, angle, 0.5 * passed))
    return Law(*np.array(rows).T)


@dataclass(frozen=True)
class Drawn(ex.Arrays):
    """The same of networks at one depth, and the recursion there."""

    overlap: Annotated[Float[np.ndarray, " network"], "at the top"]
    gradient: Annotated[Float[np.ndarray, " network"], "log of its rms, bottom over top"]
    recursion: float
    unmixed: float
    recursion_overlap: float


def compute_drawn(config: Config, at: At, keys: ex.Keys) -> Drawn:
    """Networks from unrelated tokens, an independent gradient above the last layer."""
    layers, cov = config.drawn_depth, np.eye(config.tokens)
    one = stack(config.dim, layers, at.gain, at.variance, gated=True)
    key = core.named_key(keys.own, "networks")
    paths = stacks.networks(one, cov, config.networks, key, "identity")
    assert paths.grad_grams is not None
    grads = stacks.mean_diagonals(np.asarray(paths.grad_grams, np.float64))
    problem = limits.signal.SignalPropagation(stack=one, initial=cov)
    method = limits.signal.Recursion(pairs=8, copies=2)
    law = core.solve(problem, method, key=core.named_key(keys.own, "recursion"))
    gradient = 0.5 * math.log(law.grad_square[0] / law.grad_square[-1])
    return Drawn(
        overlap=stacks.mean_overlaps(np.asarray(paths.covs[:, -1], np.float64)),
        gradient=0.5 * np.log(grads[:, 0] / grads[:, -1]),
        recursion=gradient,
        unmixed=gradient + 0.5 * layers * math.log1p(at.gain),
        recursion_overlap=float(law.overlap[-1]),
    )


def _map(config: Config) -> tuple[At, ...]:
    return tuple(At(*one) for one in itertools.product(config.gains, config.variances))


LAW = ex.Part(
    "map/gain={gain},variance={variance}",
    Law,
    compute_law,
    grid=_map,
    cost=lambda c, at: ex.Cost(6.0 + 0.02 * sum(c.depths)),
)
DRAWN = ex.Part(
    "networks/gain={gain},variance={variance}",
    Drawn,
    compute_drawn,
    grid=_map,
    cost=lambda c, at: ex.Cost(8.0 + 6e-9 * c.dim**2 * c.drawn_depth * c.networks * c.tokens),
)


def region(overlap: float, gradient: float) -> str:
    """Which of `REGIONS`: gradients first, since they end training where tokens do not.

    Args:
        overlap: mean overlap at the top.
        gradient: log of the rms of the gradient, bottom over top.
    """
    if abs(gradient) > math.log(FACTOR):
        return "exploding" if gradient > 0 else "vanishing"
    return "collapsed" if overlap > COLLAPSED else "trainable"


def _gap(found: ex.Found[Config], at: At) -> Estimate:
    data = found(DRAWN, at)
    return Estimate.from_samples(data.gradient - data.recursion)


def _other_regions(found: ex.Found[Config], *, unmixed: bool = False) -> Estimate:
    """The share of the map where networks are in another region than a theory says."""
    off = []
    for _, data in found.each(DRAWN):
        own = region(float(data.overlap.mean()), float(data.gradient.mean()))
        told = region(
            0.0 if unmixed else data.recursion_overlap,
            data.unmixed if unmixed else data.recursion,
        )
        off.append(own != told)
    return Estimate(float(np.mean(off)))


CLAIMS = (
    ex.Claims(
        "gradient-{gain:g}-{variance:g}",
        lambda found, at: (
            f"Through {found.config.drawn_depth} post-LN layers of networks with attention of gain "
            f"{at.gain:g} and gates of variance {at.variance:g} the rms of the gradient changes as "
            "the recursion says (log, bottom over top)."
        ),
        estimate=_gap,
        prediction=0.0,
        tol=0.3,
        over=_map,
        rivals=(
            ex.Rival[Config, At](
                "attention that does not mix",
                prediction=lambda found, at: found(DRAWN, at).unmixed - found(DRAWN, at).recursion,
            ),
        ),
    ),
    ex.claim(
        "map",
        "Networks are where the map says: collapsed, vanishing, exploding or trainable "
        "(share of the map that is not).",
        _other_regions,
        0.0,
        tol=0.1,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "attention that does not mix",
                estimate=lambda found, _: _other_regions(found, unmixed=True),
            ),
        ),
    ),
)


def _map_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    depths = found.config.depths
    for at, law in found.each(LAW):
        drawn = found(DRAWN, at)
        for place, layers in enumerate(depths):
            own = layers == found.config.drawn_depth
            overlap, gradient = float(law.overlap[place]), float(law.gradient[place])
            near = float(law.angle_exponent[place]), float(law.gradient_exponent[place])
            error = float(core.standard_error(drawn.gradient)) / math.log(10)
            yield (
                f"{layers} layers",
                f"w = {at.variance:g}",
                at.gain,
                gradient / math.log(10),
                float(drawn.gradient.mean()) / math.log(10) if own else math.nan,
                error if own else math.nan,
                overlap,
                region(overlap, gradient),
                region(1 - math.exp(min(near[0], 0.0)), near[1]),
            )


MAP = ex.Figure(
    name="trainability-map",
    title="Trainability map of post-LN stacks with SiLU gates",
    caption="Decimal logarithm of the gradient's rms, bottom over top, against the gain of "
    "attention, by the variance of the gates' inputs and by depth: the recursion from {tokens} "
    "unrelated tokens (lines), {networks} networks of width {dim} (points, bars of one standard "
    "error). Between -1 and 1 gradients neither vanish nor explode; the table says where tokens "
    "collapse, and what exponents between nearly equal tokens would say.",
    columns=(
        *("depth", "variance", "gain", "gradient", "networks", "stderr", "overlap"),
        *("region", "by exponents"),
    ),
    rows=_map_rows,
    x="gain",
    by="variance",
    panels="depth",
    across=3,
    layers=(
        figures.line("gradient", label="recursion, {}"),
        figures.points("networks", "stderr", label="networks, {}"),
        figures.level(1.0, label="explodes above", dash="1 3"),
        figures.level(-1.0, label="vanishes below", dash="8 2 1 2"),
    ),
    ylabel="log10 of the gradient's rms, bottom over top",
    log="x",
    size=(12.0, 4.4),
)

EXPERIMENT = ex.Experiment(
    name="signal/trainability",
    title="Trainability map of deep post-LN stacks",
    question="At which gains and depths can a post-LN stack start to train?",
    summary="A deep stack can start to train if its tokens stay apart and its gradients neither "
    "vanish nor explode. The recursion maps where that is, over gains of attention and of gates "
    "and over depth; drawn networks are compared with the map.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(
            gains=(0.1, 0.3, 0.6, 1.2),
            variances=(0.25, 0.5, 1.0, 3.0),
            dim=512,
            networks=40,
        ),
        "paper": Config(
            gains=(0.1, 0.2, 0.4, 0.8, 1.6),
            variances=(0.5, 1.0, 2.0, 4.0, 8.0),
            depths=(6, 12, 24, 48, 96),
            dim=1024,
            networks=48,
        ),
    },
    parts=(LAW, DRAWN),
    claims=CLAIMS,
    figures=(MAP,),
    finding=ex.Finding(
        "On the map over gain, variance and depth a share of {0} of the points has networks in "
        "another region than the recursion says",
        ("map",),
    ),
)
