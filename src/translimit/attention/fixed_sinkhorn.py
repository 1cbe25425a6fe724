r"""Sinkhorn attention after a fixed number of rounds, as networks use it: a model of its own.

With g_0 = 0, rows and columns are normalised in turn,

    f_k = log int e^{s(x,y) - g_(k-1)(y)} dmu(y),    g_k = log int e^{s(x,y) - f_k(x)} dmu(x),

and the field after the row update k is Gamma(x) = int e^{s(x,y) - f_k(x) - g_(k-1)(y)} V y dmu(y).
k = 1 is softmax attention, k -> infinity is `Sinkhorn`.

Reference: Sander, Ablin, Blondel and Peyré, arXiv 2110.11773; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, require_mean_and_cov
from translimit.attention.fields import count
from translimit.attention.one_head import AbstractOneHead
from translimit.attention.products import matmul
from translimit.attention.sinkhorn import refuse_causal
from translimit.attention.tiles import log_sum_exp, softmax_average
from translimit.core import ArrayInput, following_inputs


@final
class FixedSinkhorn(AbstractOneHead):
    r"""Sinkhorn attention after a fixed number of row updates: a model of its own.

    Starting from g = 0, rows and columns are normalised in turn, ending with the rows:
    `iterations=1` is softmax attention, more of them approach `Sinkhorn`. The rows sum to one, the
    columns only in the limit, so that the mean is not conserved. Derivatives are those of the
    rounds themselves.

    Attributes:
        iterations: number of row updates, at least 1.

    Raises:
        ArgumentError: as `AbstractOneHead`; iterations below 1.
        NoSuchLimitError: causal=True.
    """

    iterations: int = eqx.field(static=True, converter=count("iterations"), kw_only=True)

    def __check_init__(self):
        refuse_causal(self.causal)

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j softmax_j(c <Q x_i, K y_j> - g_j + log w_j) y_j, g as it is."""
        queries, keys = self.queries(cloud), self.keys(cloud)

        @jax.checkpoint
        def one_round(g: Array, _: None) -> tuple[Array, None]:
            f = log_sum_exp(queries, keys, log_weights - g)
            return log_sum_exp(keys, queries, log_weights - f), None

        g = jnp.zeros_like(log_weights)
        g, _ = jax.lax.scan(one_round, g, None, length=self.iterations - 1)
        average = softmax_average(self.queries(x), self.keys(cloud), cloud, log_weights - g)
        return self.values(average)

    @property
    def bounded(self) -> bool:
        """Yes: the velocity is an average of the cloud, mapped."""
        return True

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        r"""The field of a Gaussian, round by round: every potential is a quadratic.

        Under e^{<u, y> - <y, G y> / 2 - <l, y>} the Gaussian N(mean, cov) tilts to the mean
        R mean + R cov (u - l), R = (I + cov G)^{-1}, so that a column potential (G, l) gives the
        row potential G' = A^T R cov A, l' = A^T R (mean - cov l), and so on with A^T for A.

        Raises:
            ArgumentError: shapes that do not match.
        """
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        return following_inputs(
            _quadratic_rounds, (mean, cov), (self.A, self.V, _Rounds(self.iterations))
        )

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), round by round in the coordinates of F.

        With G = F^T (potential) F, C = F^T A F and the slopes eta = F^T (potential mean + l), a
        column potential (G, eta) gives the row potential C^T (I + G)^{-1} C,
        F^T A^T mean + C^T (I + G)^{-1} (F^T A mean - eta), and so on with A^T for A.
        """
        keys, queries = matmul(self.K, factor).T, matmul(self.Q, factor).T
        at_queries = self.score_scale * matmul(keys, matmul(self.Q, mean))  # F^T A mean
        at_keys = self.score_scale * matmul(queries, matmul(self.K, mean))  # F^T A^T mean
        C = self.score_scale * matmul(keys, queries.T)
        eye = jnp.eye(factor.shape[1], dtype=factor.dtype)

        def one_round(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            for S, to, fro in ((C, at_queries, at_keys), (C.T, at_keys, at_queries)):
                G, eta = state
                solved = jnp.linalg.solve(
                    eye + G, jnp.concatenate([S, (to - eta)[:, None]], axis=1)
                )
                state = (S.T @ solved[:, :-1], fro + S.T @ solved[:, -1])
            return state, None

        start = (jnp.zeros_like(eye), jnp.zeros_like(at_keys))
        (G, eta), _ = jax.lax.scan(one_round, start, None, length=self.iterations - 1)
        solved = jnp.linalg.solve(eye + G, jnp.concatenate([keys, eta[:, None]], axis=1))
        moved = matmul(self.V, factor)
        M = jnp.multiply(self.score_scale, matmul(matmul(moved, solved[:, :-1]), self.Q))
        return matmul(self.V, mean) - matmul(moved, solved[:, -1]) + matmul(M, mean), M


class _Rounds(eqx.Module):
    iterations: int = eqx.field(static=True)


@eqx.filter_jit
def _quadratic_rounds(
    data: tuple[Array, Array], parameters: tuple[Array, Array, _Rounds]
) -> tuple[Array, Array]:
    mean, cov = data
    A, V, rounds = parameters
    identity = jnp.eye(mean.shape[0], dtype=cov.dtype)

    def tilt(G: Array, l: Array) -> tuple[Array, Array]:
        """Mean at u = 0, and its derivative in u."""
        both = jnp.concatenate([(mean - cov @ l)[:, None], cov], axis=1)
        solved = jnp.linalg.solve(identity + cov @ G, both)
        return solved[:, 0], solved[:, 1:]

    def one_round(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        for S in (A, A.T):
            shift, slope = tilt(*state)
            state = (S.T @ slope @ S, S.T @ shift)
        return state, None

    start = (jnp.zeros_like(cov), jnp.zeros_like(mean))
    state, _ = jax.lax.scan(one_round, start, None, length=rounds.iterations - 1)
    shift, slope = tilt(*state)
    M = V @ slope @ A
    return V @ shift + M @ mean, M
