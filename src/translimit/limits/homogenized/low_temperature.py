r"""Strong scores and infinitely many tokens: slow motion of the overlap, and where it ends.

For a law of tokens with a density on the whole sphere and beta_operator to infinity the attention
output is A x / |A x|, and the overlap u of two tokens moves on the slow clock t = tau / d:

    du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB,        kappa = 3/2 + d / (2 d_k).

In y = artanh u: dy = (2 - kappa) tanh(y) dt + 2^{1/2} dB, with bounded coefficients; u = +-1 is
never reached in finite time. For kappa < 2 the overlap ends at +-1, for kappa = 2 it never settles,
for kappa > 2 it has the stationary density (1 - u^2)^{kappa/2 - 2}.

!!! warning "Erratum"
    The paper prints kappa = 1, and the mean cosine after one Gaussian layer with the coefficient
    1 / (2 d). A = W W'^T has two layers, so that the mean cosine is
    R - (1 / (2 d) + 1 / (2 d_k)) R (1 - R^2); with d_k = d this gives kappa = 2, which simulation
    confirms. `kappa=1` reproduces the printed equation.

!!! warning "Not a statement about finitely many tokens"
    At a fixed number of tokens the drift is of order one on the diffusive clock. The limit needs a
    token near A x / |A x|, that is, a number of tokens exponential in the dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from translimit.attention import logistic_normal
from translimit.core import (
    POSITIVE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Estimate,
    Number,
    Outcome,
    StepError,
    coupled_step_error,
    hidden_step,
    in_float64,
    is_traced,
    require_count,
    require_number,
)
from translimit.describe import GaussianHeads, require_cosine
from translimit.limits.homogenized.schedule import Schedule, require_step, schedule
from translimit.limits.homogenized.step_error import Comparison, refined

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: What every solution of the slow equation says.
FINITE_TOKENS = (
    "holds for infinitely many tokens with a density on the whole sphere; at a fixed number of "
    "tokens the overlap moves on the diffusive clock instead"
)
#: Nodes of the law of an angle, and the change with half of them beyond which they are too few.
ANGLES, RESOLVED = 4000, 1e-5
#: The first step that is tried where none is given.
FIRST_STEP = 0.005
#: From so many rows on the series of the mean cosine is summed here.
SERIES_FROM = 20


def mean_cosine(overlap: Any, rows: int) -> Any:
    """Mean cosine of two unit vectors with this overlap after one Gaussian matrix.

    c_q(R) = (2 / q) (Gamma((q + 1) / 2) / Gamma(q / 2))^2 R 2F1(1/2, 1/2; q / 2 + 1; R^2).

    Args:
        overlap: R, in [-1, 1]; an array is welcome.
        rows: q, output dimension of the matrix, at least 1.
    """
    from scipy.special import gammaln, hyp2f1

    q = require_count(rows, "rows", 1)
    R = np.asarray(overlap, dtype=np.float64)
    if np.any(~(np.abs(R) <= 1)):
        raise ArgumentError("overlap", f"got {overlap}", "pass numbers in [-1, 1]")
    ratio = math.exp(2.0 * (gammaln((q + 1) / 2) - gammaln(q / 2)))
    if q < SERIES_FROM:
        return 2.0 / q * ratio * R * hyp2f1(0.5, 0.5, q / 2 + 1, R**2)
    # scipy's function is NaN near one for large parameters, where the series falls like k^{-q/2-1}.
    total, term = np.ones_like(R), np.ones_like(R)
    for k in range(400):
        term = term * (k + 0.5) ** 2 / ((q / 2 + 1 + k) * (k + 1)) * R**2
        total = total + term
    return 2.0 / q * ratio * R * total


def low_temperature_kernel(overlap: Any, dim: int, head_dim: int | None = None) -> Any:
    """c(R) = E <Ax / |Ax|, Ay / |Ay|> for A = W W'^T, exactly: two Gaussian layers.

    The cosine after the first layer has the law of a sample correlation of head_dim pairs; the
    second layer is averaged over it by quadrature of its angle.

    Args:
        overlap: R, in [-1, 1].
        dim: d, rows of W, at least 1.
        head_dim: d_k, columns of W'; `dim` by default.

    Raises:
        ArgumentError: outside these ranges, or so close to one, or for so many columns, that the
            sums with half as many nodes differ by more than 1e-5.
    """
    R = float(require_cosine(overlap, "overlap"))
    dim = require_count(dim, "dim", 1)
    q = dim if head_dim is None else require_count(head_dim, "head_dim", 2)
    if abs(R) == 1.0:
        return R

    def average(nodes: int) -> float:
        angles, density = _correlation_density(R, q, nodes)
        values = mean_cosine(np.cos(angles), dim)
        return float(np.sum(density * values) / np.sum(density))

    value, coarse = average(ANGLES), average(ANGLES // 2)
    if not abs(value - coarse) <= RESOLVED:
        raise ArgumentError(
            "overlap",
            f"got {R:g} with head_dim = {q}, whose law of angles the quadrature does not resolve",
            "take R - (1 / (2 dim) + 1 / (2 head_dim)) R (1 - R^2), its expansion",
        )
    return value


def _correlation_density(R: float, q: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles, and the unnormalised density of the angle a between two Gaussian vectors in R^q.

    sin^{q-2}(a) int_0^inf (cosh w - R cos a)^{-q} dw for entries of correlation R (Fisher's law of
    the sample correlation), summed in logarithms.
    """
    a = (np.arange(nodes) + 0.5) * np.pi / nodes
    w = np.linspace(0.0, 12.0, 3 * nodes // 10)
    logs = (q - 2) * np.log(np.sin(a))[:, None]
    logs = logs - q * np.log(np.cosh(w)[None, :] - R * np.cos(a)[:, None])
    terms = np.exp(logs - logs.max())
    return a, np.sum(terms, axis=1) - 0.5 * terms[:, 0]


def default_kappa(dim: int, head_dim: int | None = None) -> float:
    """Kappa = 3/2 + dim / (2 head_dim); 2 where both agree."""
    return 1.5 + dim / (2.0 * (dim if head_dim is None else head_dim))


def hitting_probability(initial: float, kappa: float) -> float:
    """P[u_inf = 1] for kappa < 2, by the scale function.

    int_{-pi/2}^{asin u_0} cos^{1 - kappa} / int_{-pi/2}^{pi/2} cos^{1 - kappa}; for kappa = 1 it is
    1/2 + asin(u_0) / pi, for kappa = 0 it is (1 + u_0) / 2.

    Args:
        initial: u_0, in [-1, 1].
        kappa: not negative, below 2.

    Raises:
        ArgumentError: outside these ranges: for kappa >= 2 the overlap does not settle.
    """
    from scipy.special import betainc

    u = float(require_cosine(initial, "initial"))
    kappa = float(require_number(kappa, "kappa"))
    if kappa >= 2:
        raise ArgumentError(
            "kappa", f"got {kappa:g}: the overlap does not settle at +-1", "pass less than 2"
        )
    # Symmetric: the incomplete beta function of (1 + u) / 2 with both exponents 1 - kappa / 2.
    return float(betainc(1.0 - kappa / 2, 1.0 - kappa / 2, 0.5 * (1.0 + u)))


def stationary_square(kappa: float) -> float:
    """E u^2 = 1 / (kappa - 1) of the stationary law, kappa > 2.

    Raises:
        ArgumentError: kappa of at most 2, for which there is no stationary law.
    """
    kappa = float(require_number(kappa, "kappa"))
    if kappa <= 2:
        raise ArgumentError("kappa", f"got {kappa:g}: no stationary law", "pass more than 2")
    return 1.0 / (kappa - 1.0)


def marginal_square(ts: ArrayInput, initial: float = 0.0) -> Any:
    """E u(t)^2 for kappa = 2, where u = tanh(artanh u_0 + (2 t)^{1/2} Z), at all times to 1e-13.

    tanh^2(y) = 1 - 4 sigma'(2 y): a logistic-normal integral.
    """
    u = float(require_cosine(initial, "initial", ends=False))
    variance = 8.0 * np.asarray(ts, dtype=np.float64)
    mean = np.full_like(variance, 2.0 * np.arctanh(u))
    return 1.0 - 4.0 * in_float64(logistic_normal, mean, variance, 1)


class ArtanhEuler(AbstractMethod):
    """Euler steps in y = artanh u, where the noise is additive: weak and strong order one.

    Attributes:
        step: largest step of slow time; by default 0.005 is halved until the error of the steps
            is below the sampling error of the paths.
        paths: independent paths, at least 2.
    """

    step: float | None = eqx.field(static=True, default=None)
    paths: int = eqx.field(static=True, default=4096)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_step(self.step)
        require_count(self.paths, "paths", 2)


class SlowSolution(AbstractSolution):
    """Overlaps of two tokens on the slow clock.

    Attributes:
        ts: the times kept, slow time tau / d [times].
        overlap: u [paths, times].
        kappa: coefficient of the equation.
        warnings: when the limit applies, in words.
        step: the largest step taken.
        discretisation: size of the error of the steps in E u and E u^2, the larger, with the
            standard error of its estimate added.
        outcome: how the solve ended.
    """

    ts: Any
    overlap: Any
    kappa: Any
    warnings: tuple[str, ...] = eqx.field(static=True)
    step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome

    def mean_square(self, time: int = -1) -> Estimate:
        """E u^2 at one of the times, with its errors."""
        values = np.asarray(self.overlap)[:, time] ** 2
        return Estimate.from_samples(values, discretisation=float(self.discretisation))

    def to_xarray(self) -> xarray.Dataset:
        """Overlaps by path and slow time."""
        import xarray

        about = {"long_name": "overlap $u$", "units": "1", "reference": "arXiv 2604.01978"}
        time = {"long_name": r"slow time $t = \tau / d$", "units": "slow time"}
        return xarray.Dataset(
            {"overlap": (("path", "time"), np.asarray(self.overlap), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
            attrs={
                "outcome": Outcome[self.outcome] or "successful",
                "kappa": float(self.kappa),
                "step": self.step,
                "discretisation": self.discretisation,
                "warnings": "; ".join(self.warnings),
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Single paths, their middle half, and their mean."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["overlap"], ax)


class SlowOverlap(AbstractProblem):
    """du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB on the slow clock, in float64.

    Args:
        initial: u_0, in (-1, 1).
        t1: final slow time, positive.
        law: heads whose dim and head_dim give kappa = 3/2 + dim / (2 head_dim).
        kappa: the coefficient itself, instead of a law; 1 for the printed equation.

    Raises:
        ArgumentError: numbers out of range.
        ArgumentTypeError: neither a law nor kappa, or both.

    Reference: arXiv 2604.01978, with the erratum of the module's docstring.
    """

    initial: Any
    t1: Any
    kappa: Any

    def __init__(
        self,
        *,
        initial: ArrayInput,
        t1: ArrayInput,
        law: GaussianHeads | None = None,
        kappa: ArrayInput | None = None,
    ):
        if (law is None) == (kappa is None):
            both = "is missing, and so is law" if law is None else "is given together with law"
            raise ArgumentTypeError("kappa", both, "pass exactly one of the two")
        self.initial = require_cosine(initial, "initial", ends=False)
        self.t1 = require_number(t1, "t1", POSITIVE)
        value = default_kappa(law.dim, law.head_dim) if law is not None else kappa
        assert value is not None
        self.kappa = require_number(value, "kappa")

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Euler steps in artanh."""
        return (ArtanhEuler,)

    def default_method(self) -> ArtanhEuler:
        """4096 paths, the step from their sampling error."""
        return ArtanhEuler()

    def _bytes(self, method: ArtanhEuler, times: int) -> float:
        """Bytes of the noise and of the overlaps that are kept, transposed, and coarser."""
        step = FIRST_STEP if method.step is None else method.step
        steps = times if is_traced(self.t1) else times + float(self.t1) / step
        return 24.0 * method.paths * (steps + times)

    def run(
        self,
        method: ArtanhEuler,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> SlowSolution:
        """All paths from one overlap, and on their noise others with twice the step."""
        found: list[tuple[Schedule, Any, StepError]] = []
        paths = np.arange(method.paths)

        def both_paths(fine: Schedule, coarse: Schedule) -> Any:
            return in_float64(_slow_paths, self.initial, self.kappa, fine, coarse.sizes, paths, key)

        def is_hidden(step: float) -> bool:
            plan = schedule(ts, step)
            both = Comparison(plan if len(plan.sizes) > 1 else refined(plan, 2), 2, of=plan)
            fine, coarse = both_paths(both.fine, both.coarse)
            kept = fine if both.fine is plan else coarse
            coarse, fine = (u[:, both.saves, None] ** np.arange(1, 3) for u in (coarse, fine))
            error = coupled_step_error(coarse, fine, both.ratio[:, None], method.paths)
            found[:] = [(plan, kept, error)]
            return method.step is not None or is_traced(error) or error.hidden

        hidden_step(method.step or FIRST_STEP, is_hidden)
        plan, overlap, error = found[0]
        if progress is not None:
            progress(1.0)
        return SlowSolution(
            ts=ts,
            overlap=overlap,
            kappa=self.kappa,
            warnings=(FINITE_TOKENS,),
            step=plan.largest,
            discretisation=error.largest,
            outcome=Outcome.successful,
        )


@eqx.filter_jit
def _slow_paths(
    initial: Array, kappa: Array, plan: Schedule, coarse: Array, paths: Array, key: Any
) -> tuple[Array, Array]:
    """Overlaps [paths, saves], and those with the `coarse` steps on the same noise.

    Where a coarse step is zero its noise is added to that of the next one that is not.
    """
    sizes, slots = jnp.asarray(plan.sizes), jnp.asarray(plan.slots)
    keys = jax.vmap(lambda path: jax.random.fold_in(key, path))(paths)
    noise = jax.vmap(lambda one: jax.random.normal(one, sizes.shape, sizes.dtype))(keys)

    def one(carry: Any, this: Any) -> Any:
        y, other, waiting, kept = carry
        size, merged, slot, z = this
        change = jnp.sqrt(2.0 * size) * z
        y = y + (2.0 - kappa) * jnp.tanh(y) * size + change
        waiting = waiting + change
        taken = other + (2.0 - kappa) * jnp.tanh(other) * merged + waiting
        other = jnp.where(merged > 0, taken, other)
        waiting = jnp.where(merged > 0, 0.0, waiting)
        return (y, other, waiting, kept.at[slot].set(jnp.stack([y, other]))), None

    start = jnp.full(paths.shape, jnp.arctanh(initial))
    kept = jnp.broadcast_to(start, (plan.saves, 2, *start.shape))
    carry = start, start, jnp.zeros_like(start), kept
    (_, _, _, kept), _ = jax.lax.scan(one, carry, (sizes, jnp.asarray(coarse), slots, noise.T))
    fine, other = jnp.tanh(jnp.moveaxis(kept, 1, 0))
    return fine.T, other.T
