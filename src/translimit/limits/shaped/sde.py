r"""The covariance SDE of the shaped Transformer, path by path, with explosion as an observable.

A path ends at its blow-up time when its trace has grown by `growth_limit`; later covariances are
NaN. Averages over paths that may have exploded mean nothing (the mean of the SDE is then
infinite): compare bounded functionals, or the process stopped at a trace, which networks stop at
as well.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Estimate,
    Floats,
    Keep,
    Key,
    NotEstimated,
    Number,
    Numbers,
    Outcome,
    Progress,
    StepError,
    Times,
    as_float64,
    in_float64,
    is_traced,
    reference,
)
from translimit.limits.shaped.block import Block, ShapedMLP
from translimit.limits.shaped.coefficients import require_tokens_cov
from translimit.limits.shaped.methods import (
    AbstractCovarianceMethod,
    EulerMaruyama,
    StructurePreserving,
    change_rate,
)
from translimit.limits.shaped.pairs import Pairs, PathStatistic, step_and_pairs
from translimit.limits.shaped.paths import Ensemble
from translimit.limits.shaped.units import (
    in_unit,
    is_extreme,
    require_resolved,
    require_resolved_scores,
    require_steps,
    unit_of_covariance,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class CovarianceSolution(AbstractSolution):
    """Paths of the covariance.

    Attributes:
        ts: the times kept, layers / dim [times].
        cov: covariances [paths, times, tokens, tokens]; NaN after a blow-up, frozen after a stop.
        log_det: log det of them [paths, times], from the factors; also where the covariances are
            not kept.
        blow_up_time: when each path exploded, infinity where it did not [paths].
        stopping_time: when each path was stopped at `stop_trace`, infinity where not [paths].
        steps_taken: steps taken by each path [paths].
        pairs: some paths with two steps on the same noise, which tell the error of the step.
        outcome: `blow_up` when a path exploded before t1, `non_finite` for an initial covariance
            that is traced and far from one, else `successful`.
        discretisation: the largest error of the step in the mean log det, over times, without
            exploded paths; of the mean correlations where no log det is finite; NaN where nothing
            is. The standard error of the estimate is added.
        samples: the independent paths.
    """

    ts: Times
    cov: Float[AnyArray, "paths kept tokens tokens"]
    log_det: Float[AnyArray, "paths times"]
    blow_up_time: Float[AnyArray, " paths"]
    stopping_time: Float[AnyArray, " paths"]
    steps_taken: UInt32[AnyArray, " paths"]
    pairs: Pairs
    outcome: Outcome
    discretisation: Numbers | NotEstimated
    samples: int = eqx.field(static=True)
    reference: ClassVar[str] = reference("noci2023")

    @property
    def max_step(self) -> Number:
        """The largest step taken."""
        return self.pairs.max_step

    def step_error(self, statistic: PathStatistic) -> StepError:
        """The error of the step in the mean of a statistic.

        Args:
            statistic: from `cov`, `log_det`, `blow_up_time` and `stopping_time` of paths to
                numbers [paths, ...]; at up to four times, equally spaced up to the last, at which
                pairs of paths are compared.
        """
        return self.pairs.step_error(statistic)

    def mean_log_det(self) -> Estimate:
        """The mean log det at the last time over the paths that have not exploded, with errors."""
        values = np.asarray(self.log_det)[:, -1]
        error = self.step_error(lambda paths: paths.log_det[:, -1]).largest
        return Estimate.from_samples(values[np.isfinite(values)], discretisation=float(error))

    @property
    def correlation(self) -> Float[AnyArray, "paths kept tokens tokens"]:
        """Correlations V_ab / sqrt(V_aa V_bb) [paths, times, tokens, tokens]."""
        xp = jnp if is_traced(self.cov) else np
        norms = xp.sqrt(xp.diagonal(self.cov, axis1=-2, axis2=-1))
        return xp.clip(self.cov / (norms[..., :, None] * norms[..., None, :]), -1.0, 1.0)

    def blow_up_probability(self) -> Estimate:
        """The fraction of paths that exploded before t1, with its errors."""
        error = self.step_error(lambda paths: 1.0 * np.isfinite(paths.blow_up_time))
        return _fraction(np.isfinite(self.blow_up_time), float(error.largest))

    def stopped_probability(self) -> Estimate:
        """The fraction of paths that were stopped before t1, with its errors."""
        error = self.step_error(lambda paths: 1.0 * np.isfinite(paths.stopping_time))
        return _fraction(np.isfinite(self.stopping_time), float(error.largest))

    def _dataset(self) -> xarray.Dataset:
        """Covariances, log determinants and blow-up times."""
        import xarray

        def labelled(
            dims: tuple[str, ...], values: Floats, name: str, units: str = "1"
        ) -> xarray.Variable:
            return xarray.Variable(dims, np.asarray(values), {"long_name": name, "units": units})

        return xarray.Dataset(
            {
                "cov": labelled(
                    ("sample", "time", "token", "token2"), self.cov, "covariance of the tokens"
                ),
                "log_det": labelled(("sample", "time"), self.log_det, "log det of the covariance"),
                "blow_up_time": labelled(
                    ("sample",), self.blow_up_time, "blow-up time", "layers / dim"
                ),
                "stopping_time": labelled(
                    ("sample",), self.stopping_time, "stopping time", "layers / dim"
                ),
            },
            coords={
                "time": (
                    "time",
                    np.asarray(self.ts),
                    {"long_name": "depth over width", "units": "layers / dim"},
                )
            },
            attrs={"max_step": float(self.max_step)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Median and bands of the correlation of the first two tokens along depth."""
        from translimit.figures import plot_correlation_bands

        return plot_correlation_bands(self._drawn(), ax)


