"""Small language models as problems of training: their limits, and networks of growing size.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import translimit.experiments as ex
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    solve_limit,
    train_networks,
)
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Doubled,
    Four,
    OneOf,
    Positive,
    Two,
    Within,
)

#: The language models, with what figures call them.
MODELS = {
    "markov": "Markov chain of bytes",
    "markov-qk": "Markov chain, normalised keys and queries",
    "recall": "a block of words said twice",
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Language models and their networks.

    Attributes:
        models: "markov", "markov-qk", "recall".
        sentences: of the Markov chain.
        tokens: of a sentence of the chain.
        bytes: of the chain.
        blocks: sentences of "recall".
        block: words of a block, which a sentence says twice.
        words: to choose from.
        head_dim: N.
        steps: evaluations, one more than updates.
        eta0: learning rate of the chain.
        recall_eta0: learning rate of "recall".
        samples: sampled heads of a population of the limit.
        neurons: sampled neurons of a population.
        populations: of the limit.
        sizes: H of networks, each twice the one before.
        seeds: networks of each size.
        recall_seeds: those of "recall".
        at_once: networks that memory holds at a time.
        tol: the largest gap of outputs that is agreement.
    """

    models: Annotated[tuple[str, ...], OneOf(tuple(MODELS)), Distinct()] = tuple(MODELS)
    sentences: Count = 4
    tokens: Two = 6
    bytes: Two = 4
    blocks: Count = 8
    block: Two = 4
    words: Two = 8
    head_dim: Annotated[int, Within(2)] = 4
    steps: Two = 8
    eta0: Positive = 0.7
    recall_eta0: Positive = 1.0
    samples: Count = 2000
    neurons: Count = 4200
    populations: Two = 4
    sizes: Doubled = (8, 16, 32, 64)
    seeds: Four = 2000
    recall_seeds: Four = 800
    at_once: Count = 400
    tol: Positive = 0.02

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        for model in self.models:
            self.problem(model)

    def problem(self, model: str) -> OwnProblem:
        """The training problem of a language model."""
        common = OwnProblem(
            task="markov",
            inputs=self.sentences,
            tokens=self.tokens,
            vocabulary=self.bytes,
            head_dim=self.head_dim,
            mlp="tanh",
            norm="rms",
            final_norm=True,
            causal=True,
            beta0=1.5,
            gamma0=1.0,
            eta0=self.eta0,
            steps=self.steps,
            samples=self.samples,
            neurons=self.neurons,
            populations=self.populations,
            sizes=self.sizes,
            seeds=self.seeds,
            at_once=self.at_once,
            tol=self.tol,
        )
        if model == "markov":
            return common
        modern = replace(common, qk_norm="rms", score_gain=2.0)
        if model == "markov-qk":
            return modern
        return replace(
            modern,
            task="recall",
            inputs=self.blocks,
            tokens=2 * self.block,
            vocabulary=self.words,
            beta0=2.0,
            eta0=self.recall_eta0,
            seeds=self.recall_seeds,
        )


@dataclass(frozen=True)
class Model:
    """A language model.

    Attributes:
        model: its name.
    """

    model: str


@dataclass(frozen=True)
class Ensemble:
    """Networks of one size.

    Attributes:
        model: the language model.
        heads: H.
    """

    model: str
    heads: int


def compute_limit(config: Config, at: Model, keys: ex.Keys) -> Limit:
    """The limit."""
    return solve_limit(config.problem(at.model), keys.shared(at.model))


def computedivided(config: Config, at: Model, keys: ex.Keys) -> Limit:
    """The limit where errors of tokens are divided by their number, with the same random numbers.

    Errors enter everything with the learning rate, which is divided in their place.
    """
    problem = config.problem(at.model)
    return solve_limit(replace(problem, eta0=problem.eta0 / problem.tokens), keys.shared(at.model))


def compute_networks(config: Config, at: Ensemble, keys: ex.Keys) -> Networks:
    """Networks of one size."""
    problem = config.problem(at.model)
    return train_networks(
        problem, keys.own, heads=at.heads, seeds=problem.seeds, at_once=config.at_once
    )


def _networks_cost(config: Config, at: Ensemble) -> ex.Cost:
    problem = config.problem(at.model)
    return problem.networks_cost(at.heads, problem.seeds, at_once=config.at_once)


def models(config: Config) -> Sequence[Model]:
    """The language models."""
    return [Model(name) for name in config.models]


def divided(config: Config) -> Sequence[Model]:
    """Where the limit with divided errors is solved: the cheapest model tells both apart."""
    return models(config)[:1]


LIMIT = ex.Part(
    "limit/{model}",
    Limit,
    compute_limit,
    grid=models,
    cost=lambda c, at: c.problem(at.model).limit_cost(),
)
DIVIDED = ex.Part(
    "limit-divided/{model}",
    Limit,
    computedivided,
    grid=divided,
    cost=lambda c, at: c.problem(at.model).limit_cost(),
)
NETWORKS = ex.Part(
    "{model}/H={heads}",
    Networks,
    compute_networks,
    grid=lambda c: [Ensemble(model, heads) for model in c.models for heads in c.sizes],
    cost=_networks_cost,
)
