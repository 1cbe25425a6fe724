r"""The slow equation of the overlap for strong scores and infinitely many tokens, by paths.

    du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB,      kappa = 3/2 + d / (2 d_k),

on the slow clock t = tau / d. Euler steps are taken in y = artanh u, whose noise is additive. The
laws that can be had without paths, and when the equation holds, are in `low_temperature`.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    AnyArray,
    ArgumentTypeError,
    ArrayInput,
    Estimate,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    StepError,
    Times,
    coupled_step_error,
    hidden_step,
    in_float64,
    is_traced,
    require_count,
    require_number,
)
from translimit.describe import GaussianHeads, require_cosine
from translimit.limits.homogenized.low_temperature import default_drift_coefficient
from translimit.limits.homogenized.schedule import Schedule, require_max_step, schedule
from translimit.limits.homogenized.step_error import Comparison, refined
from translimit.limits.homogenized.token_paths import REFERENCE

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: What every solution of the slow equation says.
FINITE_TOKENS = (
    "holds for infinitely many tokens with a density on the whole sphere; at a fixed number of "
    "tokens the overlap moves on the diffusive clock instead"
)
#: The first step that is tried where none is given.
FIRST_STEP = 0.005


@final
class ArtanhEuler(AbstractMethod):
    """Euler steps in y = artanh u, where the noise is additive: weak and strong order one.

    Attributes:
        max_step: largest step of slow time; by default 0.005 is halved until the error of the steps
            is below the sampling error of the paths.
        paths: independent paths, at least 2.
    """

    max_step: float | None = eqx.field(static=True, default=None)
    paths: int = eqx.field(static=True, default=4096)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_max_step(self.max_step)
        require_count(self.paths, "paths", 2)


@final
class SlowSolution(AbstractSolution):
    """Overlaps of two tokens on the slow clock.

    Attributes:
        ts: the times kept, slow time tau / d [times].
        overlap: u [paths, times].
        drift_coefficient: coefficient of the equation.
        warnings: when the limit applies, in words.
        max_step: the largest step taken.
        discretisation: size of the error of the steps in E u and E u^2, the larger, with the
            standard error of its estimate added.
        outcome: how the solve ended.
        samples: paths.
    """

    ts: Times
    overlap: Float[AnyArray, "paths kept"]
    drift_coefficient: Number
    warnings: tuple[str, ...] = eqx.field(static=True)
    max_step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True)

    reference: ClassVar[str] = REFERENCE

    def mean_square(self, time: int = -1) -> Estimate:
        """E u^2 at one of the times, with its errors."""
        values = np.asarray(self.overlap)[:, time] ** 2
        return Estimate.from_samples(values, discretisation=float(self.discretisation))

    def _dataset(self) -> xarray.Dataset:
        """Overlaps by path and slow time."""
        import xarray

        about = {"long_name": "overlap $u$", "units": "1"}
        time = {"long_name": r"slow time $t = \tau / d$", "units": "slow time"}
        return xarray.Dataset(
            {"overlap": (("sample", "time"), np.asarray(self.overlap), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
            attrs={
                "drift_coefficient": float(self.drift_coefficient),
                "max_step": self.max_step,
                "warnings": "; ".join(self.warnings),
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Single paths, their middle half, and their mean."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["overlap"], ax)


@final
class SlowOverlap(AbstractProblem[SlowSolution]):
    """du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB on the slow clock, in float64.

    Args:
        initial: u_0, in (-1, 1).
        t1: final slow time, positive.
        law: heads whose dim and head_dim give kappa = 3/2 + dim / (2 head_dim).
        drift_coefficient: the coefficient itself, instead of a law; 1 for the printed equation.

    Raises:
        ArgumentError: numbers out of range.
        ArgumentTypeError: neither a law nor drift_coefficient, or both.

    Reference: arXiv 2604.01978, with the erratum of `low_temperature`.
    """

    initial: Number
    t1: Number
    drift_coefficient: Number

    def __init__(
        self,
        *,
        initial: ArrayInput,
        t1: ArrayInput,
        law: GaussianHeads | None = None,
        drift_coefficient: ArrayInput | None = None,
    ):
        if (law is None) == (drift_coefficient is None):
            both = "is missing, and so is law" if law is None else "is given together with law"
            raise ArgumentTypeError("drift_coefficient", both, "pass exactly one of the two")
        self.initial = require_cosine(initial, "initial", ends=False)
        self.t1 = require_number(t1, "t1", POSITIVE)
        value = (
            default_drift_coefficient(law.dim, law.head_dim)
            if law is not None
            else drift_coefficient
        )
        assert value is not None
        self.drift_coefficient = require_number(value, "drift_coefficient")

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Euler steps in artanh."""
        return (ArtanhEuler,)

    def default_method(self) -> ArtanhEuler:
        """4096 paths, the step from their sampling error."""
        return ArtanhEuler()

    def _bytes(self, method: ArtanhEuler, times: int) -> float:
        """Bytes of the noise and of the overlaps that are kept, transposed, and coarser."""
        step = FIRST_STEP if method.max_step is None else method.max_step
        steps = times if is_traced(self.t1) else times + float(self.t1) / step
        return 24.0 * method.paths * (steps + times)

    def run(
        self,
        method: ArtanhEuler,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> SlowSolution:
        """All paths from one overlap, and on their noise others with twice the step."""
        assert key is not None  # `solve` requires it
        found: list[tuple[Schedule, Float[AnyArray, "paths times"], StepError]] = []
        paths = np.arange(method.paths)

        def both_paths(
            fine: Schedule, coarse: Schedule
        ) -> tuple[Float[AnyArray, "paths times"], Float[AnyArray, "paths times"]]:
            return in_float64(
                _slow_paths, self.initial, self.drift_coefficient, fine, coarse.sizes, paths, key
            )

        def is_hidden(step: float) -> bool:
            plan = schedule(ts, step)
            both = Comparison(plan if len(plan.sizes) > 1 else refined(plan, 2), 2, of=plan)
            fine, coarse = both_paths(both.fine, both.coarse)
            kept = fine if both.fine is plan else coarse
            coarse, fine = (u[:, both.saves, None] ** np.arange(1, 3) for u in (coarse, fine))
            error = coupled_step_error(coarse, fine, both.ratio[:, None], method.paths)
            found[:] = [(plan, kept, error)]
            return method.max_step is not None or is_traced(error) or error.hidden

        hidden_step(method.max_step or FIRST_STEP, is_hidden)
        plan, overlap, error = found[0]
        if progress is not None:
            progress(1.0)
        return SlowSolution(
            ts=ts,
            overlap=overlap,
            drift_coefficient=self.drift_coefficient,
            warnings=(FINITE_TOKENS,),
            max_step=plan.largest,
            discretisation=error.largest,
            outcome=Outcome.successful,
            samples=method.paths,
        )


@eqx.filter_jit
def _slow_paths(
    initial: Array, drift_coefficient: Array, plan: Schedule, coarse: Array, paths: Array, key: Key
) -> tuple[Float[Array, "paths saves"], Float[Array, "paths saves"]]:
    """Overlaps [paths, saves], and those with the `coarse` steps on the same noise.

    Where a coarse step is zero its noise is added to that of the next one that is not.
    """
    sizes, slots = jnp.asarray(plan.sizes), jnp.asarray(plan.slots)
    keys = jax.vmap(lambda path: jax.random.fold_in(key, path))(paths)
    noise = jax.vmap(lambda one: jax.random.normal(one, sizes.shape, sizes.dtype))(keys)

    def one(carry: tuple[Array, ...], this: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
        y, other, waiting, kept = carry
        size, merged, slot, z = this
        change = jnp.sqrt(2.0 * size) * z
        y = y + (2.0 - drift_coefficient) * jnp.tanh(y) * size + change
        waiting = waiting + change
        taken = other + (2.0 - drift_coefficient) * jnp.tanh(other) * merged + waiting
        other = jnp.where(merged > 0, taken, other)
        waiting = jnp.where(merged > 0, 0.0, waiting)
        return (y, other, waiting, kept.at[slot].set(jnp.stack([y, other]))), None

    start = jnp.full(paths.shape, jnp.arctanh(initial))
    kept = jnp.broadcast_to(start, (plan.saves, 2, *start.shape))
    carry = start, start, jnp.zeros_like(start), kept
    (_, _, _, kept), _ = jax.lax.scan(one, carry, (sizes, jnp.asarray(coarse), slots, noise.T))
    fine, other = jnp.tanh(jnp.moveaxis(kept, 1, 0))
    return fine.T, other.T
