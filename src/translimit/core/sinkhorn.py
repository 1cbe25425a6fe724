r"""Sinkhorn's iteration, as a fixed point that can be differentiated.

For a score s(x, y) and a measure mu = sum_j w_j delta_{x_j}, potentials f, g [tokens] solve

    rows: f_i = log sum_j w_j e^{S_ij - g_j},    columns: g_j = log sum_i w_i e^{S_ij - f_i},

so that kappa_ij = e^{S_ij - f_i - g_j} averages to one over either index. A round is made in one of
two forms, which agree to rounding.

- The log form: two log-sum-exps. How they are made (dense, in tiles) is the caller's.
- The kernel form, where the matrix fits in memory: with E_ij = e^{S_ij - m_i - h_j}, potentials
  h = g of an earlier round and m_i = max_j (S_ij - h_j) absorbed,

      e^{f_i - m_i} = sum_j E_ij w_j e^{h_j - g_j},    e^{g_j - h_j} = sum_i E_ij w_i e^{m_i - f_i},

  two products with a matrix that stays, without one exponential of an entry. It holds while the
  logarithms of these sums stay within the `reach` of the precision. A round that leaves it, or
  underflows, is made in the log form, and the kernel is built again around its result.

The rest is the same in both:

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

Reference: Sander, Ablin, Blondel and Peyré, arXiv 2110.11773; Schmitzer, arXiv 1610.06519
(stabilised kernels); documentation, "The Transformer PDE".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from translimit.core.outcome import Outcome

#: Entries of the largest kernel: 5,792 tokens, 256 MiB in float64. With the scores, from which it
#: is built, the iteration holds two such matrices at once.
LARGEST_KERNEL = 2**25

#: Rows of the kernel that are multiplied from both sides while they are in the cache.
BLOCK_BYTES = 2**22

#: Gives rows start, ..., stop - 1 of the scores S [stop - start, tokens].
ScoreRows = Callable[[int, int], Array]


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


def kernel_fits(tokens: int) -> bool:
    """Whether the kernel form may hold a matrix of this many tokens squared."""
    return tokens * tokens <= LARGEST_KERNEL


def sinkhorn_potential(
    rows: Callable[[Array], Array],
    columns: Callable[[Array], Array],
    initial: Float[Array, " tokens"],
    weights: Float[Array, " tokens"],
    *,
    tol: Float[Array, ""] | float,
    max_iterations: int,
    scores: ScoreRows | None = None,
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
        scores: rows start, ..., stop - 1 of S as a function of the two, for the kernel form (see
            `kernel_fits`); without them every round is made in the log form.

    Returns:
        The potential and how the iteration ended; traceable and differentiable in whatever the
        functions close over. If a derivative does not converge in as many rounds it is NaN.
    """

    def move(g: Array, new: Array) -> tuple[Array, Array]:
        return new - jnp.sum(weights * new), jnp.max(jnp.abs(jnp.expm1(new - g)))

    def in_logs(g: Array) -> tuple[Array, Array]:
        return move(g, columns(rows(g)))

    kernel = None
    if scores is not None:
        kernel = _KernelForm(
            build=lambda g: _Kernel.around(scores, g, weights),
            step=lambda kernel, g: move(g, kernel.rows_and_columns(g)),
        )
    return _fixed_point(in_logs, kernel, initial, tol, max_iterations)