class CovarianceSDE(AbstractProblem[CovarianceSolution]):
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
            positive, a stop_trace that is not above the initial trace; from `solve`, a covariance
            that attention changes faster than steps resolve, or steps beyond counting.
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
    initial: Float[AnyArray, "tokens tokens"]
    t1: Number
    stop_trace: Float[AnyArray, ""]
    state: ClassVar[str] = "the covariance [tokens, tokens] of one path"

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
        """1,000 paths of the structure-preserving step, its size from their sampling error."""
        return StructurePreserving()

    def _bytes(self, method: AbstractCovarianceMethod, times: int) -> float:
        """Bytes of the covariances that are kept, chunk by chunk and joined, and of the pairs."""
        tokens = self.initial.shape[0]
        return 4.2 * 8.0 * method.paths * times * (tokens**2 + 1)

    def run(
        self,
        method: AbstractCovarianceMethod,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> CovarianceSolution:
        """All paths, after the error of their step."""
        assert key is not None  # `solve` requires it
        times = as_float64(ts, "ts")
        unit = unit_of_covariance(self.block, self.initial, "initial")
        block, initial = in_unit(self.block, unit), self.initial / unit
        traced = is_traced(block, initial, self.stop_trace, times)
        if not traced:
            self._require_steps(block, initial, method)
        stop_trace = self.stop_trace / unit
        if not is_traced(stop_trace):
            stop_trace = np.asarray(stop_trace)
        ensemble = Ensemble(block, initial, stop_trace, method, key, unit)
        step, pairs = step_and_pairs(ensemble, times, keep)
        pairs = pairs.times_unit(unit)
        paths = ensemble.paths(method.paths, times, step, keep=keep, progress=progress)
        paths = paths.times_unit(unit)
        xp = jnp if is_traced(paths) else np
        exploded = xp.any(xp.isfinite(paths.blow_up_time))
        outcome = Outcome.where(exploded, Outcome.blow_up, Outcome.successful)
        if traced:
            # Traced covariances are not measured, and have the unit one.
            outcome = Outcome.where(is_extreme(initial), Outcome.non_finite, outcome)
        return CovarianceSolution(
            ts=ts,
            cov=paths.cov,
            log_det=paths.log_det,
            blow_up_time=paths.blow_up_time,
            stopping_time=paths.stopping_time,
            steps_taken=paths.steps_taken,
            pairs=pairs,
            outcome=outcome,
            discretisation=pairs.headline.largest,
            samples=int(method.paths),
            observed=paths.observed,
            states_kept=keep.states,
        )

    def _require_steps(
        self,
        block: Block | ShapedMLP,
        initial: Float[AnyArray, "tokens tokens"],
        method: AbstractCovarianceMethod,
    ) -> None:
        """Refuse steps that are too many, and attention that they do not resolve."""
        max_step = method.first_max_step(block, len(initial))
        require_steps(float(self.t1), max_step)
        if method.saturates:
            require_resolved_scores(block, initial)
            return
        rate = in_float64(change_rate, block, initial)
        if not is_traced(rate):  # as it is inside somebody's jit
            require_resolved(float(rate), max_step, method.adaptive, method.growth_limit)


def _fraction(happened: np.ndarray, discretisation: float) -> Estimate:
    """A probability; with none or all, the error of the rule of succession and not zero."""
    count = happened.size
    smoothed = (happened.sum() + 1) / (count + 2)
    stderr = math.sqrt(smoothed * (1 - smoothed) / count)
    return Estimate(float(happened.mean()), stderr, count, discretisation)
