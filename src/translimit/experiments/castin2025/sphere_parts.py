r"""Cells of tokens on the circle and the sphere.

- `circle/beta=...`: independent uniform tokens on the circle under SA and under USA (its time
  in units of I_0(beta), so that both linearise alike); the same starts at every beta.
- `sphere/beta=...`: the same in three dimensions, where the mean kernel is sinh(beta) / beta.
- `growth`: growth rates of small perturbations of the uniform law, measured on the flow, beside
  the Bessel formulas.

Reference: Geshkovski, Koubbi, Polyanskiy and Rigollet, arXiv 2410.06833; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, limits, observe
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Four, Positives, Within

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import AnyArray, Key, Number

MODELS = ("SA", "USA")
DIMS = {"circle": 2, "sphere": 3}

#: Time at which clusters are counted, and how often states are kept.
COUNT_TIME = 12.0
SAVE_EVERY = 0.5
#: Relative tolerance of the clouds, and of the few that measure their step error.
RTOL, FINE_RTOL = 1e-5, 1e-8
#: Clouds that are solved twice.
CHECKED = 3

#: The growth rates: tokens of the lattice, size of the perturbation, growth exponent, steps.
LATTICE, SIZE, EXPONENT, STEPS = 256, 1e-6, 0.1, 12

#: Tokens, and step, at which rates of the energy are measured.
RATE_TOKENS, RATE_STEP = 60, 1e-5

#: One pair of tokens in one solve to t1 = 1, on one core.
SECONDS_PER_PAIR = 6e-8


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        betas: inverse temperatures.
        tokens: tokens of a cloud, on the circle and on the sphere.
        clouds: independent clouds for every beta, at least 4.
        t1: final depth, at least the time 12 of the count.
        dims: 2 for the circle, which the claims need, 3 for the sphere.
    """

    betas: Positives = (9.0, 25.0, 81.0)
    tokens: Count = 300
    clouds: Four = 20
    t1: Annotated[float, Within(COUNT_TIME, 1e6)] = 24.0
    dims: Annotated[tuple[int, ...], Distinct()] = (2, 3)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if 2 not in self.dims or not set(self.dims) <= set(DIMS.values()):
            raise core.ConfigError("dims", f"got {self.dims}", "pass 2, or 2 and 3")

    @property
    def spaces(self) -> tuple[str, ...]:
        """The circle, the sphere."""
        return tuple(next(name for name in DIMS if DIMS[name] == dim) for dim in self.dims)

    @property
    def times(self) -> Float[np.ndarray, " time"]:
        """Depths that are kept."""
        return np.arange(0.0, self.t1 + SAVE_EVERY / 2, SAVE_EVERY)


