r"""Gaussian closures: a Gaussian law of tokens stays Gaussian under an affine field.

For mu = N(alpha, Sigma) and a variant whose field is affine, Gamma(x) = g + M (x - alpha),

    alpha' = g(alpha, Sigma),        Sigma' = M Sigma + Sigma M^T.

The covariance is carried as a factor, Sigma = F F^T with F' = M F and F(0) = Sigma_0^(1/2), so it
is symmetric and positive semi-definite at every stage of every Runge-Kutta step, its rank can not
grow, singular covariances are ordinary ones, and small eigenvalues keep their relative accuracy as
squared singular values of F. Nothing is ever clipped.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.attention import (
    AbstractAttention,
    Layered,
    attention_at,
    in_units,
    jump_times,
)
from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Keep,
    Key,
    NotEstimated,
    Number,
    Numbers,
    Outcome,
    Progress,
    Times,
    as_float64,
    in_float64,
    is_traced,
    psd_sqrt,
    require_covariance,
)
from translimit.integrate import (
    STAGES,
    STEPS_NOT_ESTIMATED,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    integrate_ode,
    listening,
)
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.units import Units, is_extreme, units_of_law

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class GaussianSolution(AbstractSolution):
    """The moments of the Gaussian law along depth.

    Attributes:
        ts: the times kept [times].
        mean: mean of the tokens [times, dim].
        factor: F with cov = F F^T [times, dim, dim].
        blow_up_time: when the law ceases to exist; infinity if it does not before t1.
        steps_taken: steps taken by the integrator.
        outcome: `successful`, `blow_up`, `divergence`, or a failure of the method. Rows after
            the end of the solution are NaN.
        exact: whether the closure is exact, or the approximate projection of `MomentClosure`.
        discretisation: not estimated; the reason says how to see it.
        samples: one: nothing is drawn.
    """

    ts: Times
    mean: Float[AnyArray, "kept dim"]
    factor: Float[AnyArray, "kept dim dim"]
    blow_up_time: Number
    steps_taken: Int[AnyArray, ""]
    outcome: Outcome
    exact: bool = eqx.field(static=True, default=True)
    discretisation: Numbers | NotEstimated = eqx.field(
        kw_only=True, static=True, default=STEPS_NOT_ESTIMATED
    )
    samples: int = eqx.field(kw_only=True, static=True, default=1)
    reference: ClassVar[str] = "Castin et al., arXiv 2501.18322"

    @property
    def cov(self) -> Float[AnyArray, "kept dim dim"]:
        """Covariance of the tokens [times, dim, dim], positive semi-definite by construction."""
        xp = np if isinstance(self.factor, np.ndarray) else jnp
        return xp.einsum("...ij,...kj->...ik", self.factor, self.factor)

    def _dataset(self) -> xarray.Dataset:
        """Mean, covariance and blow-up time."""
        import xarray

        return xarray.Dataset(
            {
                "mean": (
                    ("time", "component"),
                    np.asarray(self.mean),
                    {"long_name": "mean of the tokens", "units": "1"},
                ),
                "cov": (
                    ("time", "component", "component2"),
                    np.asarray(self.cov),
                    {"long_name": "covariance of the tokens", "units": "1"},
                ),
                "blow_up_time": (
                    (),
                    np.asarray(self.blow_up_time),
                    {"long_name": "blow-up time", "units": "depth"},
                ),
            },
            coords={
                "time": ("time", np.asarray(self.ts), {"long_name": "depth", "units": "depth"})
            },
            attrs={"closure": "exact" if self.exact else "approximate: projection on Gaussians"},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Ellipses of one standard deviation in the first two components, light to dark."""
        from translimit.figures import plot_ellipses

        return plot_ellipses(self.to_xarray(), ax)


