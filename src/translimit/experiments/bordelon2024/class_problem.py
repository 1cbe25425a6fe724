"""Classes of digits as a problem of training under cross-entropy: limits and networks.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np

import translimit.experiments as ex
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    solve_limit,
    train_networks,
)
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.bordelon2024.tasks import digit_classes
from translimit.experiments.checked import Count, Doubled, Entries, Four, Positive, Within


@dataclass(frozen=True)
class Config(OwnProblem):
    """Classes of digits, and the networks that approach the limit.

    Attributes:
        classes: the first digits.
        lazier: the small gamma_0 at which centred networks are compared with others.
        pair: their H, two sizes.
        pair_seeds: networks of each.
    """

    task: str = "digits"
    inputs: Count = 6
    loss: Literal["", "squared", "huber", "logistic", "cross_entropy"] = "cross_entropy"
    mlp: str = "tanh"
    norm: Literal["none", "rms", "layer"] = "rms"
    gamma0: Positive = 1.0
    eta0: Positive = 0.4
    steps: Count = 8
    classes: Annotated[int, Within(2, 10)] = 3
    lazier: Positive = 0.2
    pair: Annotated[Doubled, Entries(2, 2)] = (32, 64)
    pair_seeds: Four = 2000

    def require_data(self) -> None:
        """Refuse other tasks, and classes of unequal size."""
        if self.task != "digits":
            raise ConfigError("task", f"got {self.task!r}", "leave it at digits")
        if self.loss not in ("cross_entropy", "squared"):
            raise ConfigError("loss", f"got {self.loss!r}", "pass cross_entropy")
        if self.inputs % self.classes:
            raise ConfigError(
                "inputs",
                f"got {self.inputs} of {self.classes} classes",
                f"pass a multiple of {self.classes}",
            )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Digits [inputs, 4, 16] and their classes; one-hot vectors for the squared error."""
        x, labels = digit_classes(self.inputs // self.classes, self.classes)
        return x, labels if self.loss == "cross_entropy" else np.eye(self.classes)[labels]


@dataclass(frozen=True)
class Pair:
    """Networks at small gamma_0.

    Attributes:
        start: "plain", or "centred": whether outputs of the start are subtracted.
        heads: H.
    """

    start: Literal["plain", "centred"]
    heads: int


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The limit."""
    del at
    return solve_limit(config, keys.shared("limit"), heads_kept=8000)


def compute_networks(config: Config, heads: int, keys: ex.Keys) -> Networks:
    """Networks of one size."""
    return train_networks(config, keys.own, heads=heads, seeds=config.seeds, at_once=config.at_once)


def compute_squared(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The limit of the squared error of one-hot labels, with the same random numbers."""
    del at
    return solve_limit(replace(config, loss="squared"), keys.shared("limit"))


def compute_lazier(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The limit at small gamma_0."""
    del at
    return solve_limit(replace(config, gamma0=config.lazier), keys.shared("limit"))


def compute_pair(config: Config, at: Pair, keys: ex.Keys) -> Networks:
    """Networks at small gamma_0."""
    problem = replace(config, gamma0=config.lazier, centred=at.start == "centred")
    key = keys.shared(f"pair-{at.heads}")  # the same starts for both
    return train_networks(
        problem, key, heads=at.heads, seeds=config.pair_seeds, at_once=config.at_once
    )


def _limit_cost(config: Config, at: ex.Alone) -> ex.Cost:
    del at
    return config.limit_cost()


LIMIT = ex.Part("limit", Limit, compute_limit, grid=ex.alone, cost=_limit_cost)
NETWORKS = ex.Part(
    "networks/H={heads}",
    Networks,
    compute_networks,
    grid=lambda c: c.sizes,
    cost=lambda c, heads: c.networks_cost(heads, c.seeds, at_once=c.at_once),
)
SQUARED = ex.Part("limit-squared", Limit, compute_squared, grid=ex.alone, cost=_limit_cost)
LAZIER = ex.Part("limit-lazier", Limit, compute_lazier, grid=ex.alone, cost=_limit_cost)
PAIRS = ex.Part(
    "{start}/H={heads}",
    Networks,
    compute_pair,
    grid=lambda c: [Pair(start, H) for start in ("plain", "centred") for H in c.pair],
    cost=lambda c, at: c.networks_cost(at.heads, c.pair_seeds, at_once=c.at_once),
)
