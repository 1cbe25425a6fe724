r"""SmolLM2: scores of the scale of drawn ones, one massive token, and tokens that stay together.

SmolLM2 is a pre-LN Llama of 30 layers; its GGUF file ships inside a package, and only that file is
read. A pre-LN network of its scale does not collapse. Training brings its tokens closer together,
and puts into one token more than half of the sum of squares, which the overlap does not see.

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
from translimit.experiments.checked import CheckedConfig, Two, Within

#: Observables that are kept, in the order of the stored arrays.
KEPT = ("overlap", "largest_share", "first", "score_spread")
#: The layer whose tokens are compared, and the one that holds the massive token.
LATE, MASSIVE = 29, 20


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        sequences: windows of the packaged text.
        draws: networks of the matched null.
    """

    sequences: Annotated[int, Within(2, 12)] = 2
    draws: Two = 2


@dataclass(frozen=True)
class Measured(ex.Arrays):
    """Observables of the checkpoint and of drawn networks, by place; 0 is the entry."""

    trained: Annotated[Float[np.ndarray, "sequence observable place"], "the trained model"]
    drawn: Annotated[Float[np.ndarray, "network observable place"], "mean over sequences"]
    loss: Annotated[Float[np.ndarray, " sequence"], "loss in nats"]
    place: Int[np.ndarray, " place"]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Measured:
    """The checkpoint, then networks of its scale, on the same sequences."""
    path = diagnose.packaged_checkpoint("SmolLM2")
    model = diagnose.read_checkpoint(path)
    rows = list(diagnose.packaged_inputs(model, path).rows[: config.sequences])
    entries = [model.embed(row) for row in rows]

    def kept(measured: diagnose.Measured) -> np.ndarray:
        return np.stack([measured.values[name] for name in KEPT], axis=1)

    own = diagnose.measure(model, entries, ids=rows)
    null, drawn = diagnose.Null.named("matched"), []
    for index in range(config.draws):
        key = core.named_key(keys.own, "network", index)
        network = diagnose.DrawnNetwork(model, null, key)
        drawn.append(kept(diagnose.measure(model, entries, layer_at=network.layer)).mean(axis=0))
    return Measured(kept(own), np.stack(drawn), own.losses, np.arange(len(model.layers) + 1))


ALL = ex.Part(
    "all",
    Measured,
    compute,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + c.sequences * (3.0 + 2.0 * c.draws) + 4.0 * c.draws, 4e9),
)


def _of(found: ex.Found[Config], name: str, layer: int) -> np.ndarray:
    """An observable of the trained model by sequence."""
    return found(ALL).trained[:, KEPT.index(name), layer]


def _null(found: ex.Found[Config], name: str, layer: int) -> float:
    """The mean of an observable over drawn networks."""
    return float(found(ALL).drawn[:, KEPT.index(name), layer].mean())


CLAIMS = (
    ex.claim(
        "together",
        "Training brings tokens together: in layer 29 drawn networks of its scale have an overlap "
        "that is lower by 0.2 or more (drawn less trained).",
        lambda found: Estimate.from_samples(
            _null(found, "overlap", LATE) - _of(found, "overlap", LATE)
        ),
        -0.2,
        tol=0.0,
        one_sided=True,
        rivals=(ex.Rival[Config, ex.Alone]("as drawn networks", 0.0),),
    ),
    ex.claim(
        "massive",
        "One token holds more than half of the sum of squares in layer 20 (the rest, at most).",
        lambda found: Estimate.from_samples(1.0 - _of(found, "largest_share", MASSIVE)),
        0.5,
        tol=0.0,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "as in drawn networks",
                prediction=lambda found, _: 1.0 - _null(found, "largest_share", MASSIVE),
            ),
        ),
    ),
    ex.claim(
        "sink",
        "Queries of layer 20 attend to the first token: it has a quarter of the weight or more "
        "(minus the weight, at most).",
        lambda found: Estimate.from_samples(-_of(found, "first", MASSIVE)),
        -0.25,
        tol=0.0,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "as drawn networks do", prediction=lambda found, _: -_null(found, "first", MASSIVE)
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(ALL)
    for place in data.place.tolist():
        for who, rows in (("trained", data.trained), ("drawn", data.drawn)):
            yield (
                who,
                place,
                float(rows[:, 0, place].mean()),
                float(core.standard_error(rows[:, 0, place])),
                float(rows[:, 1, place].mean()),
            )


LAYERS = ex.Figure(
    name="layers",
    title="SmolLM2 by layer",
    caption="Overlap after each layer (0 is the entry; bars of one standard error over {sequences} "
    "windows of text or {draws} networks), and the share of the largest token in the sum of "
    "squares, of the trained model and of networks of its scale.",
    columns=("network", "layer", "overlap", "stderr", "largest share"),
    rows=_rows,
    x="layer",
    by="network",
    layers=(
        figures.panel(
            "overlap",
            figures.points("overlap", "stderr", joined=True, label="{}"),
            ylabel="overlap",
        ),
        figures.panel(
            "largest token",
            figures.points("largest share", joined=True, label="{}"),
            ylabel="share of the largest token",
        ),
    ),
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/smollm2",
    title="SmolLM2 beside drawn networks of its scale",
    question="What did training do to the tokens of SmolLM2?",
    summary="A trained language model of 135 million weights in a GGUF file that ships inside a "
    "Python package, against networks of the same architecture and scale. What training did to its "
    "tokens is read off the differences.",
    citations=("jax",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(sequences=3, draws=3),
        "paper": Config(sequences=12, draws=8),
    },
    parts=(ALL,),
    claims=CLAIMS,
    figures=(LAYERS,),
    finding=ex.Finding(
        "In layer 29 the overlap of the trained model exceeds that of drawn networks by "
        "{0:negated}; the largest token leaves {1} of the sum of squares to all others in layer 20",
        ("together", "massive"),
    ),
)
