r"""Distances between measures: how far one cloud of tokens, or one Gaussian, is from another.

| symbol | name here |
|---|---|
| W_2(mu, nu)^2 = min over couplings of E\|x - y\|^2 | `wasserstein2`, `bures` (of Gaussians) |
| SW_2(mu, nu)^2 = mean over unit directions u of W_2(<u, mu>, <u, nu>)^2 | `sliced_wasserstein2` |
| (int W_2(mu^s, nu^s)^2 ds)^(1/2), mu^s the law at position s | `conditional_wasserstein2` |

All of them return the distance, not its square, and compute in NumPy float64 on the host, in units
in which squares are ordinary numbers (`translimit.core.units`): over the whole range of float64.
Two independent samples of one law are a distance of order n^(-1/dim) apart (n^(-1/2) up to
logarithms for dim <= 2): never read that floor as a failure of convergence.

Reference: Peyré and Cuturi, Computational Optimal Transport (arXiv 1803.00567).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from translimit.core.checks import require_count
from translimit.core.errors import ArgumentError, ArgumentTypeError
from translimit.core.estimates import Estimate
from translimit.core.precision import ArrayInput, as_float64, is_traced
from translimit.core.psd import require_covariance
from translimit.core.sphere import SPHERE
from translimit.core.units import common_unit, in_unit

#: The assignment costs O(n^3) time and n^2 numbers: seconds and 128 MB at this size.
LARGEST_ASSIGNMENT = 4000


def wasserstein2(x: ArrayInput, y: ArrayInput) -> float:
    r"""The exact W_2 between two clouds of equal size and equal weights, by optimal assignment.

    W_2^2 = min over permutations p of (1/n) sum_i |x_i - y_p(i)|^2.

    Args:
        x: tokens [tokens, dim], at most 4000 (O(tokens^3) time, O(tokens^2) memory).
        y: as many tokens [tokens, dim].

    Raises:
        ArgumentError: clouds of different size or dimension, more than 4000 tokens, or entries
            that are not finite; `sliced_wasserstein2` takes clouds of any sizes.
    """
    x, y = _two_clouds(x, y)
    if len(x) != len(y):
        raise ArgumentError(
            "y",
            f"has {len(y)} tokens where x has {len(x)}",
            "pass clouds of equal size, or use sliced_wasserstein2 (a different number)",
        )
    if len(x) > LARGEST_ASSIGNMENT:
        raise ArgumentError(
            "x",
            f"has {len(x)} tokens, and an exact assignment is offered up to {LARGEST_ASSIGNMENT}",
            "pass a subsample, or use sliced_wasserstein2 (a different number)",
        )
    unit = common_unit(x, y)
    return in_unit(math.sqrt(_assignment_cost(x / unit, y / unit) / len(x)), unit, "x")


def bures(
    mean1: ArrayInput,
    cov1: ArrayInput,
    mean2: ArrayInput,
    cov2: ArrayInput,
) -> float:
    r"""The W_2 distance between the Gaussians N(mean1, cov1) and N(mean2, cov2).

    W_2^2 = |mean1 - mean2|^2 + tr cov1 + tr cov2 - 2 tr (cov1^(1/2) cov2 cov1^(1/2))^(1/2).

    This is the distance; the formula above is its square (`bures(...) ** 2`). It is computed as
    the Procrustes distance min over orthogonal U of |F1 - F2 U|_F of the symmetric square roots
    F, which is the same number and does not cancel when the Gaussians are close.

    Args:
        mean1: first mean [dim].
        cov1: first covariance [dim, dim]; singular ones are welcome.
        mean2: second mean [dim].
        cov2: second covariance [dim, dim].

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, or a matrix that is
            not symmetric positive semi-definite.

    Reference: Bhatia, Jain and Lim, On the Bures-Wasserstein distance (arXiv 1712.01504).
    """
    mean1 = _host(mean1, "mean1")
    if mean1.ndim != 1 or mean1.size == 0:
        raise ArgumentError("mean1", f"has shape {mean1.shape}", "pass a vector [dim]")
    mean2 = _host(mean2, "mean2")
    if mean2.shape != mean1.shape:
        raise ArgumentError("mean2", f"has shape {mean2.shape}", f"pass shape {mean1.shape}")
    covs = []
    for cov, name in ((cov1, "cov1"), (cov2, "cov2")):
        covs.append(require_covariance(_host(cov, name), name))
        if len(covs[-1]) != mean1.size:
            raise ArgumentError(
                name, f"has shape {covs[-1].shape}", f"pass shape {(mean1.size, mean1.size)}"
            )
    unit = common_unit(mean1, mean2, *(np.sqrt(np.abs(cov)) for cov in covs))
    mean1, mean2 = mean1 / unit, mean2 / unit
    roots = []
    for cov in (cov / unit / unit for cov in covs):
        eigenvalues, basis = np.linalg.eigh((cov + cov.T) / 2)
        roots.append((basis * np.sqrt(np.maximum(eigenvalues, 0.0))) @ basis.T)
    left, _, right = np.linalg.svd(roots[1].T @ roots[0])
    distance = math.hypot(
        float(np.linalg.norm(mean1 - mean2)),
        float(np.linalg.norm(roots[0] - roots[1] @ (left @ right))),
    )
    return in_unit(distance, unit, "mean1")


def sliced_wasserstein2(
    x: ArrayInput,
    y: ArrayInput,
    *,
    directions: int = 256,
    key: PRNGKeyArray,
) -> Estimate:
    r"""The sliced W_2 between two clouds of any sizes, by Monte Carlo over directions.

    SW_2^2 = mean over u uniform on the sphere of W_2(<u, x>, <u, y>)^2.

    It is a lower bound on W_2 (even SW_2 <= W_2 / dim^(1/2)), and a different number: never
    compare one with the other.

    Args:
        x: tokens [x_tokens, dim], equal weights.
        y: tokens [y_tokens, dim], equal weights; the sizes may differ.
        directions: how many random directions, at least 2. 256 leave a standard error of a few
            per cent. The cost is O(directions * tokens * log tokens).
        key: of the random directions.

    Returns:
        The estimate of SW_2 with its standard error over directions (by the delta method from
        that of SW_2^2) and the number of directions as its count.

    Raises:
        ArgumentError: dimensions that differ, entries that are not finite, fewer than 2
            directions.

    Reference: Bonneel, Rabin, Peyré and Pfister, Sliced and Radon Wasserstein barycenters (2015).
    """
    x, y = _two_clouds(x, y)
    directions = require_count(directions, "directions", 2)
    # float32 whatever JAX's 64-bit mode is, so that a key stands for the same directions.
    normals = jax.random.normal(key, (directions, x.shape[1]), dtype=np.float32)
    units = SPHERE.project(np.asarray(normals, dtype=np.float64))
    picks = _quantile_pairs(len(x), len(y))
    size = common_unit(x, y)
    x, y = x / size, y / size
    squares = np.array([_line_cost(x @ unit, y @ unit, *picks) for unit in units])
    square = Estimate.from_samples(squares)
    distance = math.sqrt(square.value)
    stderr = square.stderr / (2 * distance) if distance > 0 else 0.0
    return Estimate(in_unit(distance, size, "x"), stderr * size, directions)


def conditional_wasserstein2(
    x: ArrayInput,
    positions_x: ArrayInput,
    y: ArrayInput,
    positions_y: ArrayInput,
) -> float:
    r"""W_2 at equal positions: the distance in which causal attention is stable.

    (int W_2(mu^s, nu^s)^2 dm(s))^(1/2), with mu^s and nu^s the laws of the tokens at position s
    and m the common law of the positions. Tokens of equal position form a group, and groups are
    matched by optimal assignment; with one token at each position this is the root mean square
    of |x_i - y_i|.

    Args:
        x: tokens [tokens, dim].
        positions_x: their positions [tokens]; ties form groups (at most 4000 tokens in one).
        y: tokens [tokens, dim].
        positions_y: their positions [tokens], the same values as often.

    Raises:
        ArgumentError: the position marginals differ (the distance is infinite), or agree for
            clouds of different size, a group of more than 4000 tokens, shapes that do not match,
            or entries that are not finite.

    Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322 (masked attention).
    """
    x, y = _two_clouds(x, y)
    groups_x, counts_x, of_x = _position_groups(positions_x, len(x), "positions_x")
    groups_y, counts_y, of_y = _position_groups(positions_y, len(y), "positions_y")
    same_values = np.array_equal(groups_x, groups_y)
    if not same_values or not np.array_equal(counts_x * len(y), counts_y * len(x)):
        raise ArgumentError(
            "positions_y",
            "the position marginals of the two clouds differ, so the distance is infinite",
            "give both clouds the same positions, each as often",
        )
    if len(x) != len(y):
        raise ArgumentError(
            "y",
            f"has {len(y)} tokens where x has {len(x)}",
            "pass clouds of equal size (repeat tokens equally often)",
        )
    if np.max(counts_x) > LARGEST_ASSIGNMENT:
        raise ArgumentError(
            "positions_x",
            f"{np.max(counts_x)} tokens share a position",
            f"pass at most {LARGEST_ASSIGNMENT} tokens to a position",
        )
    unit = common_unit(x, y)
    x, y = x / unit, y / unit
    cost = sum(_assignment_cost(x[i], y[j]) for i, j in zip(of_x, of_y, strict=True))
    return in_unit(math.sqrt(cost / len(x)), unit, "x")


def _assignment_cost(x: np.ndarray, y: np.ndarray) -> float:
    """The least sum of |x_i - y_p(i)|^2 over permutations p."""
    from scipy.optimize import linear_sum_assignment  # scipy is not loaded until it is needed
    from scipy.spatial.distance import cdist

    rows, columns = linear_sum_assignment(cdist(x, y, "sqeuclidean"))
    return float(np.sum((x[rows] - y[columns]) ** 2))


def _quantile_pairs(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which order statistics of n and of m points are coupled on the line, and their masses.

    The quantile functions jump at multiples of 1/n and of 1/m, counted here in units of 1/(n m)
    so that ties are exact.
    """
    jumps = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return jumps[:-1] // m, jumps[:-1] // n, np.diff(jumps) / (n * m)


