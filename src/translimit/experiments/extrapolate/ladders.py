"""What the experiments on extrapolation share: encoders of digits of many shapes, trained alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import describe, train
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.checked import Count, Increasing, Within
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from translimit.core import Key

#: Tokens and entries of a patch of a digit.
TOKENS, PIXELS = 8, 8
#: Operations of one core in a second, and seconds of compiling one layer and of all else.
SPEED, LAYER_SECONDS, OTHER_SECONDS = 3e9, 1.0, 10.0
#: Base-two logarithms of learning rates.
Log2Rate = Annotated[float, Within(-40, 10)]
Log2Rates = Annotated[tuple[Log2Rate, ...], Increasing()]


@dataclass(frozen=True)
class Ladder(networks.Networks):
    """Encoders of digits at a constant rate, carried by the rules from one base.

    Attributes:
        times: updates after which the loss on the probe is taken, increasing.
        probe: digits on which it is taken.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    batch: Count = 16
    seeds: Annotated[int, Within(3, 100_000)] = 6
    times: Annotated[tuple[Count, ...], Increasing()] = (4, 8, 16, 24, 32, 48, 64)
    probe: Annotated[int, Within(1, 1797)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what the experiments need."""
        super().__post_init__()
        if self.images != "digits":
            raise ConfigError("images", f"got {self.images!r}", "these ladders learn digits")
        if len(self.times) < 2:
            raise ConfigError("times", f"got {self.times}", "pass two or more")


@dataclass(frozen=True)
class Losses(ex.Arrays):
    """Losses on the probe; NaN once a run has diverged."""

    loss: Annotated[Float[np.ndarray, "seed rate time"], "loss on the probe"]


def losses(
    config: Ladder,
    size: tuple[int, int, int],
    log2_rates: Sequence[float],
    seeds: int,
    key: Key,
) -> Losses:
    """Train networks of one shape.

    Args:
        config: what all have in common.
        size: head dimension, heads, layers.
        log2_rates: of the base.
        seeds: how many networks.
        key: of starts and orders; the same for runs that are paired.
    """
    base = networks.base_shape(config)
    N, H, L = size
    shape = describe.TransformerShape(
        head_dim=N,
        heads=H,
        layers=L,
        tokens=base.tokens,
        outputs=base.outputs,
        patch_dim=base.patch_dim,
        mlp_ratio=config.mlp_ratio,
    )
    found = train.ladder_losses(
        [shape],
        lambda one: networks.ruled(config, one, "adamw"),
        networks.images(config.images),
        train.Training(
            steps=config.times[-1],
            rates=tuple(2.0**power for power in log2_rates),
            seeds=seeds,
            batch=config.batch,
            optimizer=networks.optimizer("adamw"),
        ),
        config.times,
        key=key,
        probe=config.probe,
    )
    return Losses(found[0])


def cost(config: Ladder, size: tuple[int, int, int], members: int) -> ex.Cost:
    """Roughly what the networks of one shape need.

    Args:
        config: what all have in common.
        size: head dimension, heads, layers.
        members: seeds times rates.
    """
    N, H, L = size
    weights = (4 + 2 * config.mlp_ratio) * float(N * H) ** 2 * L
    work = 6 * weights * TOKENS * config.batch
    seconds = OTHER_SECONDS + LAYER_SECONDS * L
    seconds += members * config.times[-1] * (work / SPEED + 1e-4 * L)
    memory = ensemble_bytes(
        size,
        members=members,
        batch=config.batch,
        tokens=TOKENS,
        outputs=10,
        features=PIXELS,
        mlp_ratio=config.mlp_ratio,
    )
    return ex.Cost(seconds, memory)


def share(values: Sequence[float]) -> Estimate:
    """The mean over curves of a part of their points, with its standard error.

    Where all curves are alike, one of them that is not is what the error stands for.

    Args:
        values: curve by curve.
    """
    mean = Estimate.over_seeds(values)
    return mean if mean.stderr > 0 else Estimate(mean.value, 1 / len(values), len(values))


def resamples(count: int, draws: int = 500) -> Iterator[np.ndarray]:
    """Places of resampled seeds or curves, for a bootstrap.

    Args:
        count: how many there are.
        draws: resamples.
    """
    rng = np.random.default_rng(0)
    return (rng.integers(count, size=count) for _ in range(draws))
