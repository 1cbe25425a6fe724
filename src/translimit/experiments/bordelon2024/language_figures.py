"""Figures of a language model in the limit: loss and accuracy at every position."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import figures
from translimit.experiments.bordelon2024.growing_networks import Config, limit
from translimit.experiments.bordelon2024.own_problem import OwnProblem


def losses(
    problem: OwnProblem, predictions: Float[np.ndarray, "steps inputs outputs"]
) -> Float[np.ndarray, "steps tokens"]:
    """Mean loss over the inputs with a target at a position; NaN where none has one."""
    targets = problem.data()[1]
    f = predictions.reshape(len(predictions), targets.size, -1)
    onehot = np.eye(f.shape[-1])[np.maximum(targets.reshape(-1), 0)]
    return _means(problem.row_loss.value(f, onehot), targets)


def accuracies(
    problem: OwnProblem, predictions: Float[np.ndarray, "steps inputs outputs"]
) -> Float[np.ndarray, "steps tokens"]:
    """How often the largest output is the target; 1 / k where k are the largest."""
    targets = problem.data()[1]
    f = predictions.reshape(len(predictions), targets.size, -1)
    largest = f >= f.max(axis=-1, keepdims=True)
    own = largest[:, np.arange(targets.size), np.maximum(targets.reshape(-1), 0)]
    return _means(own / largest.sum(axis=-1), targets)


def _means(
    values: Float[np.ndarray, "steps rows"], targets: Int[np.ndarray, "inputs tokens"]
) -> Float[np.ndarray, "steps tokens"]:
    counted = targets >= 0
    known = np.where(counted, values.reshape(len(values), *targets.shape), 0.0).sum(axis=1)
    count = counted.sum(axis=0)
    return np.where(count > 0, known / np.maximum(count, 1), np.nan)


def _rows(
    found: ex.Found[Config], means: Callable[[OwnProblem, np.ndarray], np.ndarray]
) -> Iterator[figures.Row]:
    assert isinstance(found.config, OwnProblem)
    values = means(found.config, limit(found).predictions)
    for t, row in enumerate(values):
        for place in np.flatnonzero(np.isfinite(row)):
            yield (t, int(place), float(row[place]))


def _language(config: Config) -> bool:
    if not isinstance(config, OwnProblem) or not (config.language and config.classed):
        return False
    return not config.of_a_file or len(config.rows_of(*config.data())) == 2


POSITIONS = ex.Figure[Config](
    name="positions",
    title="Loss at every position",
    caption="Cross-entropy of the next word in the limit, mean over inputs, for each position.",
    columns=("updates", "position", "loss"),
    rows=lambda found: _rows(found, losses),
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
    rows=lambda found: _rows(found, accuracies),
    x="updates",
    by="position",
    layers=(figures.line("accuracy", label="position {}", joined=True),),
    ylabel="accuracy",
    when=_language,
)
