r"""One problem under Adam and under gradient descent: limits, networks, and what they need.

Networks are trained under Adam with the rates and epsilons of the limit: eta_0 n^(-1/2) for the
matrices of blocks, eta_0 for embedding and readout, and epsilon in units of their gradients, which
are beta_0 / (L gamma_0 n^(3/2)) and 1 / (gamma_0 n) times those of the limit.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, limits, scaling, train
from translimit.experiments.bordelon2024.dmft_problem import RingProblem
from translimit.experiments.checked import (
    Count,
    Doubled,
    Positive,
    Replicates,
    Within,
    require_one_each,
)

#: The two optimisers, and wrong theories of Adam's limit.
Optimizer = Literal["adam", "sgd"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adam", "sgd")
WRONG = {"without": "without responses", "faster": "a rate of 1.1 instead of 1"}
RESPONSES = ("R_v", "R_p", "R_h", "R_g")


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem, and its networks.

    Attributes:
        eta0: learning rate of Adam.
        eta0_sgd: learning rate of gradient descent.
        b1: Adam's decay of the first moment.
        b2: Adam's decay of the second moment.
        eps: Adam's epsilon in units of the gradient of the limit.
        units: particles M of the smaller passes.
        heads: H of the networks, each twice the one before.
        seeds: networks of each, under each optimiser.
    """

    beta0: Positive = 1.0
    gamma0: Positive = 1.0
    norm: Literal["none", "rms", "layer"] = "rms"
    steps: Count = 8
    eta0: Positive = 0.1
    eta0_sgd: Positive = 0.113
    b1: Annotated[float, Within(0, 1, below=True)] = 0.5
    b2: Annotated[float, Within(0, 1, below=True)] = 0.8
    eps: Positive = 0.05
    units: Count = 384
    heads: Doubled = (16, 32, 64)
    seeds: Replicates = (12_000, 12_000, 8000)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        require_one_each("seeds", self.seeds, "heads", self.heads)

    def rate(self, optimizer: Optimizer) -> float:
        """The learning rate eta_0."""
        return self.eta0 if optimizer == "adam" else self.eta0_sgd

    def training(self, name: str) -> limits.dmft.TrainingDynamics:
        """The limit of an optimiser, or a wrong one."""
        given = self.limit()
        sgd = name == "sgd"
        update = limits.dmft.SGD() if sgd else limits.dmft.Adam(self.b1, self.b2, self.eps)
        return limits.dmft.TrainingDynamics(
            architecture=given.architecture,
            inputs=given.inputs,
            targets=given.targets,
            steps=self.steps,
            eta0=self.rate("sgd" if sgd else "adam") * (1.1 if name == "faster" else 1.0),
            optimizer=update,
        )

    def numbers(
        self, shape: describe.TransformerShape, name: Optimizer
    ) -> describe.Parameterization:
        """Of networks; under Adam with an epsilon for every role, over that of the limit."""
        return scaling.limit_parameterization(
            shape.size,
            optimizer=name,
            beta0=self.beta0,
            gamma0=self.gamma0,
            eta0=self.rate(name),
            pixels=shape.patch_dim or 1,
        )


@dataclass(frozen=True)
class Solved(ex.Arrays):
    """Predictions of a limit, with their standard errors."""

    predictions: Float[np.ndarray, "step sample output"]
    stderr: Float[np.ndarray, "step sample output"]
    loss: Float[np.ndarray, " step"]


@dataclass(frozen=True)
class Runs(ex.Arrays):
    """Networks of one size under one optimiser, seed by seed."""

    predictions: Float[np.ndarray, "seed step sample output"]


@dataclass(frozen=True)
class At:
    """Networks of one size.

    Attributes:
        optimizer: "adam" or "sgd".
        heads: H.
    """

    optimizer: Optimizer
    heads: int


def compute_limit(config: Config, name: str, keys: ex.Keys) -> Solved:
    """One limit; those of Adam share their random numbers."""
    problem = config.training(name)
    if name == "sgd":
        method = limits.dmft.CausalSampling(
            heads=config.samples or None, populations=config.populations
        )
    else:
        method = limits.dmft.PopulationSampling(
            units=config.units,
            populations=config.populations,
            omit=RESPONSES if name == "without" else (),
        )
    solution = core.solve(problem, method, key=keys.shared("limit"))
    stderr = solution.stderr[..., None]
    return Solved(solution.predictions[..., None], stderr, solution.loss)


def compute_networks(config: Config, at: At, keys: ex.Keys) -> Runs:
    """Networks of one size."""
    shape = config.shape(at.heads)
    own = train.Optimizer(at.optimizer, b1=config.b1, b2=config.b2, eps=config.eps)
    run = train.Training(
        steps=config.steps - 1,
        rates=(1.0,),
        seeds=config.seeds[config.heads.index(at.heads)],
        batch=config.inputs,
        optimizer=own if at.optimizer == "adam" else train.Optimizer("sgd"),
        loss="mse",
    )
    history = train.train(
        shape,
        config.numbers(shape, at.optimizer),
        config.source(),
        run,
        key=keys.own,
        observe=(train.Predictions(),),
        observe_at=tuple(range(config.steps)),
        probe=config.inputs,
    )
    return Runs(np.moveaxis(np.asarray(history["predictions"])[:, :, 0], 0, 1))


def _limit_cost(config: Config, name: str) -> ex.Cost:
    """Passes with M and 2 M particles, four matrices of each layer."""
    if name == "sgd":
        return config.limit_cost()
    matrices, fields = 4 * config.layers, config.fields()
    entry = config.steps * matrices * (25 + 30 * fields)
    arrays = 3 * matrices + 4 + 4 * matrices * config.steps * fields / config.units
    memory = 1.3 * 8 * (2 * config.units) ** 2 * arrays
    seconds = 10 + 5 * config.populations * config.units**2 * entry / 2e9
    return ex.Cost(seconds, config.limit_bytes() + memory)


def _networks_cost(config: Config, at: At) -> ex.Cost:
    return config.networks_cost(at.heads, config.seeds[config.heads.index(at.heads)])


LIMIT = ex.Part(
    "limit/{name}",
    Solved,
    compute_limit,
    grid=lambda c: (*OPTIMIZERS, *WRONG),
    cost=_limit_cost,
)
NETWORKS = ex.Part(
    "networks/{optimizer}/H={heads}",
    Runs,
    compute_networks,
    grid=lambda c: [At(name, heads) for name in OPTIMIZERS for heads in c.heads],
    cost=_networks_cost,
)
