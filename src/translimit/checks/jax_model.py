r"""JAX models under a check: fields by a function of theirs, numbers by probing the transform.

An optax transform does not tell its rates. Its first update of a gradient of ones, of one as small
as an epsilon, and of zeros gives rate, epsilon and decay of every leaf; that holds for SGD,
momentum, Adam, AdamW and sign updates, not for Muon, whose updates of matrices are not compared.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from translimit.checks.errors import FactoryError, guarded
from translimit.checks.lint import ParameterNumbers
from translimit.checks.schedules import ScheduleName, decay_begins, schedule_factor
from translimit.checks.trial import PROBES
from translimit.core import AnyArray, Number, Record, brief
from translimit.describe import Role, Size, Update
from translimit.scaling import Rules

if TYPE_CHECKING:
    import optax

#: Parameters, a pytree of arrays, and what a factory calls a batch.
Parameters = TypeVar("Parameters")
Batch = TypeVar("Batch")

#: Arrays by the name of a coordinate.
Recorded = Mapping[str, Shaped[Array | np.ndarray, "..."]]
#: The parameters, state of the optimiser and loss of an update.
Moved: TypeAlias = tuple[Parameters, PyTree, Float[Array, ""]]
#: Parameters and the state of the optimiser.
Run: TypeAlias = list[PyTree]
#: The gradient that shows an epsilon.
_SMALL = 1e-8
#: Compiled programs by their text, and how many are kept: a sweep returns to that of every rate.
_COMPILED: dict[Any, Callable[..., Any]] = {}
_KEPT = 32


@dataclass(frozen=True, kw_only=True)
class JaxModel(Record, Generic[Parameters, Batch]):
    """What a factory of JAX models returns.

    Attributes:
        parameters: a pytree of arrays, initialised.
        optimizer: an optax transform with absolute rates.
        loss: of parameters and a batch.
        fields: of parameters and a batch, by name: `output`, and any of `stream` (after the last
            block), `hidden`, `key`, `query` and `score`, each with all blocks in one array.
        batch: the batch of a step, the same for the same step and at every size.
        rules: what is promised, from the base to this size.
        learned: of parameters, parameters of the start and a batch: `key`, `query`, `score`, or the
            output of the map of a role by its name, at the inputs of the start.
        labels: a pytree of roles like `parameters`.
        repeated: the batch of a coordinate check, by default that of step 0.
        probe: batches on which a transfer sweep takes the loss at the end.
    """

    parameters: Parameters
    optimizer: optax.GradientTransformation
    loss: Callable[[Parameters, Batch], Float[Array, ""]]
    fields: Callable[[Parameters, Batch], Recorded]
    batch: Callable[[int], Batch]
    rules: Rules | None = None
    learned: Callable[[Parameters, Parameters, Batch], Recorded] | None = None
    labels: PyTree[Role | str] | None = None
    repeated: Batch | None = None
    probe: Sequence[Batch] | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "fields", "batch"):
            if not callable(getattr(self, name)):
                raise FactoryError(
                    name,
                    f"got {brief(getattr(self, name))}",
                    "pass a function of "
                    + ("the step" if name == "batch" else "parameters and a batch"),
                )
        if not hasattr(self.optimizer, "update"):
            raise FactoryError(
                "optimizer", f"got {brief(self.optimizer)}", "pass an optax transform"
            )

    def numbers(self, rate: float) -> list[ParameterNumbers]:
        """What the transform does to every leaf, and how it starts.

        Args:
            rate: of the base, over which rates are told.
        """
        import jax
        import jax.numpy as jnp

        @jax.jit
        def first(parameters: PyTree, gradient: Number) -> PyTree:
            grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), parameters)
            state = self.optimizer.init(parameters)
            return self.optimizer.update(grads, state, parameters)[0]

        leaves = jax.tree_util.tree_leaves_with_path(self.parameters)
        labels = [None] * len(leaves) if self.labels is None else self._label_leaves()
        gradients = (1.0, _SMALL, 0.0)
        updates = [jax.tree.leaves(first(self.parameters, gradient)) for gradient in gradients]
        found = []
        for (path, value), label, one, small, none in zip(leaves, labels, *updates, strict=True):
            roles = () if label is None else (Role(label),)
            one, small, none = (np.asarray(update) for update in (one, small, none))
            init, decay = _rms(value), _rms(none)
            lr = float(np.mean(np.abs(one - none)))
            less = float(np.mean(np.abs(small - none)))
            adaptive = less > 1e-3 * lr  # an update that is linear in the gradient has no epsilon
            updates_of = [] if self.rules is None else [self.rules.update(role) for role in roles]
            unknown = Update.ORTHOGONAL in updates_of
            found.append(
                ParameterNumbers(
                    name=jax.tree_util.keystr(path, simple=True, separator="."),
                    roles=roles,
                    lr=None if unknown else lr / rate,
                    eps=_SMALL * (lr / less - 1) if adaptive and not unknown else None,
                    wd=decay / (lr * init) if lr * init > 0 and not unknown else 0.0,
                    init=init,
                    entries=value.size,
                )
            )
        return found

    def _label_leaves(self) -> list[Any]:
        import jax

        leaves = jax.tree.leaves(self.labels, is_leaf=lambda leaf: isinstance(leaf, str))
        parameters = len(jax.tree.leaves(self.parameters))
        if len(leaves) != parameters:
            raise FactoryError(
                "labels",
                f"has {len(leaves)} leaves for {parameters} parameters",
                "pass a role for every leaf of parameters",
            )
        return leaves

    def score_scale(self) -> float | None:
        """Not told: the scores of `fields` have it."""
        return None

    def record(
        self,
        steps: Sequence[int],
        size: Size,
        apart: bool | None = None,
        narrowest: int | None = None,
        examples: int | None = None,
    ) -> dict[str, list[float]]:
        """Train on one batch and record coordinates after some numbers of updates.

        Args:
            steps: increasing; 0 is the start.
            size: unused: fields come as they are.
            apart: unused: fields are functions, which know no modes.
            narrowest: unused: what of a batch is a token, its functions know.
            examples: unused: all of the batch are taken.
        """
        batch = self.repeated
        if batch is None:
            batch = guarded("batch", lambda: self.batch(0))
        start = parameters = self.parameters
        state = self._first_state()
        # Of all steps, looked at or not: a second program takes longer to compile than to save.
        update = _Program(self._step(look=True))
        at_start: tuple[Any, Any] = ({}, {})
        found: dict[str, list[float]] = {}
        for step in range(steps[-1] + 1):
            (parameters, state, loss), *seen = update(parameters, state, start, batch)
            if step in steps or step == 0:
                fields, learned = ({n: np.asarray(x) for n, x in one.items()} for one in seen)
                if step == 0:
                    at_start = fields, learned
                    if "output" not in fields:
                        raise FactoryError(
                            "fields", f"returned {sorted(fields)}", "return at least `output`"
                        )
                for name, value in _coordinates(fields, learned, *at_start).items():
                    found.setdefault(name, []).extend([value] if step in steps else [])
            if not math.isfinite(float(loss)):
                break
        return {n: values + [math.nan] * (len(steps) - len(values)) for n, values in found.items()}

    def unread(self) -> list[tuple[str, str, str]]:
        """Nothing: what a function of parameters reads, its author has written."""
        return []

    def misplaced(self) -> list[tuple[str, str, str]]:
        """Nothing: a function of parameters has no modules."""
        return []

    def train(self, steps: int, schedule: ScheduleName = "constant") -> float:
        """Train on fresh batches and return the mean loss on the probe; NaN if it diverged."""
        return self.train_through((steps,), schedule)[0]

    def train_through(
        self, horizons: Sequence[int], schedule: ScheduleName = "constant"
    ) -> list[float]:
        """Train on fresh batches, with the mean loss on the probe at each horizon; NaN if diverged.

        Args:
            horizons: updates, increasing; one alone unless the schedule is constant or wsd.
            schedule: what multiplies the updates of the transform, which is what multiplying its
                rates does; with `own` nothing does, and the transform schedules.
        """
        import jax

        loss = jax.jit(self.loss)
        probe = self.probe
        if probe is None:
            probe = [guarded("batch", lambda i=i: self.batch(i)) for i in range(PROBES)]
        update = _Program(self._scheduled)

        def on(run: Run, first: int, last: int, steps: int, name: ScheduleName) -> Run | None:
            """From one step to another; None where a loss was not finite."""
            for step in range(first, last):
                batch = guarded("batch", lambda step=step: self.batch(step))
                factor = np.float64(schedule_factor(name, step, steps))
                *run, value = update(*run, factor, batch)
                if not math.isfinite(float(value)):
                    return None
            return run

        stable: Run | None = [self.parameters, self._first_state()]
        ends, done = [], 0
        for steps in horizons:
            begun = decay_begins(steps) if schedule == "wsd" else steps
            before = "constant" if schedule == "wsd" else schedule
            stable = on(stable, done, begun, steps, before) if stable else None
            ended = on(stable, begun, steps, steps, schedule) if stable else None
            done = begun
            told = [float(loss(ended[0], batch)) for batch in probe] if ended else [math.nan]
            ends.append(sum(told) / len(told))
        return ends

    def seconds_of_update(self, updates: int) -> float:
        """What an update takes, after one that compiles.

        Args:
            updates: how many are timed.
        """
        update = _Program(self._scheduled)
        run = [self.parameters, self._first_state()]
        before = 0.0
        for step in range(updates + 1):
            batch = guarded("batch", lambda step=step: self.batch(step))
            *run, value = update(*run, np.float64(1), batch)
            float(value)
            before = before or time.perf_counter()
        return (time.perf_counter() - before) / updates

    def _scheduled(
        self, parameters: Parameters, state: PyTree, factor: Number, batch: Batch
    ) -> Moved[Parameters]:
        """One update whose rates are multiplied."""
        return guarded("loss", lambda: self._update(parameters, state, batch, factor))

    def _first_state(self) -> PyTree:
        tree: PyTree = self.parameters
        return self.optimizer.init(tree)

    def _step(
        self, *, look: bool
    ) -> Callable[
        [Parameters, PyTree, Parameters, Batch], tuple[Moved[Parameters], Recorded, Recorded]
    ]:
        """One update as a function; with `look`, what is recorded of the parameters before it.

        They are one program, in which XLA shares the forward pass of the update with the fields as
        far as it sees that they are the same. It rewrites what has one user before it looks for
        that: from the root of a norm on, whose gradient uses it again, it computes both.
        """

        def step(
            parameters: Parameters, state: PyTree, start: Parameters, batch: Batch
        ) -> tuple[Moved[Parameters], Recorded, Recorded]:
            fields: Recorded = {}
            learned: Recorded = {}
            if look:
                fields = guarded("fields", lambda: dict(self.fields(parameters, batch)))
                if (maps := self.learned) is not None:
                    learned = guarded("learned", lambda: dict(maps(parameters, start, batch)))
            moved = guarded("loss", lambda: self._update(parameters, state, batch))
            return moved, fields, learned

        return step

    def _update(
        self, parameters: Parameters, state: PyTree, batch: Batch, factor: Number | None = None
    ) -> Moved[Parameters]:
        import jax

        value, gradient = jax.value_and_grad(self.loss)(parameters, batch)
        tree: PyTree = parameters
        moves, state = self.optimizer.update(gradient, state, tree)
        if factor is not None:
            moves = jax.tree.map(lambda move: (factor * move).astype(move.dtype), moves)
        return jax.tree.map(lambda p, move: p + move, tree, moves), state, value


class _Program:
    """A compiled function; networks whose programs have the same text share what is compiled.

    Seeds of one size differ in data alone, but each has an optimiser of its own, and so a function
    of its own. A text is the whole program unless it calls back into Python, or constants are
    passed beside the arguments: such programs are not shared.
    """

    def __init__(self, function: Callable[..., tuple[object, ...]]):
        self.function = function
        self.compiled: dict[tuple[object, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """The value; compiled again for arguments of other shapes or types."""
        import jax

        leaves, tree = jax.tree.flatten(arguments)
        kind = tree, *((np.shape(x), getattr(x, "dtype", type(x))) for x in leaves)
        if kind not in self.compiled:
            self.compiled[kind] = self._compile(arguments, leaves)
        return self.compiled[kind](*arguments)

    def _compile(self, arguments: tuple[Any, ...], leaves: Sequence[Any]) -> Callable[..., Any]:
        import jax

        lowered = jax.jit(self.function, keep_unused=True).lower(*arguments)
        text = lowered.as_text()
        head = text[: text.find("->", text.find("@main"))]
        if len(re.findall(r"%arg\d+:", head)) != len(leaves) or "callback" in text:
            return lowered.compile()
        devices = sorted({str(x.devices()) for x in leaves if isinstance(x, jax.Array)})
        trees = str(lowered.in_tree), str(lowered.out_tree)
        place = (hashlib.sha256(text.encode()).hexdigest(), *trees, *devices)
        if place not in _COMPILED:
            _COMPILED[place] = lowered.compile()
            for old in list(_COMPILED)[:-_KEPT]:
                _COMPILED.pop(old, None)
        return _COMPILED[place]


def _coordinates(
    fields: Mapping[str, np.ndarray],
    learned: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    first_learned: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Root mean squares of fields, of their changes and of what the maps learned."""
    values = {}
    for name, value in fields.items():
        values[name] = _rms(value)
        values[f"{name}_change"] = _rms(value - first[name])
    for name, value in learned.items():
        change = _rms(value - first_learned[name])
        if name in ("key", "query", "score"):
            values[f"learned_{name}_change"] = change
        else:
            values[f"start of {name}"] = _rms(first_learned[name])
            values[f"update of {name}"] = change
    return values


def _rms(field: Shaped[AnyArray, ...]) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(field, dtype=np.float64)))))
