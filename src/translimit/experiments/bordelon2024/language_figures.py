"""Figures of a language model in the limit: loss and accuracy at every position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import figures
from translimit.experiments.bordelon2024.growing_networks import Config, limit
from translimit.experiments.bordelon2024.own_problem import OwnProblem


def _outputs(found: ex.Found[Config]) -> tuple[Float[np.ndarray, "steps P S words"], np.ndarray]:
    """Outputs of the limit, and the words that follow [P, S], -1 where there is none."""
    assert isinstance(found.config, OwnProblem)
    targets = found.config.data()[1]
    f = limit(found).predictions
    return f.reshape(len(f), *targets.shape, -1), targets


def _means(
    values: Float[np.ndarray, "steps P S"], targets: np.ndarray
) -> Iterator[tuple[float, ...]]:
    """Over the inputs with a target, position by position."""
    counted = targets >= 0
    total = np.where(counted, values, 0.0).sum(axis=1)
    for t, row in enumerate(total / np.maximum(counted.sum(axis=0), 1)):
        for place in np.flatnonzero(counted.any(axis=0)):
            yield (t, int(place), float(row[place]))


def _loss_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    assert isinstance(found.config, OwnProblem)
    f, targets = _outputs(found)
    onehot = np.eye(f.shape[-1])[np.maximum(targets, 0)]
    loss = found.config.row_loss
    paid = loss.value(f.reshape(len(f), -1, f.shape[-1]), onehot.reshape(-1, f.shape[-1]))
    yield from _means(paid.reshape(f.shape[:-1]), targets)


def _accuracy_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    f, targets = _outputs(found)
    largest = f >= f.max(axis=-1, keepdims=True)
    own = np.take_along_axis(largest, np.maximum(targets, 0)[None, ..., None], axis=-1)[..., 0]
    yield from _means(own / largest.sum(axis=-1), targets)


def _language(config: Config) -> bool:
    return isinstance(config, OwnProblem) and config.language


POSITIONS = ex.Figure[Config](
    name="positions",
    title="Loss at every position",
    caption="Cross-entropy of the next word in the limit, mean over inputs, for each position.",
    columns=("updates", "position", "loss"),
    rows=_loss_rows,
    x="updates",
    by="position",
    layers=(figures.line("loss", label="position {}", joined=True),),
    ylabel="loss",
    when=_language,
)
ACCURACY = ex.Figure[Config](
    name="accuracy",
    title="Accuracy at every position",
    caption="How often the largest output of the limit is the next word, for each position; where "
    "k outputs are the largest, 1 / k.",
    columns=("updates", "position", "accuracy"),
    rows=_accuracy_rows,
    x="updates",
    by="position",
    layers=(figures.line("accuracy", label="position {}", joined=True),),
    ylabel="accuracy",
    when=_language,
)