def symmetric_sinkhorn_potential(
    update: Callable[[Array], Array],
    initial: Float[Array, " tokens"],
    weights: Float[Array, " tokens"],
    *,
    tol: Float[Array, ""] | float,
    max_iterations: int,
    scores: ScoreRows | None = None,
) -> SinkhornResult:
    """The potential f = g of a symmetric score, by averaged updates f <- (f + update(f)) / 2.

    One round costs half of one of `sinkhorn_potential`, and contracts by max (1 - d) / 2 over the
    signed canonical correlations d: by 1/2 or better for a positive semi-definite score matrix,
    where it pays as soon as d_max^2 exceeds 1/4; it never pays for a negative one.

    Args:
        update: log sum_j w_j e^{S_ij - f_j} as a function of f, for S = S^T.
        initial: where f starts.
        weights: the weights w.
        tol: largest admissible error of a marginal.
        max_iterations: rounds after which the iteration gives up.
        scores: as in `sinkhorn_potential`.
    """

    def move(f: Array, new: Array) -> tuple[Array, Array]:
        return (f + new) / 2, jnp.max(jnp.abs(jnp.expm1(new - f)))

    def in_logs(f: Array) -> tuple[Array, Array]:
        return move(f, update(f))

    kernel = None
    if scores is not None:
        off = float(jnp.finfo(initial.dtype).min) / 2

        def seen(start: int, stop: int) -> Array:
            # Every row counts here, and no column of weight zero does.
            return jnp.where(weights > 0, scores(start, stop), off)

        kernel = _KernelForm(
            build=lambda f: _Kernel.around(seen, f, weights),
            step=lambda kernel, f: move(f, kernel.rows(f)),
        )
    return _fixed_point(in_logs, kernel, initial, tol, max_iterations)


class _Kernel(NamedTuple):
    """E_ij = e^{S_ij - m_i - h_j} in blocks of rows; an update beyond the reach is NaN.

    A block is multiplied from both sides while it is in the cache, and blocks do not wait for each
    other, so that cores share them: the product of a matrix and a vector alone runs on one.

    Attributes:
        blocks: E, at most one in every entry [rows, tokens] each.
        maxima: m of the rows of each block [rows].
        absorbed: h [tokens].
        weights: w [tokens].
    """

    blocks: tuple[Array, ...]
    maxima: tuple[Array, ...]
    absorbed: Array
    weights: Array

    @classmethod
    def around(cls, scores: ScoreRows, potential: Array, weights: Array) -> _Kernel:
        """The kernel with a potential absorbed. Its derivative passes through S alone: exact."""
        absorbed = lax.stop_gradient(potential)
        blocks, maxima = [], []
        for start, stop in _row_blocks(absorbed):
            lowered = scores(start, stop) - absorbed
            maximum = lax.stop_gradient(jnp.max(lowered, axis=1))
            blocks.append(jnp.exp(lowered - maximum[:, None]))
            maxima.append(maximum)
        return cls(tuple(blocks), tuple(maxima), absorbed, weights)

    def rows(self, g: Array) -> Array:
        """The row potential f [tokens] of g."""
        scaled = self._scaled(g)
        sums = jnp.concatenate([_dot(block, scaled) for block in self.blocks])
        return jnp.concatenate(self.maxima) + _log_within_reach(sums)

    def rows_and_columns(self, g: Array) -> Array:
        """The next column potential [tokens] after g."""
        scaled = self._scaled(g)
        start, of_columns = 0, []
        for block in self.blocks:
            weights = self.weights[start : start + block.shape[0]]
            start += block.shape[0]
            sums = _dot(block, scaled)
            # A row of weight zero adds nothing to a column: its own sum may underflow.
            beyond = jnp.where(weights > 0, jnp.nan, 1.0)
            sums = jnp.where(_within_reach(jnp.log(sums)), sums, beyond)
            of_columns.append(_dot(weights / sums, block))
        return self.absorbed + _log_within_reach(_tree_sum(of_columns))

    def _scaled(self, g: Array) -> Array:
        """w_j e^{h_j - g_j} [tokens]."""
        moved = jnp.where(self.weights > 0, self.absorbed - g, 0.0)
        return self.weights * jnp.exp(jnp.where(_within_reach(moved), moved, jnp.nan))