class GaussianFlow(AbstractProblem[GaussianSolution]):
    """The Transformer PDE started from a Gaussian, in closed form: mean and covariance.

    Cost: O(dim^3) per evaluation. Runs in float64 whatever the calling program has set.

    Args:
        attention: a variant whose field of a Gaussian is affine, or `Layered` ones.
        mean: mean of the tokens [dim].
        cov: covariance of the tokens [dim, dim]; symmetric positive semi-definite, may be
            singular.
        t1: final depth, positive.

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, a covariance that is
            not symmetric or not positive semi-definite, t1 not positive; from `solve`, a law whose
            field is beyond float64.
        NoSuchLimitError: the variant has no exact Gaussian closure.

    Examples:
        Scalar softmax attention blows up at t* = 1 / (2 V A cov):

        >>> from translimit import solve
        >>> from translimit.attention import Softmax
        >>> flow = GaussianFlow(
        ...     attention=Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]]), mean=[0.0], cov=[[0.5]], t1=2.0
        ... )
        >>> print(f"{solve(flow).blow_up_time:.6f}")
        1.000000

    Reference: arXiv 2501.18322, Gaussian closure of the Transformer PDE.
    """

    attention: AbstractAttention | Layered
    mean: Float[AnyArray, " dim"]
    cov: Float[AnyArray, "dim dim"]
    t1: Number

    def __init__(
        self,
        *,
        attention: AbstractAttention | Layered,
        mean: ArrayInput,
        cov: ArrayInput,
        t1: ArrayInput,
    ):
        self.attention = attention
        self.mean, self.cov = require_gaussian(mean, cov, attention.dim)
        self.t1 = require_horizon(t1)
        require_closure(exact_field, attention)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AbstractMethod:
        """Adaptive steps at rtol 1e-8."""
        return AdaptiveODE()

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the means and factors that are kept, and of the stages of a step."""
        return closure_bytes(self.attention.dim, times)

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> GaussianSolution:
        """Integrate mean and factor in float64."""
        return solve_closure(
            self.attention,
            (self.mean, self.cov),
            self.t1,
            method,
            ts,
            progress,
            exact_field,
            "gaussian_field",
        )


def closure_bytes(dim: int, times: int) -> float:
    """Bytes of the means and factors of a closure at so many times, and of the stages of a step."""
    return 8.0 * (1.5 * times + STAGES) * (dim + dim**2)


def solve_closure(
    attention: AbstractAttention | Layered,
    law: tuple[Float[AnyArray, " dim"], Float[AnyArray, "dim dim"]],
    t1: Number,
    method: AbstractODEMethod,
    ts: Times,
    progress: Progress | None,
    rule: Callable[[Any, Any, Any], tuple[Any, Any]],
    field: str,
) -> GaussianSolution:
    """The solution of a closure, computed in units in which its numbers are ordinary.

    Args:
        attention: of the flow.
        law: its initial mean [dim] and covariance [dim, dim].
        t1: final depth.
        method: how to step.
        ts: the times to keep.
        progress: a function of the fraction done.
        rule: from an attention, a mean and a factor of the covariance to the field (g, M).
        field: the method of the attention that gives the same from a covariance.

    Raises:
        ArgumentError: the field of the initial law is beyond float64.
    """
    mean, cov = law
    units = units_of_law(field, attention, mean, cov, t1)
    (length, time), saves = units, ts
    if units != Units():
        attention = in_units(attention, length, time)
        mean, cov = mean / length, cov / length / length
        t1, saves = t1 / time, np.asarray(ts) / time
    with listening(progress) as handle:
        result = in_float64(
            integrate_closure, attention, mean, cov, t1, saves, method, handle, rule
        )
    outcome = result.outcome
    if is_traced(attention, mean, cov, t1):
        centre, root = jnp.asarray(mean), psd_sqrt(jnp.asarray(cov))
        start = rule(attention_at(attention, 0.0), centre, root)
        outcome = Outcome.where(
            is_extreme(centre, root, *start), Outcome.non_finite, result.outcome
        )
    (mean, factor), blow_up_time = result.states, result.blow_up_time
    if units != Units():
        mean, factor, blow_up_time = mean * length, factor * length, blow_up_time * time
    return GaussianSolution(
        ts=ts,
        mean=mean,
        factor=factor,
        blow_up_time=blow_up_time,
        steps_taken=result.steps_taken,
        outcome=outcome,
        exact=rule is exact_field,
    )


def exact_field(attention: AbstractAttention, mean: Any, factor: Any) -> tuple[Any, Any]:
    """The affine field (g, M) of the attention on N(mean, F F^T), where it is affine."""
    return attention.factor_field(mean, factor)


def gaussian_vector_field(
    attention: AbstractAttention,
    mean: Float[Array, " dim"],
    factor: Float[Array, "dim rank"],
    rule: Callable[[Any, Any, Any], tuple[Any, Any]] = exact_field,
) -> tuple[Float[Array, " dim"], Float[Array, "dim rank"]]:
    """Right-hand side of the closure: (alpha', F') = (g, M F), with (g, M) by the rule."""
    drift, matrix = rule(attention, mean, factor)
    return drift, matrix @ factor


def require_gaussian(mean: ArrayInput, cov: ArrayInput, dim: int) -> tuple[Any, Any]:
    """Mean and covariance of a Gaussian in float64, or an `ArgumentError`."""
    mean = as_float64(mean, "mean")
    if mean.shape != (dim,):
        raise ArgumentError("mean", f"has shape {mean.shape}", f"pass [{dim}]")
    cov = as_float64(cov, "cov")
    if cov.shape != (dim, dim):
        raise ArgumentError("cov", f"has shape {cov.shape}", f"pass [{dim}, {dim}]")
    return mean, require_covariance(cov)


def require_closure(
    rule: Callable[[Any, Any, Any], tuple[Any, Any]], attention: AbstractAttention | Layered
) -> None:
    """Let a variant without such a closure say so before any work; nothing is computed."""
    dim, abstract = attention.dim, jax.ShapeDtypeStruct
    eqx.filter_eval_shape(
        rule,
        attention_at(attention, 0.0),
        abstract((dim,), jnp.float32),
        abstract((dim, dim), jnp.float32),
    )


@eqx.filter_jit
def integrate_closure(
    attention: AbstractAttention | Layered,
    mean: Array,
    cov: Array,
    t1: Array,
    ts: Array,
    method: AbstractODEMethod,
    handle: Array | None,
    rule: Callable[[Any, Any, Any], tuple[Any, Any]] = exact_field,
) -> Any:
    """Mean and factor of the closure whose field is given by the rule, at the times ts."""

    def size(state: Any) -> Array:
        # The trace of the covariance; the mean of a blow-up is carried along with it.
        return jnp.sum(state[1] ** 2)

    return integrate_ode(
        lambda t, state: gaussian_vector_field(
            attention_at(attention, t), state[0], state[1], rule
        ),
        (mean, psd_sqrt(cov)),
        t1=jnp.asarray(t1),
        ts=jnp.asarray(ts),
        method=method,
        size=size,
        progress=handle,
        jumps=jump_times(attention),
    )
