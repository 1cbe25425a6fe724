"""Clouds of digit patches, Gaussian clouds with their moments, and the closure beside both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, data, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.wrong_closures import RIGHT, carried

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import AnyArray, Key

#: Rivals of the closure.
WRONG = ("queries and keys swapped", "values transposed", "the covariance stays")

Clouds = Float[np.ndarray, "group token component"]


@dataclass(frozen=True)
class Measured:
    """What is kept of clouds under attention of several strengths.

    Attributes:
        mean: of each cloud along depth.
        cov: of each cloud along depth.
        kurtosis: excess along the first principal axis.
        field_error: relative rms difference, over a cloud at depth 0, of its own field and that of
            the Gaussian with its moments.
        tokens: of the first cloud at first and last depth, under the last strength.
    """

    mean: Float[np.ndarray, "strength group time component"]
    cov: Float[np.ndarray, "strength group time component component2"]
    kurtosis: Float[np.ndarray, "strength group time"]
    field_error: Float[np.ndarray, "strength group"]
    tokens: Float[np.ndarray, "shown token component"]

    def named(self, kind: str) -> dict[str, np.ndarray]:
        """All of it by the names that `Draw` has for clouds of a kind."""
        return {f"{kind}_{one.name}": getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class Draw(ex.Arrays):
    """Clouds and closures under one draw of (Q, K, V); tokens of the first group, first and last.

    Of the clouds there is what `Measured` says.
    """

    strength: Annotated[Float[np.ndarray, " strength"], "attention strength"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    digits_mean: Float[np.ndarray, "strength group time component"]
    digits_cov: Float[np.ndarray, "strength group time component component2"]
    digits_kurtosis: Float[np.ndarray, "strength group time"]
    digits_field_error: Float[np.ndarray, "strength group"]
    digits_tokens: Float[np.ndarray, "shown token component"]
    surrogate_mean: Float[np.ndarray, "strength group time component"]
    surrogate_cov: Float[np.ndarray, "strength group time component component2"]
    surrogate_kurtosis: Float[np.ndarray, "strength group time"]
    surrogate_field_error: Float[np.ndarray, "strength group"]
    surrogate_tokens: Float[np.ndarray, "shown token component"]
    closure_mean: Float[np.ndarray, "strength group time component"]
    closure_cov: Float[np.ndarray, "strength group time component component2"]
    wrong_cov: Annotated[
        Float[np.ndarray, "law strength group component component2"], "of `WRONG`, at the end"
    ]

    def clouds(self, kind: str) -> Measured:
        """The clouds of a kind, `digits` or `surrogate`."""
        return Measured(
            **{one.name: getattr(self, f"{kind}_{one.name}") for one in fields(Measured)}
        )


def clouds(key: Key, groups: int, images: int, patch: int) -> tuple[Clouds, Clouds]:
    """Patches of disjoint groups of images, and Gaussian tokens with exactly their moments.

    Args:
        key: of the choice of images and of the Gaussian tokens.
        groups: how many.
        images: of a group.
        patch: side of a patch.
    """
    import jax

    pictures = data.load_digits().images
    order = np.asarray(jax.random.permutation(core.named_key(key, "images"), len(pictures)))
    chosen = pictures[order[: groups * images]]
    tokens = data.standardise(data.image_patches(chosen, patch)).reshape(groups, -1, patch**2)
    with jax.enable_x64(True):
        noise = np.asarray(
            jax.random.normal(core.named_key(key, "surrogate"), tokens.shape, dtype=np.float64)
        )
    surrogate = np.empty_like(tokens)
    for group, (real, white) in enumerate(zip(tokens, noise, strict=True)):
        mean, cov = observe.moments(real)
        own_mean, own_cov = observe.moments(white)
        # Whitened by its own moments, then given those of the patches: equal to rounding.
        recolour = _root(cov) @ np.linalg.inv(_root(own_cov))
        surrogate[group] = mean + (white - own_mean) @ recolour.T
    return tokens, surrogate


def _root(cov: np.ndarray) -> np.ndarray:
    """Symmetric square root of a covariance."""
    eigenvalues, basis = np.linalg.eigh(cov)
    return (basis * np.sqrt(np.maximum(eigenvalues, 0.0))) @ basis.T


def attentions(key: Key, tokens: Clouds, strengths: tuple[float, ...]) -> list[attention.Softmax]:
    """Q, K with N(0, 1) entries, scaled to each strength, and V of operator norm one.

    Args:
        key: of the draw.
        tokens: whose pooled covariance Sigma the strengths refer to.
        strengths: largest eigenvalues of Sigma A^T Sigma A.
    """
    import jax

    dim = tokens.shape[-1]
    cov = observe.moments(tokens.reshape(-1, dim))[1]
    with jax.enable_x64(True):
        Q, K, V = (
            np.asarray(jax.random.normal(core.named_key(key, name), (dim, dim), dtype=np.float64))
            for name in "QKV"
        )
    spread = limits.meanfield.largest_score_variance(K.T @ Q, cov)
    V = V / np.linalg.norm(V, ord=2)
    scales = [float(np.sqrt(strength / spread)) for strength in strengths]
    return [attention.Softmax(Q, K, V, scale) for scale in scales]


def measure(
    maps: list[attention.Softmax], tokens: Clouds, ts: Float[np.ndarray, " time"], steps: int
) -> Measured:
    """Clouds under attention of every strength, in float32.

    Args:
        maps: the attentions.
        tokens: the clouds at depth 0.
        ts: equally spaced times, from 0.
        steps: Runge-Kutta steps to the last.
    """
    mean, cov, kurtosis, field_error = [], [], [], []
    shown = np.zeros((2, *tokens.shape[1:]))
    flow = _flow(float(ts[-1]), steps, len(ts))
    for softmax in maps:
        parameters = (softmax.Q, softmax.K, softmax.V, softmax.score_scale)
        single = tuple(np.asarray(value, dtype=np.float32) for value in parameters)
        paths = np.asarray(flow(single, tokens.astype(np.float32)), dtype=np.float64)
        means, covs = observe.moments(paths)
        mean.append(means)
        cov.append(covs)
        kurtosis.append(observe.excess_kurtosis(paths)[..., 0])
        field_error.append([_field_error(softmax, cloud) for cloud in tokens])
        shown = paths[0, [0, -1]]
    return Measured(*map(np.array, (mean, cov, kurtosis, field_error)), tokens=shown)


@functools.cache
def _flow(t1: float, steps: int, saves: int) -> Callable[[tuple[np.ndarray, ...], Clouds], Array]:
    """Compiled: parameters and clouds to their tokens [groups, saves, n, dim]."""
    import jax

    def flow(parameters: tuple[Array, ...], cloud: Array) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(
            attention=attention.Softmax(*parameters), initial=cloud, t1=t1
        )
        method = limits.meanfield.FixedODE(steps=steps)
        return core.solve(problem, method, save=np.linspace(0.0, t1, saves)).tokens

    return jax.jit(lambda parameters, clouds: jax.lax.map(lambda c: flow(parameters, c), clouds))


def _field_error(softmax: attention.Softmax, cloud: np.ndarray) -> float:
    """Relative rms difference, over a cloud, of its own field and that of its Gaussian."""
    mean, cov = observe.moments(cloud)
    drift, matrix = (np.asarray(part) for part in softmax.gaussian_field(mean, cov))
    gaussian = drift + (cloud - mean) @ matrix.T
    single = cloud.astype(np.float32)
    own = np.asarray(softmax(single, single), dtype=np.float64)
    return float(np.sqrt(np.sum((own - gaussian) ** 2) / np.sum(own**2)))


def closures(
    maps: list[attention.Softmax], tokens: Clouds, ts: Float[np.ndarray, " time"]
) -> tuple[
    Float[np.ndarray, "strength group time component"],
    Float[np.ndarray, "strength group time component component2"],
]:
    """Mean and covariance of the closure started from the moments of each cloud.

    Args:
        maps: the attentions.
        tokens: the clouds at depth 0.
        ts: times, from 0.
    """
    mean, cov = [], []
    for softmax in maps:
        starts = [observe.moments(cloud) for cloud in tokens]
        problems = [
            limits.meanfield.GaussianFlow(attention=softmax, mean=m, cov=c, t1=float(ts[-1]))
            for m, c in starts
        ]
        solutions = [core.solve(problem, save=ts) for problem in problems]
        mean.append([np.asarray(solution.mean) for solution in solutions])
        cov.append([np.asarray(solution.cov) for solution in solutions])
    return np.array(mean), np.array(cov)


def wrong_closures(
    maps: list[attention.Softmax], tokens: Clouds, t1: float
) -> Float[np.ndarray, "law strength group component component2"]:
    """Covariances at t1 by the rivals of the closure.

    Args:
        maps: the attentions.
        tokens: the clouds at depth 0.
        t1: final depth.
    """
    start = observe.moments(tokens)
    found = []
    for softmax in maps:
        A, V = np.asarray(softmax.A), np.asarray(softmax.V)
        maps_of = {"queries and keys swapped": (A.T, V), "values transposed": (A, V.T)}
        covs = {name: carried(RIGHT, *maps_of[name], *start, t1)[1] for name in maps_of}
        found.append([covs.get(name, start[1]) for name in WRONG])
    return np.stack(found, axis=1)


def covariance_error(
    draws: Sequence[Draw], kind: str, strength: int, time: int, wrong: str = ""
) -> Estimate:
    """Relative Frobenius error of the closure's covariance, rms over draws, jackknifed groups.

    Args:
        draws: all draws.
        kind: of the clouds.
        strength: its place.
        time: its place.
        wrong: of `WRONG`, in the place of the closure at the end.
    """
    at = strength, slice(None), time
    closure = np.stack([one.closure_cov[at] for one in draws], axis=1)
    if wrong:
        law = WRONG.index(wrong)
        closure = np.stack([one.wrong_cov[law, strength] for one in draws], axis=1)
    cloud = np.stack([one.clouds(kind).cov[at] for one in draws], axis=1)
    return _relative_error(cloud - closure, closure)


def anisotropy_error(draws: Sequence[Draw], strength: int, law: str = "") -> Estimate:
    """Error of the anisotropy of digits at the end, relative to its change, likewise.

    Args:
        draws: all draws.
        strength: its place.
        law: of the anisotropy: of the closure by default, "start" or "line".
    """
    at = strength, slice(None)
    paths = [observe.anisotropy(one.digits_cov[at]) for one in draws]
    start, end = (np.stack([path[:, time] for path in paths], axis=1) for time in (0, -1))
    laws = {"start": start, "line": np.ones_like(end)}
    closure = np.stack([observe.anisotropy(one.closure_cov[(*at, -1)]) for one in draws], axis=1)
    wrong = end - laws.get(law, closure)

    def statistic(groups: np.ndarray) -> float:
        error, change = ((part[groups].mean(axis=0)) for part in (wrong, end - start))
        return float(np.sqrt(np.mean(error**2) / np.mean(change**2)))

    return core.jackknife(statistic, len(end))


def _relative_error(
    difference: Float[np.ndarray, "group draw *components"],
    reference: Float[np.ndarray, "group draw *components"],
) -> Estimate:
    def statistic(groups: np.ndarray) -> float:
        means = (part[groups].mean(axis=0) for part in (difference, reference))
        squares, sizes = (np.sum(mean**2, axis=tuple(range(1, mean.ndim))) for mean in means)
        return float(np.sqrt((squares / sizes).mean()))

    return core.jackknife(statistic, len(difference))
