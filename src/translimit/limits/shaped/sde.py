r"""The covariance SDE of the shaped Transformer, path by path, with explosion as an observable.

A path ends at its blow-up time when its trace has grown by `growth_limit`; later covariances are
NaN. Averages over paths that may have exploded mean nothing (the mean of the SDE is then
infinite): compare bounded functionals, or the process stopped at a trace, which networks stop at
as well.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentError,
    ArrayInput,
    Estimate,
    Outcome,
    as_float64,
    available_threads,
    device_count,
    in_float64,
    is_traced,
    map_shards,
    part_of,
    rounded_up,
    side_by_side,
)
from translimit.limits.shaped.block import Block, ShapedMLP
from translimit.limits.shaped.coefficients import require_tokens_cov
from translimit.limits.shaped.methods import (
    AbstractCovarianceMethod,
    EulerMaruyama,
    StructurePreserving,
    attention_rate,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REFERENCE = "Noci et al., arXiv 2306.17759"
#: Paths computed together; adaptive ones wait for the slowest of their chunk.
_CHUNK, _ADAPTIVE_CHUNK = 4096, 256
#: Entries of m x m matrices that a chunk may hold: what an accelerator needs to be busy, and what
#: stays in the cache of a core.
_CHUNK_ENTRIES, _CHUNK_ENTRIES_OF_A_CORE = 2**18, 2**12
#: Programs that this process has compiled for paths on its cores.
_compiled: set[Hashable] = set()
#: A remainder of an interval below this fraction of a step is rounding.
_ROUNDING = 1e-9


class CovarianceSolution(AbstractSolution):
    """Paths of the covariance.

    Attributes:
        ts: the times kept, layers / dim [times].
        cov: covariances [paths, times, tokens, tokens]; NaN after a blow-up, frozen after a stop.
        log_det: log det of them [paths, times], from the factors.
        blow_up_time: when each path exploded, infinity where it did not [paths].
        stopping_time: when each path was stopped at `stop_trace`, infinity where not [paths].
        steps: steps taken by each path [paths].
        outcome: `blow_up` when a path exploded before t1, else `successful`.
    """

    ts: Any
    cov: Any
    log_det: Any
    blow_up_time: Any
    stopping_time: Any
    steps: Any
    outcome: Outcome

    @property
    def correlation(self) -> Any:
        """Correlations V_ab / sqrt(V_aa V_bb) [paths, times, tokens, tokens]."""
        xp = jnp if is_traced(self.cov) else np
        norms = xp.sqrt(xp.diagonal(self.cov, axis1=-2, axis2=-1))
        return xp.clip(self.cov / (norms[..., :, None] * norms[..., None, :]), -1.0, 1.0)

    def blow_up_probability(self) -> Estimate:
        """The fraction of paths that exploded before t1, with its standard error."""
        return _fraction(np.isfinite(self.blow_up_time))

    def stopped_probability(self) -> Estimate:
        """The fraction of paths that were stopped before t1, with its standard error."""
        return _fraction(np.isfinite(self.stopping_time))

    def to_xarray(self) -> xarray.Dataset:
        """Covariances, log determinants and blow-up times as labelled arrays."""
        import xarray

        def labelled(dims: tuple[str, ...], values: Any, name: str, units: str = "1") -> Any:
            return (
                dims,
                np.asarray(values),
                {
                    "long_name": name,
                    "units": units,
                    "reference": REFERENCE,
                },
            )

        return xarray.Dataset(
            {
                "cov": labelled(
                    ("path", "time", "token", "token2"), self.cov, "covariance of the tokens"
                ),
                "log_det": labelled(("path", "time"), self.log_det, "log det of the covariance"),
                "blow_up_time": labelled(
                    ("path",), self.blow_up_time, "blow-up time", "layers / dim"
                ),
                "stopping_time": labelled(
                    ("path",), self.stopping_time, "stopping time", "layers / dim"
                ),
            },
            coords={
                "time": (
                    "time",
                    np.asarray(self.ts),
                    {"long_name": "depth over width", "units": "layers / dim"},
                )
            },
            attrs={"outcome": Outcome[self.outcome] or "successful"},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Median and bands of the correlation of the first two tokens along depth."""
        from translimit.figures import plot_correlation_bands

        return plot_correlation_bands(self.to_xarray(), ax)