def _within_reach(logarithms: Array) -> Array:
    """Whether sums of these logarithms, beside factors of them, lose nothing to underflow.

    An entry of E that underflows is below `tiny` and is multiplied by at most e^reach, where a sum
    is at least e^{-reach}: what is lost is below tiny e^{2 reach} of it in each of its terms, and
    this is eps (tiny / eps)^{1/3}.
    """
    info = jnp.finfo(logarithms.dtype)
    return jnp.abs(logarithms) <= (math.log(info.eps) - math.log(info.tiny)) / 3


def _log_within_reach(sums: Array) -> Array:
    logarithms = jnp.log(sums)
    return jnp.where(_within_reach(logarithms), logarithms, jnp.nan)


def _row_blocks(potential: Array) -> list[tuple[int, int]]:
    """Where the blocks of rows start and stop: nearly equal parts of at most `BLOCK_BYTES`."""
    tokens = potential.shape[0]
    rows = max(1, BLOCK_BYTES // (tokens * potential.dtype.itemsize))
    blocks = -(-tokens // rows)
    cuts = [tokens * block // blocks for block in range(blocks + 1)]
    return list(itertools.pairwise(cuts))


def _tree_sum(terms: list[Array]) -> Array:
    """The sum pair by pair, so that no term waits for all earlier ones."""
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]


def _dot(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


class _KernelForm(NamedTuple):
    """How a kernel is built around a potential, and the step that it makes."""

    build: Callable[[Array], _Kernel]
    step: Callable[[_Kernel, Array], tuple[Array, Array]]


class _State(NamedTuple):
    """A potential, the rounds behind it, the last error, and whether the next is one in logs."""

    g: Array
    iterations: Array
    error: Array
    in_logs: Array


def _fixed_point(
    step: Callable[[Array], tuple[Array, Array]],
    kernel_form: _KernelForm | None,
    initial: Array,
    tol: Array | float,
    max_iterations: int,
) -> SinkhornResult:
    """Iterate step(g) = (new g, error) until the error is below tol; implicit derivatives."""

    def unfinished(state: _State) -> Array:
        # A NaN ends the iteration: it would never fall below tol.
        return (state.error >= tol) & (state.iterations < max_iterations)

    def advance(state: _State) -> _State:
        g, error = step(state.g)
        return _State(g, state.iterations + 1, error, jnp.array(False))

    def by_kernel(kernel_form: _KernelForm, state: _State) -> _State:
        """Rounds with one kernel as far as it reaches; then one in logs, if that is not the end."""
        kernel = kernel_form.build(state.g)

        def round_of_kernel(state: _State) -> _State:
            g, error = kernel_form.step(kernel, state.g)
            left = ~jnp.all(jnp.isfinite(g))
            after = _State(g, state.iterations + 1, error, left)
            before = state._replace(in_logs=left)
            return jax.tree.map(lambda old, new: jnp.where(left, old, new), before, after)

        state = lax.while_loop(
            lambda state: unfinished(state) & ~state.in_logs, round_of_kernel, state
        )
        # At most once. As a branch, a batch would make it for every member, needed or not.
        return lax.while_loop(lambda state: state.in_logs, advance, state)

    def iterate(_: object, start: Array) -> tuple[Array, tuple[Array, Array]]:
        infinite = jnp.full((), jnp.inf, start.dtype)
        state = _State(start, jnp.array(0), infinite, jnp.array(False))
        body = advance if kernel_form is None else partial(by_kernel, kernel_form)
        state = lax.while_loop(unfinished, body, state)
        # As a float: `custom_root` has no rule for integers beside the root.
        return state.g, (state.iterations.astype(start.dtype), state.error)

    def residual(g: Array) -> Array:
        if kernel_form is None:
            return g - step(g)[0]
        return g - kernel_form.step(kernel_form.build(g), g)[0]

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
        residual, lax.stop_gradient(initial), iterate, tangent, has_aux=True
    )
    iterations, error = jax.tree.map(lax.stop_gradient, (iterations, error))
    outcome = Outcome.where(error < tol, Outcome.successful, Outcome.not_converged)
    return SinkhornResult(g, iterations.astype(int), error, outcome)
