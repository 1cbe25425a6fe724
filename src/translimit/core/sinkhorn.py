r"""Sinkhorn's iteration in the log domain, as a fixed point that can be differentiated.

For a score s(x, y) and a measure mu = sum_j w_j delta_{x_j}, potentials f, g [tokens] solve

    rows: f_i = log sum_j w_j e^{S_ij - g_j},    columns: g_j = log sum_i w_i e^{S_ij - f_i},

so that kappa_ij = e^{S_ij - f_i - g_j} averages to one over either index. How the log-sum-exps are
made (dense, in tiles) is the caller's: this file holds the iteration, its stop rule and its
derivative.

- Potentials are defined up to f + a, g - a; here g has mean zero under w.
- The iteration contracts by d_max^2 a round, the squared top canonical correlation of the coupling.
- The stop rule is the error of the column marginals after a row update,
  max_j |e^{g_new - g} - 1| < tol. A last row update, which makes the rows exact, is the caller's
  (an attention makes it anyway).
- The derivative is that of the fixed point g = T(g), by the implicit function theorem:
  dg = (I - T')^{-1} dT, summed as a Neumann series. The series converges at the rate of the
  iteration itself, costs no memory that grows with the number of iterations (unrolled reverse mode
  keeps every iterate, checkpointed or not), serves forward and reverse mode alike, and does not
  depend on the start, so that a warm start changes no derivative.

Reference: Sander, Ablin, Blondel and Peyré, arXiv 2110.11773; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from translimit.core.outcome import Outcome


class SinkhornResult(eqx.Module):
    """A column potential and how its iteration ended.

    Attributes:
        potential: g [tokens], of mean zero under the weights (in the symmetric form f = g, where
            nothing is free).
        iterations: rounds that were made.
        error: largest error of a marginal in the last round, before it was corrected.
        outcome: `successful` or `not_converged`.
    """

    potential: Float[Array, " tokens"]
    iterations: Int[Array, ""]
    error: Float[Array, ""]
    outcome: Outcome


def sinkhorn_tolerance(dtype: jnp.dtype) -> float:
    """The default tolerance on the marginals: 1e-9 in float64, 1e-5 in any lower precision."""
    return 1e-9 if jnp.dtype(dtype) == jnp.float64 else 1e-5


def sinkhorn_potential(
    rows: Callable[[Array], Array],
    columns: Callable[[Array], Array],
    initial: Float[Array, " tokens"],
    weights: Float[Array, " tokens"],
    *,
    tol: Float[Array, ""] | float,
    max_iterations: int,
) -> SinkhornResult:
    """The potential g of the fixed point g = columns(rows(g)).

    Args:
        rows: f_i = log sum_j w_j e^{S_ij - g_j} as a function of g.
        columns: g_j = log sum_i w_i e^{S_ij - f_i} as a function of f.
        initial: where g starts: zeros (the first round is softmax attention), or the g of a
            neighbouring problem.
        weights: the weights w.
        tol: largest admissible error of a column marginal.
        max_iterations: rounds after which the iteration gives up.

    Returns:
        The potential and how the iteration ended; traceable and differentiable in whatever the
        two functions close over. If a derivative does not converge in as many rounds it is NaN.
    """

    def round_of_updates(g: Array) -> tuple[Array, Array]:
        new = columns(rows(g))
        return new - jnp.sum(weights * new), jnp.max(jnp.abs(jnp.expm1(new - g)))

    return _fixed_point(round_of_updates, initial, tol, max_iterations)


def symmetric_sinkhorn_potential(
    update: Callable[[Array], Array],
    initial: Float[Array, " tokens"],
    *,
    tol: Float[Array, ""] | float,
    max_iterations: int,
) -> SinkhornResult:
    """The potential f = g of a symmetric score, by averaged updates f <- (f + update(f)) / 2.

    One round costs half of one of `sinkhorn_potential`, and contracts by max (1 - d) / 2 over the
    signed canonical correlations d: by 1/2 or better for a positive semi-definite score matrix,
    where it pays as soon as d_max^2 exceeds 1/4; it never pays for a negative one.

    Args:
        update: log sum_j w_j e^{S_ij - f_j} as a function of f, for S = S^T.
        initial: where f starts.
        tol: largest admissible error of a marginal.
        max_iterations: rounds after which the iteration gives up.
    """

    def averaged(f: Array) -> tuple[Array, Array]:
        new = update(f)
        return (f + new) / 2, jnp.max(jnp.abs(jnp.expm1(new - f)))

    return _fixed_point(averaged, initial, tol, max_iterations)


def _fixed_point(
    step: Callable[[Array], tuple[Array, Array]],
    initial: Array,
    tol: Array | float,
    max_iterations: int,
) -> SinkhornResult:
    """Iterate step(g) = (new g, error) until the error is below tol; implicit derivatives."""

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        # A NaN ends the iteration: it would never fall below tol.
        return (state[2] >= tol) & (state[1] < max_iterations)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        new, error = step(state[0])
        return new, state[1] + 1, error

    def iterate(_: object, start: Array) -> tuple[Array, tuple[Array, Array]]:
        infinite = jnp.full((), jnp.inf, start.dtype)
        g, iterations, error = lax.while_loop(unfinished, advance, (start, jnp.array(0), infinite))
        # As a float: `custom_root` has no rule for integers beside the root.
        return g, (iterations.astype(start.dtype), error)

    def neumann(linear: Callable[[Array], Array], target: Array) -> Array:
        """Solve (I - T') x = target by x <- x + residual, a power series in T'."""
        floor = tol * jnp.max(jnp.abs(target))

        def residual_is_large(state: tuple[Array, Array, Array]) -> Array:
            return (jnp.max(jnp.abs(state[1])) > floor) & (state[2] < max_iterations)

        def add_residual(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x = state[0] + state[1]
            return x, target - linear(x), state[2] + 1

        start = (jnp.zeros_like(target), target, jnp.array(0))
        x, residual, _ = lax.while_loop(residual_is_large, add_residual, start)
        return jnp.where(jnp.max(jnp.abs(residual)) <= floor, x, jnp.nan)

    def tangent(linear: Callable[[Array], Array], target: Array) -> Array:
        # Told how its transpose is solved, the solve has a reverse derivative too.
        return lax.custom_linear_solve(linear, target, neumann, neumann)

    g, (iterations, error) = lax.custom_root(
        lambda g: g - step(g)[0], lax.stop_gradient(initial), iterate, tangent, has_aux=True
    )
    iterations, error = jax.tree.map(lax.stop_gradient, (iterations, error))
    outcome = Outcome.where(error < tol, Outcome.successful, Outcome.not_converged)
    return SinkhornResult(g, iterations.astype(int), error, outcome)
