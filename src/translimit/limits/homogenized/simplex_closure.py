r"""The closure of the overlap dynamics on equal overlaps: gamma(tau) along depth.

The drift of the common overlap is that of `simplex`; its averages f and g are tabulated once.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    AnyArray,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    in_float64,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads, require_cosine
from translimit.integrate import (
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ODEResult,
    integrate_ode,
    listening,
)
from translimit.limits.homogenized.averages import (
    AverageSizes,
    quadrature_error,
    require_resolved,
    sizes_of,
    tabulate,
)
from translimit.limits.homogenized.dimension import Dimension, dimension_of
from translimit.limits.homogenized.simplex import (
    require_simplex,
    simplex_velocity,
)
from translimit.limits.homogenized.token_paths import REFERENCE

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class SimplexSolution(AbstractSolution):
    """The common overlap along depth.

    Attributes:
        ts: the times kept, unit diffusive time [times].
        overlap: gamma [times].
        discretisation: relative error of the averages f and g, estimated where it is largest; the
            steps are held to tolerances.
        outcome: how the solve ended.
        samples: 1, nothing is drawn.
    """

    ts: Times
    overlap: Float[AnyArray, " kept"]
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True, kw_only=True, default=1)

    reference: ClassVar[str] = REFERENCE

    def _dataset(self) -> xarray.Dataset:
        """The overlap by time."""
        import xarray

        about = {"long_name": "common overlap", "units": "1"}
        time = {"long_name": r"unit diffusive time $\tau$", "units": "unit diffusive time"}
        return xarray.Dataset(
            {"overlap": ("time", np.asarray(self.overlap), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The overlap against time."""
        from translimit.figures import plot_overlap

        return plot_overlap(self.to_xarray()["overlap"], ax)


@final
class SimplexClosure(AbstractProblem[SimplexSolution]):
    """gamma(tau) from equal overlaps, in float64.

    Args:
        law: of the heads.
        initial: common overlap at the start, in (-1 / (tokens - 1), 1).
        tokens: number of tokens, at least 2 and at most dim.
        t1: final unit diffusive time, positive.
        dimension: EXACT by default; LARGE for the printed form.
        causal: refused.

    Raises:
        ArgumentError, ArgumentTypeError, NoSuchLimitError: as `simplex.simplex_drift`.
    """

    law: AbstractIsotropicHeads
    initial: Number
    tokens: int = eqx.field(static=True)
    t1: Number
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
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
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
            ts=ts, overlap=result.states, discretisation=error, outcome=result.outcome
        )


@functools.cache
def _closure(sizes: AverageSizes) -> Callable[..., ODEResult]:
    @eqx.filter_jit
    def integrate(
        initial: Number,
        score_std: Number,
        dim: Number,
        t1: Number,
        ts: Times,
        method: AbstractODEMethod,
        handle: Array | None,
    ) -> ODEResult:
        table = tabulate(initial, score_std, sizes)

        def field(t: Array, overlap: Array) -> Array:
            inside = jnp.clip(overlap, initial, 1.0)
            return jnp.asarray(simplex_velocity(overlap, *table(inside), dim))

        return integrate_ode(
            field,
            jnp.asarray(initial),
            t1=jnp.asarray(t1),
            ts=jnp.asarray(ts),
            method=method,
            size=lambda overlap: jnp.ones(()),
            progress=handle,
        )

    return integrate
