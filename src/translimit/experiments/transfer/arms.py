r"""Language models on bytes in four arms: the rules, the ordinary parameterization, and between.

"rules-emb" has the rate of embeddings over m_d, "sp+emb" is the ordinary parameterization with that
rate times m_d. At the base all arms are one; the readout starts at zero.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import train
from translimit.core import ConfigError
from translimit.describe import Role, TransformerShape
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    IncreasingSizes,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes
from translimit.experiments.horizons.cells import (
    LAYER_SECONDS,
    OTHER_SECONDS,
    UPDATE_SECONDS,
    Grid,
)

if TYPE_CHECKING:
    from translimit.describe import Parameterization

Arm = Literal["rules", "rules-emb", "sp", "sp+emb"]
#: Ids there are, and the loss that stands for a diverged run.
VOCABULARY, CAP = 256, 10.0
#: Arms with the rates of the rules, and those of one rate for all.
BY_RULES: tuple[Arm, ...] = ("rules", "rules-emb")
ORDINARY: tuple[Arm, ...] = ("sp", "sp+emb")
ARMS: tuple[Arm, ...] = (*BY_RULES, *ORDINARY)
#: The inputs of the network that are looked up.
EMBEDDINGS = (Role.TOKEN_EMBEDDING, Role.POSITION_EMBEDDING)


@dataclass(frozen=True)
class At:
    """Networks of one arm at one multiple of the base's head dimension."""

    arm: Arm
    multiple: int


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        base: (N, H, L), at which all arms are one.
        multiples: of the head dimension, the base first.
        mlp_ratio: hidden width over d.
        tokens: length of a window.
        batch: windows of an update.
        steps: updates, under cosine decay.
        log2_rates: first and last exponent of the grid by the rules; that of the ordinary arms is
            lower by whole points, toward 1 / m_d.
        probe: windows on which the loss is taken.
        seeds: independent starts and orders, the same in all arms.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    multiples: Annotated[IncreasingSizes, Entries(2)] = (1, 4)
    mlp_ratio: Annotated[float, Within(0, 1000, above=True)] = 2.0
    tokens: Annotated[int, Within(2, 1024)] = 32
    batch: Count = 8
    steps: Count = 300
    log2_rates: Grid = (-7, -3)
    probe: Count = 128
    seeds: Annotated[int, Within(2, 100_000)] = 8

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.multiples[0] != 1:
            raise ConfigError("multiples", f"got {self.multiples}", "start with 1, the base")
        if self.log2_rates[1] - self.log2_rates[0] < 2:
            raise ConfigError("log2_rates", f"got {self.log2_rates}", "pass 3 rates or more")

    @property
    def largest(self) -> int:
        """The largest multiple."""
        return self.multiples[-1]

    def shape(self, multiple: int) -> TransformerShape:
        """The networks at a multiple of the base's head dimension."""
        head_dim, heads, layers = self.base
        return TransformerShape(
            head_dim=head_dim * multiple,
            heads=heads,
            layers=layers,
            tokens=self.tokens,
            outputs=VOCABULARY,
            vocabulary=VOCABULARY,
            causal=True,
            pooled=False,
            mlp_ratio=self.mlp_ratio,
        )

    def rates(self, at: At) -> tuple[float, ...]:
        """The grid of an arm at a multiple."""
        first, last = self.log2_rates
        shift = -round(math.log2(at.multiple)) if at.arm in ORDINARY else 0
        return tuple(2.0 ** (power + shift) for power in range(first, last + 1))


def parameterized(config: Config, at: At) -> Parameterization:
    """The numbers of an arm: a readout of zeros, and rates for AdamW.

    Args:
        config: the base.
        at: the arm and the multiple of the base's head dimension, which is m_d.
    """
    shape = config.shape(at.multiple)
    if at.arm in BY_RULES:
        made = networks.carried(config.shape(1).size, shape, "adamw")
    else:
        made = networks.standard(shape)
    factor = {"rules-emb": 1 / at.multiple, "sp+emb": float(at.multiple)}.get(at.arm, 1.0)
    return made.times(EMBEDDINGS, lr=factor).changed(Role.READOUT, init=0.0)


@dataclass(frozen=True)
class Losses(ex.Arrays):
    """Losses on the probe at the end; diverged runs at `CAP`."""

    rate: Float[np.ndarray, " rate"]
    loss: Annotated[Float[np.ndarray, "seed rate"], "loss on the probe"]


def compute(config: Config, at: At, keys: ex.Keys) -> Losses:
    """Train the networks of one arm; starts and orders are those of all arms."""
    rates = config.rates(at)
    found = train.ladder_losses(
        [config.shape(at.multiple)],
        lambda shape: parameterized(config, at),
        networks.windows("bytes", config.tokens),
        train.Training(
            steps=config.steps,
            rates=rates,
            seeds=config.seeds,
            batch=config.batch,
            optimizer=networks.optimizer("adamw"),
            schedule=train.Schedule(decay="cosine"),
        ),
        (config.steps,),
        key=keys.shared("starts"),
        probe=config.probe,
    )[0, :, :, 0]
    return Losses(np.array(rates), np.where(found < CAP, found, CAP))  # NaN is not below


def all_arms(config: Config) -> list[At]:
    """All arms beyond the base, and the base once."""
    larger = [At(arm, multiple) for multiple in config.multiples[1:] for arm in ARMS]
    return [At("rules", 1), *larger]


def _cost(config: Config, at: At) -> ex.Cost:
    head_dim, heads, layers = config.base
    members = config.seeds * len(config.rates(at))
    width = at.multiple * head_dim * heads / 16
    examples = config.batch * config.tokens / 128
    each = UPDATE_SECONDS * examples * (0.4 + 0.6 * width**1.5)
    memory = ensemble_bytes(
        (head_dim * at.multiple, heads, layers),
        members=members,
        batch=config.batch,
        tokens=config.tokens,
        outputs=VOCABULARY,
        vocabulary=VOCABULARY,
        mlp_ratio=config.mlp_ratio,
    )
    seconds = OTHER_SECONDS + LAYER_SECONDS * layers + members * config.steps * layers * each
    return ex.Cost(seconds, memory)


NETWORKS = ex.Part("{arm}-x{multiple}", Losses, compute, grid=all_arms, cost=_cost)
