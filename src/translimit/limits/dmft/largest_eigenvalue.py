"""The largest eigenvalue of a symmetric operator of which only products are known.

Lanczos' method with full orthogonalisation (Rayleigh and Ritz in a Krylov space): the operator may
be symmetric up to a small noise, which is told in the residual.

Reference: Golub and Van Loan, Matrix Computations, section 10.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

#: Squared length of a new direction, relative to that of the image, below which the space is whole.
_WHOLE = 1e-20


@dataclass(frozen=True)
class Largest:
    """The largest eigenvalue.

    Attributes:
        value: of the operator.
        vector: a unit vector.
        error: bound of the error of the value, |A v - value v|^2 over the distance to the next
            Ritz value, and at most |A v - value v|.
        products: how many were taken.
    """

    value: float
    vector: Float[np.ndarray, " size"]
    error: float
    products: int


def largest_eigenvalue(
    product: Callable[[Float[np.ndarray, " size"]], Float[np.ndarray, " size"]],
    start: Float[np.ndarray, " size"],
    products: int,
    rtol: float,
) -> Largest:
    """Lanczos' method.

    Args:
        product: the operator.
        start: not orthogonal to the vector that is sought.
        products: at most so many.
        rtol: of the error, relative to the value; then it stops.
    """
    norm = float(np.linalg.norm(start))
    if norm == 0:
        return Largest(0.0, start, 0.0, 0)
    basis, images = [start / norm], []
    while True:
        images.append(product(basis[-1]))
        Q, A = np.stack(basis), np.stack(images)
        small = Q @ A.T
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        value, weights = float(values[-1]), vectors[:, -1]
        vector = weights @ Q
        residual = float(np.linalg.norm(weights @ A - value * vector))
        gap = value - float(values[-2]) if len(values) > 1 else 0.0
        error = min(residual, residual**2 / gap) if gap > 0 else residual
        found = Largest(value, vector, error, len(images))
        rest = images[-1] - Q.T @ (Q @ images[-1])
        rest = rest - Q.T @ (Q @ rest)
        size = float(rest @ rest)
        whole = size <= _WHOLE * float(images[-1] @ images[-1]) or len(basis) == len(start)
        done = len(images) > 1 and error <= rtol * abs(value)
        if whole or done or len(images) == products or not np.isfinite(value):
            return found
        basis.append(rest / size**0.5)
