r"""An affine feed-forward drift beside attention: Gamma_mu(x) + W x + b.

It keeps Gaussians Gaussian: g = g_attention + W alpha + b, M = M_attention + W.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import final

import equinox as eqx
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, require_matrix, require_mean_and_cov
from translimit.attention.base import AbstractAttention
from translimit.attention.moments import AbstractMomentField
from translimit.attention.products import matmul
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    NoSuchLimitError,
    as_float,
)


@final
class FeedForward(AbstractMomentField):
    """An attention with an affine drift: the velocity Gamma_mu(x) + W x + b.

    Attributes:
        attention: the attention whose velocity the drift is added to.
        W: matrix of the drift [dim, dim].
        b: constant drift [dim].
        causal: that of the attention; the drift sees its own token only.
    """

    attention: AbstractAttention
    W: Float[AnyArray, "dim dim"]
    b: Float[AnyArray, " dim"]
    causal: bool = eqx.field(static=True)

    def __init__(self, attention: AbstractAttention, W: ArrayInput, b: ArrayInput | None = None):
        """Validate the parameters.

        Args:
            attention: any variant.
            W: matrix of the drift [dim, dim].
            b: constant drift [dim]; none by default.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite entries.
            ArgumentTypeError: an `attention` that is none (give `Layered` wrapped layers instead
                of wrapping it).
        """
        if not isinstance(attention, AbstractAttention):
            raise ArgumentTypeError(
                "attention", f"got {type(attention).__name__}", "pass a variant of attention"
            )
        self.attention = attention
        self.causal = attention.causal
        self.W = require_matrix(W, "W", (attention.dim, attention.dim))
        self.b = as_float([0.0] * attention.dim if b is None else b, "b")
        if self.b.shape != (attention.dim,):
            raise ArgumentError("b", f"has shape {self.b.shape}", f"pass [{attention.dim}]")

    @property
    def dim(self) -> int:
        """Dimension of the tokens."""
        return self.attention.dim

    @property
    def bounded(self) -> bool:
        """Where the attention is: an affine drift does not change it."""
        return self.attention.bounded

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) + W x_i + b, row i of the result."""
        velocity = self.attention.velocity(x, cloud, log_weights, x_positions, positions)
        return velocity + matmul(x, self.W.T) + self.b

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The attention's field with g + W mean + b and M + W.

        Raises:
            NoSuchLimitError: the attention's field of a Gaussian is not affine.
            ArgumentError: shapes that do not match.
        """
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        g, M = self.attention.gaussian_field(mean, cov)
        return g + matmul(self.W, mean) + self.b, M + self.W

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The attention's field with g + W mean + b and M + W.

        Raises:
            NoSuchLimitError: the attention's field of a Gaussian is not affine.
        """
        g, M = self.attention.factor_field(mean, factor)
        return g + matmul(self.W, mean) + self.b, M + self.W

    def moment_factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The attention's projection with g + W mean + b and M + W.

        Raises:
            NoSuchLimitError: the attention has an exact closure, or is causal.
        """
        if not isinstance(self.attention, AbstractMomentField):
            raise NoSuchLimitError(
                "attention",
                f"{type(self.attention).__name__} needs no moment closure",
                "use GaussianFlow, which is exact",
            )
        g, M = self.attention.moment_factor_field(mean, factor)
        return g + matmul(self.W, mean) + self.b, M + self.W
