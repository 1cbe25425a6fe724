r"""Unseen digits of three classes: the limit and networks that learn the others.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, data, limits, train
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.bordelon2024.rate_curves import trained
from translimit.experiments.checked import Doubled, Four, MultipleOf, Within

CLASSES = 3
#: Networks whose outputs are averaged.
AVERAGED = 4


@dataclass(frozen=True)
class Config(OwnProblem):
    """The problem on `inputs` digits of three classes, and what is looked at.

    Attributes:
        unseen: digits that are not trained, a third of each class.
        heads_swept: H of networks, each twice the one before.
        networks: of the smallest size; half as many of each next one.
    """

    task: Literal["digits"] = "digits"
    inputs: Annotated[int, Within(3, 300), MultipleOf(3)] = 3
    loss: Literal["cross_entropy"] = "cross_entropy"
    unseen: Annotated[int, Within(3, 300), MultipleOf(3)] = 6
    heads_swept: Doubled = (32, 64)
    networks: Four = 1600

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.weights:
            raise ConfigError(
                "weights", "are given, and unseen digits have weight 0", "leave them out"
            )
        self.require_samples(unseen=self.unseen)

    def require_data(self) -> None:
        """There are digits enough of every class."""

    def digits(self, count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Digits [count, 4, 16] of the three classes from the `first` of each on, and classes."""
        source = data.digit_patches((4, 4))
        labels = np.asarray(source.targets)
        each = count // CLASSES
        chosen = [np.flatnonzero(labels == c)[first : first + each] for c in range(CLASSES)]
        x, y = source.take(np.concatenate(chosen))
        return x, y.astype(np.int64)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Digits that are trained."""
        return self.digits(self.inputs)

    def all_digits(self) -> tuple[np.ndarray, np.ndarray]:
        """Those, and the unseen ones."""
        seen, unseen = self.data(), self.digits(self.unseen, self.inputs // CLASSES)
        return np.concatenate([seen[0], unseen[0]]), np.concatenate([seen[1], unseen[1]])

    def what_is_learned(self) -> dict[str, Any]:
        """All digits; the unseen ones have no weight."""
        x, y = self.all_digits()
        weights = np.where(np.arange(len(y)) < self.inputs, 1 / self.inputs, 0.0)
        return {**super().what_is_learned(), "inputs": x, "targets": y, "weights": weights}

    def counts(self) -> list[tuple[int, int]]:
        """Heads and networks of every size."""
        return [(H, max(4, self.networks >> place)) for place, H in enumerate(self.heads_swept)]


@dataclass(frozen=True)
class Size:
    """Networks of one size.

    Attributes:
        heads: H.
        seeds: how many.
    """

    heads: int
    seeds: int


@dataclass(frozen=True)
class Solved(ex.Arrays):
    """The limit, unseen digits last."""

    predictions: Float[np.ndarray, "step sample output"]
    loss: Float[np.ndarray, " step"]
    test_loss: Float[np.ndarray, " step"]
    test_loss_stderr: Float[np.ndarray, " step"]
    test_accuracy: Float[np.ndarray, " step"]
    start: Annotated[Float[np.ndarray, "sample output"], "H times the variance at the start"]


@dataclass(frozen=True)
class Nets(ex.Arrays):
    """Outputs of networks of one size."""

    predictions: Float[np.ndarray, "seed step sample output"]


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Solved:
    """The limit on all digits."""
    del at
    problem = config.limit()
    solution = core.solve(problem, config.method(problem), key=keys.own)
    start = limits.dmft.output_covariance(problem, solution)[0]
    return Solved(
        predictions=solution.predictions,
        loss=solution.loss,
        test_loss=solution.test_loss,
        test_loss_stderr=solution.test_loss_stderr,
        test_accuracy=solution.test_accuracy,
        start=np.einsum("roro->ro", start),
    )


def compute_networks(config: Config, at: Size, keys: ex.Keys) -> Nets:
    """Networks that are trained on some digits and asked for all."""
    x, y = config.all_digits()
    source, observed = data.Observed(config.source(), data.FullBatch(x, y)), (train.Predictions(),)
    blocks = []
    for first in range(0, at.seeds, config.at_once):
        own, count = core.named_key(keys.own, first), min(config.at_once, at.seeds - first)
        history = trained(config, own, at.heads, count, observed, source, probe=len(y))
        blocks.append(np.moveaxis(np.asarray(history["predictions"])[:, :, 0], 0, 1))
    return Nets(np.concatenate(blocks))


def _limit_cost(config: Config, at: ex.Alone) -> ex.Cost:
    del at
    share = 1 + config.unseen / config.inputs
    cost = config.limit_cost()
    return ex.Cost(cost.seconds * share**2, cost.memory_bytes * share)


LIMIT = ex.Part("limit", Solved, compute_limit, grid=ex.alone, cost=_limit_cost)
NETWORKS = ex.Part(
    "networks/H={heads}",
    Nets,
    compute_networks,
    grid=lambda c: [Size(*one) for one in c.counts()],
    cost=lambda c, at: c.networks_cost(at.heads, at.seeds, at_once=c.at_once),
)