@dataclass(frozen=True)
class Clouds(ex.Arrays):
    """Clouds along depth, under both models; the tokens are those of the first cloud."""

    model: Shaped[np.ndarray, " model"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    count: Annotated[Int[np.ndarray, "model cloud time"], "clusters"]
    energy: Annotated[Float[np.ndarray, "model cloud time"], "energy times e^-beta"]
    tokens: Float[np.ndarray, "model time token component"]
    drift: Annotated[Float[np.ndarray, "model cloud"], "drift of the norm"]
    count_change: Annotated[float, "count, at a finer step"]
    delta: Annotated[float, "angle below which tokens are neighbours"]

    def at(self, time: float) -> int:
        """The place of the kept depth that is nearest."""
        return int(np.argmin(np.abs(self.time - time)))


@dataclass(frozen=True)
class Growth(ex.Arrays):
    """Growth rates; NaN beyond twice the fastest mode."""

    model: Shaped[np.ndarray, " model"]
    beta: Float[np.ndarray, " beta"]
    mode: Int[np.ndarray, " mode"]
    predicted: Annotated[Float[np.ndarray, "model beta mode"], "growth rate, Bessel formula"]
    measured: Annotated[Float[np.ndarray, "model beta mode"], "growth rate of the flow"]
    discretisation: Annotated[
        Float[np.ndarray, "model beta mode"], "relative change at size times 4"
    ]


@dataclass(frozen=True)
class Rates(ex.Arrays):
    """The rate of the energy of uneven clouds: measured, and as theories have it."""

    measured: Float[np.ndarray, "model case"]
    plain: Annotated[Float[np.ndarray, "model case"], "mean of |x'|^2"]
    weighted: Annotated[Float[np.ndarray, "model case"], "mean of Z |x'|^2"]
    mean_partition: Annotated[Float[np.ndarray, "model case"], "mean of Z times that of |x'|^2"]


def compute_rates(config: Config, at: ex.Alone, keys: ex.Keys) -> Rates:
    """Central differences of the energy along the velocity, times e^-beta; USA in its units."""
    import jax

    found: list[list[list[float]]] = []
    for model in MODELS:
        found.append([])
        for dim, beta in ((dim, beta) for dim in config.dims for beta in config.betas):
            with jax.enable_x64(True):
                shape = (RATE_TOKENS, dim)
                drawn = np.asarray(jax.random.normal(keys.shared("uneven", dim), shape, np.float64))
                x = drawn + np.eye(dim)[0]
                x /= np.linalg.norm(x, axis=1, keepdims=True)
                equal = jax.numpy.full(RATE_TOKENS, -np.log(RATE_TOKENS))
                points = jax.numpy.asarray(x)
                v = np.asarray(_flow(model, points, 1.0, beta, beta).velocity(points, equal))
            ends = []
            for sign in (1, -1):
                moved = x + sign * RATE_STEP * v
                moved /= np.linalg.norm(moved, axis=1, keepdims=True)
                ends.append(float(observe.interaction_energy(moved, beta, rescaled=True)))
            partition = np.exp(beta * (x @ x.T - 1.0)).mean(axis=1)
            speed = (v**2).sum(axis=1)
            found[-1].append(
                [
                    (ends[0] - ends[1]) / (2 * RATE_STEP),
                    float(speed.mean()),
                    float((partition * speed).mean()),
                    float(partition.mean() * speed.mean()),
                ]
            )
    return Rates(*np.moveaxis(np.array(found), -1, 0))


def predicted_clusters(beta: float) -> float:
    """The predicted number of clusters on the circle."""
    return float(limits.meanfield.metastable_clusters(float(beta)))


def compute_clouds(config: Config, at: tuple[str, float], keys: ex.Keys) -> Clouds:
    """Clouds on the circle or the sphere, in float64; some run twice."""
    import jax

    (space, beta), count = at, config.clouds
    dim = DIMS[space]
    # The starts depend on the dimension alone: the same for every beta.
    starts = keys.shared("starts", dim)
    clouds = core.stack_keys([core.named_key(starts, i) for i in [*range(count), *range(CHECKED)]])
    rtols = np.array([RTOL] * count + [FINE_RTOL] * CHECKED)
    delta = observe.cluster_angle(beta)
    counts, energies, pictures, drifts = [], [], [], []
    with jax.enable_x64(True):
        for model in MODELS:
            run = _solver(dim, config.tokens, config.t1, model)
            tokens, drift = map(np.asarray, run(clouds, rtols, beta, _log_mean_kernel(beta, dim)))
            counts.append(observe.cluster_counts(tokens, delta))
            # Cloud by cloud: all kernels at once would need gigabytes.
            energies.append(
                [observe.interaction_energy(one, beta, rescaled=True) for one in tokens[:count]]
            )
            pictures.append(tokens[0])
            drifts.append(drift[:count])
    place = int(np.argmin(np.abs(config.times - COUNT_TIME)))
    change = np.mean(counts[0][:CHECKED, place] - counts[0][count:, place])
    return Clouds(
        model=np.array(MODELS),
        time=config.times,
        count=np.array([values[:count] for values in counts]),
        energy=np.array(energies),
        tokens=np.array(pictures),
        drift=np.array(drifts),
        count_change=abs(float(change)),
        delta=float(delta),
    )


def compute_growth(config: Config, at: ex.Alone, keys: ex.Keys) -> Growth:
    """Rates of perturbed lattices, in float64, up to twice the fastest mode."""
    import jax

    counts = [2 * limits.meanfield.metastable_clusters(float(beta)) for beta in config.betas]
    shape = (len(MODELS), len(config.betas), max(counts))
    predicted, measured, change = (np.full(shape, np.nan) for _ in range(3))
    for m, model in enumerate(MODELS):
        for b, (beta, modes) in enumerate(zip(map(float, config.betas), counts, strict=True)):
            if model == "SA":
                rates = limits.meanfield.growth_rates(beta, modes, normalised=True)
            else:
                rates = limits.meanfield.growth_rates(beta, modes, normalised=False, shift=beta)
            for k, rate in enumerate(rates):
                with jax.enable_x64(True):
                    one, other = (
                        _slope(model, k + 1, size, beta, EXPONENT / rate)
                        for size in (SIZE, 4.0 * SIZE)
                    )
                predicted[m, b, k], measured[m, b, k] = rate, one
                change[m, b, k] = abs(other / one - 1.0)
    axes = np.array(MODELS), np.array(config.betas, float), np.arange(1, max(counts) + 1)
    return Growth(*axes, predicted, measured, change)


def _log_mean_kernel(beta: float, dim: int) -> float:
    """Logarithm of the mean of e^{beta cos(angle)}: I_0(beta), or sinh(beta) / beta if dim = 3."""
    from scipy.special import ive

    if dim == 2:
        return float(np.log(ive(0, beta)) + beta)
    return float(beta + np.log(-np.expm1(-2.0 * beta) / (2.0 * beta)))


def _flow(
    model: str, start: Array, t1: Number, beta: Number, shift: Number
) -> limits.meanfield.SphereFlow:
    """The flow of a model; the shift is of the logarithm of USA's unit of time."""
    if model == "SA":
        return limits.meanfield.SphereFlow(initial=start, t1=t1, beta=beta)
    return limits.meanfield.SphereFlow(
        initial=start, t1=t1, beta=beta, normalised=False, shift=shift
    )


@functools.cache
def _solver(dim: int, tokens: int, t1: float, model: str) -> Callable[..., tuple[Array, Array]]:
    """Compiled: (keys, rtols, beta, shift) to tokens [clouds, times, tokens, dim] and drifts."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    ts = Config(t1=t1).times

    def flow(key: Key, rtol: Array, beta: Array, shift: Array) -> tuple[AnyArray, AnyArray]:
        start = jax.random.normal(key, (tokens, dim), dtype=jnp.float64)  # uniform direction
        problem = _flow(model, start, t1, beta, shift)
        # The tolerance is data of the compiled solve, so that a finer one costs no compilation.
        method = eqx.tree_at(
            lambda m: (m.rtol, m.atol), problem.default_method(), (rtol, rtol / 100)
        )
        solution = core.solve(problem, method, save=ts)
        return solution.tokens, solution.norm_drift[-1]

    def batched(keys: Key, rtols: Array, beta: Array, shift: Array) -> tuple[Array, Array]:
        return jax.lax.map(lambda one: flow(one[0], one[1], beta, shift), (keys, rtols))

    return jax.jit(batched)


@functools.cache
def _perturbed(model: str) -> Callable[..., Array]:
    """Compiled: (mode, size, beta, shift, t1) to the size of the mode at t1."""
    import diffrax
    import jax
    import jax.numpy as jnp

    def final(mode: Array, size: Array, beta: Array, shift: Array, t1: Array) -> Array:
        uniform = 2.0 * jnp.pi * jnp.arange(LATTICE) / LATTICE
        angles = uniform + size * jnp.cos(mode * uniform)
        points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        problem = _flow(model, points, t1, beta, shift)
        method = limits.meanfield.FixedODE(steps=STEPS, solver=diffrax.Tsit5())
        x, y = core.solve(problem, method, save=t1[None]).tokens[-1].T
        # The angle from the lattice point, which is exact for small displacements.
        moved = jnp.arctan2(
            y * jnp.cos(uniform) - x * jnp.sin(uniform), x * jnp.cos(uniform) + y * jnp.sin(uniform)
        )
        return 2.0 * jnp.mean(moved * jnp.cos(mode * uniform))

    return jax.jit(final)


def _slope(model: str, mode: int, size: float, beta: float, t1: float) -> float:
    """The rate at which a mode grows up to t1; USA has its time in units of e^beta."""
    import jax.numpy as jnp

    grown = _perturbed(model)(mode, size, beta, beta, jnp.asarray(t1))
    return float(jnp.log(grown / size)) / t1


def _cost(config: Config, at: tuple[str, float]) -> ex.Cost:
    """Compilation, and the pairs of tokens."""
    pairs = config.tokens**2 * config.clouds * config.t1
    seconds = 2.6 * (DIMS[at[0]] - 1) * SECONDS_PER_PAIR * pairs
    return ex.Cost(4.0 + seconds, 6e8 + 64.0 * config.tokens**2)


CLOUDS = ex.Part(
    "{space}/beta={beta:g}",
    Clouds,
    compute_clouds,
    grid=lambda c: [(space, beta) for space in c.spaces for beta in c.betas],
    cost=_cost,
)
GROWTH = ex.Part(
    "growth", Growth, compute_growth, grid=ex.alone, cost=lambda c, at: ex.Cost(4.0, 6e8)
)
RATES = ex.Part("rates", Rates, compute_rates, grid=ex.alone, cost=lambda c, at: ex.Cost(4.0, 6e8))
