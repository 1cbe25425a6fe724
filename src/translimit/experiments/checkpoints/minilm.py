r"""MiniLM beside networks of its scale: drawn ones collapse, and its MLPs hold tokens apart.

MiniLM is a post-LN BERT. With every tensor drawn anew at its own mean square, the tokens of its
last layer are nearly one vector; with its singular values kept, too. So neither scale nor spectrum
holds tokens apart, but the directions of the matrices; redrawn in parts, those of the MLP.

The checkpoint ships inside a package; only its files are read.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, diagnose, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Distinct, OneOf, Two, Within

#: What is redrawn, in the order of the figure.
NULLS = ("matched", "spectrum", "part:W_1,W_2", "part:W_V,W_O", "part:W_Q,W_K")
SAID = {
    "matched": "all matrices",
    "spectrum": "all, singular values kept",
    "part:W_1,W_2": "the MLP's matrices",
    "part:W_V,W_O": "values and outputs",
    "part:W_Q,W_K": "queries and keys",
}
MATCHED, SPECTRUM, MLP, VALUES, _ = NULLS
#: Windows of the packaged text that there are.
WINDOWS = 12


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        nulls: what is redrawn.
        sequences: windows of the packaged text.
        draws: networks of every null.
    """

    nulls: Annotated[tuple[str, ...], OneOf(NULLS), Distinct()] = NULLS
    sequences: Annotated[int, Within(2, WINDOWS)] = 3
    draws: Two = 6


@dataclass(frozen=True)
class Trained(ex.Arrays):
    """The checkpoint itself, and the recursion for its matched null."""

    overlap: Annotated[Float[np.ndarray, "sequence place"], "overlap of the trained model"]
    predicted: Annotated[Float[np.ndarray, " place"], "the recursion for drawn networks"]
    place: Int[np.ndarray, " place"]


@dataclass(frozen=True)
class Drawn(ex.Arrays):
    """Networks of one null."""

    overlap: Annotated[Float[np.ndarray, "network place"], "overlap, mean over sequences"]
    place: Int[np.ndarray, " place"]


def _model(config: Config) -> tuple[diagnose.Checkpoint, list[np.ndarray]]:
    folder = diagnose.packaged_checkpoint("MiniLM")
    model = diagnose.read_checkpoint(folder)
    rows = diagnose.packaged_inputs(model, folder).rows[: config.sequences]
    return model, [model.embed(row) for row in rows]


def trained(config: Config, at: ex.Alone, keys: ex.Keys) -> Trained:
    """The checkpoint, and the recursion of its second moments."""
    model, entries = _model(config)
    found = diagnose.measure(model, entries).values["overlap"]
    null = diagnose.Null.named(MATCHED)
    law = diagnose.predict_null(model, null, entries, key=core.named_key(keys.own, "recursion"))
    return Trained(found, law.values["overlap"], np.arange(found.shape[1]))


def drawn(config: Config, null: str, keys: ex.Keys) -> Drawn:
    """Networks of a null, on the same sequences."""
    model, entries = _model(config)
    chosen, rows = diagnose.Null.named(null), []
    for index in range(config.draws):
        key = core.named_key(keys.own, "network", index)
        network = diagnose.DrawnNetwork(model, chosen, key)
        measured = diagnose.measure(model, entries, layer_at=network.layer)
        rows.append(measured.values["overlap"].mean(axis=0))
    return Drawn(np.stack(rows), np.arange(len(rows[0])))


TRAINED = ex.Part(
    "trained",
    Trained,
    trained,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 8.0 * c.sequences),
)
DRAWN = ex.Part(
    "{null}",
    Drawn,
    drawn,
    grid=lambda c: c.nulls,
    cost=lambda c, null: ex.Cost(
        2.0 + c.draws * ((4.0 if null == SPECTRUM else 0.5) + 0.2 * c.sequences), 1.5e9
    ),
)


def _own(found: ex.Found[Config]) -> Estimate:
    """The overlap of the trained model after its last layer, over sequences."""
    return Estimate.from_samples(found(TRAINED).overlap[:, -1])


def _apart(found: ex.Found[Config], null: str) -> Estimate:
    """1 - overlap of drawn networks after their last layer."""
    return Estimate.from_samples(1.0 - found(DRAWN, null).overlap[:, -1])


