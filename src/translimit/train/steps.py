r"""The compiled programs of an ensemble: how it begins, steps, and is observed.

A state holds weights, moments of the optimiser and the step at which a member diverged, of all
members [seeds, rates, ...]. A member whose loss stops being finite is frozen, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from translimit.core import map_shards
from translimit.models import Transformer, Weights
from translimit.train.losses import mean_loss
from translimit.train.observables import AbstractObservable, Snapshot, observe_all
from translimit.train.optimizers import TensorRates, transformation
from translimit.train.training import Training

#: Weights, moments of the optimiser, and the step at which a member diverged, -1 before.
State = tuple[Weights, PyTree[Array], Int[Array, "seeds rates"]]
#: Inputs, targets and weights of rows of some batches; None where rows have no weights.
Batches = tuple[
    Shaped[Array, "steps seeds ..."],
    Shaped[Array, "steps seeds ..."],
    Float[Array, "steps seeds ..."] | None,
]
#: Inputs and targets of the probe.
Pair = tuple[Shaped[Array, "..."], Shaped[Array, "..."]]
T = TypeVar("T")

#: Members that a CPU advances at once.
_TOGETHER = 8


class Plan(eqx.Module):
    """What the compiled programs know of a run: choices, and the rates of tensors as data."""

    training: Training = eqx.field(static=True)
    observe: tuple[AbstractObservable, ...] = eqx.field(static=True)
    rates: TensorRates


def seed_groups(seeds: int, rates: int) -> int:
    """Into how many groups the seeds are cut, so that one has about `_TOGETHER` members."""
    if jax.default_backend() != "cpu":
        return 1
    most = max(1, _TOGETHER // rates)
    together = max(size for size in range(1, seeds + 1) if seeds % size == 0 and size <= most)
    return seeds // together


@eqx.filter_jit
def begin(
    keys: Key[Array, " seeds"], plan: Plan, model: Transformer, dtype: DTypeLike
) -> tuple[Weights, State]:
    """Weights at the start [seeds, ...], and the state of all members [seeds, rates, ...]."""
    rates = len(plan.training.rates)
    start = jax.vmap(lambda key: model.init(key, dtype))(keys)
    method = transformation(plan.training.optimizer, model.shape, plan.rates, 1.0)
    weights = jax.tree.map(lambda w: jnp.repeat(w[:, None], rates, axis=1), start)
    moments = jax.vmap(jax.vmap(method.init))(weights)
    return start, (weights, moments, jnp.full((len(keys), rates), -1, jnp.int32))


@eqx.filter_jit
def advance(
    state: State,
    plan: Plan,
    model: Transformer,
    rates: Float[Array, " rates"],
    data: Batches,
    factors: Float[Array, " steps"],
    start: Weights | None,
    first: Int[Array, ""],
    count: Int[Array, ""],
) -> tuple[State, Float[Array, "steps seeds rates"]]:
    """`count` steps of a group of seeds, and its losses [steps of a chunk, seeds, rates].

    Where training is centred, `start` has the weights of the start [seeds, ...].
    """
    shared = (plan, model, rates, factors, first, count)
    return map_shards(_steps, (state, data, start), (0, 1, 0), shared, out_axes=(0, 1))


def _steps(
    state: State, data: Batches, start: Weights | None, shared: tuple[Any, ...]
) -> tuple[State, Float[Array, "steps seeds rates"]]:
    """The same for the seeds of one device."""
    plan, model, rates, factors, first, count = shared
    training = plan.training

    def outputs(weights: Weights, x: Array) -> Array:
        weights, x = training.narrowed((weights, x))
        return model(weights, x).astype(rates.dtype)

    def gradient(
        weights: Weights, batch: tuple[Array, Array, Array | None], begun: Weights | None
    ) -> tuple[Array, Weights]:
        def loss(weights: Weights, x: Array, y: Array, w: Array | None) -> Array:
            f = outputs(weights, x)
            if begun is not None:
                f = f - jax.lax.stop_gradient(outputs(begun, x))
            return mean_loss(training.loss, f, y, w)

        if training.accumulate == 1:
            return jax.value_and_grad(loss)(weights, *batch)
        parts = jax.tree.map(lambda a: a.reshape(training.accumulate, -1, *a.shape[1:]), batch)
        zero = (jnp.zeros((), rates.dtype), jax.tree.map(jnp.zeros_like, weights))

        def add(total: tuple[Array, Weights], part: Any) -> tuple[tuple[Array, Weights], None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(weights, *part)), None

        total, _ = jax.lax.scan(add, zero, parts)
        if batch[2] is not None:  # a sum of weighted rows, not a mean
            return total
        return jax.tree.map(lambda a: a / training.accumulate, total)

    def member(
        weights: Weights,
        moments: PyTree[Array],
        diverged_at: Array,
        rate: Array,
        batch: tuple[Array, Array, Array | None],
        begun: Weights | None,
        step: Array,
    ) -> tuple[Weights, PyTree[Array], Array, Array]:
        loss, slope = gradient(weights, batch, begun)
        method = transformation(training.optimizer, model.shape, plan.rates, rate)
        updates, new_moments = method.update(slope, moments, weights)
        alive = (diverged_at < 0) & jnp.isfinite(loss)
        new_weights = optax.apply_updates(weights, updates)
        weights, moments = jax.tree.map(
            lambda new, old: jnp.where(alive, new, old),
            (new_weights, new_moments),
            (weights, moments),
        )
        diverged_at = jnp.where((diverged_at < 0) & ~alive, step, diverged_at)
        return weights, moments, diverged_at, jnp.where(alive, loss, jnp.nan)

    seeds, members = state[2].shape
    over_rates = _over(members, member, (0, 0, 0, 0, None, None, None))
    over_seeds = _over(seeds, over_rates, (0, 0, 0, None, 0, 0, None))

    def step(number: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        (weights, moments, diverged_at), losses = carry
        weights, moments, diverged_at, loss = over_seeds(
            weights,
            moments,
            diverged_at,
            rates * factors[number],
            jax.tree.map(lambda a: a[number], data),
            start,
            first + number,
        )
        return (weights, moments, diverged_at), losses.at[number].set(loss)

    losses = jnp.full((len(factors), *state[2].shape), jnp.nan, rates.dtype)
    return jax.lax.fori_loop(0, count, step, (state, losses))


def _over(count: int, function: Callable[..., T], axes: tuple[int | None, ...]) -> Callable[..., T]:
    """`jax.vmap`; without it where there is one, since products of batches of one are slower."""
    if count > 1:
        return jax.vmap(function, axes)

    def alone(*arguments: PyTree[Array]) -> T:
        own = [
            argument if axis is None else jax.tree.map(lambda a: a[0], argument)
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda a: a[None], function(*own))

    return alone


@eqx.filter_jit
def observe_members(
    weights: Weights, start: Weights, plan: Plan, model: Transformer, probe: Pair
) -> dict[str, Array]:
    """The observations of all members, one after the other [seeds, rates, ...]."""
    return map_shards(_observe_seeds, (weights, start), (0, 0), (plan, model, probe))


def _observe_seeds(
    weights: Weights, start: Weights, shared: tuple[Plan, Transformer, Pair]
) -> dict[str, Array]:
    """The same for the seeds of one device."""
    plan, model, probe = shared

    def of_seed(pair: tuple[Weights, Weights]) -> dict[str, Array]:
        members, begun = pair
        return jax.lax.map(lambda one: observe_one(one, begun, plan, model, probe), members)

    return jax.lax.map(of_seed, (weights, start))


def observe_one(
    weights: Weights, start: Weights, plan: Plan, model: Transformer, probe: Pair
) -> dict[str, Array]:
    """The observations of one member."""
    inputs, targets = probe
    training = plan.training
    snapshot = Snapshot(
        model, weights, start, inputs, targets, training.loss, centred=training.centred
    )
    return observe_all(plan.observe, snapshot)
