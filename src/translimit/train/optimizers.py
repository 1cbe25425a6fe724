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

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from translimit.core import ArgumentError, nearest
from translimit.describe import Parameterization, TransformerShape

Name = Literal["sgd", "momentum", "adam", "adamw", "sign", "muon"]
NAMES = ("sgd", "momentum", "adam", "adamw", "sign", "muon")

#: Arrays of the size of a parameter that each optimiser keeps.
SLOTS = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "sign": 0, "muon": 2}

#: Gradients are divided by epsilon, and their squares must fit float32.
LEAST_EPS = 1e-15


@dataclass(frozen=True)
class Optimizer:
    """An optimiser at the base; the rate itself belongs to the ensemble.

    Attributes:
        name: "sgd", "momentum", "adam", "adamw", "sign" or "muon".
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
        ArgumentError: an unknown name, a number out of its range, a decay for "adam".
    """

    name: Name = "adamw"
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
        if self.name not in NAMES:
            raise ArgumentError(
                "name", f"unknown optimiser {self.name!r}", nearest(self.name, NAMES)
            )
        for name in ("momentum", "b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(name, f"got {getattr(self, name)}", "pass a number in [0, 1)")
        if not LEAST_EPS <= self.eps < math.inf:
            raise ArgumentError("eps", f"got {self.eps}", f"pass a number of at least {LEAST_EPS}")
        for name in ("weight_decay", "muon_other"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ArgumentError(
                    name, f"got {getattr(self, name)}", "pass a number of at least 0"
                )
        if self.name == "adam" and self.weight_decay:
            raise ArgumentError(
                "weight_decay", "adam has none", "pass name='adamw' or leave it out"
            )
        if self.clip is not None and not self.clip > 0:
            raise ArgumentError("clip", f"got {self.clip}", "pass a positive norm, or None")


class TensorRates(eqx.Module):
    """The numbers of every tensor, by name; data of the compiled step.

    Attributes:
        lr: rate over the ensemble's rate.
        eps: absolute epsilon.
        wd: absolute decay.
    """

    lr: dict[str, Any]
    eps: dict[str, Any]
    wd: dict[str, Any]


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
        beside = optimizer.name == "muon" and not spec.role.is_hidden_matrix
        lr[spec.name] = rule.lr * (optimizer.muon_other if beside else 1.0)
        eps[spec.name] = optimizer.eps * (1.0 if rule.eps is None else rule.eps)
        decays = optimizer.decay_vectors or not (spec.role.is_gain or spec.role.is_bias)
        ratio = 1.0 if rule.wd is None else rule.wd
        wd[spec.name] = optimizer.weight_decay * ratio if decays else 0.0
    return TensorRates(*(jax.tree.map(np.asarray, column) for column in (lr, eps, wd)))


def transformation(
    optimizer: Optimizer, shape: TransformerShape, rates: TensorRates, rate: Any
) -> optax.GradientTransformationExtraArgs | optax.GradientTransformation:
    """The optax transformation of a step.

    Args:
        optimizer: at the base.
        shape: of the network.
        rates: of its tensors; may be traced.
        rate: base rate of this step and member; may be traced.
    """
    after = [_descent(rates, rate)]
    if optimizer.weight_decay:
        after.insert(0, _decay(rates))
    match optimizer.name:
        case "sgd":
            steps = list(after)
        case "momentum":
            # The decay of SGD is L2: part of the gradient that the momentum gathers.
            steps = [*after[:-1], optax.trace(optimizer.momentum, optimizer.nesterov), after[-1]]
        case "sign":
            steps = [optax.scale_by_sign(), *after]
        case "muon":
            steps = [_muon(optimizer, shape, rates), *after]
        case _:
            steps = [_adam(optimizer, rates), *after]
    if optimizer.clip is not None:
        steps.insert(0, optax.clip_by_global_norm(optimizer.clip))
    return optax.chain(*steps)


def _adam(optimizer: Optimizer, rates: TensorRates) -> optax.GradientTransformation:
    def divided(updates: Any, params: Any) -> Any:
        return _each(lambda g, eps: g / eps, updates, rates.eps)

    return optax.chain(
        optax.stateless(divided), optax.scale_by_adam(optimizer.b1, optimizer.b2, 1.0)
    )


def _muon(
    optimizer: Optimizer, shape: TransformerShape, rates: TensorRates
) -> optax.GradientTransformationExtraArgs:
    """Muon for the matrices [layers, outputs, inputs] of the blocks, Adam for the others."""
    kinds = {
        spec.name: "muon" if spec.role.is_hidden_matrix else "adam" for spec in shape.parameters
    }
    axes = MuonDimensionNumbers(reduction_axis=2, output_axis=1)

    def axes_of(tree: Any) -> Any:
        return {name: axes if kinds[name] == "muon" else optax.MaskedNode() for name in tree}

    orthogonal = scale_by_muon(
        beta=optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_dimension_numbers=axes_of,
    )
    return optax.partition({"muon": orthogonal, "adam": _adam(optimizer, rates)}, kinds)


def _decay(rates: TensorRates) -> optax.GradientTransformation:
    def add(updates: Any, params: Any) -> Any:
        decay = {name: wd * params[name] for name, wd in rates.wd.items()}
        return _each(lambda g, d: g + d, updates, decay)

    return optax.stateless(add)


def _descent(rates: TensorRates, rate: Any) -> optax.GradientTransformation:
    def scale(updates: Any, params: Any) -> Any:
        return _each(lambda g, lr: g * -(lr * rate), updates, rates.lr)

    return optax.stateless(scale)


def _each(function: Any, updates: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """A function of every update and its number, in the precision of the update."""
    return {
        name: one
        if isinstance(one, optax.MaskedNode)
        else function(one, jnp.asarray(numbers[name], one.dtype))
        for name, one in updates.items()
    }
