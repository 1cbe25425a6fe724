r"""The mean overlap along depth from equal overlaps, with its fluctuations.

The drift of an overlap at a simplex is that of `simplex`, exactly. It is no equation for the mean:
noise leaves the simplex at once, and fluctuations of size d^{-1/2} change the mean by O(1 / d), as
much as the terms 1 / d of the drift. Three methods:

- `FirstOrder`: the drift alone; right for d to infinity, off by O(1 / d).
- `LinearNoise`: mean and second moments, four equations; the mean is off by O(d^{-2}).
- `ReplicaDiffusion`, the default: the law of a replica's mean overlap, and the second moments
  within a replica; off by O(d^{-2}) with a far smaller constant, exact for two tokens.

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
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    in_float64,
    is_traced,
    require_count,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads, require_cosine
from translimit.integrate import (
    AbstractODEMethod,
    AdaptiveODE,
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
from translimit.limits.homogenized.replica_diffusion import replica_moments
from translimit.limits.homogenized.simplex import (
    require_simplex,
    simplex_velocity,
)
from translimit.limits.homogenized.simplex_kernel import LARGEST_STD, KernelTable, kernel_table
from translimit.limits.homogenized.simplex_moments import covariances, moment_terms
from translimit.limits.homogenized.token_paths import REFERENCE
from translimit.observe import collapse_time

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class FirstOrder(AbstractMethod):
    """The drift of the mean taken for the mean of the drift: fluctuations left out.

    Attributes:
        ode: how the equation is integrated.
    """

    ode: AbstractODEMethod = eqx.field(default_factory=AdaptiveODE)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]


@final
class LinearNoise(AbstractMethod):
    """Mean and covariance of the overlaps, their noise linear in the state.

    Attributes:
        ode: how the four equations are integrated.
    """

    ode: AbstractODEMethod = eqx.field(default_factory=AdaptiveODE)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]


@final
class ReplicaDiffusion(AbstractMethod):
    """The law of a replica's mean overlap on a grid, with the moments within a replica.

    Attributes:
        nodes: of the grid, at least 100.
        max_step: largest step of diffusive time up to time one, and in its proportion beyond.
    """

    nodes: int = eqx.field(static=True, default=1200)
    max_step: float = eqx.field(static=True, default=0.01)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_count(self.nodes, "nodes", 100)
        require_number(self.max_step, "max_step", POSITIVE)


@final
class SimplexSolution(AbstractSolution):
    """The mean overlap along depth.

    Attributes:
        ts: the times kept, unit diffusive time [times].
        overlap: the mean of the overlaps of different tokens [times].
        second_moments: variance of one overlap, covariances of two that share a token and of two
            that do not [times, 3]; 0 where tokens are too few, and at first order.
        discretisation: relative error of the averages f and g, estimated where it is largest, and
            of `ReplicaDiffusion` that of the grid; the steps of an ODE are held to tolerances.
        outcome: how the solve ended.
        samples: 1, nothing is drawn.
    """

    ts: Times
    overlap: Float[AnyArray, " kept"]
    second_moments: Float[AnyArray, "kept 3"]
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True, kw_only=True, default=1)

    reference: ClassVar[str] = REFERENCE

    def collapse_time(self, threshold: float | int = 0.5) -> float:
        """When the mean overlap first reaches a threshold; infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, in (-1, 1].
        """
        return collapse_time(self.ts, self.overlap, threshold)

    def _dataset(self) -> xarray.Dataset:
        """Overlap and second moments by time."""
        import xarray

        about = {"long_name": "mean overlap", "units": "1"}
        moments = {"long_name": "variance and covariances of overlaps", "units": "1"}
        time = {"long_name": r"unit diffusive time $\tau$", "units": "unit diffusive time"}
        return xarray.Dataset(
            {
                "overlap": ("time", np.asarray(self.overlap), about),
                "second_moments": (("time", "pair"), np.asarray(self.second_moments), moments),
            },
            coords={
                "time": ("time", np.asarray(self.ts), time),
                "pair": ["itself", "one token shared", "none shared"],
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The overlap against time."""
        from translimit.figures import plot_overlap

        return plot_overlap(self.to_xarray()["overlap"], ax)


