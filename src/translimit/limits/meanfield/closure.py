r"""What closures of the Transformer PDE share: a Gaussian moved by an affine field of its own.

A closure gives the field as Gamma(x) = g + M (x - alpha), with g and M of N(alpha, Sigma), and

    alpha' = g(alpha, Sigma),        Sigma' = M Sigma + Sigma M^T.

The covariance is carried as a factor, Sigma = F F^T with F' = M F and F(0) = Sigma_0^(1/2), so it
is symmetric and positive semi-definite at every stage of every Runge-Kutta step, its rank can not
grow, singular covariances are ordinary ones, and small eigenvalues keep their relative accuracy as
squared singular values of F. Nothing is ever clipped.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

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
    AnyArray,
    ArgumentError,
    ArrayInput,
    Floats,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    as_float64,
    in_float64,
    is_traced,
    psd_sqrt,
    reference,
    require_covariance,
)
from translimit.integrate import (
    STAGES,
    AbstractFlowSolution,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ODEResult,
    integrate_ode,
    listening,
)
from translimit.limits.meanfield.units import Units, is_extreme, units_of_law

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: Mean [dim] and factor of the covariance [dim, rank].
Moments = tuple[Float[Array, " dim"], Float[Array, "dim rank"]]
#: What is kept: mean and factor, and what is observed.
_Kept = tuple[tuple[Array, Array], dict[str, Array]]
#: From an attention, a mean and a factor of the covariance to the affine field (g, M).
ClosureRule = Callable[
    [AbstractAttention, Array, Array], tuple[Float[Array, " dim"], Float[Array, "dim dim"]]
]


class GaussianSolution(AbstractFlowSolution):
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
    """

    ts: Times
    mean: Float[AnyArray, "kept dim"]
    factor: Float[AnyArray, "kept dim dim"]
    blow_up_time: Number
    steps_taken: Int[AnyArray, ""]
    outcome: Outcome
    exact: bool = eqx.field(static=True, default=True)
    reference: ClassVar[str] = reference("castin2025")

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

        return plot_ellipses(self._drawn(), ax)


