r"""JAX models under a check: fields by a function of theirs, numbers by probing the transform.

An optax transform does not tell its rates. Its first update of a gradient of ones, of one as small
as an epsilon, and of zeros gives rate, epsilon and decay of every leaf; that holds for SGD,
momentum, Adam, AdamW and sign updates, not for Muon, whose updates of matrices are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit.checks.errors import FactoryError
from translimit.checks.factory import guarded
from translimit.checks.lint import ParameterNumbers
from translimit.checks.torch_model import PROBES
from translimit.core import brief
from translimit.describe import Role, Size
from translimit.scaling import Rules

if TYPE_CHECKING:
    import optax

#: The gradient that shows an epsilon.
_SMALL = 1e-8


@dataclass(frozen=True, kw_only=True)
class JaxModel:
    """What a factory of JAX models returns.

    Attributes:
        parameters: a pytree of arrays, initialised.
        optimizer: an optax transform with absolute rates.
        loss: of parameters and a batch.
        fields: of parameters and a batch, by name: `output`, and any of `stream` (after the last
            block), `hidden`, `key`, `query` and `logit`, each with all blocks in one array.
        batch: the batch of a step, the same for the same step and at every size.
        rules: what is promised, from the base to this size.
        learned: of parameters, parameters of the start and a batch: `key`, `query`, `logit`, or the
            output of the map of a role by its name, at the inputs of the start.
        labels: a pytree of roles like `parameters`.
        repeated: the batch of a coordinate check, by default that of step 0.
        probe: batches on which a transfer sweep takes the loss at the end.
    """

    parameters: Any
    optimizer: optax.GradientTransformation
    loss: Callable[[Any, Any], Any]
    fields: Callable[[Any, Any], Mapping[str, Any]]
    batch: Callable[[int], Any]
    rules: Rules | None = None
    learned: Callable[[Any, Any, Any], Mapping[str, Any]] | None = None
    labels: Any = None
    repeated: Any = None
    probe: Sequence[Any] | None = None

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
        def first(gradient: Any) -> Any:
            grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), self.parameters)
            state = self.optimizer.init(self.parameters)
            return self.optimizer.update(grads, state, self.parameters)[0]

        leaves = jax.tree_util.tree_leaves_with_path(self.parameters)
        labels = [None] * len(leaves) if self.labels is None else self._label_leaves()
        updates = [jax.tree.leaves(first(gradient)) for gradient in (1.0, _SMALL, 0.0)]
        muon = self.rules is not None and self.rules.question.optimizer == "muon"
        found = []
        for (path, value), label, one, small, none in zip(leaves, labels, *updates, strict=True):
            roles = () if label is None else (Role(label),)
            one, small, none = (np.asarray(update) for update in (one, small, none))
            init, decay = _rms(value), _rms(none)
            lr = float(np.mean(np.abs(one - none)))
            less = float(np.mean(np.abs(small - none)))
            adaptive = less > 1e-3 * lr  # an update that is linear in the gradient has no epsilon
            unknown = muon and bool(roles) and roles[0].is_hidden_matrix
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

    def logit_scale(self) -> float | None:
        """Not told: the logits of `fields` have it."""
        return None

    def record(self, steps: Sequence[int], size: Size) -> dict[str, list[float]]:
        """Train on one batch and record coordinates after some numbers of updates.

        Args:
            steps: increasing; 0 is the start.
            size: unused: fields come as they are.
        """
        import jax

        batch = self.repeated
        if batch is None:
            batch = guarded("batch", lambda: self.batch(0))
        start, parameters = self.parameters, self.parameters
        update = jax.jit(self._update)
        state = self.optimizer.init(parameters)
        # Functions that trials share are compiled once for all of one size.
        compiled = jax.jit(self.fields)
        map_outputs = None if self.learned is None else jax.jit(self.learned)

        def fields(p: Any) -> dict[str, Any]:
            return {name: np.asarray(value) for name, value in compiled(p, batch).items()}

        def learned(p: Any) -> dict[str, Any]:
            if map_outputs is None:
                return {}
            return {n: np.asarray(value) for n, value in map_outputs(p, start, batch).items()}

        first = guarded("fields", lambda: fields(start))
        at_start = guarded("learned", lambda: learned(start))
        if "output" not in first:
            raise FactoryError("fields", f"returned {sorted(first)}", "return at least `output`")
        found: dict[str, list[float]] = {}
        done, finite = 0, True
        for step in steps:
            while done < step and finite:
                parameters, state, loss = guarded(
                    "loss", lambda p=parameters, s=state: update(p, s, batch)
                )
                finite, done = math.isfinite(float(loss)), done + 1
            now = first if step == 0 else fields(parameters)
            moved = learned(parameters)
            values = {}
            for name, value in now.items():
                values[name] = _rms(value)
                values[f"{name}_change"] = _rms(value - first[name])
            for name, value in moved.items():
                change = _rms(value - at_start[name])
                if name in ("key", "query", "logit"):
                    values[f"learned_{name}_change"] = change
                else:
                    values[f"start of {name}"] = _rms(at_start[name])
                    values[f"update of {name}"] = change
            for name, value in values.items():
                found.setdefault(name, []).append(value if finite else math.nan)
        return found

    def train(self, steps: int) -> float:
        """Train on fresh batches and return the mean loss on the probe; NaN if it diverged."""
        import jax

        update, loss = jax.jit(self._update), jax.jit(self.loss)
        probe = self.probe
        if probe is None:
            probe = [guarded("batch", lambda i=i: self.batch(i)) for i in range(PROBES)]
        parameters, state = self.parameters, self.optimizer.init(self.parameters)
        for step in range(steps):
            batch = guarded("batch", lambda step=step: self.batch(step))
            parameters, state, value = guarded(
                "loss", lambda p=parameters, s=state, b=batch: update(p, s, b)
            )
            if not math.isfinite(float(value)):
                return math.nan
        return sum(float(loss(parameters, batch)) for batch in probe) / len(probe)

    def _update(self, parameters: Any, state: Any, batch: Any) -> tuple[Any, Any, Any]:
        import jax

        value, gradient = jax.value_and_grad(self.loss)(parameters, batch)
        moves, state = self.optimizer.update(gradient, state, parameters)
        return jax.tree.map(lambda p, move: p + move, parameters, moves), state, value


def _rms(field: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(field, dtype=np.float64)))))
