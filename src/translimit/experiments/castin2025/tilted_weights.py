r"""Entropy and effective sample size of weights, and their limits for Gaussian tokens.

Seen from a query x the weights of tokens N(alpha, Sigma) tilt their law by e^{<a, y> - y^T B y},
with a = A x and B = 0 for softmax, a = 2 A x for L2. A tilted Gaussian is a Gaussian, so the
entropy below log n and the sample fraction of one query are elementary (`observe`); Gauss-Hermite
quadrature averages them over Gaussian queries.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import attention, observe
from translimit.core import ArgumentError

if TYPE_CHECKING:
    from translimit.attention import AbstractAttention

#: Gauss-Hermite nodes a dimension, for the average over Gaussian queries.
NODES = 24


def scores(
    field: AbstractAttention,
    queries: Float[np.ndarray, "*#batch queries 2"],
    cloud: Float[np.ndarray, "*#batch tokens 2"],
) -> Float[np.ndarray, "*batch queries tokens"]:
    """Logits of every query, up to a constant for it."""
    tilt, confinement = tilts(field, queries)
    squares = np.einsum("...ni,ij,...nj->...n", cloud, confinement, cloud)
    return tilt @ np.swapaxes(cloud, -1, -2) - squares[..., None, :]


def tilts(
    field: AbstractAttention, queries: Float[np.ndarray, "*batch 2"]
) -> tuple[Float[np.ndarray, "*batch 2"], Float[np.ndarray, "2 2"]]:
    """The linear part of the scores at the queries, and the confinement.

    Raises:
        ArgumentError: another variant than softmax and L2.
    """
    if isinstance(field, attention.L2):
        return 2 * queries @ np.asarray(field.A).T, np.asarray(field.B)
    if isinstance(field, attention.Softmax):
        return queries @ np.asarray(field.A).T, np.zeros((2, 2))
    raise ArgumentError("field", f"got {type(field).__name__}", "pass softmax or L2")


def closure_weights(
    field: AbstractAttention,
    mean: Float[np.ndarray, "*batch 2"],
    cov: Float[np.ndarray, "*batch 2 2"],
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """The limits of log n - H and N / n for tokens N(mean, cov), averaged over the queries."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    root = np.linalg.cholesky(cov)
    queries = mean[..., None, :] + grid @ np.swapaxes(root, -1, -2)
    tilt, confinement = tilts(field, queries)
    law = {"mean": mean[..., None, :], "confinement": confinement}
    deficit = observe.gaussian_entropy_deficit(tilt, cov[..., None, :, :], **law)
    fraction = observe.gaussian_sample_fraction(tilt, cov[..., None, :, :], **law)
    return deficit @ mass, fraction @ mass
