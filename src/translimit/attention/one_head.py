r"""What attention with one head holds: its maps, the factor of its scores, its mask.

| symbol | name here | shape |
|---|---|---|
| Q, K | `Q`, `K` | [head_dim, dim] |
| V | `V` | [dim, dim] |
| c | `score_scale`, often head_dim^(-1/2) | number |
| A = c K^T Q, not symmetric in general | `A` | [dim, dim] |
| s(x, y) = c <Qx, Ky> = <Ax, y>, x the query | the scores, `queries(x)` times `keys(y)` | number |

A variant is a final class with its formula, its own field if it has one, and the formula again in
`velocity`. Fields, constructor and checks stand here once.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import require_matrix
from translimit.attention.base import AbstractAttention
from translimit.attention.fields import flag, floats, positive
from translimit.attention.normalisation import (
    Normalisation,
    divide_by_mass,
    require_normalisation,
)
from translimit.attention.products import matmul
from translimit.core import AnyArray


class AbstractOneHead(AbstractAttention):
    """Attention with one head; members add their formula and at most fields of their own.

    The velocity of a member depends on the tokens through Qx, Ky and Vy alone, and is linear in the
    last: this is what `in_units` relies on.

    Attributes:
        Q: query map [head_dim, dim].
        K: key map [head_dim, dim].
        V: value map [dim, dim].
        score_scale: c, the positive factor of the scores; 1 by default, head_dim^(-1/2) is usual in
            networks.
        causal: whether a token sees only tokens at or before its position.

    Raises:
        ArgumentError: shapes that do not match, NaN or infinite entries, a `score_scale` that is
            not positive.
        ArgumentTypeError: a parameter that is not numeric, a `causal` that is not a bool.
    """

    Q: Float[AnyArray, "head_dim dim"] = eqx.field(converter=floats("Q"))
    K: Float[AnyArray, "head_dim dim"] = eqx.field(converter=floats("K"))
    V: Float[AnyArray, "dim dim"] = eqx.field(converter=floats("V"))
    score_scale: Float[AnyArray, ""] = eqx.field(default=1.0, converter=positive("score_scale"))
    causal: bool = eqx.field(default=False, static=True, converter=flag("causal"), kw_only=True)

    def __check_init__(self):
        require_matrix(self.Q, "Q", (None, None))
        require_matrix(self.K, "K", self.Q.shape)
        require_matrix(self.V, "V", (self.dim, self.dim))

    @property
    def dim(self) -> int:
        """Dimension of the tokens."""
        return self.Q.shape[-1]

    @property
    def A(self) -> Float[AnyArray, "dim dim"]:
        """The score matrix A = c K^T Q [dim, dim]: s(x, y) = <Ax, y>."""
        return self.score_scale * matmul(self.K.T, self.Q)

    def queries(self, x: Float[Array, "*points dim"]) -> Float[Array, "*points head_dim"]:
        """The queries c Qx: scores are their products with the keys."""
        return jnp.multiply(self.score_scale, matmul(x, self.Q.T))

    def keys(self, y: Float[Array, "*points dim"]) -> Float[Array, "*points head_dim"]:
        """The keys Ky."""
        return matmul(y, self.K.T)

    def values(self, mixed: Float[Array, "*points dim"]) -> Float[Array, "*points dim"]:
        """V applied to sums over tokens, which is cheaper than to tokens."""
        return matmul(mixed, self.V.T)


class AbstractKernelHead(AbstractOneHead):
    """Attention without a denominator: sums over tokens, divided by a stated mass where causal.

    Attributes:
        normalisation: what a causal sum is divided by: the mass of all tokens (the default) or of
            those at or before the query.

    Raises:
        ArgumentError: as `AbstractOneHead`; PREFIX without causal.
        ArgumentTypeError: as `AbstractOneHead`; no member of `Normalisation`.
    """

    normalisation: Normalisation = eqx.field(default=Normalisation.TOTAL, static=True, kw_only=True)

    def __check_init__(self):
        require_normalisation(self.normalisation, self.causal)

    def per_mass(
        self,
        total: Float[Array, "queries dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """V times the sums over the tokens that a query sees, divided by the mass."""
        weights = jnp.exp(log_weights)
        return self.values(
            divide_by_mass(total, self.normalisation, weights, x_positions, positions)
        )
