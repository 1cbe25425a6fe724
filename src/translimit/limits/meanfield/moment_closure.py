r"""The moment closure: a Gaussian in place of a law that does not stay Gaussian.

Where the field of a Gaussian is not affine (sigmoid, unnormalised attention), the closure moves
N(alpha, Sigma) by the affine field nearest to Gamma under it,

    alpha' = E Gamma(x),        Sigma' = M Sigma + Sigma M^T,        M = E grad Gamma(x),

the expectations under N(alpha, Sigma) itself. It is **approximate**: mean and covariance of the
true law deviate once that law is no longer Gaussian. (For sigmoid attention with canonical
parameters and ||A|| = 7 the moments stay within 0.02 up to depth one, where the kurtosis along the
first principal axis has changed by 0.3: the experiment castin2025/sigmoid.)

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from translimit.attention import (
    AbstractAttention,
    AbstractMomentField,
    Layered,
    attention_at,
)
from translimit.core import (
    AbstractMethod,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Floats,
    NoSuchLimitError,
    Number,
    is_traced,
)
from translimit.integrate import AdaptiveODE
from translimit.limits.meanfield.closure import (
    AbstractGaussianClosure,
    ClosureRule,
    require_closure,
    require_gaussian,
)
from translimit.limits.meanfield.horizon import require_horizon


class MomentClosure(AbstractGaussianClosure):
    """Mean and covariance of the tokens by projection on Gaussians: approximate.

    Cost: 768 QR factorisations of 2 dim by dim matrices per evaluation (sigmoid), O(dim^3)
    (unnormalised). Runs in float64 whatever the calling program has set. The solution says
    `exact=False`, and so does the attribute `closure` of its labelled arrays.

    For unnormalised attention the expectations are finite only while the largest eigenvalue of
    cov A cov A^T is below one, for sigmoid attention they are resolved only in the range that
    `Sigmoid.moment_factor_field` states; a solve that gets there ends with an outcome other than
    `successful`.

    Args:
        attention: a variant without an exact closure (`Sigmoid`, `Unnormalized`, one of them with
            a `FeedForward` drift), or `Layered` ones.
        mean: mean of the tokens [dim].
        cov: covariance of the tokens [dim, dim]; symmetric positive semi-definite, may be
            singular.
        t1: final depth, positive.

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, a covariance that is
            not symmetric or not positive semi-definite, t1 not positive, a law whose expectations
            are infinite or not resolved.
        NoSuchLimitError: the variant has an exact closure (use `GaussianFlow`), or is causal.

    Reference: arXiv 2501.18322, the field of sigmoid attention against a Gaussian.
    """

    attention: AbstractAttention | Layered
    mean: Float[AnyArray, " dim"]
    cov: Float[AnyArray, "dim dim"]
    t1: Number

    exact: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

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
        self._require_resolved()

    def _require_resolved(self) -> None:
        """Refuse a concrete initial law whose expectations are infinite or not resolved."""
        attention = attention_at(self.attention, 0.0)
        field = self.law_field(attention, self.mean, self.cov)
        if not is_traced(field) and not all(np.isfinite(part).all() for part in field):
            raise ArgumentError(
                "cov",
                f"the expectations of {type(attention).__name__} under this law are infinite or "
                "not resolved: its scores are too large",
                "pass a narrower law, a smaller score_scale, or use ParticleFlow",
            )

    @property
    def rule(self) -> ClosureRule:
        """The affine field nearest to that of the attention."""
        return projected_field

    def law_field(
        self,
        attention: AbstractAttention,
        mean: Float[AnyArray, " dim"],
        cov: Float[AnyArray, "dim dim"],
    ) -> tuple[Floats, Floats]:
        """The same from the covariance."""
        return _with_moments(attention).moment_field(mean, cov)

    def default_method(self) -> AbstractMethod:
        """Adaptive steps at rtol 1e-8; few, because they shrink without end at a law whose
        expectations can not be had.
        """
        return AdaptiveODE(max_steps=2000)


def projected_field(
    attention: AbstractAttention, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The affine field (g, M) nearest to the attention's field on N(mean, F F^T)."""
    return _with_moments(attention).moment_factor_field(mean, factor)


def _with_moments(attention: AbstractAttention) -> AbstractMomentField:
    if not isinstance(attention, AbstractMomentField):
        raise NoSuchLimitError(
            "attention",
            f"{type(attention).__name__} needs no moment closure",
            "use GaussianFlow, which is exact",
        )
    return attention
