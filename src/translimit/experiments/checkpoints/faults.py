r"""Faults that are planted in a trained model are named where they are, and nothing else is.

Of the byte model one layer is made dead, two heads equal in everything or in their maps alone, the
scores of a layer eight times as large, or the embeddings nearly one vector. A diagnosis of eight
sequences must name the fault at its layer, and nothing in the model as it was or with drawn
weights. A wrong verdict is a fault that is missed or one that is not there.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, diagnose, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Distinct, OneOf, Two, Within

#: What is planted, and what a diagnosis must say of it: kinds of faults, and their layer.
PLANTED: dict[str, set[tuple[str, int]]] = {
    "none": set(),
    "drawn-weights": set(),
    "dead-layer": {("idle", 3)},
    "equal-heads": {("redundant heads", 2), ("same map", 2)},
    "equal-maps": {("same map", 2)},
    "large-scores": {("one-hot", 4)},
    "one-embedding": {("entry collapsed", 0)},
}
#: What follows from embeddings that are one vector, and is no wrong verdict.
FOLLOWS = {
    "one-embedding": {"uniform", "collapsed", "same map", "redundant heads", "one vector"},
}
SEQUENCES = 8
#: Tensors that make scores.
SCORING = ("W_Q", "W_K", "b_Q", "b_K")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        faults: names of what is planted.
        texts: sets of eight sequences, each of which is diagnosed.
        tokens: of a sequence.
        draws: networks of the null.
    """

    faults: Annotated[tuple[str, ...], OneOf(tuple(PLANTED)), Distinct()] = tuple(PLANTED)
    texts: Two = 4
    tokens: Annotated[int, Within(8, 64)] = 32
    draws: Two = 4


@dataclass(frozen=True)
class Verdicts(ex.Arrays):
    """How a diagnosis judged, by set of sequences."""

    wrong: Annotated[Float[np.ndarray, " text"], "faults missed, or named and not there"]
    beyond: Annotated[Float[np.ndarray, " text"], "cells whose |z| exceeds Student's t"]
    missed: Annotated[Float[np.ndarray, " text"], "faults missed"]


def compute(config: Config, fault: str, keys: ex.Keys) -> Verdicts:
    """Diagnoses of one model on all sets of sequences."""
    model = diagnose.read_checkpoint(diagnose.packaged_folder())
    changed = _planted(model, fault, core.named_key(keys.own, "weights"))
    rows = diagnose.held_out_windows(SEQUENCES * config.texts)[:, : config.tokens]
    expected, follows = PLANTED[fault], FOLLOWS.get(fault, set())
    wrong, beyond, missed = [], [], []
    for text in range(config.texts):
        key = core.named_key(keys.shared("null"), text)
        found = diagnose.diagnose(
            changed, rows[text :: config.texts], key=key, draws=config.draws, predict=False
        )
        said = {(one.kind, one.layer or 0) for one in found.faults}
        unseen = {one for one in said - expected if one[0] not in follows}
        missed.append(float(len(expected - said)))
        wrong.append(float(len(unseen)) + missed[-1])
        z = np.array([one.z[1:] for one in found.compared.values()])
        t = np.array([one.threshold[1:] for one in found.compared.values()])
        beyond.append(float((abs(z) > t).sum()))
    return Verdicts(np.array(wrong), np.array(beyond), np.array(missed))


def _planted(model: diagnose.Checkpoint, fault: str, key: core.Key) -> diagnose.Checkpoint:
    """The model with a fault."""
    if fault == "none":
        return model
    if fault == "drawn-weights":
        null = diagnose.Null.named("matched")
        layers = enumerate(model.layers)
        return model.with_layers(
            [diagnose.redrawn(one, null, core.named_key(key, place)) for place, one in layers]
        )
    if fault == "one-embedding":
        table = np.asarray(model.tensors["token"])
        flat = table.mean(axis=0) + 0.2 + 0.02 * (table - table.mean(axis=0))
        position = 0.02 * np.asarray(model.tensors["position"])
        return replace(model, tensors={**model.tensors, "token": flat, "position": position})
    change: dict[str, tuple[int, Callable[[diagnose.Layer], dict[str, np.ndarray]]]] = {
        "dead-layer": (2, lambda one: {"W_O": np.zeros(one.parameters["W_O"].shape)}),
        "equal-heads": (1, lambda one: _copied(one, "Q K V O")),
        "equal-maps": (1, lambda one: _copied(one, "Q K")),
        "large-scores": (
            3,
            lambda one: {
                n: 8 * np.asarray(one.parameters[n]) for n in ["W_Q", "W_K", "b_Q", "b_K"]
            },
        ),
    }
    place, function = change[fault]
    layers = list(model.layers)
    layers[place] = layers[place].with_parameters(**function(layers[place]))
    return model.with_layers(layers)


