r"""Training an ensemble: every seed at every rate, all members in one compiled program.

A seed draws a start and an order of batches, and all rates share both. Steps run in chunks on the
device; between chunks networks are observed and a checkpoint is written. On a CPU the seeds advance
group after group, so that activations stay in its caches, and several groups at once where JAX may
use several threads: what a group computes does not depend on the others. A member whose loss stops
being finite is frozen and reported, the others go on. Same key, same bits, resumed or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Key,
    Progress,
    available_threads,
    brief,
    config,
    device_count,
    load_checkpoint,
    named_key,
    save_checkpoint,
    stack_keys,
    to_numpy,
)
from translimit.data import AbstractSource
from translimit.describe import Parameterization, TransformerShape, standard_parameterization
from translimit.models import Transformer, Weights
from translimit.train.fit import require_fit
from translimit.train.history import History
from translimit.train.memory import memory_need, require_memory
from translimit.train.observables import AbstractObservable
from translimit.train.optimizers import tensor_rates
from translimit.train.steps import (
    Plan,
    State,
    advance,
    begin,
    observe_members,
    observe_one,
    seed_groups,
)
from translimit.train.training import Training

#: Inputs, targets and weights of rows.
Batch = tuple[np.ndarray, np.ndarray, np.ndarray | None]

#: Steps of one compiled call, and bytes of the batches that it reads ahead, at most.
_CHUNK = 100
_CHUNK_BYTES = 2**26


def train(
    shape: TransformerShape,
    parameterization: Parameterization | None,
    source: AbstractSource,
    training: Training,
    *,
    key: Key,
    observe: Sequence[AbstractObservable] = (),
    observe_at: Sequence[int] = (),
    probe: int = 64,
    folder: str | Path | None = None,
    memory_limit: float | None = None,
    progress: Progress | None = None,
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


class _Run:
    def __init__(
        self,
        shape: TransformerShape,
        numbers: Parameterization,
        source: AbstractSource,
        training: Training,
        key: Key,
        observe: tuple[AbstractObservable, ...],
        times: tuple[int, ...],
        probe: int,
    ):
        self.source, self.training, self.times = source, training, times
        self.dtype = jnp.dtype(training.kept_in)
        self.model = Transformer(shape, numbers)
        # Base rates are data too: another grid of as many rates needs no other program.
        choices = replace(training, rates=(1.0,) * len(training.rates))
        self.plan = Plan(choices, observe, tensor_rates(training.optimizer, shape, numbers))
        self.keys = [named_key(key, "seed", seed) for seed in range(training.seeds)]
        self.orders = [int(jax.random.bits(named_key(one, "batches"))) for one in self.keys]
        self.probe = self._cast(source.probe(probe)) if observe else None
        inputs, targets, weights = self._batch(0, 0, weighted=False)
        require_fit(shape, training.row_loss, inputs, targets, weights)
        self.weighted = weights is not None
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
                "weights": None if weights is None else float(np.sum(weights)),
            }
        )

    def go(self, folder: Path | None, progress: Progress | None) -> History:
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
        keys = stack_keys([named_key(key, "start") for key in self.keys])
        start, state = begin(keys, self.plan, self.model, self.dtype)
        begun = start if training.centred else None
        losses = np.full((seeds, rates, training.steps), np.nan, self.dtype)
        record = (losses, self.recorded)
        done = 0
        if folder is not None:
            done, state, record = load_checkpoint(folder, self.digest, state, record)
            state = jax.tree.map(jnp.asarray, state)
        losses, observations = record
        if done == 0:
            self._record(0, state, start, observations)
        while done < training.steps:
            ends = [time for time in self.times if time > done]
            stop = min([done + self.chunk, training.steps, *ends[:1]])
            state, chunk = self._advance(state, begun, done, stop)
            losses[:, :, done:stop] = np.moveaxis(to_numpy(chunk)[: stop - done], 0, -1)
            done = stop
            self._record(done, state, start, observations)
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
            parameters={name: to_numpy(value) for name, value in weights.items()},
        )

    def _advance(
        self, state: State, begun: Weights | None, first: int, stop: int
    ) -> tuple[State, Array]:
        """Run the steps from `first` to `stop`; the losses have room for a whole chunk."""
        training = self.training
        rows = [
            [self._batch(order, step, weighted=self.weighted) for order in self.orders]
            for step in range(first, stop)
        ]
        rows += [rows[0]] * (self.chunk - len(rows))
        weights = None
        if self.weighted:
            weights = jnp.asarray(_stacked(rows, 2), self.dtype)
        elif any(weights is not None for row in rows for _, _, weights in row):
            raise ArgumentError(
                "source",
                "has rows without a target, or weights, after a first batch without",
                "give weights to the rows of all batches",
            )
        inputs, targets = self._cast((_stacked(rows, 0), _stacked(rows, 1)))
        factors = [
            training.schedule.factor(min(step, training.steps - 1), training.steps)
            for step in range(first, first + self.chunk)
        ]
        rates, factors = (jnp.asarray(a, self.dtype) for a in (training.rates, factors))
        begin, count = (jnp.asarray(a, jnp.int32) for a in (first, stop - first))
        groups = seed_groups(training.seeds, len(training.rates)) if device_count() == 1 else 1
        together = training.seeds // groups

        def advance_group(group: int, count: Array = count) -> tuple[State, Array]:
            """One group of seeds; in a thread of its own, which knows nothing of our 64 bits."""
            seeds = slice(group * together, (group + 1) * together)
            with jax.enable_x64(training.precision == "float64"):
                part, own = jax.tree.map(lambda a: a[seeds], (state, begun))
                data = jax.tree.map(lambda a: a[:, seeds], (inputs, targets, weights))
                told = (self.plan, self.model, rates, data, factors, own)
                return advance(part, *told, begin, count)

        if groups == 1:
            return advance_group(0)
        threads = min(groups, available_threads())
        if threads == 1:
            parts = [advance_group(group) for group in range(groups)]
        else:
            if not self.compiled:
                # No step at all: the threads would each compile the same program.
                advance_group(0, jnp.zeros_like(count))
                self.compiled = True
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(advance_group, range(groups)))
        states, losses = zip(*parts, strict=True)
        whole = jax.tree.map(lambda *a: jnp.concatenate(a), *states)
        return whole, jnp.concatenate(losses, axis=1)

    def _batch(self, seed: int, step: int, *, weighted: bool) -> Batch:
        """Inputs, targets and weights of rows: given ones, or equal ones of rows with a target.

        Weights are None where none are given and every row has a target, unless `weighted`.
        """
        inputs, targets = self.source.batch(seed, step, self.training.batch)
        weights = self.source.row_weights(seed, step, self.training.batch)
        counted = np.ones(targets.shape[: 1 if self.model.shape.pooled else 2], bool)
        if np.issubdtype(targets.dtype, np.integer):
            counted = targets >= 0
        if weights is None:
            if counted.all() and not weighted:
                return inputs, targets, None
            return inputs, targets, counted / max(counted.sum(), 1)
        # Weights of another shape are refused by `require_fit`.
        return inputs, targets, weights * counted if weights.shape == counted.shape else weights

    def _record(
        self, done: int, state: State, start: Weights, observations: dict[str, np.ndarray]
    ) -> None:
        if done not in self.times or self.probe is None:
            return
        found = observe_members(state[0], start, self.plan, self.model, self.probe)
        for name, value in found.items():
            observations[name][self.times.index(done)] = to_numpy(value)

    def _record_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of all observations, without computing one."""
        probe = self.probe
        if not self.times or probe is None:
            return {}
        training = self.training

        def one() -> dict[str, Array]:
            weights = self.model.init(self.keys[0], self.dtype)
            return observe_one(weights, weights, self.plan, self.model, probe)

        outer = (len(self.times), training.seeds, len(training.rates))
        shapes = jax.eval_shape(one)
        return {n: jax.ShapeDtypeStruct((*outer, *v.shape), v.dtype) for n, v in shapes.items()}

    def _cast(self, pair: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
        def cast(array: np.ndarray) -> Array:
            whole = np.issubdtype(array.dtype, np.integer)
            return jnp.asarray(array, jnp.int32 if whole else self.dtype)

        return cast(pair[0]), cast(pair[1])


def _stacked(rows: list[list[Batch]], part: int) -> np.ndarray:
    """One part of some batches [steps, seeds, ...]."""
    return np.stack([np.stack([np.asarray(batch[part]) for batch in row]) for row in rows])
