"""Increments of overlaps over single layers of explicit weights, their limit, and what it is not.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, describe, limits
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import Key

#: The configuration of the single layers, their dimension, step and score deviation.
START = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
ONE_DIM, ONE_STEP, ONE_STD = 5, 0.05, 2.0
PAIRS = ((0, 1), (0, 2), (1, 2))
#: Pairs of these pairs.
PRODUCTS = tuple((a, b) for a in range(3) for b in range(a, 3))
NAMES = [f"R{a + 1}{b + 1}" for a, b in PAIRS]
#: Other theories of the drift and of the covariations, by name.
WRONG = {
    "drift": (
        "as for $d \\to \\infty$",
        "without the Ito correction",
        "without $R_{ij}^2 s_{ij} / d$",
        "attention removed",
    ),
    "covariation": (
        "every token its own noise",
        "$s_{ij} = R_{ij}$",
        "updates not projected",
        "attention removed",
    ),
}
MOMENTS = tuple(WRONG)


@dataclass(frozen=True)
class OneStep(ex.Arrays):
    """Increments over single layers, per unit of diffusive time, and the kernel of the limit."""

    drift: Float[np.ndarray, " overlap"]
    drift_stderr: Float[np.ndarray, " overlap"]
    covariation: Float[np.ndarray, " pair"]
    covariation_stderr: Float[np.ndarray, " pair"]
    kernel: Float[np.ndarray, "token token2"]
    kernel_stderr: float
    step: float
    layers: int

    def theory(self, name: str, wrong: str = "") -> Float[np.ndarray, " moment"]:
        """The drift or the covariations of the limit, or of another theory."""
        s, R, d = self.kernel, START, ONE_DIM
        if wrong == "attention removed":
            s = np.full_like(s, START.mean())
        overlaps = limits.homogenized.overlaps
        if name == "drift":
            own = 0.5 * R * (np.diagonal(s)[:, None] + np.diagonal(s))
            drift = {
                "as for $d \\to \\infty$": s - own,
                "without the Ito correction": (d - 2 + R**2) * s / d,
                "without $R_{ij}^2 s_{ij} / d$": ((d - 2) * s - (d - 1) * own) / d,
            }.get(wrong, np.asarray(overlaps.overlap_drift(R, s, d)))
            return drift[*np.array(PAIRS).T]
        s = np.diag(np.diagonal(s)) if wrong == "every token its own noise" else s
        s = START if wrong == "$s_{ij} = R_{ij}$" else s
        if wrong == "updates not projected":
            return np.array([_unprojected(s, PAIRS[a], PAIRS[b]) for a, b in PRODUCTS])
        found = [overlaps.overlap_covariation(R, s, d, PAIRS[a], PAIRS[b]) for a, b in PRODUCTS]
        return np.array(found, dtype=float)

    def measured(self, name: str) -> tuple[list[str], tuple[Float[np.ndarray, " moment"], ...]]:
        """Labels; and mean and standard error of the drift or of the covariations."""
        if name == "drift":
            return NAMES, (self.drift, self.drift_stderr)
        labels = [f"{NAMES[a]}, {NAMES[b]}" for a, b in PRODUCTS]
        return labels, (self.covariation, self.covariation_stderr)

    def deviation(self, name: str, wrong: str = "") -> Estimate:
        """The largest deviation over the largest moment, with its standard error and the step's."""
        _, (mean, stderr) = self.measured(name)
        gap, scale = np.abs(mean - self.theory(name, wrong)), np.abs(self.theory(name)).max()
        worst = int(np.argmax(gap))
        error = float(np.hypot(stderr[worst], self.kernel_stderr)) / float(scale)
        return Estimate(float(gap[worst] / scale), error, self.layers, 0.5 * self.step)

    def rows(self) -> Iterator[tuple[str | float, ...]]:
        """Which moment, label, theory, mean and standard error of all of them."""
        for name in MOMENTS:
            labels, measured = self.measured(name)
            columns = self.theory(name), *measured
            for label, *row in zip(labels, *(one.tolist() for one in columns), strict=True):
                yield (name, label, *row)


def _unprojected(
    s: Float[np.ndarray, "3 3"], first: tuple[int, int], second: tuple[int, int]
) -> float:
    """The covariation with updates that leave the sphere: the sum of s_pq R_p'q' over d."""
    pairs = [(p, q) for p in (first, first[::-1]) for q in (second, second[::-1])]
    return float(sum(s[p[0], q[0]] * START[p[1], q[1]] for p, q in pairs)) / ONE_DIM


def one_step(layers: int, key: Key) -> OneStep:
    """Single layers of explicit weights, each also with the opposite values: no noise of order one.

    Args:
        layers: how many, a multiple of 1000.
        key: of the weights.
    """
    import jax
    import jax.numpy as jnp

    law = describe.GaussianHeads.of_score_std(ONE_STD, dim=ONE_DIM)
    place = np.linalg.cholesky(START) @ np.eye(3, ONE_DIM)
    time = ONE_STEP**2

    def increments(number: Array) -> Array:
        V, A = law.sample(jax.random.fold_in(key, number), jnp.float64)
        tokens = jnp.asarray(place)
        update = ONE_STEP * attention.head_output(V, A, law.beta, tokens, causal=False)
        moved = jnp.stack([tokens + update, tokens - update])
        moved = moved / jnp.linalg.norm(moved, axis=-1, keepdims=True)
        return (moved @ moved.swapaxes(-1, -2) - START)[:, *np.array(PAIRS).T]

    with jax.enable_x64(True):
        every = jax.jit(lambda n: jax.lax.map(increments, n, batch_size=1000))
        found = np.asarray(every(jnp.arange(layers)))
    kernel = limits.homogenized.overlaps.attention_overlap(
        law, START, samples=4 * layers, key=core.named_key(key, "kernel")
    )
    drift, drift_stderr = common.mean_and_stderr(found.mean(axis=1) / time)
    products = np.stack([(found[..., a] * found[..., b]).mean(1) / time for a, b in PRODUCTS], 1)
    covariation, covariation_stderr = common.mean_and_stderr(products)
    return OneStep(
        drift=drift,
        drift_stderr=drift_stderr,
        covariation=covariation,
        covariation_stderr=covariation_stderr,
        kernel=np.asarray(kernel.value, np.float64),
        kernel_stderr=float(np.max(kernel.stderr)),
        step=time,
        layers=layers,
    )
