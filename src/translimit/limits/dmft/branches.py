r"""The tangent kernel at any time of training, by branches of a pass.

Stop a pass at time t, let the errors of all outputs be d instead of the loss's, and look at the
outputs after the update:

    f(t + 1; d) - f(t + 1; -d) = 2 eta_0 K(t) d + O(eta_0^3 |d|^3),

for any number of outputs of an input. The velocity of the heavy ball rests in a branch: with it the
outputs would be those of weights that have moved on. Both branches have the same innovations, so
that their difference is as exact as the pass. The direction that carries the answer has a relative
variance of (eta_0 |d|)^2, far below what a pass takes for null: the last forward must keep it.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.causal_pass import advance
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.losses import AbstractLoss
from translimit.limits.dmft.methods import CausalSampling, Method
from translimit.limits.dmft.plan import Numbers, Plan
from translimit.limits.dmft.setup import numbers_of, plan_of
from translimit.limits.dmft.state import State, initial_state
from translimit.limits.dmft.time_step import heavy_ball

#: Size of eta_0 d in a branch: between rounding, and the third order of the step.
STEP = {"float64": 1e-4, "float32": 1e-2}
#: What the last forward takes for null, relative to (eta_0 d)^2.
KEPT = 1e-6


@dataclass(frozen=True)
class GivenError(AbstractLoss):
    """No loss: what stands in the place of the targets is the error itself."""

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Zero."""
        return np.zeros(np.broadcast_shapes(f.shape, y.shape)[:-1])

    def error(self, f: Array, y: Array) -> Array:
        """What is given."""
        return y

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Zero."""
        return np.zeros_like(f)


@dataclass(frozen=True)
class Branches:
    """A pass that stopped before time t.

    Attributes:
        plan: of the pass.
        numbers: its data and constants.
        state: with all evaluations before t.
        t: where it stopped.
        key: of the pass.
        rate: eta_0.
        step: size of eta_0 d.
    """

    plan: Plan
    numbers: Numbers
    state: State
    t: int
    key: Key
    rate: float
    step: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and outputs."""
        return self.plan.rows, self.plan.outputs

    def outputs(self) -> Float[np.ndarray, "rows outputs"]:
        """The outputs at t."""
        return self._after(np.zeros(self.shape))[0]

    def product(
        self, direction: Float[np.ndarray, "rows outputs"], factor: float = 1.0
    ) -> Float[np.ndarray, "rows outputs"]:
        """K(t) times a direction; a larger factor of the step shows its error."""
        norm = float(np.linalg.norm(direction))
        if norm == 0:
            return np.zeros(self.shape)
        size = factor * self.step / (self.rate * norm)
        up, down = (self._after(sign * size * direction)[1] for sign in (1, -1))
        return (up - down) / (2 * self.rate * size)

    def _after(self, error: Float[np.ndarray, "rows outputs"]) -> tuple[np.ndarray, np.ndarray]:
        """The outputs at t, and at t + 1 after an update with this error."""
        with jax.enable_x64(True):
            plan = replace(self.plan, loss=GivenError())
            last = replace(plan, tol=min(plan.tol, KEPT * self.step**2))
            given = self.numbers._replace(
                y=jnp.asarray(error, jnp.float64),
                error_weights=jnp.ones_like(self.numbers.error_weights),
            )
            found = _branch(plan, last, given, self.state, jnp.asarray(self.t), self.key)
        now, after = (np.asarray(f) for f in found)
        return now, after


def branches(
    equations: TrainingEquations, method: Method, layers: int, key: Key, times: tuple[int, ...]
) -> Iterator[Branches]:
    """A pass of one population, stopped before each of the times in turn.

    Args:
        equations: the mathematics.
        method: how it is discretised and sampled; heads and neurons are those of a solve.
        layers: of the pass, or cells.
        key: of the population.
        times: evaluations, increasing.
    """
    more = longer(equations)
    precision = "float64"
    if isinstance(method, CausalSampling):
        method, precision = sampled_alike(method, equations, more), method.precision
    plan = plan_of(more, method, layers)
    with jax.enable_x64(True):
        numbers = numbers_of(more, method, plan)
        state = initial_state(plan)
    step = STEP[precision]
    for t in range(times[-1] + 1):
        if t in times:
            yield Branches(plan, numbers, state, t, key, equations.rate, step)
        if t < times[-1]:
            with jax.enable_x64(True):
                state, _ = advance(plan, numbers, state, jnp.asarray(t), key)


def longer(equations: TrainingEquations) -> TrainingEquations:
    """The same with one evaluation more, to see what the last one does."""
    weights = np.concatenate([equations.weights, equations.weights[-1:]])
    schedule = np.concatenate([equations.schedule, equations.schedule[-1:]])
    return replace(equations, weights=weights, schedule=schedule)


def sampled_alike(
    method: CausalSampling, equations: TrainingEquations, more: TrainingEquations
) -> CausalSampling:
    """The method with the heads and neurons that a solve of the equations has.

    More where moment matching needs them for the evaluations of `more`.
    """
    a = equations.architecture
    heads, neurons = method.counts(a, equations.fields, equations.steps)
    N = 1 if math.isinf(a.head_dim) else int(a.head_dim)
    if method.moment_matching:
        heads = max(heads, 4 * more.fields * more.steps // N + 1)
        neurons = max(neurons, 2 * more.fields * more.steps + 1)
    return replace(method, heads=heads, neurons=neurons)


def at_rest(plan: Plan, numbers: Numbers, state: State, t: Int[Array, ""]) -> State:
    """The state whose updates before t count at t + 1 what they count at t: without velocity."""
    now = heavy_ball(numbers.momentum, t, plan.slots)
    after = heavy_ball(numbers.momentum, t + 1, plan.slots)
    left = jnp.where(now > 0, now / jnp.where(after > 0, after, 1.0), 1.0)
    return replace(
        state, error=left[:, None, None] * state.error, drive=left[:, None] * state.drive
    )


@partial(jax.jit, static_argnames=("plan", "last"))
def _branch(
    plan: Plan, last: Plan, numbers: Numbers, state: State, t: Int[Array, ""], key: Key
) -> tuple[Float[Array, "rows outputs"], Float[Array, "rows outputs"]]:
    """One update with the given errors, and the forward half of the evaluation after it."""
    state, record = advance(plan, numbers, state, t, key)
    state = at_rest(plan, numbers, state, t)
    _, after = advance(last, numbers, state, t + 1, key)
    return record.f, after.f
