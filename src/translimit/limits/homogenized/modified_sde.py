r"""Drift and noise: heads with a mean effect and fluctuations that do not vanish beside it.

In paper time t = layer * step, in the sense of Ito,

    dX = (b~ + c) dt + (step / heads)^{1/2} int G(X, theta) W(dtheta, dt)
         - step / (2 heads) E |G_i|^2 x_i dt,            G_i = P_{x_i} xi(x_i),

with the modified drift b~ of `ModifiedFlow` and, for the chain N(x + u),

    c_i = -(step / heads) E <x_i, xi(x_i)> P_{x_i} xi(x_i),

xi = V m - B-bar. It is the limit where alpha = step * variance_proxy / heads is not small; where
alpha is of the order of the step, means of the chain are met to second order in the step.

!!! warning "Erratum"
    The paper prints the equation without c, and its drift without the last term of b~. Both belong
    to the chain that it prints; neither does to the tangent chain N(x + P_x u).

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    SPHERE,
    AnyArray,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Retraction,
    Times,
    require_number,
    require_retraction,
)
from translimit.describe import AbstractHeads, Clocks
from translimit.limits.homogenized.drifts import (
    mean_update,
    modified_drift,
    noise_drift,
    require_finite_sum,
    sample_noise,
)
from translimit.limits.homogenized.schedule import SphereEuler
from translimit.limits.homogenized.token_paths import (
    AbstractTokenPaths,
    AbstractTokenSDE,
    Clock,
    clock,
    follow,
    kept_bytes,
)


@final
class ModifiedPaths(AbstractTokenPaths):
    """Paths of tokens under a drift and common noise, in paper time.

    Attributes:
        ts: the times kept, paper time [times].
        tokens: unit tokens [paths, times, tokens, dim].
        network: the same times on all clocks of the chain.
        dim: dimension of the tokens.
        max_step: the largest step taken, in paper time.
        discretisation: size of the error of the steps in the mean and the mean square of the mean
            overlap of a path, the larger, with the standard error of its estimate added.
        outcome: how the solve ended.
        samples: paths.
    """

    ts: Times
    tokens: Float[AnyArray, "paths kept tokens width"]
    network: Clocks
    dim: int = eqx.field(static=True)
    max_step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True)

    def clocks(self) -> Clock:
        """Paper time, layers, and both diffusive clocks."""
        network = self.network
        return {
            "time": clock(self.ts, r"paper time $t = \ell \eta$", "paper time"),
            "layer": clock(network.layers, "layer", "layers"),
            "diffusive_time": clock(
                network.diffusive_time, r"unit diffusive time $\tau$", "unit diffusive time"
            ),
            "slow_time": clock(network.slow_time, r"slow time $\tau / d$", "slow time"),
        }


@final
class ModifiedSDE(AbstractTokenSDE[ModifiedPaths]):
    """The modified drift with the noise of the heads, in paper time.

    A step is half a step of the drift (midpoint rule), one of the noise, and half a step of the
    drift. Cost: O(heads_per_step tokens dim^2) per step and path, and O(heads of the law) for the
    drift of `FiniteHeads`. Runs in the precision of `initial`.

    Args:
        law: heads whose mean is a finite sum: `ShiftedHeads` with sigma_a = 0, `FiniteHeads`, or
            isotropic heads, which have none.
        initial: unit tokens [tokens, dim].
        t1: final paper time, positive.
        step: residual step of the chain, positive.
        heads: heads of a layer, positive.
        retraction: of the chain. TANGENT is also the form that the paper prints for every chain.
        normalize: scale the tokens to norm one instead of refusing other norms.

    Raises:
        ArgumentError: tokens of another dimension or norm; t1, step or heads not positive.
        ArgumentTypeError: a law with a mean and random scores.

    Examples:
        Noise alone, the mean overlap of two orthogonal tokens after the unit diffusive time 1:

        >>> import jax, numpy as np
        >>> from translimit import solve
        >>> from translimit.describe import GaussianHeads
        >>> from translimit.limits.homogenized import ModifiedSDE, SphereEuler
        >>> law = GaussianHeads(dim=4, beta=0.0, sigma_a=1.0)
        >>> problem = ModifiedSDE(law=law, initial=np.eye(2, 4), t1=2.0, step=0.5, heads=1)
        >>> solution = solve(problem, SphereEuler(max_step=0.5, paths=8), key=jax.random.key(0))
        >>> solution.overlaps.shape, float(solution.network.diffusive_time[-1])
        ((8, 101, 2, 2), 1.0)

    Reference: arXiv 2604.01978, with the errata of the module's docstring.
    """

    state: ClassVar[str] = "unit tokens [tokens, dim] of one path"

    law: AbstractHeads
    initial: Float[AnyArray, "tokens dim"]
    t1: Number
    step: Number
    heads: Number
    retraction: Retraction = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractHeads,
        initial: ArrayInput,
        t1: ArrayInput,
        step: ArrayInput,
        heads: ArrayInput,
        retraction: Retraction = Retraction.AMBIENT,
        normalize: bool = False,
    ):
        self.law = require_finite_sum(law)
        self.initial = SPHERE.require(initial, "initial", law.dim, normalize=normalize)
        self.t1 = require_number(t1, "t1", POSITIVE)
        self.step = require_number(step, "step", POSITIVE)
        self.heads = require_number(heads, "heads", POSITIVE)
        self.retraction = require_retraction(retraction)

    def drift(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """B~ + c, without the Ito correction that keeps the norms."""
        return _drift(self, tokens, self.retraction is Retraction.AMBIENT)

    def _bytes(self, method: SphereEuler, times: int) -> float:
        """Bytes of the tokens that are kept (see `kept_bytes`)."""
        return kept_bytes(method, times, self.initial.size, self.initial.dtype)

    def run(
        self,
        method: SphereEuler,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> ModifiedPaths:
        """All paths from the same tokens."""
        assert key is not None  # `solve` requires it
        found = follow(_advance, self.initial, self, method, ts, key, keep, progress)
        return ModifiedPaths(
            ts=ts,
            tokens=found.tokens,
            network=Clocks.of_layers(ts / self.step, self.law, step=self.step, heads=self.heads),
            dim=self.law.dim,
            max_step=found.max_step,
            discretisation=found.discretisation,
            outcome=found.outcome,
            samples=method.paths,
            observed=found.observed,
            states_kept=keep.states,
        )


def _drift(
    problem: ModifiedSDE, tokens: Float[Array, "tokens dim"], times: int
) -> Float[Array, "tokens dim"]:
    """B~ + times c."""
    step, heads = (jnp.asarray(one, tokens.dtype) for one in (problem.step, problem.heads))
    b = modified_drift(problem.law, tokens, step, problem.retraction)
    return b + times * noise_drift(problem.law, tokens, step, heads) if times else b


def _advance(
    parameters: tuple[ModifiedSDE, SphereEuler],
    tokens: Float[Array, "tokens dim"],
    size: Float[Array, ""],
    key: Key,
) -> Float[Array, "tokens dim"]:
    problem, method = parameters
    # An ambient step of the noise supplies c by itself, a tangent one does not.
    missing = (problem.retraction is Retraction.AMBIENT) - (method.retraction is Retraction.AMBIENT)

    def half(tokens: Array) -> Array:
        # The midpoint rule, as a loop so that the drift is compiled once.
        def stage(at: Array, span: Array) -> tuple[Array, None]:
            update = span * _drift(problem, at, missing)
            return SPHERE.retract(tokens, update, Retraction.TANGENT), None

        return jax.lax.scan(stage, tokens, size * jnp.asarray([0.25, 0.5], size.dtype))[0]

    tokens = half(tokens)
    mean = mean_update(problem.law, tokens)
    noise = sample_noise(problem.law, tokens, samples=method.heads_per_step, key=key, mean=mean)
    scale = jnp.sqrt(size * jnp.asarray(problem.step / problem.heads, tokens.dtype))
    return half(SPHERE.retract(tokens, scale * noise, method.retraction))
