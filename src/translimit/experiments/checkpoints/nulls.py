r"""Drawn networks of the scale of a trained one, beside the Gram recursion of its second moments.

The null `matched` draws every matrix and bias of the byte model anew at its own mean square, the
null `reference` as the family starts it. Cells are observables by layer. They move together, since
one fluctuation of the first layer goes through all others: of 36 cells some six to eleven are
independent, so that the share outside has its error over networks.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, diagnose, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Distinct, MultipleOf, OneOf, Two, Within

NULLS = ("matched", "reference")
#: What the recursion predicts of a layer, in the order of the stored arrays.
OBSERVABLES = (
    *("overlap", "overlap_mid", "mean_square", "entropy", "score_spread", "tv"),
    *("head_var", "ratio_a", "ratio_f"),
)
#: Errors of the mean, and deviations of one network, beyond which a cell is outside; where branches
#: are weak, this relative difference counts as agreement.
OF_MEAN, OF_ONE, WEAK = 3.0, 2.0, 0.01
#: The largest share of cells outside, and networks whose means are judged together.
OUTSIDE, GROUP = 0.1, 40
#: Finite width moves a mean by O(1 / D): the byte model has D = 64.
WIDTH = 2 / 64


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        nulls: matched and reference.
        networks: that are drawn of each, in groups of 40.
        sequences: of the packaged text that the byte model did not see.
        tokens: of each.
    """

    nulls: Annotated[tuple[str, ...], OneOf(NULLS), Distinct()] = NULLS
    networks: Annotated[int, Within(2 * GROUP), MultipleOf(GROUP)] = 240
    sequences: Two = 3
    tokens: Annotated[int, Within(4, 64)] = 32


@dataclass(frozen=True)
class Cells(ex.Arrays):
    """Means over sequences, by observable and layer (1, 2, ...), in the order of `OBSERVABLES`."""

    drawn: Annotated[Float[np.ndarray, "network observable layer"], "drawn networks"]
    predicted: Annotated[Float[np.ndarray, "observable layer"], "the recursion"]
    error: Annotated[Float[np.ndarray, "observable layer"], "its sampling error"]
    uniform: Annotated[Float[np.ndarray, "observable layer"], "with uniform attention"]
    linear: Annotated[Float[np.ndarray, "observable layer"], "with a linear MLP"]
    trained: Annotated[Float[np.ndarray, "observable layer"], "the trained model itself"]
    layer: Int[np.ndarray, " layer"]


def compute(config: Config, null: str, keys: ex.Keys) -> Cells:
    """Networks of one null, and the recursion with its own and with wrong ingredients."""
    model = diagnose.read_checkpoint(diagnose.packaged_folder())
    rows = diagnose.held_out_windows(config.sequences)[:, : config.tokens]
    entries, chosen = [model.embed(row) for row in rows], diagnose.Null.named(null)

    def cells(measured: diagnose.Measured) -> np.ndarray:
        return np.stack([measured.values[name].mean(axis=0)[1:] for name in OBSERVABLES])

    drawn = []
    for index in range(config.networks):
        key = core.named_key(keys.own, "network", index)
        network = diagnose.DrawnNetwork(model, chosen, key)
        drawn.append(cells(diagnose.measure(model, entries, layer_at=network.layer)))

    def recursion(wrong: Literal["", "uniform", "linear"] = "") -> tuple[np.ndarray, np.ndarray]:
        layers = [_redrawn(layer, chosen, wrong) for layer in model.layers]
        each = [
            limits.signal.redrawn_prediction(
                layers, entry, key=core.named_key(keys.own, "recursion", place)
            )
            for place, entry in enumerate(entries)
        ]
        values = [[one.values[name][1:] for name in OBSERVABLES] for one in each]
        errors = [[one.errors[name][1:] for name in OBSERVABLES] for one in each]
        count = len(each)
        return np.mean(values, axis=0), np.sqrt(np.mean(np.square(errors), axis=0) / count)

    predicted, error = recursion()
    trained = cells(diagnose.measure(model, entries))
    return Cells(
        np.stack(drawn),
        predicted,
        error,
        recursion("uniform")[0],
        recursion("linear")[0],
        trained,
        np.arange(1, len(model.layers) + 1),
    )


def _redrawn(layer: diagnose.Layer, null: diagnose.Null, wrong: str) -> limits.signal.RedrawnLayer:
    """A layer by its second moments; with uniform attention or a linear MLP, the rivals."""
    squares, blocks = diagnose.second_moments(layer, null), layer.blocks
    if wrong == "uniform":
        squares = {name: 0.0 if name in ("W_Q", "b_Q") else v for name, v in squares.items()}
    if wrong == "linear":
        kind, linear = describe.FeedForward, describe.Activation.LINEAR
        blocks = tuple(
            replace(
                block,
                branches=tuple(
                    replace(one, activation=linear) if isinstance(one, kind) else one
                    for one in block.branches
                ),
            )
            for block in blocks
        )
    return limits.signal.RedrawnLayer(blocks, layer.causal, squares)


NULL = ex.Part(
    "{null}",
    Cells,
    compute,
    grid=lambda c: c.nulls,
    cost=lambda c, null: ex.Cost(20.0 + 4e-4 * c.networks * c.sequences * c.tokens),
)


