r"""L2 attention: softmax attention with the kernel exp(-c |Qx - Ky|^2).

    Gamma_mu(x) = int e^{-c |Qx - Ky|^2} V y dmu(y) / int e^{-c |Qx - Ky|^2} dmu(y).

The factor e^{-c |Qx|^2} cancels, so the scores are 2 c <Qx, Ky> - c_K |Ky|^2 with c_K = c.

| symbol | name here | shape |
|---|---|---|
| c_K | `key_scale`, c unless given | number |
| B = c_K K^T K | `B` | [dim, dim] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, refuse_causal_closure, require_mean_and_cov
from translimit.attention.fields import positive
from translimit.attention.one_head import AbstractOneHead
from translimit.attention.products import matmul
from translimit.attention.tiles import softmax_average
from translimit.core import AnyArray, ArgumentError, ArrayInput, is_traced


def _given(key_scale: ArrayInput | None) -> Float[AnyArray, ""]:
    """The converter of `key_scale`, once c has taken the place of None."""
    assert key_scale is not None
    return positive("key_scale")(key_scale)


@final
class L2(AbstractOneHead):
    r"""L2 attention with one head, in its plain and its causal form.

    Gamma_mu(x) = V sum_j softmax_j(2 c <Qx, K y_j> - c_K |K y_j|^2 + log w_j) y_j; causal: over
    the tokens with s_j <= s(x).

    Cost and memory are those of `Softmax`.

    The closure of a Gaussian exists for all times when K is injective: then
    ||M|| <= `closure_rate` whatever the covariance. With a rank-deficient K it can blow up.

    !!! warning "Erratum (published script)"
        The script that accompanies arXiv 2501.18322 scales the cross term by 1 / sqrt(dim) and
        leaves |Ky|^2 unscaled, which is e^{-c |Qx - Ky|^2} for no c. `score_scale=dim**-0.5,
        key_scale=1.0` reproduces it.

    Attributes:
        key_scale: c_K, the positive factor of |Ky|^2; c by default, which makes the kernel
            e^{-c |Qx - Ky|^2}.
    """

    key_scale: Float[AnyArray, ""] = eqx.field(default=None, converter=_given, kw_only=True)

    def __post_init__(self):
        if self.key_scale is None:
            self.key_scale = self.score_scale

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j softmax_j(2 c <Q x_i, K y_j> - c_K |K y_j|^2 + log w_j) y_j."""
        queries, keys = jnp.multiply(2 * self.score_scale, matmul(x, self.Q.T)), self.keys(cloud)
        bias = log_weights - self.key_scale * jnp.sum(keys**2, axis=1)
        return self.values(softmax_average(queries, keys, cloud, bias, x_positions, positions))

    @property
    def bounded(self) -> bool:
        """Yes: the velocity is an average of the cloud, mapped."""
        return True

    @property
    def B(self) -> Float[AnyArray, "dim dim"]:
        """The confining matrix B = c_K K^T K [dim, dim]; the scores hold -<By, y>."""
        return self.key_scale * matmul(self.K.T, self.K)

    @property
    def closure_rate(self) -> float:
        """The bound ||V|| ||B^{-1}|| ||A|| on ||M||, by which no Gaussian closure blows up.

        The covariance grows at most like e^{2 rate t} and the mean by (||V|| + rate).

        Raises:
            ArgumentError: K is rank-deficient; then there is no bound, and closures can blow up.
        """
        if is_traced(self.K):
            raise ArgumentError("K", "is traced", "ask for the bound outside jit, vmap and grad")
        singular = np.linalg.svd(np.asarray(self.K, np.float64), compute_uv=False)
        rank = int(np.sum(singular > singular[0] * max(self.K.shape) * np.finfo(np.float64).eps))
        if rank < self.dim:
            raise ArgumentError(
                "K",
                f"has rank {rank} and tokens have dimension {self.dim}: without an injective K "
                "nothing bounds the closure, and it can blow up in finite time",
                "pass an injective K, or solve the closure and look at `blow_up_time`",
            )
        inverse = 1 / (float(self.key_scale) * singular[-1] ** 2)
        return float(np.linalg.norm(self.V, 2) * inverse * np.linalg.norm(self.A, 2))

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The field of a Gaussian: g = V R mean + M mean, M = 2 V R cov A, R = (I + 2 cov B)^{-1}.

        Tilting N(mean, cov) by e^{2 <Ax, y> - <By, y>} moves its mean to R (mean + 2 cov A x).

        Raises:
            NoSuchLimitError: the causal form, whose prefix laws are mixtures.
            ArgumentError: shapes that do not match.
        """
        refuse_causal_closure(self.causal)
        alpha, Sigma = require_mean_and_cov(mean, cov, self.dim)
        spread = matmul(Sigma, self.B)
        both = isinstance(alpha, np.ndarray) and isinstance(spread, np.ndarray)
        xp: Any = np if both else jnp
        # R [mean, 2 cov A] by one factorisation.
        shifted = xp.concatenate([alpha[:, None], 2 * matmul(Sigma, self.A)], axis=1)
        tilted = matmul(self.V, xp.linalg.solve(xp.eye(self.dim) + 2 * spread, shifted))
        M = tilted[:, 1:]
        return tilted[:, 0] + matmul(M, alpha), M

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), M = 2 c V F a^T (I + 2 c_K a a^T)^{-1} Q, a = K F.

        With b = (2 c_K)^{1/2} a^T the product b (I + b^T b)^{-1} comes from the orthogonal
        factorisation of I above b: directions of the scores that stay bounded keep their digits
        beside those that do not, which they would lose in b^T b.
        """
        refuse_causal_closure(self.causal)
        root = jnp.sqrt(2 * self.key_scale)
        keys = root * matmul(self.K, factor).T
        stacked = jnp.concatenate([jnp.eye(keys.shape[1], dtype=keys.dtype), keys])
        orthogonal, upper = jnp.linalg.qr(stacked)
        tilted = jax.scipy.linalg.solve_triangular(upper, orthogonal[keys.shape[1] :].T)
        of_keys = matmul(matmul(self.V, factor), tilted.T)
        M = jnp.multiply(2 * self.score_scale / root, matmul(of_keys, self.Q))
        lowered = root * matmul(of_keys, matmul(self.K, mean))
        return matmul(self.V, mean) - lowered + matmul(M, mean), M
