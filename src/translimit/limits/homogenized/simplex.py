r"""All overlaps equal: the closure of the overlap dynamics, and its drift with and without 1/d.

With all off-diagonal overlaps gamma, s_ii = gamma + (1 - gamma) f and s_ij = gamma + (1 - gamma) g:

    gamma' = (d - 2 + gamma^2) s_ij / d - (d - 1) gamma s_ii / d       per unit diffusive time,

the exact drift of R_ij at the simplex. f and g average softmax weights: given a = W'^T x of the
queries, the logits of query i are independent over keys with standard deviation
score_std (1 - gamma)^{1/2} |a_i| / (sigma_a d_k^{1/2}), those of two queries correlated by
cos(a_i, a_j); (a_i, a_j) is Wishart with d_k degrees of freedom and correlation gamma.

!!! warning "Erratum"
    The paper states gamma' = s_ij - gamma s_ii as exact; that is the form for d to infinity.
    d times the difference is of order one: at d = 4 the printed drift is too fast by a factor
    between 2 and 4.

The simplex is not preserved by the noise; overlaps concentrate about it for large dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from translimit.attention import require_isotropic
from translimit.core import (
    POSITIVE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    NoSuchLimitError,
    Outcome,
    brief,
    in_float64,
    is_traced,
    require_count,
    require_flag,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads, require_cosine
from translimit.integrate import (
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    integrate_ode,
    listening,
)
from translimit.limits.homogenized.averages import (
    LARGEST_ERROR,
    AverageSizes,
    averages,
    quadrature_error,
    require_resolved,
    sizes_of,
    tabulate,
)
from translimit.limits.homogenized.one_key import require_score_std

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class Dimension(enum.Enum):
    """Which drift: EXACT keeps d, LARGE is d to infinity, as printed."""

    EXACT = "exact"
    LARGE = "large"


def simplex_overlaps(overlap: Any, f: Any, g: Any) -> tuple[Any, Any]:
    """s_ii and s_ij of the simplex."""
    return overlap + (1.0 - overlap) * f, overlap + (1.0 - overlap) * g


def simplex_velocity(overlap: Any, f: Any, g: Any, dim: Any) -> Any:
    """Gamma' per unit diffusive time; dim may be infinite."""
    same, other = simplex_overlaps(overlap, f, g)
    inverse = 1.0 / dim
    return (1.0 - inverse * (2.0 - overlap**2)) * other - (1.0 - inverse) * overlap * same


def simplex_drift(
    law: AbstractIsotropicHeads,
    overlap: ArrayInput,
    tokens: int,
    *,
    dimension: Dimension = Dimension.EXACT,
    causal: bool = False,
) -> Any:
    """The drift of a common overlap per unit diffusive time.

    Args:
        law: of the heads; differentiable in its score_std.
        overlap: gamma, in (-1 / (tokens - 1), 1).
        tokens: number of tokens, at least 2 and at most dim.
        dimension: EXACT by default; LARGE for the printed form.
        causal: refused: under a mask the overlaps of a simplex do not stay equal.

    Raises:
        ArgumentError: an overlap outside its interval, more tokens than dimensions, finite scores
            beyond the quadrature: above 16, or so strong for so few columns that f and g may be off
            by more than 5 % (there the drift is NaN where it is traced).
        ArgumentTypeError: a law that is not invariant under rotations.
        NoSuchLimitError: causal.

    Examples:
        Without scores, from orthogonal tokens, the drift is (d - 2) / (d n):

        >>> from translimit.limits.homogenized import WideHeads, simplex_drift
        >>> law = WideHeads(dim=10, score_std=0.0)
        >>> round(float(simplex_drift(law, 0.0, 4)), 6)
        0.2
    """
    tokens = require_simplex(law, tokens, causal)
    low = -1.0 / (tokens - 1)
    overlap = require_cosine(overlap, "overlap", low, ends=False)
    sizes = sizes_of(law, tokens)
    error = quadrature_error(overlap, law.score_std, sizes)
    require_resolved(error)
    f, g = in_float64(averages, overlap, law.score_std, sizes)
    drift = simplex_velocity(overlap, f, g, dimension_of(law, dimension))
    return jnp.where(error <= LARGEST_ERROR, drift, jnp.nan) if is_traced(error) else drift


