r"""Positive semi-definite matrices: validation and a square root that can be differentiated.

Covariances are checked once, at construction: symmetric to 1e-8 relative, eigenvalues above
-1e-10 of the largest. Inside solves they are carried as factors F with cov = F F^T, which are
positive semi-definite by construction; nothing is ever clipped afterwards.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core.errors import ArgumentError
from translimit.core.precision import is_traced, require_finite

#: Largest |cov - cov^T| relative to the largest |eigenvalue|.
SYMMETRY_TOLERANCE = 1e-8
#: Most negative eigenvalue relative to the largest |eigenvalue|.
EIGENVALUE_TOLERANCE = 1e-10


def require_covariance(cov: Any, name: str = "cov") -> Any:
    """The covariance [d, d], or an error; singular ones are welcome.

    Concrete values raise at once; traced ones are armed with `eqx.error_if`.

    Raises:
        ArgumentError: not square, empty, with NaN or infinite entries, not symmetric, or with a
            negative eigenvalue.
    """
    if np.ndim(cov) != 2 or np.shape(cov)[0] != np.shape(cov)[1] or np.size(cov) == 0:
        raise ArgumentError(name, f"has shape {np.shape(cov)}", "pass a square matrix [dim, dim]")
    if is_traced(cov):
        asymmetry, lowest, scale = _defects(jnp, cov)
        cov = eqx.error_if(
            cov, ~(asymmetry <= SYMMETRY_TOLERANCE * scale), f"{name}: not symmetric"
        )
        return eqx.error_if(
            cov, lowest < -EIGENVALUE_TOLERANCE * scale, f"{name}: has a negative eigenvalue"
        )
    asymmetry, lowest, scale = _defects(np, np.asarray(require_finite(cov, name)))
    if not asymmetry <= SYMMETRY_TOLERANCE * scale:
        raise ArgumentError(
            name,
            f"is not symmetric (largest |cov - cov.T| is {asymmetry:.2g})",
            "pass (cov + cov.T) / 2 if the asymmetry is rounding",
        )
    if lowest < -EIGENVALUE_TOLERANCE * scale:
        raise ArgumentError(
            name,
            f"has the negative eigenvalue {lowest:.2g}",
            "pass a positive semi-definite matrix; singular ones are allowed",
        )
    return cov


def _defects(xp: Any, cov: Any) -> tuple[Any, Any, Any]:
    """Asymmetry, lowest eigenvalue and scale of a square matrix, in NumPy or JAX."""
    asymmetry = xp.max(xp.abs(cov - cov.T))
    # Halved first: the sum of two entries may be beyond float64.
    eigenvalues = xp.linalg.eigvalsh(cov / 2 + cov.T / 2)
    return asymmetry, eigenvalues[0], xp.max(xp.abs(eigenvalues))


@jax.custom_jvp
def psd_sqrt(cov: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    r"""The symmetric square root S of a positive semi-definite matrix, S S = cov.

    Its derivative solves S dS + dS S = d cov in the eigenbasis, where the denominators are sums
    of eigenvalues of S: finite at repeated eigenvalues (the derivative of `eigh` is not) and zero
    between the null directions of a singular matrix, where the root has no derivative; a
    direction is null when its eigenvalue is rounding (below dim eps of the largest). Only first
    derivatives are offered: the second goes through `eigh`.
    """
    return _root_and_basis(cov)[0]


@psd_sqrt.defjvp
def _psd_sqrt_jvp(primals: Any, tangents: Any) -> Any:
    (cov,), (dcov,) = primals, tangents
    root, roots, basis = _root_and_basis(cov)
    rounding = cov.shape[0] * jnp.finfo(cov.dtype).eps
    kept = jnp.where(roots**2 > rounding * jnp.max(roots**2), roots, 0.0)
    sums = kept[:, None] + kept[None, :]
    safe = jnp.where(sums > 0, sums, 1.0)
    in_basis = basis.T @ ((dcov + dcov.T) / 2) @ basis
    return root, basis @ jnp.where(sums > 0, in_basis / safe, 0.0) @ basis.T


def _root_and_basis(cov: Array) -> tuple[Array, Array, Array]:
    eigenvalues, basis = jnp.linalg.eigh(cov)
    # A validated covariance may carry eigenvalues of -1e-10 relative, which are rounding.
    roots = jnp.sqrt(jnp.maximum(eigenvalues, 0.0))
    return (basis * roots) @ basis.T, roots, basis
