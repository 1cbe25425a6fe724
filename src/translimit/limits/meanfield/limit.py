r"""Where the closures end: covariances for t to infinity, and their ranks.

The rank of Sigma(t) is constant for finite t (Sigma = Phi Sigma_0 Phi^T with Phi invertible); a
drop of rank is a statement about the limit, and the approach is algebraic (eigenvalues like 1 / t
for V = I). So the closure is followed in logarithmic time, and an eigenvalue lambda counts by its
slope d log lambda / d log t in *each* of the last two decades:

    persistent  |slope| < 0.05, and not growing from the first to the second,
    decaying    slope < -0.5,
    undecided   anything else.

A slope that is small and grows tells of a decay that is still to come. And where V has a small
eigenvalue v the covariance rests on a slow curve, with more eigenvalues than will stay, until t is
about 1 / v: no eigenvalue counts as persistent unless t1 v |A| |Sigma_0| exceeds `HORIZON`. A limit
with an undecided eigenvalue has no rank here: transients exist, too, in which an eigenvalue falls
by nine orders of magnitude and grows again. Nothing is compared with an absolute threshold.

| symbol | name here | shape |
|---|---|---|
| Sigma = F F^T, F' = M F | `factor` | [times, dim, dim] |
| lambda_i, descending: squared singular values of F | `eigenvalues` | [dim] |
| d log lambda_i / d log t | `slopes` | [2, dim] |

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from translimit.attention import (
    L2,
    AbstractAttention,
    FixedSinkhorn,
    Linear,
    MultiHead,
    Sinkhorn,
    Softmax,
    matmul,
)
from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Floats,
    Keep,
    Key,
    NotEstimated,
    Number,
    Numbers,
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
    STEPS_NOT_ESTIMATED,
    AbstractLocalSystem,
    LogTimeODE,
    integrate_log_time,
)
from translimit.limits.meanfield.closure import closure_bytes
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.units import Units, units_of_law

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

PERSISTENT_SLOPE = 0.05
#: Slopes below this are those of rounding and of the error of the steps: they may grow.
STEADY_SLOPE = 1e-6
DECAYING_SLOPE = -0.5
#: How many times the slowest time scale of V has to pass before an eigenvalue counts as persistent.
HORIZON = 10.0
#: What `rank` says when it is not settled.
UNDECIDED = -1


def classify_slopes(
    eigenvalues: Float[np.ndarray, "*members decades dim"],
    decades: Float[np.ndarray, " decades"],
    rank: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes, and which eigenvalues persist and which decay, by the rule of the module docstring.

    Args:
        eigenvalues: descending, at the times `decades` [..., times, dim].
        decades: increasing times [times].
        rank: rank at the start [...]: the eigenvalues beyond it are zero for all times.

    Returns:
        Slopes [..., times - 1, dim], `persistent` and `decaying` [..., dim]. An eigenvalue below
        the rounding of the factor, (dim eps)^2 of the largest, has decayed; its slope is -inf.
    """
    dim = eigenvalues.shape[-1]
    floor = (dim * np.finfo(float).eps) ** 2 * eigenvalues[..., :1]
    resolved = eigenvalues > floor
    logs = np.log(np.where(resolved, eigenvalues, 1.0))
    slopes = np.diff(logs, axis=-2) / np.diff(np.log(decades))[:, None]
    slopes = np.where(resolved[..., 1:, :] & resolved[..., :-1, :], slopes, -np.inf)
    # NaN (a member that ended early) is neither.
    slopes = np.where(np.isfinite(eigenvalues).all(axis=-2, keepdims=True), slopes, np.nan)
    present = np.arange(dim) < np.asarray(rank)[..., None]
    size = np.abs(slopes)
    growing = size[..., 1:, :] > np.maximum(size[..., :-1, :], STEADY_SLOPE)
    persistent = (size < PERSISTENT_SLOPE).all(axis=-2) & ~growing.any(axis=-2) & present
    decaying = (slopes < DECAYING_SLOPE).all(axis=-2) & present
    return slopes, persistent, decaying


