r"""Held-out sizes, four times larger, lie within two errors of what small ones predict.

Encoders of digits grow along one size at a constant rate. Four small sizes, with paired seeds, are
extrapolated in 1/n; networks four times larger than the largest, with starts and batches of their
own, are the truth. A curve is one axis at one rate in one independent draw of all; its points,
losses after several numbers of updates, move together, so that errors are taken over curves.

Reference: documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.networks import AXIS_LABELS
from translimit.experiments.checked import Count, Counts, Distinct, Entries, Increasing, OneOf
from translimit.experiments.extrapolate import ladders
from translimit.experiments.extrapolate.held_out import Curve, Which, held_out_curve
from translimit.experiments.extrapolate.ladders import Log2Rates, Losses

#: The place of an axis in (N, H, L), and the sizes that are fitted and held out.
PLACES = {"head_dim": 0, "heads": 1, "layers": 2}
#: Errors that are compared, as figures call them.
ERRORS: dict[Which, str] = {
    "error": "the prediction",
    "seed_error": "the seed part alone",
    "largest": "the largest size",
}
#: What the seed part alone must cover less, as in the ladders it was found on.
LEAST_DIFFERENCE = 0.04


@dataclass(frozen=True)
class Config(ladders.Ladder):
    """The networks, the axes along which they grow, and the rates.

    Attributes:
        axes: sizes that grow, one at a time.
        width_sizes: small head dimensions and numbers of heads.
        layer_sizes: small numbers of layers.
        held_out: what the largest of them is multiplied with.
        log2_rates: learning rates of the base.
        held_seeds: networks of the held-out size.
        draws: independent repetitions of all of it.
    """

    axes: Annotated[tuple[str, ...], OneOf(tuple(PLACES)), Distinct()] = tuple(PLACES)
    width_sizes: Annotated[Counts, Increasing(), Entries(4)] = (2, 3, 4, 6)
    layer_sizes: Annotated[Counts, Increasing(), Entries(4)] = (1, 2, 3, 4)
    held_out: Count = 4
    log2_rates: Log2Rates = (-9.5, -8.75, -8.0, -7.25, -6.5, -5.75, -5.0)
    held_seeds: Annotated[int, ladders.Within(3, 100_000)] = 12
    draws: Count = 1

    def sizes(self, axis: str) -> Counts:
        """The small sizes of an axis."""
        return self.layer_sizes if axis == "layers" else self.width_sizes

    def held(self, axis: str) -> int:
        """The size that is held out."""
        return self.held_out * self.sizes(axis)[-1]

    def shape(self, at: At) -> tuple[int, int, int]:
        """Head dimension, heads and layers of a rung."""
        sizes = list(self.base)
        sizes[PLACES[at.axis]] = at.size
        return sizes[0], sizes[1], sizes[2]

    def members(self, at: At) -> int:
        """Networks of a rung at one rate."""
        return self.held_seeds if at.size == self.held(at.axis) else self.seeds


@dataclass(frozen=True)
class At:
    """One rung: networks of one size along an axis, in one draw."""

    axis: str
    size: int
    draw: int


def compute(config: Config, at: At, keys: ex.Keys) -> Losses:
    """Networks of one size; fitted sizes share starts and batches, held-out ones have their own."""
    held = at.size == config.held(at.axis)
    key = keys.shared("held-out" if held else "fitted", at.axis, at.draw)
    return ladders.losses(config, config.shape(at), config.log2_rates, config.members(at), key)


def _grid(config: Config) -> Sequence[At]:
    return [
        At(axis, size, draw)
        for draw in range(config.draws)
        for axis in config.axes
        for size in dict.fromkeys((*config.sizes(axis), config.held(axis)))
    ]


RUNGS = ex.Part(
    "{axis}={size}/draw={draw}",
    Losses,
    compute,
    grid=_grid,
    cost=lambda c, at: ladders.cost(c, c.shape(at), c.members(at) * len(c.log2_rates)),
)


def curves(found: ex.Found[Config]) -> list[Curve]:
    """All curves at which no network diverged."""
    config, told = found.config, []
    for axis, draw in itertools.product(config.axes, range(config.draws)):
        fitted = [found(RUNGS, At(axis, size, draw)).loss for size in config.sizes(axis)]
        held = found(RUNGS, At(axis, config.held(axis), draw)).loss
        for place, log2_rate in enumerate(config.log2_rates):
            small = np.array([one[:, place] for one in fitted])
            large = held[:, place]
            if np.isfinite(small).all() and np.isfinite(large).all():
                sizes = (config.sizes(axis), config.held(axis))
                told.append(held_out_curve(axis, log2_rate, sizes, config.times, small, large))
    if len(told) < 2:
        raise ConfigError("log2_rates", "networks diverged at all but one", "pass smaller ones")
    return told


def _missed(found: ex.Found[Config], which: Which, errors: float | int) -> Estimate:
    return ladders.share([1 - one.within(which, errors) for one in found.once(curves)])


def _difference(found: ex.Found[Config]) -> Estimate:
    """What the seed part alone covers less, with the opposite sign, curve by curve."""
    told = found.once(curves)
    return ladders.share([c.within("seed_error", 2) - c.within("error", 2) for c in told])


def _rms_ratio(found: ex.Found[Config]) -> Estimate:
    """Rms error over that of taking the largest size, with a bootstrap over curves."""
    told = found.once(curves)
    squares = np.array(
        [[np.mean((c.predicted - c.truth) ** 2), np.mean((c.largest - c.truth) ** 2)] for c in told]
    )

    def ratio(rows: np.ndarray) -> float:
        mean = squares[rows].mean(axis=0)
        return math.sqrt(mean[0] / mean[1])

    drawn = [ratio(rows) for rows in ladders.resamples(len(told))]
    widen = math.sqrt(len(told) / (len(told) - 1))
    return Estimate(ratio(np.arange(len(told))), widen * float(np.std(drawn)), len(told))


def _misses(name: str, statement: str, errors: int, tol: float) -> ex.Claims[Config, ex.Alone]:
    """So many errors miss at most a part of the points; taking the largest size is the rival."""
    return ex.claim(
        name,
        statement,
        estimate=lambda found: _missed(found, "error", errors),
        prediction=0.0,
        tol=tol,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "the largest size as it is, with its own error",
                estimate=lambda found, at: _missed(found, "largest", errors),
            ),
        ),
        decided_by="standard",
    )


CLAIMS = (
    _misses(
        "two-errors",
        "Two errors of the prediction, with those of the held-out mean, miss at most a tenth of "
        "the losses of networks four times larger (part of the points, errors over curves).",
        errors=2,
        tol=0.1,
    ),
    _misses("one-error", "One error misses at most a half of them.", errors=1, tol=0.5),
    ex.claim(
        "misspecification",
        "The seed part of the error alone covers less of the same points, by 0.04 or more "
        "(difference with a negative sign).",
        estimate=_difference,
        prediction=-LEAST_DIFFERENCE,
        tol=0.02,
        one_sided=True,
        rivals=(ex.Rival("the seed part alone covers as much", 0.0),),
        decided_by="standard",
    ),
    ex.claim(
        "rms",
        "Over all axes the rms error of the predicted log loss is at most 0.9 of that of taking "
        "the largest size.",
        estimate=_rms_ratio,
        prediction=0.9,
        tol=0.05,
        one_sided=True,
        rivals=(ex.Rival("no better than the largest size", 1.0),),
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for one in found.once(curves):
        for place, time in enumerate(found.config.times):
            yield (
                AXIS_LABELS[one.axis],
                one.log2_rate,
                time,
                one.truth[place],
                one.truth_error[place],
                one.predicted[place],
                one.error[place],
                one.largest[place],
            )


def _summary(found: ex.Found[Config]) -> Iterator[figures.Row]:
    told = found.once(curves)
    for axis in (*found.config.axes, "all"):
        some = [one for one in told if axis in (one.axis, "all")]
        for which, label in ERRORS.items():
            for errors in (1, 2, 3) if some else ():
                part = ladders.share([one.within(which, errors) for one in some])
                normal = math.erf(errors / math.sqrt(2))
                yield AXIS_LABELS.get(axis, axis), label, errors, part.value, part.stderr, normal
        if some:
            part = ladders.share([one.in_range for one in some])
            yield AXIS_LABELS.get(axis, axis), "printed range", 2, part.value, part.stderr, None


HELD_OUT = ex.Figure(
    name="held-out",
    title="Predicted and measured losses of networks four times larger",
    caption="Log loss of held-out networks against its prediction from four small sizes, with one "
    "error of the prediction, at all rates and numbers of updates; the line is equality.",
    columns=(
        *("axis", "log2 rate", "updates", "measured", "stderr", "predicted", "error"),
        "largest fitted",
    ),
    rows=_rows,
    x="measured",
    by="axis",
    layers=(
        figures.line("measured", by="", label="equality", series=None),
        figures.points("predicted", "error"),
    ),
    xlabel="measured log loss",
    ylabel="predicted log loss",
)
COVERED = ex.Figure(
    name="coverage",
    title="How often errors hold",
    caption="Part of the held-out points within one, two and three errors, all axes together, with "
    "standard errors over curves: of the prediction, of its seed part alone, and of the largest "
    "size taken as it is; the line is a normal error. The table has every axis.",
    columns=("axis", "error", "errors", "part", "stderr", "normal"),
    rows=_summary,
    x="errors",
    by="error",
    layers=(
        figures.points("part", "stderr", where={"axis": "all"}),
        figures.line(
            "normal",
            by="",
            label="normal",
            series=None,
            where={"axis": "all", "error": ERRORS["error"]},
        ),
    ),
    xlabel="errors",
    ylabel="part of the points",
)

EXPERIMENT = ex.Experiment(
    name="extrapolate/coverage",
    title="Held-out sizes within two errors of the extrapolation from small ones",
    question="Does a larger network fall within the error extrapolated from small ones?",
    summary="Loss curves of encoders of digits at four small sizes are extrapolated in $1/n$ to "
    "networks four times larger, along head dimension, heads and layers, at seven rates. Two "
    "errors should hold nine times of ten, and taking the largest size should be worse.",
    citations=("digits", "jax"),
    reference='documentation, "From small runs to the infinite network"',
    presets={
        "demo": Config(
            axes=("heads",),
            log2_rates=(-8.0, -7.0, -6.0),
            times=(4, 8, 16, 32),
            held_out=2,
            held_seeds=6,
        ),
        "standard": Config(draws=3),
        "paper": Config(seeds=12, held_seeds=24, draws=4),
    },
    parts=(RUNGS,),
    claims=CLAIMS,
    figures=(HELD_OUT, COVERED),
    finding=ex.Finding(
        "Two errors of the extrapolation miss {0} of the losses of networks four times larger; "
        "its rms error is {1} of that of taking the largest size",
        ("two-errors", "rms"),
    ),
)