def _off(data: Cells, predicted: np.ndarray, shift: float = 0.0) -> Estimate:
    """The share of cells whose mean over `GROUP` networks is off the prediction, over groups."""
    groups = data.drawn.reshape(-1, GROUP, *data.drawn.shape[1:])
    s0, mean = groups.std(axis=1, ddof=1), groups.mean(axis=1)
    allowed = np.maximum(OF_MEAN * np.hypot(s0 / GROUP**0.5, data.error), WEAK * abs(mean))
    off = abs(mean - predicted - shift * s0) > allowed
    return Estimate.from_samples(off.mean(axis=(1, 2)))


def _outside(data: Cells, predicted: np.ndarray) -> Estimate:
    """The share of cells of one network beyond two deviations of the prediction."""
    s0 = data.drawn.std(axis=0, ddof=1)
    allowed = np.maximum(OF_ONE * s0, WEAK * abs(predicted))
    return Estimate.from_samples((abs(data.drawn - predicted) > allowed).mean(axis=(1, 2)))


def _last(data: Cells) -> Estimate:
    """The overlap after the last layer over networks."""
    return Estimate.from_samples(data.drawn[:, OBSERVABLES.index("overlap"), -1])


CLAIMS = (
    ex.Claims[Config, str](
        "mean-{null}",
        "Of the means over forty drawn networks at most a tenth of the cells lie beyond three "
        "errors of the recursion (and 1 %).",
        estimate=lambda found, null: _off(found(NULL, null), found(NULL, null).predicted),
        prediction=OUTSIDE,
        tol=0.0,
        over=lambda c: c.nulls,
        one_sided=True,
        rivals=(
            ex.Rival(
                "a deviation of one network off",
                OUTSIDE,
                lambda found, null: _off(found(NULL, null), found(NULL, null).predicted, 1.0),
            ),
            ex.Rival(
                "uniform attention",
                OUTSIDE,
                lambda found, null: _off(found(NULL, null), found(NULL, null).uniform),
            ),
        ),
    ),
    ex.Claims[Config, str](
        "single-{null}",
        "Of the cells of a drawn network at most a tenth lie beyond two deviations of the "
        "recursion (and 1 %).",
        estimate=lambda found, null: _outside(found(NULL, null), found(NULL, null).predicted),
        prediction=OUTSIDE,
        tol=0.0,
        over=lambda c: c.nulls,
        one_sided=True,
        rivals=(
            ex.Rival(
                "a linear MLP",
                OUTSIDE,
                lambda found, null: _outside(found(NULL, null), found(NULL, null).linear),
            ),
            ex.Rival(
                "the trained model",
                OUTSIDE,
                lambda found, null: _outside(found(NULL, null), found(NULL, null).trained),
            ),
        ),
    ),
    ex.Claims[Config, str](
        "overlap-{null}",
        "The overlap after the last layer is the recursion's, on average over drawn networks.",
        estimate=lambda found, null: _last(found(NULL, null)),
        prediction=lambda found, null: float(found(NULL, null).predicted[0, -1]),
        tol=WIDTH,
        over=lambda c: c.nulls,
        rivals=(
            ex.Rival(
                "the trained model",
                prediction=lambda found, null: float(found(NULL, null).trained[0, -1]),
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for null, data in found.each(NULL):
        mean, s0 = data.drawn.mean(axis=0)[0], data.drawn.std(axis=0, ddof=1)[0]
        for layer, drawn, spread, law, own in zip(
            data.layer.tolist(), mean, s0, data.predicted[0], data.trained[0], strict=True
        ):
            yield (null, layer, float(drawn), float(spread), float(law), float(own))


OVERLAPS = ex.Figure(
    name="overlaps",
    title="Overlap of drawn networks and of the trained one",
    caption="Overlap after each layer of the byte model: mean over {networks} networks with drawn "
    "weights (bars of one standard deviation of a network), the Gram recursion (lines), and the "
    "trained model (dashed), over {sequences} sequences of {tokens} tokens.",
    columns=("null", "layer", "drawn", "deviation", "recursion", "trained"),
    rows=_rows,
    x="layer",
    by="null",
    layers=(
        figures.line("trained", dash="6 3", label="trained", series=None),
        figures.line("recursion", label="{}, recursion"),
        figures.points("drawn", "deviation", label="{}, drawn"),
    ),
    ylabel="overlap",
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/nulls",
    title="Networks of a checkpoint's scale, and the recursion of its second moments",
    question="Does the recursion predict networks of a checkpoint's scale?",
    summary="The trained byte model's architecture with weights drawn anew, every tensor of its "
    "own mean square or as the family starts, against the Gram recursion with one second moment a "
    "tensor. The recursion needs no network: it is what a diagnosis prints beside its null.",
    citations=("jax",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(networks=400, sequences=6),
        "paper": Config(networks=800, sequences=8, tokens=64),
    },
    parts=(NULL,),
    claims=CLAIMS,
    figures=(OVERLAPS,),
    finding=ex.Finding(
        "Drawn at the trained model's scale, networks have an overlap of {0} after the last layer, "
        "and {1} of the cells of one of them lie beyond two deviations of the recursion",
        ("overlap-matched", "single-matched"),
    ),
)