class AbstractGaussianClosure(AbstractProblem[GaussianSolution]):
    """A Gaussian law under an affine field; subclasses say which field.

    Attributes:
        attention: a variant that has this closure, or `Layered` ones.
        mean: mean of the tokens at depth 0 [dim].
        cov: their covariance [dim, dim].
        t1: final depth.
    """

    attention: eqx.AbstractVar[AbstractAttention | Layered]
    mean: eqx.AbstractVar[Float[AnyArray, " dim"]]
    cov: eqx.AbstractVar[Float[AnyArray, "dim dim"]]

    #: Whether the law stays Gaussian, so that the closure is the equation itself.
    exact: eqx.AbstractClassVar[bool]
    state: ClassVar[str] = "the pair of mean [dim] and covariance [dim, dim] of the tokens"

    @property
    @abc.abstractmethod
    def rule(self) -> ClosureRule:
        """The affine field of a Gaussian whose covariance is given by a factor; a function of the
        module, by whose identity compiled programs are found again.
        """

    @abc.abstractmethod
    def law_field(
        self,
        attention: AbstractAttention,
        mean: Float[AnyArray, " dim"],
        cov: Float[AnyArray, "dim dim"],
    ) -> tuple[Floats, Floats]:
        """The same field (g, M) from the covariance itself, on the host."""

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method."""
        return (AdaptiveODE, FixedODE)

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
        """Integrate mean and factor in float64, in units in which their numbers are ordinary.

        Raises:
            ArgumentError: the field of the initial law is beyond float64.
        """
        attention, mean, cov, t1 = self.attention, self.mean, self.cov, self.t1
        (length, time), saves = units_of_law(self.law_field, attention, mean, cov, t1), ts
        if (length, time) != Units():
            attention = in_units(attention, length, time)
            mean, cov = mean / length, cov / length / length
            t1, saves = t1 / time, np.asarray(ts) / time
        with listening(progress) as handle:
            result = in_float64(
                _integrate,
                (attention, mean, cov, t1, saves),
                (length, time, keep),
                method,
                handle,
                self.rule,
            )
        outcome = result.outcome
        if is_traced(attention, mean, cov, t1):
            centre, root = jnp.asarray(mean), psd_sqrt(jnp.asarray(cov))
            start = self.rule(attention_at(attention, 0.0), centre, root)
            outcome = Outcome.where(is_extreme(centre, root, *start), Outcome.non_finite, outcome)
        ((mean, factor), observed), blow_up_time = result.states, result.blow_up_time
        if (length, time) != Units():
            mean, factor, blow_up_time = mean * length, factor * length, blow_up_time * time
        return GaussianSolution(
            ts=ts,
            mean=mean,
            factor=factor,
            blow_up_time=blow_up_time,
            steps_taken=result.steps_taken,
            outcome=outcome,
            exact=self.exact,
            observed=observed,
            states_kept=keep.states,
        )


def closure_bytes(dim: int, times: int) -> float:
    """Bytes of the means and factors of a closure at so many times, and of the stages of a step."""
    return 8.0 * (1.5 * times + STAGES) * (dim + dim**2)


def closure_velocity(
    rule: ClosureRule,
    attention: AbstractAttention,
    mean: Float[Array, " dim"],
    factor: Float[Array, "dim rank"],
) -> Moments:
    """Right-hand side of a closure: (alpha', F') = (g, M F), with (g, M) by the rule."""
    velocity, matrix = rule(attention, mean, factor)
    return velocity, matrix @ factor


def require_gaussian(
    mean: ArrayInput, cov: ArrayInput, dim: int
) -> tuple[Float[AnyArray, " dim"], Float[AnyArray, "dim dim"]]:
    """Mean and covariance of a Gaussian in float64, or an `ArgumentError`."""
    mean = as_float64(mean, "mean")
    if mean.shape != (dim,):
        raise ArgumentError("mean", f"has shape {mean.shape}", f"pass [{dim}]")
    cov = as_float64(cov, "cov")
    if cov.shape != (dim, dim):
        raise ArgumentError("cov", f"has shape {cov.shape}", f"pass [{dim}, {dim}]")
    return mean, require_covariance(cov)


def require_closure(rule: ClosureRule, attention: AbstractAttention | Layered) -> None:
    """Let a variant without such a closure say so before any work; nothing is computed."""
    dim, abstract = attention.dim, jax.ShapeDtypeStruct
    eqx.filter_eval_shape(
        rule,
        attention_at(attention, 0.0),
        abstract((dim,), jnp.float32),
        abstract((dim, dim), jnp.float32),
    )


@eqx.filter_jit
def _integrate(
    flow: tuple[AbstractAttention | Layered, Array, Array, Array, Array],
    shown: tuple[Array, Array, Keep],
    method: AbstractODEMethod,
    handle: Array | None,
    rule: ClosureRule,
) -> ODEResult[_Kept]:
    """Mean and factor, and what is observed in the units of the caller, at the times to keep."""
    attention, mean, cov, t1, ts = flow
    length, time, keep = shown

    def kept(t: Array, moments: Moments) -> _Kept:
        centre, factor = moments
        law = centre * length, length**2 * (factor @ factor.T)
        return keep.kept(moments), keep.observed(t * time, law)

    def size(moments: Moments) -> Array:
        # The trace of the covariance; the mean of a blow-up is carried along with it.
        return jnp.sum(moments[1] ** 2)

    result = integrate_ode(
        lambda t, moments: closure_velocity(rule, attention_at(attention, t), *moments),
        (mean, psd_sqrt(cov)),
        t1=jnp.asarray(t1),
        ts=jnp.asarray(ts),
        method=method,
        size=size,
        kept=kept,
        progress=handle,
        jumps=jump_times(attention),
    )
    return eqx.tree_at(lambda r: r.states[0], result, keep.stacked(result.states[0]))
