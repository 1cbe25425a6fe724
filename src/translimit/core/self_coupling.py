r"""The Sinkhorn self-coupling of a Gaussian in closed form.

Among the couplings (x, y) of N(mean, Sigma) with itself, the one that Sinkhorn's iteration finds
for the score <Ax, y> is Gaussian. With B = Sigma^(1/2) A^T Sigma^(1/2) and its singular values b_i,

| symbol | name here | shape |
|---|---|---|
| d_i = 2 b_i / (1 + sqrt(1 + 4 b_i^2)) in [0, 1) | `canonical_correlations` | [dim] |
| L = Cov(y given x), L + L A Sigma A^T L = Sigma | `conditional_covariance` | [dim, dim] |
| C^T = Cov(y, x) = L A Sigma, E[y given x] = mean + L A (x - mean) | | [dim, dim] |

    L = F h(F^T A Sigma A^T F) F^T,    h(z) = 2 / (1 + sqrt(1 + 4 z)),    Sigma = F F^T,

with h as a spectral function, by the singular values of F^T A F: valid for every positive
semi-definite Sigma and every A, singular or not symmetric, without an inverse. The quotient for d
cancels nowhere, unlike (sqrt(1 + 4 b^2) - 1) / (2 b).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from translimit.core.errors import ArgumentError
from translimit.core.precision import ArrayInput, as_float, following_inputs, is_traced
from translimit.core.psd import psd_sqrt, require_covariance


def canonical_correlations(A: ArrayInput, cov: ArrayInput) -> Any:
    """Canonical correlations d of the self-coupling of a Gaussian, largest first.

    The squared largest is the factor by which Sinkhorn's iteration contracts in a round.

    Args:
        A: score matrix, s(x, y) = <Ax, y> [dim, dim].
        cov: covariance of the Gaussian [dim, dim].

    Returns:
        d [dim] in [0, 1), in the precision of the arguments.

    Raises:
        ArgumentError: shapes that do not match, NaN or infinite entries, a covariance that is not
            symmetric positive semi-definite.
    """
    return following_inputs(_correlations, _require_pair(A, cov))


def conditional_covariance(A: ArrayInput, cov: ArrayInput) -> Any:
    """Covariance L of y given x in the self-coupling: L + L A cov A^T L = cov.

    Args:
        A: score matrix, s(x, y) = <Ax, y> [dim, dim]; with A^T in its place it is that of x given
            y.
        cov: covariance of the Gaussian [dim, dim]; singular ones are welcome.

    Returns:
        L [dim, dim], in the precision of the arguments; first derivatives exist at repeated
        eigenvalues too.

    Raises:
        ArgumentError: as `canonical_correlations`.
    """
    return following_inputs(_conditional, _require_pair(A, cov))


def _require_pair(A: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
    A, cov = as_float(A, "A"), as_float(cov, "cov")
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.size == 0:
        raise ArgumentError("A", f"has shape {A.shape}", "pass a square matrix [dim, dim]")
    if cov.shape != A.shape:
        raise ArgumentError("cov", f"has shape {cov.shape}", f"pass the shape of A, {A.shape}")
    if not is_traced(cov):
        require_covariance(np.asarray(cov))
    return A, cov


@jax.jit
def _correlations(pair: Any, _: Any = ()) -> Float[Array, " dim"]:
    A, cov = pair
    root = psd_sqrt(cov)
    b = jnp.linalg.svd(_product(root, A.T, root), compute_uv=False)
    return 2 * b / (1 + _root(b))


@jax.jit
def _conditional(pair: Any, _: Any = ()) -> Float[Array, "dim dim"]:
    A, cov = pair
    root = psd_sqrt(cov)
    return _product(root, spectral_h(_product(root, A, root)), root)


@jax.custom_jvp
def spectral_h(half: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    r"""h(B B^T) = 2 (I + (I + 4 B B^T)^(1/2))^{-1} of a square matrix B.

    From the singular values of B and not the eigenvalues of B B^T, whose small ones are rounding
    once those of B are 10^8 apart: covariances that grow along one direction get there.

    The derivative in the left singular basis multiplies d(B B^T) by the divided differences of h,
    -8 / ((1 + r_i) (1 + r_j) (r_i + r_j)) with r = (1 + 4 b^2)^(1/2): nothing is divided by a
    difference of singular values, which the derivative of `svd` is. Only first derivatives are
    offered.
    """
    roots, basis = _roots(half)
    return (basis * (2 / (1 + roots))) @ basis.T


@spectral_h.defjvp
def _spectral_h_jvp(primals: Any, tangents: Any) -> Any:
    (half,), (dhalf,) = primals, tangents
    roots, basis = _roots(half)
    left, right = roots[:, None], roots[None, :]
    differences = -8 / ((1 + left) * (1 + right) * (left + right))
    change = _product(basis.T, dhalf, half.T, basis)
    value = (basis * (2 / (1 + roots))) @ basis.T
    return value, _product(basis, differences * (change + change.T), basis.T)


def _roots(half: Array) -> tuple[Array, Array]:
    """(1 + 4 b^2)^(1/2) for the singular values b, and the left singular vectors."""
    basis, b, _ = jnp.linalg.svd(half)
    return _root(b), basis


def _root(b: Array) -> Array:
    """(1 + 4 b^2)^(1/2), for b whose square is no float too: there it is 2 b to rounding."""
    small = b < 0.25 * jnp.sqrt(jnp.finfo(b.dtype).max)
    return jnp.where(small, jnp.sqrt(1 + 4 * jnp.where(small, b, 0.0) ** 2), 2 * b)


def _product(*factors: Array) -> Array:
    result = factors[0]
    for factor in factors[1:]:
        result = jnp.matmul(result, factor, precision=lax.Precision.HIGHEST)
    return result
