r"""Two tokens without scores: expectations of their overlap after layers of the chain, exactly.

Without scores both tokens get the same update U, normal with covariance dtau (1 + R) / (2 d) I, so
that the overlap is a Markov chain in one dimension. Its expectations go backwards over the layers:
Chebyshev points in R, Gauss points in U (two coordinates in the plane of the tokens, and the square
of the rest).

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import limits

#: Points in the overlap, and in each coordinate of the update.
POINTS, NODES = 40, 18


@dataclass(frozen=True)
class Biases(ex.Arrays):
    """Exact means at unit diffusive time 1: of chains, and of the limit and two rivals of it."""

    step: Annotated[Float[np.ndarray, " step"], "diffusive step $\\Delta\\tau$"]
    square: Annotated[Float[np.ndarray, "chain step"], "$E R_{12}^2$"]
    limit: Annotated[
        Float[np.ndarray, " law"], "limit, on a clock of $d - 1$, in dimension $d + 1$"
    ]


def chain_expectation(
    observable: Callable[[np.ndarray], np.ndarray],
    *,
    dim: int,
    step: float,
    layers: int,
    tangent: bool = False,
    initial: float = 0.0,
) -> float:
    """E observable(R) after some layers.

    Args:
        observable: a smooth function of overlaps.
        dim: dimension of the tokens, at least 3.
        step: diffusive step of a layer.
        layers: how many.
        tangent: whether updates are projected to the tangent space first.
        initial: overlap at the start.
    """
    from scipy.special import roots_genlaguerre, roots_hermitenorm

    z, wz = roots_hermitenorm(NODES)
    half, wh = roots_genlaguerre(NODES, (dim - 2) / 2 - 1)
    weights = np.einsum("i,j,k->ijk", wz / wz.sum(), wz / wz.sum(), wh / wh.sum())
    R = np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)[:, None, None, None]
    size = np.sqrt(step * (1.0 + R) / (2.0 * dim))
    # U by its products with x + y and x - y over their lengths, and its square.
    even, odd = size * z[:, None, None], size * z[None, :, None]
    square = even**2 + odd**2 + 2.0 * size**2 * half
    along, across = even * np.sqrt(2.0 + 2.0 * R), odd * np.sqrt(2.0 - 2.0 * R)
    x, y = 0.5 * (along + across), 0.5 * (along - across)
    if tangent:
        inner = R + (x + y) * (1.0 - R) + square - x**2 - y**2 + x * y * R
        lengths = (1.0 + square - x**2) * (1.0 + square - y**2)
    else:
        inner, lengths = R + x + y + square, (1.0 + 2.0 * x + square) * (1.0 + 2.0 * y + square)
    moved: Float[np.ndarray, "points a b c"] = inner / np.sqrt(lengths)
    values = observable(R.ravel())
    for _ in range(layers):
        fit = np.polynomial.Chebyshev.fit(R.ravel(), values, POINTS - 1, domain=[-1, 1])
        values = np.einsum("rijk,ijk->r", fit(moved), weights)
    fit = np.polynomial.Chebyshev.fit(R.ravel(), values, POINTS - 1, domain=[-1, 1])
    return float(fit(initial))


def biases(dim: int, steps: Sequence[float]) -> Biases:
    """Exact means of both chains at every diffusive step, and of the limit and two rivals of it.

    Args:
        dim: dimension of the tokens.
        steps: diffusive steps, 1 over an integer.
    """
    two = limits.homogenized.two_tokens

    def chain(step: float, tangent: bool) -> float:
        layers = round(1 / step)
        return chain_expectation(np.square, dim=dim, step=step, layers=layers, tangent=tangent)

    def limit(t1: float, size: int) -> float:
        return two.pair_expectation(np.square, two.without_scores, initial=0.0, t1=t1, dim=size)

    return Biases(
        step=np.array(steps),
        square=np.array([[chain(step, tangent) for step in steps] for tangent in (False, True)]),
        limit=np.array([limit(1.0, dim), limit(1.0 - 1.0 / dim, dim), limit(1.0, dim + 1)]),
    )
