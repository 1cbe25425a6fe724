r"""Sinkhorn attention: doubly stochastic, Gamma_mu(x) = int kappa(x, y) V y dmu(y).

    kappa(x, y) = e^{s(x,y) - f(x) - g(y)},   int kappa(x, y) dmu(y) = int kappa(x, y) dmu(x) = 1.

| symbol | name here | shape |
|---|---|---|
| f, g of the self-coupling of the cloud | `potentials` | [tokens] |
| f(x) = log int e^{s(x,y) - g(y)} dmu(y), any x | the last row update | [queries] |

With g known, the field is softmax attention whose scores are lowered by g: a row update at x needs
no f of the cloud, makes the rows exact, and extends the field to every x.

The columns sum to one, so the mean of any cloud moves by mean' = V mean.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; Sander, Ablin, Blondel and Peyré,
arXiv 2110.11773; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from translimit.attention.arguments import (
    AffineField,
    require_mean_and_cov,
    require_tokens,
)
from translimit.attention.base import AbstractIterativeAttention, log_of_weights, require_converged
from translimit.attention.fields import count, flag, positive
from translimit.attention.one_head import AbstractOneHead
from translimit.attention.products import matmul
from translimit.attention.tiles import log_sum_exp, softmax_average
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    NoSuchLimitError,
    Number,
    Outcome,
    SinkhornResult,
    as_float,
    conditional_covariance,
    device_count,
    following_inputs,
    is_traced,
    kernel_fits,
    require_weights,
    sinkhorn_potential,
    sinkhorn_tolerance,
    spectral_h,
    symmetric_sinkhorn_potential,
)


class SinkhornPotentials(eqx.Module):
    """Potentials of a cloud's self-coupling, and how they were found.

    Attributes:
        f: potential of the rows (queries) [tokens]; rows average to one exactly.
        g: potential of the columns (keys) [tokens].
        iterations: rounds that were made.
        error: largest error of a column marginal in the last round, before it was corrected.
        outcome: `successful` or `not_converged`.
    """

    f: Float[AnyArray, " tokens"]
    g: Float[AnyArray, " tokens"]
    iterations: int | Int[AnyArray, ""]
    error: Number
    outcome: Outcome


def _tolerance(tol: ArrayInput | None) -> Float[AnyArray, ""] | None:
    """The converter of `tol`."""
    return None if tol is None else positive("tol")(tol)


@final
class Sinkhorn(AbstractOneHead, AbstractIterativeAttention):
    r"""Sinkhorn attention, converged to a stated tolerance.

    Cost: about log(1 / tol) / log(1 / d_max^2) rounds (d_max:
    `translimit.core.canonical_correlations`). Up to 5,792 tokens a round is two products with the
    kernel, O(tokens^2) operations and numbers (`translimit.core.sinkhorn`); beyond, and where the
    kernel underflows, two passes of O(tokens^2 (head_dim + 1)) in memory O(tokens head_dim).

    Attributes:
        tol: largest error of a column marginal; by default 1e-9 in float64 and 1e-5 in float32,
            what the log-sum-exps of scores of order ten can resolve.
        max_iterations: rounds after which the iteration gives up. A Gaussian cloud takes about
            b_max log(1 / tol) of them, b_max the norm of cov^(1/2) A cov^(1/2); small clouds
            with outliers and large scores can take a hundred times as many.
        symmetric: use A = A^T: averaged updates of f = g, one pass a round instead of two, and
            fewer rounds where the coupling is strong.

    Raises:
        ArgumentError: as `AbstractOneHead`; a tolerance or limit of rounds that is not positive,
            `symmetric` with an A that is not.
        NoSuchLimitError: causal=True. The only doubly stochastic lower triangular matrix is the
            identity.

    Examples:
        Far points feel the whole cloud still, but every token is attended to equally in total:

        >>> import numpy as np
        >>> from translimit.attention import Sinkhorn
        >>> cloud = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -0.5]])
        >>> velocity = Sinkhorn(Q=np.eye(2), K=np.eye(2), V=np.eye(2))(cloud, cloud)
        >>> bool(np.allclose(velocity.mean(axis=0), cloud.mean(axis=0)))
        True
    """

    tol: Float[AnyArray, ""] | None = eqx.field(default=None, converter=_tolerance, kw_only=True)
    max_iterations: int = eqx.field(
        default=1000, static=True, converter=count("max_iterations"), kw_only=True
    )
    symmetric: bool = eqx.field(
        default=False, static=True, converter=flag("symmetric"), kw_only=True
    )

    def __check_init__(self):
        refuse_causal(self.causal)
        if self.symmetric and self.Q.shape == self.K.shape:
            object.__setattr__(self, "Q", _require_symmetric(self.Q, self.A))

    def velocity_and_outcome(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> tuple[Float[Array, "queries dim"], Outcome]:
        """Gamma(x_i) = V sum_j softmax_j(c <Q x_i, K y_j> - g_j + log w_j) y_j."""
        solved = self.column_potential(cloud, log_weights)
        lowered = log_weights - solved.potential
        average = softmax_average(self.queries(x), self.keys(cloud), cloud, lowered)
        return self.values(average), solved.outcome

    def column_potential(
        self,
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        initial: Float[Array, " tokens"] | None = None,
    ) -> SinkhornResult:
        """The potential g of the cloud as a pure function of JAX arrays; nothing is checked.

        Args:
            cloud: tokens [tokens, dim].
            log_weights: logarithms of the weights [tokens].
            initial: a potential to start from (a warm start), zeros by default.
        """
        queries, keys = self.queries(cloud), self.keys(cloud)
        tol = sinkhorn_tolerance(cloud.dtype) if self.tol is None else self.tol
        limit = self.max_iterations
        g = jnp.zeros_like(log_weights) if initial is None else initial

        def rows(g: Array) -> Array:
            return log_sum_exp(queries, keys, log_weights - g)

        def columns(f: Array) -> Array:
            return log_sum_exp(keys, queries, log_weights - f)

        def scores(start: int, stop: int) -> Array:
            return jnp.matmul(queries[start:stop], keys.T, precision=lax.Precision.HIGHEST)

        # Cut over devices, a cloud has its scores nowhere as a whole.
        kernel = kernel_fits(cloud.shape[0]) and device_count() == 1
        settings: Any = {"tol": tol, "max_iterations": limit, "scores": scores if kernel else None}
        weights = jnp.exp(log_weights)
        if self.symmetric:
            return symmetric_sinkhorn_potential(rows, g, weights, **settings)
        return sinkhorn_potential(rows, columns, g, weights, **settings)

    def potentials(
        self,
        cloud: ArrayInput,
        *,
        weights: ArrayInput | None = None,
        initial: ArrayInput | None = None,
        throw: bool = True,
    ) -> SinkhornPotentials:
        """The potentials f, g of the cloud's self-coupling, with iterations and error.

        They are defined up to f + a, g - a, and returned with the g of weighted mean zero; compare
        kappa = e^{s - f - g}.

        Args:
            cloud: tokens [tokens, dim].
            weights: non-negative, summing to one [tokens]; equal weights by default.
            initial: a g to start from [tokens]: that of a neighbouring cloud saves rounds.
            throw: raise when the iteration does not converge; otherwise look at `outcome`.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite entries, bad weights, scores
                beyond the precision of the tokens.
            SolveError: no convergence (with `throw=True`); it carries the potentials so far.
        """
        tokens = require_tokens(as_float(cloud, "cloud"), "cloud", self.dim)
        count = tokens.shape[0]
        weights = require_weights(weights, count)
        start = None if initial is None else as_float(initial, "initial")
        if start is not None and start.shape != (count,):
            raise ArgumentError(
                "initial", f"has shape {start.shape}", f"pass one per token [{count}]"
            )
        result = following_inputs(_potentials, tokens, (self, weights, start))
        if not is_traced(result) and not np.isfinite(np.asarray(result.g)).all():
            raise ArgumentError(
                "cloud",
                f"gives scores that are beyond {tokens.dtype}",
                "measure the tokens in other units, or pass a smaller score_scale",
            )
        if not throw:
            return result
        g = require_converged(result.g, result.outcome, "Sinkhorn", result)
        return eqx.tree_at(lambda r: r.g, result, g)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The field of a Gaussian: g = V mean and M = V L A, L the conditional covariance.

        L solves L + L A cov A^T L = cov (`translimit.core.conditional_covariance`), for every
        covariance, singular ones included, and every A.

        !!! warning "Erratum (authors' script)"
            The script computes M cov as V (A^T)^+ cov^+ C cov, with
            C = (cov A^T cov A + I/4)^(1/2) - I/2 and pseudo-inverses. This equals V L A cov if A
            and cov are both invertible, and is wrong by O(0.1) when either has a kernel: see the
            experiment `castin2025/sinkhorn-erratum`.

        Raises:
            ArgumentError: shapes that do not match, a covariance that is not positive
                semi-definite.
        """
        alpha, sigma = require_mean_and_cov(mean, cov, self.dim)
        A = self.A if isinstance(sigma, np.ndarray) else jnp.asarray(self.A, sigma.dtype)
        M = matmul(matmul(self.V, conditional_covariance(A, sigma)), A)
        return matmul(self.V, alpha), M

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), M = c V F h(C C^T) (K F)^T Q, C = F^T A F.

        h is `translimit.core.spectral_h`: L = F h(C C^T) F^T.
        """
        keys = matmul(self.K, factor)
        coupling = self.score_scale * matmul(keys.T, matmul(self.Q, factor))
        tilted = matmul(spectral_h(coupling), keys.T)
        of_keys = matmul(matmul(self.V, factor), tilted)
        M = jnp.multiply(self.score_scale, matmul(of_keys, self.Q))
        return matmul(self.V, mean), M


@eqx.filter_jit
def _potentials(
    cloud: Array, parameters: tuple[Sinkhorn, Array | None, Array | None]
) -> SinkhornPotentials:
    attention, weights, initial = parameters
    log_weights = log_of_weights(weights, cloud)
    solved = attention.column_potential(cloud, log_weights, initial)
    queries, keys = attention.queries(cloud), attention.keys(cloud)
    f = log_sum_exp(queries, keys, log_weights - solved.potential)
    return SinkhornPotentials(f, solved.potential, solved.iterations, solved.error, solved.outcome)


def refuse_causal(causal: bool) -> None:
    """There is no causal Sinkhorn attention."""
    if causal:
        raise NoSuchLimitError(
            "causal",
            "there is no causal Sinkhorn attention: the only doubly stochastic lower triangular "
            "matrix is the identity, so every token would attend to itself alone (with ties, to "
            "its group of equal positions alone)",
            "use causal=False, or Softmax(..., causal=True)",
        )


def _require_symmetric(
    Q: Float[AnyArray, "head_dim dim"], A: Float[AnyArray, "dim dim"]
) -> Float[AnyArray, "head_dim dim"]:
    """The query map, if A = A^T to 1e-6 relative (what float32 parameters can resolve)."""
    xp = jnp if is_traced(A) else np
    defect, size = xp.max(xp.abs(A - A.T)), xp.max(xp.abs(A))
    if is_traced(A):
        return eqx.error_if(Q, ~(defect <= 1e-6 * size), "symmetric: A = c K^T Q is not symmetric")
    if not defect <= 1e-6 * size:
        raise ArgumentError(
            "symmetric",
            f"A = c K^T Q is not symmetric (largest |A - A^T| is {float(defect):.2g})",
            "use symmetric=False, or K = P Q with a symmetric P",
        )
    return Q
