r"""Attention between tokens of the unit sphere, with an inverse temperature.

| symbol | name here | shape |
|---|---|---|
| beta | `beta`, the inverse temperature | number >= 0 |
| Q, K, V | `Q`, `K`, `V`; the identity by default | [head_dim, dim] twice, [dim, dim] |
| SA: Gamma(x) = sum_j w_j e^{beta <Qx, K y_j>} V y_j / Z(x) | `normalised=True` | |
| USA: Gamma(x) = sum_j w_j e^{beta <Qx, K y_j> - shift} V y_j | `normalised=False` | |
| e^{-shift}, the unit of time of USA | `shift` | number |

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import Softmax, Unnormalized, require_matrix
from translimit.core import (
    FINITE,
    AnyArray,
    ArgumentTypeError,
    ArrayInput,
    Number,
    require_flag,
    require_number,
)


class SphereAttention(eqx.Module):
    """SA or USA as a field on the sphere, before its projection to the tangent space.

    Arguments and errors are those of `SphereFlow`.
    """

    beta: Number
    Q: Float[AnyArray, "head_dim dim"]
    K: Float[AnyArray, "head_dim dim"]
    V: Float[AnyArray, "dim dim"]
    normalised: bool = eqx.field(static=True)
    shift: Number

    def __init__(
        self,
        dim: int,
        beta: ArrayInput,
        Q: ArrayInput | None,
        K: ArrayInput | None,
        V: ArrayInput | None,
        normalised: bool,
        shift: ArrayInput | None,
    ):
        self.beta = require_number(beta, "beta")
        identity = np.eye(dim)
        self.Q = require_matrix(identity if Q is None else Q, "Q", (None, dim))
        self.K = require_matrix(identity if K is None else K, "K", (self.Q.shape[0], dim))
        self.V = require_matrix(identity if V is None else V, "V", (dim, dim))
        self.normalised = require_flag(normalised, "normalised")
        if self.normalised and shift is not None:
            raise ArgumentTypeError(
                "shift", "is given, and normalised attention does not depend on it", "leave it out"
            )
        self.shift = require_number(0.0 if shift is None else shift, "shift", FINITE)

    def velocity(
        self, points: Float[Array, "tokens dim"], log_weights: Float[Array, " tokens"]
    ) -> Float[Array, "tokens dim"]:
        """Gamma at every point of a weighted cloud on the sphere, as a function of JAX arrays."""
        # beta goes into Q: unlike a `score_scale` it may be zero.
        if self.normalised:
            softmax = Softmax(Q=self.beta * self.Q, K=self.K, V=self.V)
            return softmax.velocity(points, points, log_weights, None, None)
        plain = Unnormalized(Q=self.beta * self.Q, K=self.K, V=self.V)
        return plain.velocity(points, points, log_weights - self.shift, None, None)
