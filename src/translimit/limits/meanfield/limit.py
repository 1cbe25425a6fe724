r"""Where the closures end: covariances for t to infinity, and their ranks.

The rank of Sigma(t) is constant for finite t (Sigma = Phi Sigma_0 Phi^T with Phi invertible); a
drop of rank is a statement about the limit, and the approach is algebraic (eigenvalues like 1 / t
for V = I). So the closure is followed in logarithmic time, and `limit_ranks` reads the rank off the
slopes of the eigenvalues in its last two decades. Where V has a small eigenvalue v the covariance
rests on a slow curve, with more eigenvalues than will stay, until t is about 1 / v: no eigenvalue
counts as persistent unless t1 v |A| |Sigma_0| exceeds `HORIZON`.

| symbol | name here | shape |
|---|---|---|
| Sigma = F F^T, F' = M F | `factor` | [times, dim, dim] |
| lambda_i, descending: squared singular values of F | `eigenvalues` | [dim] |
| d log lambda_i / d log t | `slopes` | [2, dim] |

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from translimit.attention import (
    AbstractAttention,
    matmul,
)
from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Floats,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    SolveError,
    Times,
    as_float64,
    brief,
    is_traced,
    require_covariance,
)
from translimit.integrate import (
    AbstractLocalSystem,
    LogTimeODE,
    integrate_log_time,
)
from translimit.limits.meanfield.closure import closure_bytes
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.limit_ranks import GaussianLimitSolution, classify_slopes
from translimit.limits.meanfield.score_basis import (
    in_score_basis,
    is_parameter,
    slowest_rate,
    stacked,
)
from translimit.limits.meanfield.units import Units, units_of_law

#: How many times the slowest time scale of V has to pass before an eigenvalue counts as persistent.
HORIZON = 10.0


class GaussianLimit(AbstractProblem[GaussianLimitSolution]):
    """The limit of a Gaussian closure for t to infinity, from a centred Gaussian.

    The law is centred: a mean would grow like e^{tV}, and the closures of a centred law stay
    centred. Cost: one to a few hundred steps in O(dim^3). What is slow then goes on by implicit
    steps in O(dim^4 k + (dim k)^3), with k the rank of Q (of all heads). Beyond dim k = 128
    steps stay explicit, and covariances that contract at very different rates may reach the step
    limit.

    Args:
        attention: a variant whose field of a Gaussian is affine, without a constant drift.
        cov: covariance of the tokens [dim, dim]; may be singular.
        t1: depth to which the closure is followed; rounding shows beyond about 1e10.

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, a covariance that is
            not symmetric or not positive semi-definite, or so large or small that squares of its
            rate of change are no floats, t1 not positive.
        ArgumentTypeError: traced values: the host takes part, `solve_limits` is the batched form.
        NoSuchLimitError: the variant has no exact Gaussian closure.

    Examples:
        Scalar softmax with V A = -1: cov = 1 / (1 + 2 t), nothing is left.

        >>> from translimit import solve
        >>> from translimit.attention import Softmax
        >>> limit = GaussianLimit(attention=Softmax(Q=[[1.0]], K=[[-1.0]], V=[[1.0]]), cov=[[1.0]])
        >>> int(solve(limit).rank)
        0
    """

    attention: AbstractAttention
    cov: Float[np.ndarray, "dim dim"]
    t1: Number

    def __init__(self, *, attention: AbstractAttention, cov: ArrayInput, t1: ArrayInput = 1e6):
        dim = attention.dim
        if is_traced(attention, cov, t1):
            raise ArgumentTypeError(
                "cov", "is traced, or the attention or t1 is", "use solve_limits for a batch"
            )
        cov = as_float64(cov, "cov")
        if cov.shape != (dim, dim):
            raise ArgumentError("cov", f"has shape {cov.shape}", f"pass [{dim}, {dim}]")
        self.attention = attention
        self.cov = require_covariance(cov)
        self.t1 = require_horizon(t1)
        units = units_of_law(_law_field, attention, np.zeros(dim), self.cov, self.t1)
        if units != Units():
            raise ArgumentError(
                "cov",
                f"makes the law change at a rate of about {1 / units.time:.3g}, or has entries of "
                f"about {units.length:.3g} squared",
                "measure the tokens and the depth in units in which both are ordinary numbers",
            )
        # A variant without an exact closure says so here.
        velocity, _ = attention.gaussian_field(np.zeros(dim), self.cov)
        if np.any(np.asarray(velocity) != 0.0):
            raise ArgumentError(
                "attention",
                "moves the mean of a centred law",
                "pass one without a constant drift (b = 0)",
            )

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Steps in logarithmic time."""
        return (LogTimeODE,)

    def default_method(self) -> AbstractMethod:
        """Rtol 1e-8, one lane."""
        return LogTimeODE(lanes=1)

    def default_times(self) -> np.ndarray:
        """Six times a decade over the last ten decades."""
        return np.geomspace(1e-10, 1.0, 61) * self.t1

    def _bytes(self, method: LogTimeODE, times: int) -> float:
        """Bytes of the factors that are kept, in the basis of the scores and in the given one."""
        return 3 * closure_bytes(self.attention.dim, times)

    def run(
        self,
        method: LogTimeODE,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> GaussianLimitSolution:
        """Follow the factor in float64."""
        batch = _run([self], method, np.asarray(ts), progress)
        return jax.tree.map(lambda leaf: leaf if leaf is batch.ts else np.asarray(leaf[0]), batch)


def solve_limits(
    problems: Sequence[GaussianLimit],
    method: LogTimeODE | None = None,
    *,
    save: ArrayInput | None = None,
    throw: bool = True,
    progress: Progress | None = None,
) -> GaussianLimitSolution:
    """Solve an ensemble of limits of one shape, each with steps of its own.

    Args:
        problems: limits with attentions of one type and shape and the same t1. Smaller dimensions
            may be padded with zeros: neither ranks nor eigenvalues see it.
        method: tolerances and lanes; rtol 1e-8 and 64 lanes by default.
        save: times to keep; the last two decades by default.
        throw: raise if a member failed. Blow-up and divergence are results, and so is the step
            limit here: such a member is undecided.
        progress: a function of the fraction of members that have ended.

    Raises:
        ArgumentError: no problems, or problems that differ in shape or t1.
        SolveError: a state was not finite (with `throw=True`).
    """
    if not problems:
        raise ArgumentError("problems", "is empty", "pass at least one GaussianLimit")
    t1 = float(problems[0].t1)
    shapes = {
        (
            jax.tree.structure(p.attention),
            *(
                np.shape(leaf) if is_parameter(leaf) else leaf
                for leaf in jax.tree.leaves(p.attention)
            ),
        )
        for p in problems
    }
    if len(shapes) > 1 or any(float(p.t1) != t1 for p in problems):
        raise ArgumentError(
            "problems",
            "differ in kind, shape or t1",
            "pass one kind, shape (pad with zeros) and t1",
        )
    ts = _decades(t1) if save is None else as_float64(save, "save")
    if ts.ndim != 1 or ts.size == 0 or ts[0] < 0 or ts[-1] > t1 or np.any(np.diff(ts) <= 0):
        raise ArgumentError(
            "save", f"got {brief(ts)}", f"pass strictly increasing times within [0, {t1:g}]"
        )
    solution = _run(problems, method or LogTimeODE(), np.asarray(ts), progress)
    if throw and bool(np.any(np.asarray(solution.outcome == Outcome.non_finite))):
        raise SolveError(f"solve_limits: {Outcome[Outcome.non_finite]}", solution)
    return solution


def factor_vector_field(
    attention: AbstractAttention, factor: Float[Array, "dim rank"]
) -> Float[Array, "dim rank"]:
    """F' = M F of a centred law, the covariance's part of the closure."""
    return matmul(_linear_part(attention, factor), factor)


def _law_field(
    attention: AbstractAttention, mean: np.ndarray, cov: np.ndarray
) -> tuple[Floats, Floats]:
    return attention.gaussian_field(mean, cov)


def _linear_part(attention: AbstractAttention, factor: Array) -> Array:
    """M of the centred law with the covariance F F^T."""
    centre = jnp.zeros(factor.shape[0], factor.dtype)
    return attention.factor_field(centre, factor)[1]


def _trace(factor: Array) -> Array:
    return jnp.sum(factor**2)


class _Closure(AbstractLocalSystem):
    """F' = M F, around a factor F in the coordinates Z [dim, k]: F + Z F_k, F_k the first k rows.

    Only the first k columns of M, M_k, are not zero (`in_score_basis`), and Z' = M_k (I + Z_k):
    steps multiply F from the left, as the flow does. So the rank stays, and rows that have become
    small keep their digits.

    What is no array of an attention is shared by all members; the arrays are the parameters.
    """

    shared: AbstractAttention
    columns: int = eqx.field(static=True)

    def origin(self, y: Array) -> Array:
        return jnp.zeros((y.shape[0], self.columns), y.dtype)

    def state(self, y: Array, z: Array) -> Array:
        return y + matmul(z, y[: self.columns])

    def velocity(self, parameters: PyTree, y: Array, z: Array) -> Array:
        attention = eqx.combine(parameters, self.shared)
        M = _linear_part(attention, self.state(y, z))[:, : self.columns]
        return M + matmul(M, z[: self.columns])


def _decades(t1: float) -> np.ndarray:
    return np.array([1e-2, 1e-1, 1.0]) * t1


def _run(
    problems: Sequence[GaussianLimit],
    method: LogTimeODE,
    ts: np.ndarray,
    progress: Progress | None,
) -> GaussianLimitSolution:
    decades = _decades(float(problems[0].t1))
    grid = np.union1d(ts, decades)
    cov = np.stack([problem.cov for problem in problems])
    values, basis = np.linalg.eigh((cov + np.swapaxes(cov, -1, -2)) / 2)
    # Eigenvalues that are rounding are zeros of a singular covariance; as columns of zeros they
    # stay exactly zero, and a symmetric root would smear them over all columns.
    rounding = cov.shape[-1] * np.finfo(float).eps * values[:, -1:]
    values = np.where(values > rounding, values, 0.0)
    initial = basis * np.sqrt(values)[:, None, :]
    arrays, shared = stacked([problem.attention for problem in problems])
    arrays, rotation, columns = in_score_basis(arrays, cov.shape[-1])
    with jax.enable_x64(True):
        result = integrate_log_time(
            _Closure(shared, columns),
            _trace,
            jax.tree.map(jnp.asarray, arrays),
            np.swapaxes(rotation, 1, 2) @ initial,
            ts=grid,
            method=method,
            progress=progress,
        )
    rank = (values > 0).sum(axis=-1)
    ends = result.states[:, np.searchsorted(grid, decades)]
    missing = ~np.isfinite(ends).all(axis=(-2, -1))
    eigenvalues = np.linalg.svd(np.nan_to_num(ends), compute_uv=False) ** 2
    eigenvalues[missing] = np.nan
    slopes, persistent, decaying = classify_slopes(eigenvalues, decades, rank)
    persistent &= (decades[-1] * slowest_rate(arrays, cov) > HORIZON)[:, None]
    last = rotation @ result.last
    return GaussianLimitSolution(
        ts=ts,
        factor=rotation[:, None] @ result.states[:, np.searchsorted(grid, ts)],
        eigenvalues=eigenvalues[:, -1],
        slopes=slopes,
        initial_rank=rank,
        persistent=persistent,
        decaying=decaying,
        last_cov=last @ np.swapaxes(last, -1, -2),
        blow_up_time=result.blow_up_time,
        steps_taken=result.steps_taken,
        outcome=result.outcome,
    )