@final
class SimplexClosure(AbstractProblem[SimplexSolution]):
    """The mean overlap from equal overlaps, in float64.

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
        """First order, linear noise and the diffusion of replicas."""
        return (FirstOrder, LinearNoise, ReplicaDiffusion)

    def default_method(self) -> FirstOrder | LinearNoise | ReplicaDiffusion:
        """ReplicaDiffusion; LinearNoise where a number is traced.

        FirstOrder for infinite dimension, which has no fluctuations, and for scores beyond 8.
        """
        if self.dimension is Dimension.LARGE or self._is_sharp:
            return FirstOrder()
        return LinearNoise() if is_traced(self.law, self.initial, self.t1) else ReplicaDiffusion()

    @property
    def _is_sharp(self) -> bool:
        """Whether scores are beyond the tables of second moments."""
        return not is_traced(self.law.score_std) and not self.law.score_std <= LARGEST_STD

    def _bytes(self, method: AbstractMethod, times: int) -> float:
        """Bytes of the overlaps and the moments that are kept."""
        return 64.0 * times

    def run(
        self,
        method: FirstOrder | LinearNoise | ReplicaDiffusion,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> SimplexSolution:
        """Tabulate the averages, then integrate."""
        sizes = sizes_of(self.law, self.tokens)
        error = quadrature_error(self.initial, self.law.score_std, sizes)
        require_resolved(error)
        if self._is_sharp and not isinstance(method, FirstOrder):
            raise ArgumentError(
                "method",
                f"{type(method).__name__} knows scores up to {LARGEST_STD:g}, and got "
                f"{float(self.law.score_std):g}",
                "pass FirstOrder(), or solve OverlapSDE",
            )
        if isinstance(method, ReplicaDiffusion):
            return self._on_a_grid(method, ts, error, progress)
        dim = dimension_of(self.law, self.dimension)
        with listening(progress) as handle:
            numbers = (dim, self.t1, ts, method.ode, handle)
            if isinstance(method, LinearNoise):
                table = kernel_table(self.law, self.tokens)
                result = in_float64(_linear_noise, self.initial, table, *numbers)
                overlap, moments = result.states[:, 0], result.states[:, 1:]
            else:
                result = in_float64(_closure(sizes), self.initial, self.law.score_std, *numbers)
                overlap = result.states
                moments = 0.0 * overlap[:, None] * np.ones(3)
        return SimplexSolution(
            ts=ts,
            overlap=overlap,
            second_moments=moments,
            discretisation=error,
            outcome=result.outcome,
        )

    def _on_a_grid(
        self, method: ReplicaDiffusion, ts: Times, error: Number, progress: Progress | None
    ) -> SimplexSolution:
        """The density, and once more with half of the nodes and twice the step."""
        if is_traced(self.law, self.initial, self.t1, ts):
            raise ArgumentTypeError(
                "method", "ReplicaDiffusion is not traced", "pass LinearNoise() or FirstOrder()"
            )
        table = kernel_table(self.law, self.tokens)
        dim = float(dimension_of(self.law, self.dimension))
        times = np.asarray(ts, dtype=np.float64)
        fine, coarse = (
            replica_moments(
                table,
                dim,
                float(self.initial),
                times,
                nodes=method.nodes // ratio,
                max_step=ratio * method.max_step,
            )
            for ratio in (1, 2)
        )
        if progress is not None:
            progress(1.0)
        return SimplexSolution(
            ts=ts,
            overlap=fine[:, 0],
            second_moments=fine[:, 1:],
            discretisation=error + np.abs(fine[:, 0] - coarse[:, 0]).max() / 3.0,
            outcome=Outcome.successful,
        )


@eqx.filter_jit
def _linear_noise(
    initial: Number,
    table: KernelTable,
    dim: Number,
    t1: Number,
    ts: Times,
    method: AbstractODEMethod,
    handle: Array | None,
) -> ODEResult:
    """Mean overlap, variance and covariances [times, 4]."""
    n = table.tokens

    def field(t: Array, state: Array) -> Array:
        inside = jnp.clip(state[0], -1.0 / (n - 1), 1.0)
        terms = moment_terms(table(inside), inside, n, dim)
        parts = zip(terms.curvatures, terms.rates, terms.noises, state[1:], strict=True)
        moved = [(h * C, 2 * a * C + B) for h, a, B, C in parts]
        mean = terms.drift + sum(one for one, _ in moved)
        return jnp.stack([mean, *(jnp.asarray(one) for _, one in moved)])

    result = integrate_ode(
        field,
        jnp.concatenate([jnp.asarray(initial)[None], jnp.zeros(3)]),
        t1=jnp.asarray(t1),
        ts=jnp.asarray(ts),
        method=method,
        size=lambda state: jnp.ones(()),
        progress=handle,
    )
    states = result.states
    moments = covariances((states[:, 1], states[:, 2], states[:, 3]), n)
    found = jnp.stack([states[:, 0], *moments], axis=1)
    return eqx.tree_at(lambda one: one.states, result, found)


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