def require_simplex(law: Any, tokens: Any, causal: Any) -> int:
    """The number of tokens of a simplex that exists and has a closure.

    Raises:
        ArgumentError: more tokens than dimensions, fewer than 2, scores beyond the quadrature.
        ArgumentTypeError: a law that is not invariant under rotations, or a causal that is no bool.
        NoSuchLimitError: causal.
    """
    require_isotropic(law)
    tokens = require_count(tokens, "tokens", 2)
    if tokens > law.dim:
        raise ArgumentError(
            "tokens",
            f"got {tokens} in dimension {law.dim}: so many tokens with equal overlaps do not exist",
            f"pass at most {law.dim}, or solve OverlapSDE",
        )
    if require_flag(causal, "causal"):
        raise NoSuchLimitError(
            "causal",
            "under a mask overlaps do not stay equal, and the simplex is no closure",
            "solve OverlapSDE with causal=True",
        )
    require_score_std(law.score_std)
    return tokens


class SimplexSolution(AbstractSolution):
    """The common overlap along depth.

    Attributes:
        ts: the times kept, unit diffusive time [times].
        overlap: gamma [times].
        quadrature_error: relative error of the averages f and g, estimated where it is largest.
        outcome: how the solve ended.
    """

    ts: Any
    overlap: Any
    quadrature_error: Any
    outcome: Outcome

    def to_xarray(self) -> xarray.Dataset:
        """The overlap by time."""
        import xarray

        about = {"long_name": "common overlap", "units": "1", "reference": "arXiv 2604.01978"}
        time = {"long_name": r"unit diffusive time $\tau$", "units": "unit diffusive time"}
        return xarray.Dataset(
            {"overlap": ("time", np.asarray(self.overlap), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
            attrs={
                "outcome": Outcome[self.outcome] or "successful",
                "quadrature_error": float(self.quadrature_error),
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The overlap against time."""
        from translimit.figures import plot_overlap

        return plot_overlap(self.to_xarray()["overlap"], ax)


class SimplexClosure(AbstractProblem):
    """gamma(tau) from equal overlaps, in float64.

    Args:
        law: of the heads.
        initial: common overlap at the start, in (-1 / (tokens - 1), 1).
        tokens: number of tokens, at least 2 and at most dim.
        t1: final unit diffusive time, positive.
        dimension: EXACT by default; LARGE for the printed form.
        causal: refused.

    Raises:
        ArgumentError, ArgumentTypeError, NoSuchLimitError: as `simplex_drift`.
    """

    law: AbstractIsotropicHeads
    initial: Any
    tokens: int = eqx.field(static=True)
    t1: Any
    dimension: Dimension = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractIsotropicHeads,
        initial: ArrayInput = 0.0,
        tokens: int,
        t1: ArrayInput,
        dimension: Dimension = Dimension.EXACT,
        causal: bool = False,
    ):
        self.tokens = require_simplex(law, tokens, causal)
        self.law = law
        self.initial = require_cosine(initial, "initial", -1.0 / (tokens - 1), ends=False)
        self.t1 = require_number(t1, "t1", POSITIVE)
        self.dimension = dimension

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AdaptiveODE:
        """Rtol 1e-8."""
        return AdaptiveODE()

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the overlaps that are kept."""
        return 16.0 * times

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> SimplexSolution:
        """Tabulate f and g, then integrate."""
        with listening(progress) as handle:
            sizes = sizes_of(self.law, self.tokens)
            error = quadrature_error(self.initial, self.law.score_std, sizes)
            require_resolved(error)
            dim = dimension_of(self.law, self.dimension)
            arguments = (self.initial, self.law.score_std, dim, self.t1, ts, method, handle)
            result = in_float64(_closure(sizes), *arguments)
        return SimplexSolution(
            ts=ts, overlap=result.states, quadrature_error=error, outcome=result.outcome
        )


def dimension_of(law: AbstractIsotropicHeads, dimension: Dimension) -> np.float64:
    """The dimension in the drift: that of the tokens, or infinity.

    Raises:
        ArgumentTypeError: no member of `Dimension`.
    """
    if not isinstance(dimension, Dimension):
        raise ArgumentTypeError(
            "dimension", f"got {brief(dimension)}", "pass Dimension.EXACT or Dimension.LARGE"
        )
    return np.float64(math.inf if dimension is Dimension.LARGE else law.dim)


@functools.cache
def _closure(sizes: AverageSizes) -> Callable[..., Any]:
    @eqx.filter_jit
    def integrate(
        initial: Any, score_std: Any, dim: Any, t1: Any, ts: Any, method: Any, handle: Any
    ) -> Any:
        table = tabulate(initial, score_std, sizes)

        def field(t: Array, overlap: Array) -> Array:
            inside = jnp.clip(overlap, initial, 1.0)
            return simplex_velocity(overlap, *table(inside), dim)

        return integrate_ode(
            field,
            initial,
            t1=t1,
            ts=ts,
            method=method,
            size=lambda overlap: jnp.ones(()),
            progress=handle,
        )

    return integrate