class CovarianceSDE(AbstractProblem):
    """The covariance of the tokens of a shaped Transformer as depth and width grow together.

    Runs in float64 whatever the calling program has set.

    Args:
        block: attention block, full block, or `ShapedMLP` alone.
        initial: covariance at depth 0 [tokens, tokens], positive semi-definite; may be singular.
        t1: final time, layers / dim, positive.
        stop_trace: stop a path when its trace first exceeds this, and keep it there; None to let
            paths run until t1 or their explosion.

    Raises:
        ArgumentError: not a covariance, a token of norm zero where there is an MLP, t1 not
            positive, a stop_trace that is not above the initial trace.
        NoSuchLimitError: the block has no covariance SDE.

    Examples:
        >>> import jax, numpy as np
        >>> from translimit import solve
        >>> from translimit.limits.shaped import Block, StructurePreserving
        >>> sde = CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=np.eye(3), t1=0.5)
        >>> solve(sde, StructurePreserving(paths=10), key=jax.random.key(0)).cov.shape
        (10, 101, 3, 3)

    Reference: Noci et al., arXiv 2306.17759.
    """

    block: Block | ShapedMLP
    initial: Any
    t1: Any
    stop_trace: Any

    def __init__(
        self,
        *,
        block: Block | ShapedMLP,
        initial: ArrayInput,
        t1: ArrayInput,
        stop_trace: ArrayInput | None = None,
    ):
        self.block = block
        self.initial = require_tokens_cov(block, initial, "initial")
        self.t1 = as_float64(t1, "t1")
        if np.ndim(self.t1) != 0 or (not is_traced(self.t1) and not self.t1 > 0):
            raise ArgumentError("t1", f"got {t1}", "pass a positive final time, layers / dim")
        self.stop_trace = (
            np.asarray(math.inf) if stop_trace is None else as_float64(stop_trace, "stop_trace")
        )
        if not is_traced(self.stop_trace, self.initial) and not (
            self.stop_trace > np.trace(self.initial)
        ):
            raise ArgumentError(
                "stop_trace",
                f"got {float(self.stop_trace):g}, and the initial trace is "
                f"{np.trace(self.initial):g}",
                "stop above the initial trace",
            )

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """The structure-preserving step, and Euler-Maruyama."""
        return (StructurePreserving, EulerMaruyama)

    def default_method(self) -> AbstractMethod:
        """1,000 paths of the structure-preserving step."""
        return StructurePreserving()

    def run(
        self,
        method: AbstractCovarianceMethod,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> CovarianceSolution:
        """All paths, chunk by chunk; path i has the key of its index, whatever the chunks."""
        tokens = self.initial.shape[0]
        step = method.step_of(self.block, tokens)
        traced = is_traced(self, ts, key)
        on_cores = jax.default_backend() == "cpu"
        entries = _CHUNK_ENTRIES_OF_A_CORE if on_cores else _CHUNK_ENTRIES
        largest = _CHUNK if method.adaptive is None else _ADAPTIVE_CHUNK
        largest = max(1, min(largest, entries // tokens**2)) * device_count()
        chunks = 1 if traced else math.ceil(method.paths / largest)
        size = rounded_up(math.ceil(method.paths / chunks))

        def compute(chunk: int) -> Any:
            indices = np.arange(chunk * size, (chunk + 1) * size)
            shared = (self.block, self.initial, ts, self.stop_trace, method, step, key)
            return in_float64(_paths, *shared, indices)

        program = jax.tree.structure((self.block, method)), tokens, np.shape(ts), size
        results = _side_by_side(compute, chunks, program, progress)
        xp = jnp if traced else np
        cov, log_det, blown, stopped, steps = (
            xp.concatenate(parts)[: method.paths] for parts in zip(*results, strict=True)
        )
        exploded = xp.any(xp.isfinite(blown))
        outcome = Outcome.where(exploded, Outcome.blow_up, Outcome.successful)
        return CovarianceSolution(
            ts=ts,
            cov=cov,
            log_det=log_det,
            blow_up_time=blown,
            stopping_time=stopped,
            steps=steps,
            outcome=outcome,
        )


def _side_by_side(
    compute: Callable[[int], Any],
    chunks: int,
    program: Hashable,
    progress: Callable[[float], object] | None,
) -> list[Any]:
    """`compute` of every chunk: the first alone where it compiles, then as threads allow."""
    alone = 0 if program in _compiled else 1

    def call(chunk: int, report: Callable[[float], object]) -> Any:
        result = compute(chunk)
        report(1.0)
        return result

    calls = [functools.partial(call, chunk) for chunk in range(chunks)]
    first = side_by_side(calls[:alone], 1, part_of(progress, 0.0, alone / chunks))
    _compiled.add(program)
    # The mesh of several devices is known to this thread only, and so is a trace.
    at_once = 1 if device_count() > 1 or chunks == 1 else available_threads()
    return first + side_by_side(calls[alone:], at_once, part_of(progress, alone / chunks, 1.0))


def _fraction(happened: np.ndarray) -> Estimate:
    """A probability; with none or all, the error of the rule of succession and not zero."""
    count = happened.size
    smoothed = (happened.sum() + 1) / (count + 2)
    return Estimate(float(happened.mean()), math.sqrt(smoothed * (1 - smoothed) / count), count)


@eqx.filter_jit
def _paths(
    block: Any,
    initial: Array,
    ts: Array,
    stop_trace: Array,
    method: AbstractCovarianceMethod,
    step: Array,
    key: PRNGKeyArray,
    indices: Array,
) -> Any:
    shared = (block, initial, ts, stop_trace, method, step, key)
    return map_shards(_paths_of, (indices,), (0,), shared)


def _paths_of(indices: Array, shared: Any) -> Any:
    """The paths of these indices."""
    block, initial, ts, stop_trace, method, step, key = shared
    start = method.start(initial)
    blow_up_trace = method.growth_limit * method.trace(start)
    intervals = jnp.diff(ts, prepend=0.0)
    ceiling = jnp.maximum(jnp.ceil(intervals / step * (1 - _ROUNDING)), 1.0)

    def path(index: Array) -> Any:
        own = jax.random.fold_in(key, index)

        def to_next(carry: Any, interval: Any) -> Any:
            duration, longest = interval
            before = carry[1]

            def running(loop: Any) -> Array:
                elapsed, (_, _, _, blown, stopped) = loop
                alive = jnp.isinf(blown) & jnp.isinf(stopped)
                return alive & (duration - elapsed > _ROUNDING * longest)

            def advance(loop: Any) -> Any:
                elapsed, (state, _, count, blown, stopped) = loop
                # Paths that are over step beside the others of their chunk, for nothing.
                left = duration - elapsed
                h = jnp.where(left > 0, jnp.minimum(longest, left), longest)
                if method.adaptive is not None:
                    h = jnp.minimum(h, method.adaptive**2 / attention_rate(block, state))
                state = method.advance(block, state, h, jax.random.fold_in(own, count))
                elapsed = elapsed + h
                now, trace = before + elapsed, method.trace(state)
                exploded = ~(trace <= blow_up_trace) & ~(trace > stop_trace)
                blown = jnp.where(exploded, now, blown)
                stopped = jnp.where(trace > stop_trace, now, stopped)
                # A path that is over costs the others of its chunk nothing.
                state = jnp.where(exploded, start, state)
                return elapsed, (state, now, count + 1, blown, stopped)

            _, carry = jax.lax.while_loop(running, advance, (jnp.zeros_like(duration), carry))
            state, _, count, blown, stopped = carry
            cov, log_det = method.read(state)
            lost = jnp.isfinite(blown)
            kept = jnp.where(lost, jnp.nan, cov), jnp.where(lost, jnp.nan, log_det)
            return (state, before + duration, count, blown, stopped), kept

        never = jnp.asarray(jnp.inf, initial.dtype)
        carry = (start, jnp.zeros_like(never), jnp.asarray(0, jnp.uint32), never, never)
        (_, _, count, blown, stopped), (cov, log_det) = jax.lax.scan(
            to_next, carry, (intervals, intervals / ceiling)
        )
        return cov, log_det, blown, stopped, count

    return jax.vmap(path)(indices)
