r"""Training an ensemble: every seed at every rate, all members in one compiled program.

A seed draws a start and an order of batches, and all rates share both. Steps run in chunks on the
device; between chunks networks are observed and a checkpoint is written. On a CPU the seeds advance
group after group, so that activations stay in its caches, and several groups at once where JAX may
use several threads: what a group computes does not depend on the others. A member whose loss stops
being finite is frozen and reported, the others go on. Same key, same bits, resumed or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    available_threads,
    brief,
    config,
    device_count,
    load_checkpoint,
    map_shards,
    named_key,
    save_checkpoint,
    to_numpy,
)
from translimit.data import AbstractSource
from translimit.describe import Parameterization, TransformerShape, standard_parameterization
from translimit.models import Transformer
from translimit.train.fit import require_fit
from translimit.train.history import History
from translimit.train.memory import memory_need, require_memory
from translimit.train.observables import AbstractObservable, Snapshot, observe_all
from translimit.train.optimizers import TensorRates, tensor_rates, transformation
from translimit.train.training import Training, mean_loss

#: Steps of one compiled call, and bytes of the batches that it reads ahead, at most.
_CHUNK = 100
_CHUNK_BYTES = 2**26
#: Members that a CPU advances at once.
_TOGETHER = 8


def train(
    shape: TransformerShape,
    parameterization: Parameterization | None,
    source: AbstractSource,
    training: Training,
    *,
    key: PRNGKeyArray,
    observe: Sequence[AbstractObservable] = (),
    observe_at: Sequence[int] = (),
    probe: int = 64,
    folder: str | Path | None = None,
    memory_limit: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> History:
    """Train every seed at every rate.

    Args:
        shape: of the networks.
        parameterization: their starts, multipliers and ratios of rates; the standard one if None.
        source: of batches and of the probe.
        training: steps, rates, seeds, optimiser.
        key: of starts and orders.
        observe: what to record.
        observe_at: numbers of updates after which to record, between 0 and `training.steps`.
        probe: samples of the fixed set on which is observed.
        folder: where a checkpoint is kept after every chunk; a run that was stopped goes on from
            there. None keeps none.
        memory_limit: bytes that the run may use; what the machine has by default.
        progress: called with the fraction done.

    Returns:
        Losses, observations and the weights at the end.

    Raises:
        ArgumentError: observation times outside of the run, a source whose batches do not fit the
            shape.
        MemoryLimitError: the run does not fit into memory.
        StoreError: the folder cannot be used, or holds another run.
    """
    if not isinstance(training, Training):
        raise ArgumentTypeError("training", f"got {brief(training)}", "pass a train.Training")
    if parameterization is None:
        parameterization = standard_parameterization(shape.size, pixels=shape.patch_dim or 1)
    times = tuple(sorted(set(observe_at))) if observe else ()
    if times and not (times[0] >= 0 and times[-1] <= training.steps):
        raise ArgumentError("observe_at", f"got {times}", f"pass 0 to {training.steps} updates")
    with jax.enable_x64(training.precision == "float64"):
        run = _Run(shape, parameterization, source, training, key, tuple(observe), times, probe)
        require_memory(run.need, memory_limit)
        return run.go(None if folder is None else Path(folder), progress)


class _Plan(eqx.Module):
    """What the compiled programs know of a run: choices, and the rates of tensors as data."""

    training: Training = eqx.field(static=True)
    observe: Any = eqx.field(static=True)
    rates: TensorRates


class _Run:
    def __init__(
        self,
        shape: TransformerShape,
        numbers: Parameterization,
        source: AbstractSource,
        training: Training,
        key: PRNGKeyArray,
        observe: tuple[AbstractObservable, ...],
        times: tuple[int, ...],
        probe: int,
    ):
        self.source, self.training, self.times = source, training, times
        self.dtype = jnp.dtype(training.kept_in)
        self.model = Transformer(shape, numbers)
        # Base rates are data too: another grid of as many rates needs no other program.
        choices = replace(training, rates=(1.0,) * len(training.rates))
        self.plan = _Plan(choices, observe, tensor_rates(training.optimizer, shape, numbers))
        self.keys = [named_key(key, "seed", seed) for seed in range(training.seeds)]
        self.orders = [int(jax.random.bits(named_key(one, "batches"))) for one in self.keys]
        self.probe = self._cast(source.probe(probe)) if observe else None
        inputs, targets = source.batch(0, 0, training.batch)
        require_fit(shape, training.loss, inputs, targets)
        one_step = training.seeds * (inputs.nbytes + targets.nbytes)
        self.chunk = max(1, min(_CHUNK, training.steps, _CHUNK_BYTES // one_step))
        self.compiled = False
        recorded = self._record_shapes()
        bytes_recorded = sum(math.prod(v.shape) * v.dtype.itemsize for v in recorded.values())
        self.recorded = {n: np.full(v.shape, np.nan, v.dtype) for n, v in recorded.items()}
        self.need = memory_need(
            shape,
            training,
            batches=2.0 * self.chunk * one_step,
            recorded=float(bytes_recorded),
            probe=probe if observe else 0,
        )
        self.digest = config.digest(
            {
                "shape": repr(shape),
                "numbers": repr(sorted(numbers.table().items())),
                "outside": [numbers.score_scale, numbers.residual, numbers.skip],
                "training": repr(training),
                "observe": repr(observe),
                "times": list(times),
                "orders": self.orders,
                "first_batch": [float(np.sum(inputs)), float(np.sum(targets))],
            }
        )

    def go(self, folder: Path | None, progress: Callable[[float], None] | None) -> History:
        training = self.training
        seeds, rates = training.seeds, len(training.rates)
        if seeds % device_count():
            raise ArgumentError(
                "seeds",
                f"got {seeds} over {device_count()} devices",
                f"pass a multiple of {device_count()}",
            )
        if folder is not None and device_count() > 1 and jax.process_count() > 1:
            raise ArgumentError(
                "folder", "processes on several hosts share no checkpoint", "leave it out"
            )
        keys = jnp.stack([named_key(key, "start") for key in self.keys])
        start, state = _begin(keys, self.plan, self.model, self.dtype)
        losses = np.full((seeds, rates, training.steps), np.nan, self.dtype)
        record = (losses, self.recorded)
        done = 0
        if folder is not None:
            done, state, record = load_checkpoint(folder, self.digest, state, record)
            state = jax.tree.map(jnp.asarray, state)
        losses, observations = record
        if done == 0:
            self._observe(0, state, start, observations)
        while done < training.steps:
            ends = [time for time in self.times if time > done]
            stop = min([done + self.chunk, training.steps, *ends[:1]])
            state, chunk = self._advance(state, done, stop)
            losses[:, :, done:stop] = np.moveaxis(to_numpy(chunk)[: stop - done], 0, -1)
            done = stop
            self._observe(done, state, start, observations)
            if folder is not None:
                save_checkpoint(folder, self.digest, done, state, (losses, observations))
            if progress is not None:
                progress(done / training.steps)
        weights, _, diverged_at = state
        dims: dict[str, tuple[str, ...]] = {}
        for observable in self.plan.observe:
            dims |= observable.dims
        return History(
            rates=training.rates,
            losses=losses,
            diverged_at=to_numpy(diverged_at),
            observed_at=self.times,
            observations=observations,
            dims=dims,
            weights={name: to_numpy(value) for name, value in weights.items()},
        )

    def _advance(self, state: Any, first: int, stop: int) -> tuple[Any, Array]:
        """Run the steps from `first` to `stop`; the losses have room for a whole chunk."""
        training = self.training
        rows = [
            [self.source.batch(order, step, training.batch) for order in self.orders]
            for step in range(first, stop)
        ]
        rows += [rows[0]] * (self.chunk - len(rows))
        inputs, targets = (
            np.stack([np.stack([pair[part] for pair in row]) for row in rows]) for part in (0, 1)
        )
        inputs, targets = self._cast((inputs, targets))
        factors = [
            training.schedule.factor(min(step, training.steps - 1), training.steps)
            for step in range(first, first + self.chunk)
        ]
        rates, factors = (jnp.asarray(a, self.dtype) for a in (training.rates, factors))
        begin, count = (jnp.asarray(a, jnp.int32) for a in (first, stop - first))
        groups = _groups(training.seeds, len(training.rates)) if device_count() == 1 else 1
        together = training.seeds // groups

        def advance(group: int, count: Array = count) -> tuple[Any, Array]:
            """One group of seeds; in a thread of its own, which knows nothing of our 64 bits."""
            seeds = slice(group * together, (group + 1) * together)
            with jax.enable_x64(training.precision == "float64"):
                part = jax.tree.map(lambda a: a[seeds], state)
                data = (inputs[:, seeds], targets[:, seeds], factors)
                return _advance(part, self.plan, self.model, rates, data, begin, count)

        if groups == 1:
            return advance(0)
        threads = min(groups, available_threads())
        if threads == 1:
            parts = [advance(group) for group in range(groups)]
        else:
            if not self.compiled:
                # No step at all: the threads would each compile the same program.
                advance(0, jnp.zeros_like(count))
                self.compiled = True
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(advance, range(groups)))
        states, losses = zip(*parts, strict=True)
        whole = jax.tree.map(lambda *a: jnp.concatenate(a), *states)
        return whole, jnp.concatenate(losses, axis=1)

    def _observe(self, done: int, state: Any, start: Any, observations: dict) -> None:
        if done not in self.times:
            return
        found = _observe(state[0], start, self.plan, self.model, self.probe)
        for name, value in found.items():
            observations[name][self.times.index(done)] = to_numpy(value)

    def _record_shapes(self) -> dict[str, Any]:
        """Shapes of all observations, without computing one."""
        if not self.times:
            return {}
        training = self.training

        def one() -> dict[str, Array]:
            weights = self.model.init(self.keys[0], self.dtype)
            return _observe_one(weights, weights, self.plan, self.model, self.probe)

        outer = (len(self.times), training.seeds, len(training.rates))
        shapes = jax.eval_shape(one)
        return {n: jax.ShapeDtypeStruct((*outer, *v.shape), v.dtype) for n, v in shapes.items()}

    def _cast(self, pair: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
        def cast(array: np.ndarray) -> Array:
            whole = np.issubdtype(array.dtype, np.integer)
            return jnp.asarray(array, jnp.int32 if whole else self.dtype)

        return cast(pair[0]), cast(pair[1])


def _groups(seeds: int, rates: int) -> int:
    """Into how many groups the seeds are cut, so that one has about `_TOGETHER` members."""
    if jax.default_backend() != "cpu":
        return 1
    most = max(1, _TOGETHER // rates)
    together = max(size for size in range(1, seeds + 1) if seeds % size == 0 and size <= most)
    return seeds // together


@eqx.filter_jit
def _begin(keys: Any, plan: _Plan, model: Transformer, dtype: Any) -> tuple[Any, Any]:
    """Weights at the start [seeds, ...], and the state of all members [seeds, rates, ...]."""
    rates = len(plan.training.rates)
    start = jax.vmap(lambda key: model.init(key, dtype))(keys)
    method = transformation(plan.training.optimizer, model.shape, plan.rates, 1.0)
    weights = jax.tree.map(lambda w: jnp.repeat(w[:, None], rates, axis=1), start)
    moments = jax.vmap(jax.vmap(method.init))(weights)
    return start, (weights, moments, jnp.full((len(keys), rates), -1, jnp.int32))


@eqx.filter_jit
def _advance(
    state: Any, plan: _Plan, model: Transformer, rates: Array, data: Any, first: Any, count: Any
) -> tuple[Any, Array]:
    """`count` steps of a group of seeds, and its losses [steps of a chunk, seeds, rates]."""
    inputs, targets, factors = data
    shared = (plan, model, rates, factors, first, count)
    return map_shards(_steps, (state, inputs, targets), (0, 1, 1), shared, out_axes=(0, 1))


def _steps(state: Any, inputs: Array, targets: Array, shared: Any) -> tuple[Any, Array]:
    """The same for the seeds of one device."""
    plan, model, rates, factors, first, count = shared
    training = plan.training

    def gradient(weights: Any, x: Array, y: Array) -> tuple[Array, Any]:
        def loss(weights: Any, x: Array, y: Array) -> Array:
            weights, x = training.narrowed((weights, x))
            outputs = model(weights, x)
            return mean_loss(training.loss, outputs.astype(rates.dtype), y)

        if training.accumulate == 1:
            return jax.value_and_grad(loss)(weights, x, y)
        parts = jax.tree.map(lambda a: a.reshape(training.accumulate, -1, *a.shape[1:]), (x, y))
        zero = (jnp.zeros((), rates.dtype), jax.tree.map(jnp.zeros_like, weights))

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(weights, *part)), None

        total, _ = jax.lax.scan(add, zero, parts)
        return jax.tree.map(lambda a: a / training.accumulate, total)

    def member(
        weights: Any, moments: Any, diverged_at: Array, rate: Array, x: Array, y: Array, step: Array
    ) -> tuple[Any, Any, Array, Array]:
        loss, slope = gradient(weights, x, y)
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

    def step(number: Array, carry: Any) -> Any:
        (weights, moments, diverged_at), losses = carry
        *state, loss = over_seeds(
            weights,
            moments,
            diverged_at,
            rates * factors[number],
            inputs[number],
            targets[number],
            first + number,
        )
        return tuple(state), losses.at[number].set(loss)

    losses = jnp.full((len(factors), *state[2].shape), jnp.nan, rates.dtype)
    return jax.lax.fori_loop(0, count, step, (state, losses))


def _over(count: int, function: Callable[..., Any], axes: tuple[int | None, ...]) -> Any:
    """`jax.vmap`; without it where there is one, since products of batches of one are slower."""
    if count > 1:
        return jax.vmap(function, axes)

    def alone(*arguments: Any) -> Any:
        own = [
            argument if axis is None else jax.tree.map(lambda a: a[0], argument)
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda a: a[None], function(*own))

    return alone


@eqx.filter_jit
def _observe(weights: Any, start: Any, plan: _Plan, model: Transformer, probe: Any) -> Any:
    """The observations of all members, one after the other [seeds, rates, ...]."""
    return map_shards(_observe_seeds, (weights, start), (0, 0), (plan, model, probe))


def _observe_seeds(weights: Any, start: Any, shared: Any) -> Any:
    """The same for the seeds of one device."""
    plan, model, probe = shared

    def of_seed(pair: Any) -> Any:
        members, begun = pair
        return jax.lax.map(lambda one: _observe_one(one, begun, plan, model, probe), members)

    return jax.lax.map(of_seed, (weights, start))


def _observe_one(weights: Any, start: Any, plan: _Plan, model: Transformer, probe: Any) -> Any:
    inputs, targets = probe
    snapshot = Snapshot(model, weights, start, inputs, targets, plan.training.loss)
    return observe_all(plan.observe, snapshot)