class GaussianLimitSolution(AbstractSolution):
    """The end of a closure, or of an ensemble of them (leading axis `members`).

    Attributes:
        ts: the times kept [times].
        factor: F with cov = F F^T [..., times, dim, dim]; NaN after the end of a solution.
        eigenvalues: of the covariance at t1, descending [..., dim]; NaN if t1 was not reached.
        slopes: d log eigenvalue / d log t in each of the last two decades [..., 2, dim].
        initial_rank: rank of the initial covariance [...].
        persistent: eigenvalues that have settled at a positive number [..., dim]; none where t1 is
            too short for V.
        decaying: eigenvalues that go to zero [..., dim].
        last_cov: the last covariance, at t1 or where the solution ended [..., dim, dim].
        blow_up_time: when the law ceases to exist, infinity if it does not before t1 [...].
        steps_taken: attempted steps [...].
        outcome: how each solve ended.
        discretisation: not estimated; the reason says how to see it.
        samples: one: nothing is drawn.
    """

    ts: Times
    factor: Float[np.ndarray, "*members times dim dim"]
    eigenvalues: Float[np.ndarray, "*members dim"]
    slopes: Float[np.ndarray, "*members decades dim"]
    initial_rank: Int[np.ndarray, "*members"]
    persistent: Bool[np.ndarray, "*members dim"]
    decaying: Bool[np.ndarray, "*members dim"]
    last_cov: Float[np.ndarray, "*members dim dim"]
    blow_up_time: Float[np.ndarray, "*members"]
    steps_taken: Int[np.ndarray, "*members"]
    outcome: Outcome
    discretisation: Numbers | NotEstimated = eqx.field(
        kw_only=True, static=True, default=STEPS_NOT_ESTIMATED
    )
    samples: int = eqx.field(kw_only=True, static=True, default=1)
    reference: ClassVar[str] = "Castin et al., arXiv 2501.18322"

    @property
    def cov(self) -> Float[np.ndarray, "*members times dim dim"]:
        """Covariances at the times kept [..., times, dim, dim]."""
        return np.einsum("...ij,...kj->...ik", self.factor, self.factor)

    @property
    def undecided(self) -> Bool[np.ndarray, "*members"]:
        """Whether an eigenvalue neither persists nor decays, or t1 was not reached [...]."""
        counted = self.persistent.sum(axis=-1) + self.decaying.sum(axis=-1)
        return np.asarray(counted < self.initial_rank)

    @property
    def rank(self) -> Int[np.ndarray, "*members"]:
        """The settled rank of the limit [...], `UNDECIDED` (-1) where it is not settled."""
        return np.where(self.undecided, UNDECIDED, self.persistent.sum(axis=-1))

    @property
    def eigenvalue_paths(self) -> Float[np.ndarray, "*members times dim"]:
        """Eigenvalues at all times kept, descending [..., times, dim]."""
        missing = ~np.isfinite(self.factor).all(axis=(-2, -1))
        values = np.linalg.svd(np.nan_to_num(self.factor), compute_uv=False) ** 2
        values[missing] = np.nan
        return values

    def _dataset(self) -> xarray.Dataset:
        """Covariances, eigenvalues and slopes."""
        import xarray

        lead = ("member",) if np.ndim(self.blow_up_time) else ()

        def labelled(dims: tuple[str, ...], values: np.ndarray, name: str) -> xarray.Variable:
            about = {"long_name": name, "units": "1"}
            return xarray.Variable((*lead, *dims), np.asarray(values), about)

        return xarray.Dataset(
            {
                "cov": labelled(("time", "component", "component2"), self.cov, "covariance"),
                "eigenvalue_paths": labelled(
                    ("time", "eigenvalue"), self.eigenvalue_paths, "eigenvalue of the cov."
                ),
                "eigenvalues": labelled(("eigenvalue",), self.eigenvalues, "eigenvalue at t1"),
                "slopes": labelled(("decade", "eigenvalue"), self.slopes, "logarithmic slope"),
                "rank": labelled((), self.rank, "settled rank, -1 undecided"),
                "undecided": labelled((), self.undecided, "whether the rank is undecided"),
                "last_cov": labelled(("component", "component2"), self.last_cov, "last covariance"),
                "blow_up_time": labelled((), self.blow_up_time, "blow-up time"),
                "steps_taken": labelled((), self.steps_taken, "attempted steps"),
            },
            coords={
                "time": ("time", np.asarray(self.ts), {"long_name": "depth", "units": "depth"})
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Eigenvalues against depth, both logarithmic."""
        from translimit.figures import plot_eigenvalue_paths

        return plot_eigenvalue_paths(self.to_xarray()["eigenvalue_paths"], ax)


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
    progress: Callable[[float], object] | None = None,
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
                np.shape(leaf) if _is_parameter(leaf) else leaf
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


def _is_parameter(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray | np.generic)


class _Closure(AbstractLocalSystem):
    """F' = M F, around a factor F in the coordinates Z [dim, k]: F + Z F_k, F_k the first k rows.

    Only the first k columns of M, M_k, are not zero (`_in_score_basis`), and Z' = M_k (I + Z_k):
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

    def velocity(self, parameters: Any, y: Array, z: Array) -> Array:
        attention = eqx.combine(parameters, self.shared)
        M = _linear_part(attention, self.state(y, z))[:, : self.columns]
        return M + matmul(M, z[: self.columns])


def _stack(attentions: Sequence[AbstractAttention]) -> tuple[Any, AbstractAttention]:
    """The arrays of the attentions with a leading axis, and what all of them share."""
    parts = [eqx.partition(attention, _is_parameter) for attention in attentions]
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves).astype(float), *(a for a, _ in parts))
    return arrays, parts[0][1]


