r"""Unnormalised exponential attention: Gamma_mu(x) = int e^{s(x,y)} V y dmu(y).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import NoReturn, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import refuse_causal_closure
from translimit.attention.moments import (
    AbstractMomentField,
    exponential_moments,
    field_of_moments,
    scores_of,
)
from translimit.attention.one_head import AbstractKernelHead
from translimit.attention.tiles import kernel_sum
from translimit.core import ArrayInput, NoSuchLimitError


@final
class Unnormalized(AbstractKernelHead, AbstractMomentField):
    r"""Attention without a denominator, in its plain and its causal form.

    Gamma_mu(x) = V sum_j w_j e^{c <Qx, K y_j>} y_j: softmax attention times its denominator.
    Causal: over the tokens with s_j <= s(x), divided by the mass that `normalisation` names.

    The cost is that of `Softmax`. Nothing bounds the velocity: e^s overflows at scores of 88
    (float32) or 709 (float64), and finite clouds can blow up.

    Note:
        This is the mean-field limit of sigmoid attention with bias -log(n) and a sum over the n
        tokens, sum_j sigma(z_j - log n) V y_j, with relative error O(1 / n).
    """

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j w_j e^{c <Q x_i, K y_j>} y_j, row i of the result."""
        queries, keys = self.queries(x), self.keys(cloud)
        total = kernel_sum(jnp.exp, queries, keys, cloud, log_weights, x_positions, positions)
        return self.per_mass(total, log_weights, x_positions, positions)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> NoReturn:
        """No such field: Gamma of a Gaussian is not affine.

        Raises:
            NoSuchLimitError: always.
        """
        raise NoSuchLimitError(
            "attention",
            "the field of unnormalised attention is not affine on a Gaussian law, so that no "
            "exact Gaussian closure exists",
            "use limits.meanfield.MomentClosure, which is approximate, or ParticleFlow",
        )

    def moment_factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The projection in closed form: g = V E[e^s y] and M = V E[e^s y y^T] A.

        NaN where the expectations are infinite: unless the largest eigenvalue of cov A cov A^T is
        below one.

        Raises:
            NoSuchLimitError: the causal form.
        """
        refuse_causal_closure(self.causal)
        scores = scores_of(self, mean, factor)
        return field_of_moments(self, mean, factor, scores, exponential_moments(scores))
