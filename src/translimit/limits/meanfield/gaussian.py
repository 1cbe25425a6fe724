r"""Gaussian flows: a Gaussian law of tokens stays Gaussian under an affine field.

For mu = N(alpha, Sigma) and a variant whose field is affine, Gamma(x) = g + M (x - alpha),

    alpha' = g(alpha, Sigma),        Sigma' = M Sigma + Sigma M^T,

which is the Transformer PDE itself (`closure` says how it is integrated).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Array, Float

from translimit.attention import AbstractAttention, Layered
from translimit.core import AbstractMethod, AnyArray, ArrayInput, Floats, Number
from translimit.integrate import AdaptiveODE
from translimit.limits.meanfield.closure import (
    AbstractGaussianClosure,
    ClosureRule,
    closure_velocity,
    require_closure,
    require_gaussian,
)
from translimit.limits.meanfield.horizon import require_horizon


class GaussianFlow(AbstractGaussianClosure):
    """The Transformer PDE started from a Gaussian, in closed form: mean and covariance.

    Cost: O(dim^3) per evaluation. Runs in float64 whatever the calling program has set.

    Args:
        attention: a variant whose field of a Gaussian is affine, or `Layered` ones.
        mean: mean of the tokens [dim].
        cov: covariance of the tokens [dim, dim]; symmetric positive semi-definite, may be
            singular.
        t1: final depth, positive.

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, a covariance that is
            not symmetric or not positive semi-definite, t1 not positive; from `solve`, a law whose
            field is beyond float64.
        NoSuchLimitError: the variant has no exact Gaussian closure.

    Examples:
        Scalar softmax attention blows up at t* = 1 / (2 V A cov):

        >>> from translimit import solve
        >>> from translimit.attention import Softmax
        >>> flow = GaussianFlow(
        ...     attention=Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]]), mean=[0.0], cov=[[0.5]], t1=2.0
        ... )
        >>> print(f"{solve(flow).blow_up_time:.6f}")
        1.000000

    Reference: arXiv 2501.18322, Gaussian closure of the Transformer PDE.
    """

    attention: AbstractAttention | Layered
    mean: Float[AnyArray, " dim"]
    cov: Float[AnyArray, "dim dim"]
    t1: Number

    exact: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        *,
        attention: AbstractAttention | Layered,
        mean: ArrayInput,
        cov: ArrayInput,
        t1: ArrayInput,
    ):
        self.attention = attention
        self.mean, self.cov = require_gaussian(mean, cov, attention.dim)
        self.t1 = require_horizon(t1)
        require_closure(self.rule, attention)

    @property
    def rule(self) -> ClosureRule:
        """The affine field of the attention itself."""
        return exact_field

    def law_field(
        self,
        attention: AbstractAttention,
        mean: Float[AnyArray, " dim"],
        cov: Float[AnyArray, "dim dim"],
    ) -> tuple[Floats, Floats]:
        """The same from the covariance."""
        return attention.gaussian_field(mean, cov)

    def default_method(self) -> AbstractMethod:
        """Adaptive steps at rtol 1e-8."""
        return AdaptiveODE()


def exact_field(
    attention: AbstractAttention, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The affine field (g, M) of the attention on N(mean, F F^T), where it is affine."""
    return attention.factor_field(mean, factor)


def gaussian_vector_field(
    attention: AbstractAttention, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
) -> tuple[Float[Array, " dim"], Float[Array, "dim rank"]]:
    """Right-hand side of the Gaussian flow: (alpha', F') = (g, M F)."""
    return closure_velocity(exact_field, attention, mean, factor)