def _copied(layer: diagnose.Layer, names: str) -> dict[str, np.ndarray]:
    """Head 1 as head 0, in the maps that are named."""
    found = {}
    for letter in names.split():
        for name in (f"W_{letter}", *(() if letter == "O" else (f"b_{letter}",))):
            value = np.array(layer.parameters[name])
            axis = 0 if letter == "O" or value.ndim == 1 else 1
            parts = np.split(value, layer.attention.heads, axis=axis)
            parts[1] = parts[0]
            found[name] = np.concatenate(parts, axis=axis)
    return found


FAULT = ex.Part(
    "{fault}",
    Verdicts,
    compute,
    grid=lambda c: c.faults,
    cost=lambda c, fault: ex.Cost(2.0 + 5e-3 * c.texts * (1 + c.draws) * c.tokens),
)


def _statement(found: ex.Found[Config], fault: str) -> str:
    if not PLANTED[fault]:
        return f"Nothing is named in the model with {fault.replace('-', ' ')} planted."
    said = " and ".join(f"{kind} at {layer}" for kind, layer in sorted(PLANTED[fault]))
    return f"With {fault.replace('-', ' ')} planted, a diagnosis names {said}, and nothing else."


CLAIMS = (
    ex.Claims[Config, str](
        "{fault}",
        _statement,
        estimate=lambda found, fault: Estimate.from_samples(found(FAULT, fault).wrong),
        prediction=0.0,
        tol=0.25,
        over=lambda c: c.faults,
        rivals=(
            ex.Rival(
                "a fault wherever z is beyond Student's t",
                prediction=lambda found, fault: float(found(FAULT, fault).beyond.mean()),
                when=lambda c, fault: fault == "none",
            ),
            ex.Rival(
                "a fault is there",
                prediction=1.0,
                when=lambda c, fault: fault == "drawn-weights",
            ),
            ex.Rival(
                "nothing is seen",
                prediction=lambda found, fault: float(len(PLANTED[fault])),
                when=lambda c, fault: bool(PLANTED[fault]),
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for place, (fault, data) in enumerate(found.each(FAULT)):
        yield (fault, place, float(data.beyond.mean()), float(data.wrong.mean()))


JUDGED = ex.Figure(
    name="judged",
    title="Cells beyond their null, and wrong verdicts",
    caption=lambda found: (
        "How many cells (observables by layers) have a z beyond Student's t, and "
        f"how many verdicts are wrong, mean over {found.config.texts} sets of eight sequences. "
        "Planted, from left to right: "
        f"{', '.join(one.replace('-', ' ') for one in found.config.faults)}."
    ),
    columns=("planted", "place", "beyond", "wrong"),
    rows=_rows,
    x="place",
    layers=(
        figures.points("beyond", label="cells beyond their null"),
        figures.points("wrong", label="wrong verdicts", series=1),
    ),
    xlabel="what is planted, in the caption's order",
    ylabel="mean number",
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/faults",
    title="Faults planted in a trained model",
    question="Which faults in a trained model does a diagnosis name?",
    summary="A z against a null is no fault: training moves nearly every observable. Verdicts "
    "have thresholds of their own, beyond which an observable must lie by two errors. Faults are "
    "planted in the byte model, and what a diagnosis names is counted.",
    citations=("jax",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(texts=8, draws=8),
        "paper": Config(texts=16, tokens=64, draws=8),
    },
    parts=(FAULT,),
    claims=CLAIMS,
    figures=(JUDGED,),
    finding=ex.Finding(
        "With two equal heads planted, a diagnosis makes {0} wrong verdicts, in the model as it "
        "was {1}",
        ("equal-heads", "none"),
    ),
)
