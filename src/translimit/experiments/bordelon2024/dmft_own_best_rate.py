r"""The best learning rate of a configuration of one's own: the limit, and networks beside it.

`translimit dmft CONFIG --best-rate` runs this experiment: the file is that of `translimit dmft`,
and its `eta0` is not looked at. The limit is solved at rates from a twentieth of the edge of
stability at the start to twice it; networks of the two largest `sizes` are trained at the same
rates, unless `axis = "none"`.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.growing_networks import Source
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.bordelon2024.rate_curves import (
    Curves,
    compute_curves,
    curve_rows,
    curves_cost,
)
from translimit.experiments.checked import Count, Four, Within


@dataclass(frozen=True)
class Config(OwnProblem):
    """The problem, and the grid of rates.

    Attributes:
        factor: between two rates.
        swept: networks of each size at every rate.
        large: sampled heads and neurons of a population of the plain minimum.
    """

    factor: Annotated[float, Within(1.05, 2)] = 1.25
    swept: Four = 16
    large: Count = 2000

    def __post_init__(self) -> None:
        """Check the fields; the edge is that of gradient descent."""
        super().__post_init__()
        for name, plain in (("optimizer", "sgd"), ("activation_on_stream", "none")):
            if (got := getattr(self, name)) != plain:
                raise ConfigError(
                    name,
                    f"got {got!r}, and best rates are predicted for gradient descent on a plain "
                    "stream",
                    f"pass {plain!r}, or compare losses of several eta0",
                )

    @property
    def heads_swept(self) -> tuple[int, ...]:
        """H of the networks; none without networks."""
        if self.axis == "none":
            return ()
        return self.sizes[-2:] if self.axis == "heads" else (self.heads,)


@dataclass(frozen=True)
class Size:
    """Networks of one size.

    Attributes:
        heads: H.
    """

    heads: int


def compute(config: Config, at: Source, keys: ex.Keys) -> Curves:
    """The limit and networks at all rates."""
    del at
    return compute_curves(
        config,
        keys,
        heads=config.heads_swept,
        seeds=config.swept,
        factor=config.factor,
        large=config.large,
    )


def _source(config: Config) -> Source:
    return Source(config.file_digest() or "")


CURVES = ex.Part(
    "curves",
    Curves,
    compute,
    grid=lambda c: [_source(c)],
    cost=lambda c, at: curves_cost(
        c, heads=c.heads_swept, seeds=c.swept, factor=c.factor, large=c.large
    ),
)


def _curves(found: ex.Found[Config]) -> Curves:
    return found(CURVES, _source(found.config))


def _rates(curves: Curves) -> str:
    """The prediction in words."""
    first, best, error = curves.diverging, curves.predicted, curves.predicted_decades
    end = f"diverges at {first:.3g}" if math.isfinite(first) else f"stands to {curves.rate[-1]:.3g}"
    low, high = (best * 10**power for power in (-error, error))
    return f"$\\eta_0 = {best:.3g}$ (from {low:.3g} to {high:.3g}); training {end}"


RATE = ex.Claims(
    "rate-H={heads}",
    lambda found, at: (
        f"The best learning rate of the limit is {_rates(_curves(found))}. That of networks of "
        f"{at.heads} heads is the same (log10 of predicted over swept)."
    ),
    estimate=lambda found, at: _curves(found).ratio(at.heads),
    prediction=0.0,
    tol=0.2,
    over=lambda c: [Size(heads) for heads in c.heads_swept],
    rivals=(
        ex.Rival[Config, Size](
            "twice the rate",
            estimate=lambda found, at: _curves(found).ratio(at.heads, 2 * _curves(found).best.rate),
        ),
        ex.Rival[Config, Size](
            "half the rate",
            estimate=lambda found, at: _curves(found).ratio(at.heads, _curves(found).best.rate / 2),
        ),
    ),
)
ALONE = ex.Claims(
    "rate",
    lambda found, at: (
        f"The best learning rate of the limit is {_rates(_curves(found))}; it lies below the edge "
        "of stability at the start (log10 of their ratio)."
    ),
    estimate=lambda found, at: Estimate(
        math.log10(_curves(found).best.rate / _curves(found).edge), _curves(found).best.decades
    ),
    prediction=0.0,
    tol=0.1,
    over=lambda c: ex.alone(c) if c.axis == "none" else (),
    one_sided=True,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "four times the rate",
            estimate=lambda found, at: Estimate(
                math.log10(4 * _curves(found).best.rate / _curves(found).edge)
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    yield from curve_rows(_curves(found))


LOSSES = ex.Figure(
    name="losses",
    title="Loss after training against the learning rate",
    caption="The limit, in large and in small populations, and networks; two standard errors over "
    "populations and seeds.",
    columns=("who", "rate", "loss", "two standard errors"),
    rows=_rows,
    x="rate",
    by="who",
    layers=(figures.line("loss", label="{}"),),
    ylabel="loss after training",
    log="xy",
    size=(7.0, 4.5),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-own-best-rate",
    title="The best learning rate of a configuration of one's own",
    question="Which learning rate is best for a configuration of your own?",
    summary="The limit is solved at many learning rates, and networks are trained at the same "
    "ones. translimit dmft CONFIG --best-rate runs it on a file of your own.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        # The problem of the demo of dmft-networks, which a file changes for both.
        "demo": Config(
            task="synthetic",
            inputs=2,
            tokens=2,
            dim=8,
            steps=8,
            samples=1000,
            populations=6,
            sizes=(8, 16, 32),
            seeds=6000,
        ),
        "standard": Config(steps=10, sizes=(32, 64), swept=32),
        "paper": Config(steps=12, inputs=8, sizes=(64, 128), swept=64, large=6000),
    },
    parts=(CURVES,),
    claims=(RATE, ALONE),
    figures=(LOSSES,),
    finding=ex.Finding(
        "At the largest number of heads the predicted best rate misses the swept one by {0} "
        "decades",
        ("rate-H=*",),
    ),
)