def _line_cost(
    x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray, mass: np.ndarray
) -> float:
    """W_2^2 of two clouds on the line: the monotone coupling is optimal."""
    return float(mass @ (np.sort(x)[of_x] - np.sort(y)[of_y]) ** 2)


def _position_groups(
    positions: Any, tokens: int, name: str
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The distinct positions, how many tokens have each, and which."""
    positions = _host(positions, name)
    if positions.shape != (tokens,):
        raise ArgumentError(
            name, f"has shape {positions.shape}", f"pass one per token, shape {(tokens,)}"
        )
    values, counts = np.unique(positions, return_counts=True)
    order = np.argsort(positions, kind="stable")
    return values, counts, np.split(order, np.cumsum(counts)[:-1])


def _two_clouds(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds of one dimension, in float64."""
    x = _host(x, "x")
    if x.ndim != 2 or 0 in x.shape:
        raise ArgumentError("x", f"has shape {x.shape}", "pass [tokens, dim], at least one token")
    y = _host(y, "y")
    if y.ndim != 2 or len(y) == 0 or y.shape[1] != x.shape[1]:
        raise ArgumentError(
            "y", f"has shape {y.shape}", f"pass [tokens, {x.shape[1]}], at least one token"
        )
    return x, y


def _host(value: Any, name: str) -> np.ndarray:
    """A concrete value as NumPy float64."""
    if is_traced(value):
        raise ArgumentTypeError(
            name,
            "is traced, and distances between measures are computed on the host",
            "call the distance outside jit, vmap and grad",
        )
    return np.asarray(as_float64(value, name))