def _in_score_basis(arrays: Any, dim: int) -> tuple[Any, np.ndarray, int]:
    """Attentions in orthogonal bases whose first vectors span the rows of Q.

    M ends with the factor A = c K^T Q in every closure, so that its other columns are zero here.
    And where K = -Q the covariance vanishes in these directions as t to infinity: as rows of their
    own they keep their digits, where in another basis Q Sigma is a difference that rounds away.

    Args:
        arrays: stacked attentions, their arrays with a leading axis over members.
        dim: of the tokens.

    Returns:
        The attentions, their bases [members, dim, dim] as columns, and the number of columns of M
        that may not be zero: the given basis and all columns for other kinds of attention.
    """
    one_head = isinstance(arrays, Softmax | L2 | Linear | Sinkhorn | FixedSinkhorn)
    if not one_head and not isinstance(arrays, MultiHead):
        members = len(jax.tree.leaves(arrays)[0])
        return arrays, np.broadcast_to(np.eye(dim), (members, dim, dim)), dim
    members = len(arrays.Q)
    _, sizes, rows = np.linalg.svd(arrays.Q.reshape(members, -1, dim))
    rounding = max(arrays.Q[0].size // dim, dim) * np.finfo(float).eps
    ranks = (sizes > rounding * sizes[:, :1]).sum(axis=1)
    basis = np.swapaxes(rows, 1, 2)
    heads = () if one_head else (1,)
    right, left = (x.reshape(members, *heads, dim, dim) for x in (basis, rows))
    Q, K = arrays.Q @ right, arrays.K @ right
    Q = np.where(np.arange(dim) < ranks.reshape(members, *heads, 1, 1), Q, 0.0)
    # What is rounding in K is zero, or rows of the covariance that vanish would never be rid of it.
    K = np.where(np.abs(K) > rounding * np.abs(K).max(axis=(-2, -1), keepdims=True), K, 0.0)
    changed = {"Q": Q, "K": K, "V": arrays.V @ right}
    # What maps values to tokens: V itself, or the output maps.
    changed |= {"V": left @ changed["V"]} if one_head else {"W": left @ arrays.W}
    names = tuple(changed)
    arrays = eqx.tree_at(
        lambda a: tuple(getattr(a, name) for name in names), arrays, tuple(changed.values())
    )
    return arrays, basis, max(1, int(ranks.max()))


def _slowest_rate(arrays: Any, cov: np.ndarray) -> np.ndarray:
    """|A| |Sigma_0| times the smallest singular value of V that is not rounding [members].

    Heads are taken together. Infinite where nothing moves, and for other kinds of attention, of
    which nothing is known.
    """
    if not isinstance(arrays, Softmax | L2 | Linear | Sinkhorn | FixedSinkhorn | MultiHead):
        return np.full(len(cov), np.inf)
    values = arrays.W @ arrays.V if isinstance(arrays, MultiHead) else arrays.V
    sizes = np.linalg.svd(values, compute_uv=False).reshape(len(cov), -1)
    rounding = cov.shape[-1] * np.finfo(float).eps * sizes.max(axis=1, keepdims=True)
    smallest = np.where(sizes > rounding, sizes, np.inf).min(axis=1)
    Q, K = (np.linalg.norm(x.reshape(len(cov), -1), axis=1) for x in (arrays.Q, arrays.K))
    scores = arrays.score_scale * Q * K * np.linalg.norm(cov, axis=(1, 2))
    return np.where(scores > 0, smallest, np.inf) * np.where(scores > 0, scores, 1.0)


def _decades(t1: float) -> np.ndarray:
    return np.array([1e-2, 1e-1, 1.0]) * t1


def _run(
    problems: Sequence[GaussianLimit],
    method: LogTimeODE,
    ts: np.ndarray,
    progress: Callable[[float], object] | None,
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
    arrays, shared = _stack([problem.attention for problem in problems])
    arrays, rotation, columns = _in_score_basis(arrays, cov.shape[-1])
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
    persistent &= (decades[-1] * _slowest_rate(arrays, cov) > HORIZON)[:, None]
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
