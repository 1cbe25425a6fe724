r"""Clouds and their tangent flows: how fast nearby clouds drift apart, predicted and measured.

For small noise epsilon delta W_2(t) / W_2(0) of a cloud and the same with the noise tends to the
growth of the tangent flow (`limits.meanfield.tangent_flow`). The correction is odd in delta to
first order: the mean over delta and -delta has one of epsilon^2. Distances are exact assignments.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, limits, observe
from translimit.core import Estimate

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.attention import AbstractAttention
    from translimit.core import AnyArray, Key

C = TypeVar("C")
P = TypeVar("P")

#: Sizes of the noise, the last of which is compared; depths that are kept; Runge-Kutta steps.
EPSILONS = (0.04, 0.02, 0.01, 0.005)
TIMES = np.linspace(0.0, 2.0, 6)
STEPS = 20


@dataclass(frozen=True)
class Growth(ex.Arrays):
    """Distances of pairs of clouds, relative to those at the start, and of the tangent flow."""

    epsilon: Annotated[Float[np.ndarray, " epsilon"], "size of the noise"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    ratio: Annotated[Float[np.ndarray, "epsilon cloud time"], "W2(t) / W2(0), mean of both signs"]
    tangent: Annotated[Float[np.ndarray, " cloud"], "growth of the tangent flow"]


def measure_growth(
    attention: AbstractAttention,
    key: Key,
    shape: tuple[int, int],
    positions: Float[np.ndarray, " tokens"] | None = None,
) -> Growth:
    """Clouds uniform on [-1, 1]^2 beside the same with Gaussian noise of both signs, in float64.

    Args:
        attention: of the tokens.
        key: of clouds and noise.
        shape: how many clouds, and tokens of each.
        positions: of a causal attention; distances are then conditional.
    """
    import jax

    with jax.enable_x64(True):
        cloud, other = (core.named_key(key, name) for name in ("cloud", "noise"))
        start = np.asarray(jax.random.uniform(cloud, (*shape, 2), minval=-1.0, dtype=np.float64))
        noise = np.asarray(jax.random.normal(other, (*shape, 2), dtype=np.float64))
        flow = _paths(attention, positions)
        sizes = [sign * epsilon for epsilon in EPSILONS for sign in (1.0, -1.0)]
        base, *others = (np.asarray(flow(start + size * noise)) for size in (0.0, *sizes))
        settings = {"t1": float(TIMES[-1]), "steps": STEPS, "positions": positions}

        def along(pair: tuple[Array, Array]) -> AnyArray:
            return limits.meanfield.tangent_flow(attention, *pair, **settings)[1]

        carried = jax.jit(lambda x, e: jax.lax.map(along, (x, e)))
        moved = np.asarray(carried(start, noise))
    ratio = np.array(
        [
            [
                observe.stability_ratio(one, two, positions=positions)
                for one, two in zip(base, moved, strict=True)
            ]
            for moved in others
        ]
    ).reshape(len(EPSILONS), 2, *base.shape[:2])
    tangent = np.linalg.norm(moved, axis=(1, 2)) / np.linalg.norm(noise, axis=(1, 2))
    return Growth(np.array(EPSILONS), TIMES, ratio.mean(axis=1), tangent)


def _paths(
    attention: AbstractAttention, positions: Float[np.ndarray, " tokens"] | None
) -> Callable[[np.ndarray], Array]:
    """Compiled: clouds [clouds, n, 2] to their paths [clouds, times, n, 2]."""
    import jax

    def flow(cloud: Array) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(
            attention=attention, initial=cloud, t1=TIMES[-1], positions=positions
        )
        return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=TIMES).tokens

    return jax.jit(lambda clouds: jax.lax.map(flow, clouds))


def growth_claims(
    name: str,
    distance: str,
    part: ex.Part[C, P, Growth],
    rivals: Callable[[ex.Found[C], P], Growth],
    rival: str,
    decided_by: str = "demo",
) -> tuple[ex.Claims[C, P], ex.Claims[C, P]]:
    """What is claimed of pairs of clouds: the number, and that it is free of their distance.

    Args:
        name: template of the first claim's name; the second's is `name`-power.
        distance: in words, as in "$W_2$".
        part: whose points the claims are about.
        rivals: the same clouds under another attention, whose growth is a rival.
        rival: what that is.
        decided_by: the smallest preset whose samples are meant to decide the number.
    """

    def ratio(found: ex.Found[C], at: P) -> np.ndarray:
        return found(part, at).ratio[-1, :, -1]

    def measured(found: ex.Found[C], at: P, tangent: np.ndarray) -> Estimate:
        samples = ratio(found, at)
        stderr = Estimate.from_samples(samples - tangent).stderr
        return Estimate(float(samples.mean()), stderr, len(samples))

    def power(found: ex.Found[C], at: P) -> Estimate:
        growth = found(part, at)
        return core.fit_rate(growth.epsilon, growth.ratio[..., -1], paired=True).estimate()

    number = ex.Claims[C, P](
        name,
        lambda found, at: (
            f"{part.cell_name(at).rpartition('/')[2]}: {distance} between two clouds at distance "
            f"{EPSILONS[-1]:g} grows by the factor of the tangent flow (depth {TIMES[-1]:g})."
        ),
        estimate=lambda found, at: measured(found, at, found(part, at).tangent),
        prediction=lambda found, at: float(found(part, at).tangent.mean()),
        tol=0.003,
        over=lambda c: part.points(c),
        rivals=(
            ex.Rival("no growth", 1.0, lambda found, at: Estimate.from_samples(ratio(found, at))),
            ex.Rival(
                rival,
                lambda found, at: float(rivals(found, at).tangent.mean()),
                lambda found, at: measured(found, at, rivals(found, at).tangent),
            ),
        ),
        decided_by=decided_by,
    )
    bounded = ex.Claims[C, P](
        f"{name}-power",
        lambda found, at: (
            f"{part.cell_name(at).rpartition('/')[2]}: the growth of {distance} between two clouds "
            "goes with the power 0 of their distance."
        ),
        estimate=power,
        prediction=0.0,
        tol=0.02,
        over=lambda c: part.points(c),
        rivals=(
            ex.Rival("Hölder, of exponent 1/2", -0.5),
            ex.Rival("Hölder, of exponent 9/10", -0.1),
        ),
    )
    return number, bounded