def _value(found: ex.Found[Config], null: str) -> float:
    """The overlap of a null after its last layer."""
    return float(found(DRAWN, null).overlap[:, -1].mean())


def _difference(found: ex.Found[Config]) -> Estimate:
    """Overlap with singular values kept less that without."""
    two = [found(DRAWN, one).overlap[:, -1] for one in (SPECTRUM, MATCHED)]
    error = np.hypot(*(core.standard_error(one) for one in two))
    return Estimate(float(two[0].mean() - two[1].mean()), float(error))


CLAIMS = (
    ex.claim(
        "drawn",
        "Networks of the trained model's scale collapse: 1 - overlap after their last layer is "
        "below a twentieth.",
        lambda found: _apart(found, MATCHED),
        0.05,
        tol=0.0,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "as the trained model",
                prediction=lambda found, _: 1.0 - _own(found).value,
            ),
        ),
    ),
    ex.claim(
        "trained",
        "The trained model does not collapse: its overlap after the last layer is below a half.",
        _own,
        0.5,
        tol=0.0,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "as networks of its scale", prediction=lambda found, _: _value(found, MATCHED)
            ),
        ),
    ),
    ex.claim(
        "recursion",
        "The overlap of drawn networks after their last layer is the recursion's.",
        lambda found: Estimate.from_samples(found(DRAWN, MATCHED).overlap[:, -1]),
        lambda found: float(found(TRAINED).predicted[-1]),
        tol=0.01,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "the trained model", prediction=lambda found, _: _own(found).value
            ),
        ),
    ),
    ex.claim(
        "spectrum",
        "Singular values do not hold tokens apart: with them kept, drawn networks have the same "
        "overlap after the last layer (the difference).",
        _difference,
        0.0,
        tol=0.02,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "the spectrum holds tokens apart",
                prediction=lambda found, _: _own(found).value - _value(found, MATCHED),
            ),
        ),
    ),
    ex.claim(
        "mlp",
        "Without the trained matrices of the MLP tokens collapse: 1 - overlap is below 0.15.",
        lambda found: _apart(found, MLP),
        0.15,
        tol=0.0,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "without values and outputs",
                prediction=lambda found, _: 1.0 - _value(found, VALUES),
            ),
            ex.Rival[Config, ex.Alone](
                "as the trained model",
                prediction=lambda found, _: 1.0 - _own(found).value,
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    own, law = found(TRAINED).overlap, found(TRAINED).predicted
    for null, data in found.each(DRAWN):
        for place in data.place.tolist():
            yield (
                SAID[null],
                place,
                float(data.overlap[:, place].mean()),
                float(data.overlap[:, place].std(ddof=1)),
                float(own[:, place].mean()),
                float(law[place]),
            )


OVERLAPS = ex.Figure(
    name="overlaps",
    title="What holds the tokens of MiniLM apart",
    caption="Overlap after each layer (0 is the entry): networks in which the named matrices are "
    "drawn anew at their own mean square ({draws} each, bars of one standard deviation of a "
    "network), the recursion for all of them (dotted), and the trained model (dashed), mean over "
    "{sequences} windows of text.",
    columns=("redrawn", "layer", "overlap", "deviation", "trained", "recursion"),
    rows=_rows,
    x="layer",
    by="redrawn",
    layers=(
        figures.line("trained", by="", series=None, dash="6 3", label="trained"),
        figures.line("recursion", by="", series=None, dash="1.5 2", label="recursion, all"),
        figures.points("overlap", "deviation", joined=True, label="{}"),
    ),
    ylabel="overlap",
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/minilm",
    title="MiniLM beside drawn networks of its scale",
    question="Which parts of MiniLM keep its tokens apart?",
    summary="A trained sentence encoder, whose file ships inside a Python package, against "
    "networks of the same architecture with all or some of its matrices drawn anew. Which parts "
    "hold tokens apart is read off the parts whose loss lets them collapse.",
    citations=("jax",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(sequences=12, draws=8),
        "paper": Config(sequences=12, draws=32),
    },
    parts=(TRAINED, DRAWN),
    claims=CLAIMS,
    figures=(OVERLAPS,),
    finding=ex.Finding(
        "After its last layer the trained model has an overlap of {0}; 1 - overlap is {1} in "
        "networks of its scale and {2} where the MLP alone is drawn anew",
        ("trained", "drawn", "mlp"),
    ),
)
