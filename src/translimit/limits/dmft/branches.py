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

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.causal_pass import advance
from translimit.limits.dmft.compressed import one_step
from translimit.limits.dmft.compressed import setup as compressed
from translimit.limits.dmft.compressed import state as compressed_state
from translimit.limits.dmft.compressed.passes import one_compiles, with_room
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.losses import AbstractLoss
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra, Method
from translimit.limits.dmft.plan import Numbers, Plan
from translimit.limits.dmft.setup import numbers_of, plan_of
from translimit.limits.dmft.state import State, initial_state
from translimit.limits.dmft.time_step import heavy_ball

#: Size of eta_0 d in a branch: between rounding, and the third order of the step.
STEP = {"float64": 1e-4, "float32": 1e-2}
#: What the last forward takes for null, relative to (eta_0 d)^2, and at least.
KEPT, LEAST = 1e-6, {"float64": 0.0, "float32": 1e-9}

#: Outputs at t, and at t + 1 after an update with given errors.
After = Callable[
    [Float[np.ndarray, "rows outputs"]],
    tuple[Float[np.ndarray, "rows outputs"], Float[np.ndarray, "rows outputs"]],
]


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
        after: outputs at t, and at t + 1 after an update with given errors.
        shape: rows and outputs.
        t: where it stopped.
        rate: eta_0.
        step: size of eta_0 d.
    """

    after: After
    shape: tuple[int, int]
    t: int
    rate: float
    step: float

    def outputs(self) -> Float[np.ndarray, "rows outputs"]:
        """The outputs at t."""
        return self.after(np.zeros(self.shape))[0]

    def product(
        self, direction: Float[np.ndarray, "rows outputs"], factor: float = 1.0
    ) -> Float[np.ndarray, "rows outputs"]:
        """K(t) times a direction; a larger factor of the step shows its error."""
        norm = float(np.linalg.norm(direction))
        if norm == 0:
            return np.zeros(self.shape)
        size = factor * self.step / (self.rate * norm)
        up, down = (self.after(sign * size * direction)[1] for sign in (1, -1))
        return (up - down) / (2 * self.rate * size)


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
    if isinstance(method, CausalSampling):
        return _sampled(equations, method, layers, key, times)
    assert isinstance(method, LinearAlgebra)
    return _exact(equations, method, layers, key, times)


def _exact(
    equations: TrainingEquations,
    method: LinearAlgebra,
    layers: int,
    key: Key,
    times: tuple[int, ...],
) -> Iterator[Branches]:
    """Branches of a pass with whole histories."""
    more, step = longer(equations), STEP["float64"]
    plan = plan_of(more, layers)
    with jax.enable_x64(True):
        numbers = numbers_of(more, method, plan)
        state = initial_state(plan)
    given = replace(plan, loss=GivenError())
    last = replace(given, tol=min(plan.tol, KEPT * step**2))

    def after(
        state: State, t: int, error: Float[np.ndarray, "rows outputs"]
    ) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            these = numbers._replace(
                y=jnp.asarray(error, jnp.float64),
                error_weights=jnp.ones_like(numbers.error_weights),
            )
            now, then = _branch(given, last, these, state, jnp.asarray(t), key)
        return np.asarray(now), np.asarray(then)

    for t in range(times[-1] + 1):
        if t in times:
            own = partial(after, state, t)
            yield Branches(own, (plan.rows, plan.outputs), t, equations.rate, step)
        if t < times[-1]:
            with jax.enable_x64(True):
                state, _ = advance(plan, numbers, state, jnp.asarray(t), key)


def _sampled(
    equations: TrainingEquations,
    method: CausalSampling,
    layers: int,
    key: Key,
    times: tuple[int, ...],
) -> Iterator[Branches]:
    """Branches of a compressed pass; the state before them is copied, as a step takes it over."""
    more, step = longer(equations), STEP[method.precision]
    a = equations.architecture
    heads, neurons = method.counts(a, equations.fields, equations.steps)
    method = replace(method, heads=heads, neurons=neurons)
    shape = compressed.shape_of(more, method, layers, compressed.START)
    shape = compressed.without_kernels(shape)
    numbers = compressed.numbers_of(more, method, shape)
    gain, steps = float(numbers.score_gain), more.steps
    kept = max(KEPT * step**2, LEAST[method.precision])
    with jax.enable_x64(True):
        last = numbers._replace(tol=jnp.asarray(min(method.tol, kept), jnp.float64))
    record: compressed_state.Record | None = None

    def step_of(
        shape: Shape, numbers: Numbers, state: compressed_state.State, t: int, error: Array | None
    ) -> tuple[compressed_state.State, compressed_state.Record]:
        with one_compiles(shape, 1):
            return one_step.advance(shape, numbers, state, np.asarray(t), key, 1, error)

    def after(
        shape: Shape,
        state: compressed_state.State,
        t: int,
        error: Float[np.ndarray, "rows outputs"],
    ) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            given = jnp.asarray(error, jnp.float64)
            start = compressed_state.at_rest(jax.tree.map(jnp.copy, state))
            moved, now = step_of(shape, numbers, start, t, given)
            wider, moved = with_room(shape, moved, now, t + 1, steps, gain)
            _, then = step_of(wider, last, moved, t + 1, given)
        return np.asarray(now.f), np.asarray(then.f)

    with jax.enable_x64(True):
        state = compressed_state.initial_state(shape, gain)
    for t in range(times[-1] + 1):
        with jax.enable_x64(True):
            shape, state = with_room(shape, state, record, t, steps, gain)
        if t in times:
            own = partial(after, shape, state, t)
            yield Branches(own, (shape.rows, shape.outputs), t, equations.rate, step)
        if t < times[-1]:
            with jax.enable_x64(True):
                state, record = step_of(shape, numbers, state, t, None)


def longer(equations: TrainingEquations) -> TrainingEquations:
    """The same with one evaluation more, to see what the last one does."""
    weights = np.concatenate([equations.weights, equations.weights[-1:]])
    schedule = np.concatenate([equations.schedule, equations.schedule[-1:]])
    return replace(equations, weights=weights, schedule=schedule)


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
