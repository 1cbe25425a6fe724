r"""What `horizons/quadratic` computes: drawn runs, spectra of several exponents, sizes, a cliff.

Runs of stochastic gradient descent are drawn; all else is exact (see `modes` and `cliff`).

Reference: documentation, "Horizons"; Ghosh, Wu and Bietti, arXiv 2512.22768.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit.core import ConfigError
from translimit.experiments.checked import CheckedConfig, Count, Entries, Increasing, Positive, Two
from translimit.experiments.horizons import cliff, modes

Schedule = Literal["constant", "cosine", "linear"]
#: Exponents alpha, beta and noise c of the spectra.
SPECTRA = {
    "a": (1.5, 0.6, 2.0),
    "b": (2.0, 0.3, 0.5),
    "c": (3.0, 0.9, 0.5),
    "d": (1.5, 0.9, 0.5),
}
#: Modes that stand for a spectrum, and its last one.
_THINNED, _LAST = 160, 1e7
#: What is drawn: exponents and noise, steps, rate; what grows: exponents, noise and modes.
_DRAWN, _STEPS, _RATE = (1.5, 0.6, 0.05), 60, 0.3
_GROWN, _GROWN_MODES = (1.5, 0.8, 0.3), 100


@dataclass(frozen=True)
class Config(CheckedConfig):
    """What is computed.

    Attributes:
        drawn: runs that are drawn.
        drawn_modes: their modes.
        horizons: of the slopes.
        slow_horizons: of the slopes under a schedule that decays, which are stepped through.
        sizes: n of the networks with 1/n corrections.
        times: their updates.
        layers: of the networks on a cliff.
        cliff_steps: their updates.
    """

    drawn: Two = 16_000
    drawn_modes: Count = 400
    horizons: Annotated[tuple[Count, ...], Increasing(), Entries(2)] = (1000, 8000, 64_000)
    slow_horizons: Annotated[tuple[Count, ...], Increasing(), Entries(2)] = (1000, 8000, 64_000)
    sizes: Annotated[tuple[Positive, ...], Increasing(), Entries(2)] = (4.0, 16.0, 64.0)
    times: Annotated[tuple[Count, ...], Increasing()] = (60, 960)
    layers: Annotated[tuple[Count, ...], Increasing(), Entries(3)] = (2, 4, 8, 16, 32)
    cliff_steps: Count = 512

    def __post_init__(self) -> None:
        """Check the fields, and that there is a size of which formulas tell."""
        super().__post_init__()
        if self.sizes[-1] < 16:
            raise ConfigError("sizes", f"got {self.sizes}", "end with 16 or more")


@dataclass(frozen=True)
class Runs(ex.Arrays):
    """Losses of drawn runs, and what recursions say."""

    loss: Annotated[Float[np.ndarray, " run"], "loss at the end"]
    exact: float
    without_noise: float
    constant: float


def draw(config: Config, at: ex.Alone, keys: ex.Keys) -> Runs:
    """Stochastic gradient descent under cosine decay, drawn run by run."""
    import jax

    told = modes.power_law(*_DRAWN, config.drawn_modes)
    seed = np.asarray(jax.random.key_data(keys.own))
    rng = np.random.default_rng(seed.ravel().tolist())
    errors = np.tile(np.sqrt(told.start), (config.drawn, 1))
    shape = errors.shape
    for factor in modes.factors("cosine", _STEPS):
        noise = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(told.noise)
        errors -= _RATE * factor * (told.curvature * errors + noise)
    rate, cosine = np.array([_RATE]), modes.factors("cosine", _STEPS)
    quiet = replace(told, noise=0 * told.noise)
    return Runs(
        loss=0.5 * (errors**2) @ told.curvature,
        exact=float(told.losses(rate, cosine)[0]),
        without_noise=float(quiet.losses(rate, cosine)[0]),
        constant=float(told.losses(rate, np.ones(_STEPS))[0]),
    )


DRAWN = ex.Part(
    "drawn",
    Runs,
    draw,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(
        3.0 + 1.5e-8 * c.drawn * c.drawn_modes * _STEPS, 5e8 + 24.0 * c.drawn * c.drawn_modes
    ),
)


@dataclass(frozen=True)
class Spectrum:
    """Data of one spectrum under one schedule."""

    spectrum: str
    schedule: Schedule

    @property
    def exponents(self) -> tuple[float, float, float]:
        """Alpha, beta and the noise c."""
        return SPECTRA[self.spectrum]

    @property
    def predicted(self) -> float:
        """The slope of the best rate."""
        alpha, beta, _ = self.exponents
        return modes.slope(alpha, beta, self.schedule)


@dataclass(frozen=True)
class Optima(ex.Arrays):
    """Best rates."""

    horizon: Int[np.ndarray, " horizon"]
    optimum: Annotated[Float[np.ndarray, " horizon"], "log10 of the best rate"]


def compute_optima(config: Config, at: Spectrum, keys: ex.Keys) -> Optima:
    """Best rates of all horizons."""
    del keys
    told = modes.thinned_power_law(*at.exponents, _THINNED, _LAST)
    times = _times(config, at)
    best = [told.optimum(modes.factors(at.schedule, steps)) for steps in times]
    return Optima(np.array(times), np.array(best))


def _times(config: Config, at: Spectrum) -> tuple[int, ...]:
    return config.horizons if at.schedule == "constant" else config.slow_horizons


def spectra(config: Config) -> list[Spectrum]:
    """All spectra under both schedules."""
    constant = [Spectrum(name, "constant") for name in SPECTRA]
    return constant + [Spectrum(name, "linear") for name in SPECTRA]


OPTIMA = ex.Part(
    "optima/{spectrum}/{schedule}",
    Optima,
    compute_optima,
    grid=spectra,
    cost=lambda c, at: ex.Cost(
        2.0 + (0.0 if at.schedule == "constant" else 2.5e-4 * sum(c.slow_horizons)), 3e8
    ),
)


@dataclass(frozen=True)
class Grown:
    """A schedule and a number of updates."""

    schedule: Schedule
    steps: int


@dataclass(frozen=True)
class Sizes(ex.Arrays):
    """Drifts and regrets by size, and what the limit predicts of them."""

    size: Float[np.ndarray, " size"]
    drift: Annotated[Float[np.ndarray, " size"], "drift from the limit, decades"]
    regret: Annotated[Float[np.ndarray, " size"], "regret of the limit's rate, nats"]
    predicted_drift: float
    predicted_regret: float
    noise_drift: float
    noise_regret: float


def compute_sizes(config: Config, at: Grown, keys: ex.Keys) -> Sizes:
    """Networks with 1/n corrections of spectrum, starts and noise."""
    del keys
    limit, told = modes.power_law(*_GROWN, _GROWN_MODES), modes.factors(at.schedule, at.steps)
    predicted = modes.fast_transfer(limit, at.schedule, at.steps)
    other = modes.fast_transfer(limit, at.schedule, at.steps, noise_alone=True)
    drifts, regrets = [], []
    for n in config.sizes:
        network = limit.resized(1 / n)
        best = network.optimum(told)
        paid = network.log_loss(predicted.optimum, told) - network.log_loss(best, told)
        drifts.append(best - predicted.optimum)
        regrets.append(paid)
    return Sizes(
        size=np.array(config.sizes),
        drift=np.array(drifts),
        regret=np.array(regrets),
        predicted_drift=predicted.drift,
        predicted_regret=predicted.regret,
        noise_drift=other.drift,
        noise_regret=other.regret,
    )


def grown(config: Config) -> list[Grown]:
    """All schedules and numbers of updates."""
    schedules: tuple[Schedule, ...] = ("constant", "cosine")
    return [Grown(schedule, steps) for schedule in schedules for steps in config.times]


GROWN = ex.Part(
    "sizes/{schedule}/{steps}",
    Sizes,
    compute_sizes,
    grid=grown,
    cost=lambda c, at: ex.Cost(1.0 + 1e-3 * at.steps, 3e8),
)


@dataclass(frozen=True)
class Cliff(ex.Arrays):
    """What the limit's best rate costs networks without noise."""

    layers: Int[np.ndarray, " layers"]
    drift: Annotated[Float[np.ndarray, " layers"], "drift from the limit, decades"]
    regret: Annotated[Float[np.ndarray, " layers"], "regret of the limit's rate, nats"]


def compute_cliff(config: Config, at: ex.Alone, keys: ex.Keys) -> Cliff:
    """Best rates below the edge, and what the limit's costs."""
    del at, keys
    limit = cliff.optimum(None, config.cliff_steps)
    drifts, regrets = [], []
    for layers in config.layers:
        best = cliff.optimum(layers, config.cliff_steps)
        both = cliff.losses(layers, 10 ** np.array([limit, best]), config.cliff_steps)
        drifts.append(best - limit)
        regrets.append(math.log(both[0] / both[1]))
    return Cliff(np.array(config.layers), np.array(drifts), np.array(regrets))


CLIFF = ex.Part(
    "cliff",
    Cliff,
    compute_cliff,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(1.0 + 8e-4 * len(c.layers) * c.cliff_steps, 3e8),
)
