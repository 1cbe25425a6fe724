r"""Optimisers whose rate, epsilon and decay differ from role to role.

    SGD        g <- g + lambda w;  m <- mu m + g;  w <- w - eta m   (heavy ball, or Nesterov's)
    Adam(W)    w <- w - eta (m / (sqrt(v) + eps) + lambda w), m and v debiased
    sign       w <- w - eta (sign(g) + lambda w)
    Muon       hidden matrices w <- w - eta (O + lambda w), O the orthogonal factor of the momentum
               by Newton-Schulz, of unit singular values; the other parameters by AdamW

For every role the base values are multiplied by `lr`, `eps` and `wd` of its rule. These numbers
are data, so that one compiled program serves every parameterization of a shape. The updates are
optax's; Adam with an epsilon for each tensor is Adam with epsilon 1 of gradients divided by theirs.

Reference: documentation, "Scaling rules"; Muon: K. Jordan et al. (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import assert_never

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from translimit.core import (
    NOT_NEGATIVE,
    AnyArray,
    ArgumentError,
    Bounds,
    Floats,
    Number,
    at_least,
    require_real,
)
from translimit.describe import (
    Hyperparameters,
    OptimizerKind,
    OptimizerName,
    Parameterization,
    TransformerShape,
    Update,
    WeightDecay,
    optimizer_kind,
)

#: Gradients are divided by epsilon, and their squares must fit float32.
LEAST_EPS = 1e-15


@dataclass(frozen=True)
class Optimizer:
    """An optimiser at the base; the rate itself belongs to the ensemble.

    Attributes:
        name: "sgd", "momentum", "adam", "adamw", "sign" or "muon"; or a record of one's own.
        momentum: mu of "momentum" and "muon".
        nesterov: Nesterov's form of both.
        b1: decay of Adam's first moment.
        b2: decay of Adam's second moment.
        eps: Adam's epsilon at the base.
        weight_decay: lambda at the base.
        decay_vectors: whether gains and biases decay too.
        clip: largest global norm of the gradient, or None.
        muon_other: rate of the AdamW that moves what Muon does not, over Muon's rate.

    Raises:
        ArgumentError: an unknown name, a number out of its range, a decay for one that has none,
            like "adam".
    """

    name: OptimizerName | OptimizerKind = "adamw"
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_vectors: bool = False
    clip: float | None = None
    muon_other: float = 0.1

    def __post_init__(self):
        kind = self.kind
        for name in ("momentum", "b1", "b2"):
            require_real(getattr(self, name), name, Bounds(0.0, 1.0, "[)"))
        require_real(self.eps, "eps", at_least(LEAST_EPS))
        for name in ("weight_decay", "muon_other"):
            require_real(getattr(self, name), name, NOT_NEGATIVE)
        if kind.weight_decay is WeightDecay.NONE and self.weight_decay:
            raise ArgumentError(
                "weight_decay", f"{kind.name} has none", "pass name='adamw' or leave it out"
            )
        if self.clip is not None and not self.clip > 0:
            raise ArgumentError("clip", f"got {self.clip}", "pass a positive norm, or None")

    @property
    def kind(self) -> OptimizerKind:
        """Its record: how it moves weights, and what it keeps."""
        return optimizer_kind(self.name)


class TensorRates(eqx.Module):
    """The numbers of every tensor, by name; data of the compiled step.

    Attributes:
        lr: rate over the ensemble's rate.
        eps: absolute epsilon.
        wd: absolute decay.
    """

    lr: dict[str, Float[AnyArray, ""]]
    eps: dict[str, Float[AnyArray, ""]]
    wd: dict[str, Float[AnyArray, ""]]


def tensor_rates(
    optimizer: Optimizer, shape: TransformerShape, numbers: Parameterization
) -> TensorRates:
    """Rate, epsilon and decay of every tensor of a transformer.

    Args:
        optimizer: at the base.
        shape: of the network.
        numbers: of its roles.
    """
    lr, eps, wd = {}, {}, {}
    for spec in shape.parameters:
        rule = numbers.role(spec.role)
        beside = optimizer.kind.of(spec.role) is not optimizer.kind
        lr[spec.name] = rule.lr * (optimizer.muon_other if beside else 1.0)
        eps[spec.name] = optimizer.eps * (1.0 if rule.eps is None else rule.eps)
        decays = optimizer.decay_vectors or not (spec.role.is_gain or spec.role.is_bias)
        ratio = 1.0 if rule.wd is None else rule.wd
        wd[spec.name] = optimizer.weight_decay * ratio if decays else 0.0
    return TensorRates(*(jax.tree.map(np.asarray, column) for column in (lr, eps, wd)))


def transformation(
    optimizer: Optimizer, shape: TransformerShape, rates: TensorRates, rate: Number
) -> optax.GradientTransformationExtraArgs | optax.GradientTransformation:
    """The optax transformation of a step.

    Args:
        optimizer: at the base.
        shape: of the network.
        rates: of its tensors; may be traced.
        rate: base rate of this step and member; may be traced.
    """
    kind = optimizer.kind
    steps = [_update(optimizer, shape, rates), _descent(rates, rate)]
    if optimizer.weight_decay:
        match kind.weight_decay:
            case WeightDecay.COUPLED:  # part of the gradient that the momentum gathers
                steps.insert(0, _decay(rates))
            case WeightDecay.DECOUPLED | WeightDecay.NONE:
                steps.insert(1, _decay(rates))
            case _:
                assert_never(kind.weight_decay)
    if optimizer.clip is not None:
        steps.insert(0, optax.clip_by_global_norm(optimizer.clip))
    return optax.chain(*steps)


def _update(
    optimizer: Optimizer, shape: TransformerShape, rates: TensorRates
) -> optax.GradientTransformation | optax.GradientTransformationExtraArgs:
    """The update of unit rate: one transformation, or two, each for the roles that it moves."""
    kind = optimizer.kind
    if kind.beside is None:
        return _scaled(optimizer, kind, rates)
    moved_by = {spec.name: kind.of(spec.role).name for spec in shape.parameters}
    both: dict[Hashable, optax.GradientTransformation] = {
        one.name: _scaled(optimizer, one, rates) for one in (kind, kind.beside)
    }
    return optax.partition(both, moved_by)


def _scaled(
    optimizer: Optimizer, kind: OptimizerKind, rates: TensorRates
) -> optax.GradientTransformation:
    """The update of a record; Adam's has the epsilon of every tensor, matrices [.., out, in]."""
    make = kind.optax if kind.trained is None else kind.trained
    made = make(
        Hyperparameters(
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            b1=optimizer.b1,
            b2=optimizer.b2,
            eps=1.0,
            matrix_axes=(2, 1),
        )
    )
    if kind.update is not Update.ADAM:
        return made

    def divided(updates: PyTree[Floats], params: PyTree[Floats]) -> PyTree[Floats]:
        return _each(lambda g, eps: g / eps, updates, rates.eps)

    return optax.chain(optax.stateless(divided), made)


def _decay(rates: TensorRates) -> optax.GradientTransformation:
    def add(updates: PyTree[Floats], params: PyTree[Floats]) -> PyTree[Floats]:
        decay = {name: wd * params[name] for name, wd in rates.wd.items()}
        return _each(lambda g, d: g + d, updates, decay)

    return optax.stateless(add)


def _descent(rates: TensorRates, rate: Number) -> optax.GradientTransformation:
    def scale(updates: PyTree[Floats], params: PyTree[Floats]) -> PyTree[Floats]:
        return _each(lambda g, lr: g * -(lr * rate), updates, rates.lr)

    return optax.stateless(scale)


def _each(
    function: Callable[[Array, Array], Array],
    updates: Mapping[str, Array | optax.MaskedNode],
    numbers: Mapping[str, Floats],
) -> dict[str, Array | optax.MaskedNode]:
    """A function of every update and its number, in the precision of the update."""
    return {
        name: one
        if isinstance(one, optax.MaskedNode)
        else function(one, jnp.asarray(numbers[name], one.dtype))
        for name, one in updates.items()
    }
