r"""Optimisers whose rate, epsilon and decay differ from role to role.

    SGD        g <- g + lambda w;  m <- mu m + g;  w <- w - eta m   (heavy ball, or Nesterov's)
    Adam(W)    w <- w - eta (m / (sqrt(v) + eps) + lambda w), m and v debiased
    sign       w <- w - eta (sign(g) + lambda w)
    Muon       hidden matrices w <- w - eta (O + lambda w), O the orthogonal factor of the momentum
               by Newton-Schulz, of unit singular values; the other parameters by AdamW

For every role the base values are multiplied by `lr`, `eps` and `wd` of its rule. Groups with
equal numbers are one group. The updates are optax's.

Reference: documentation, "Scaling rules"; Muon: K. Jordan et al. (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from translimit.core import ArgumentError, nearest
from translimit.describe import Parameterization, Role, TransformerShape

Name = Literal["sgd", "momentum", "adam", "adamw", "sign", "muon"]
NAMES = ("sgd", "momentum", "adam", "adamw", "sign", "muon")

#: Arrays of the size of a parameter that each optimiser keeps.
SLOTS = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "sign": 0, "muon": 2}


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
        for name in ("eps", "weight_decay", "muon_other"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ArgumentError(name, f"got {getattr(self, name)}", "pass a number from 0 on")
        if self.name == "adam" and self.weight_decay:
            raise ArgumentError("weight_decay", "adam has none", "use adamw")
        if self.clip is not None and not self.clip > 0:
            raise ArgumentError("clip", f"got {self.clip}", "pass a positive norm, or None")


@dataclass(frozen=True)
class Group:
    """Parameters that move alike.

    Attributes:
        names: of the tensors.
        kind: "sgd", "adam", "sign" or "muon".
        lr: rate over the ensemble's rate.
        eps: absolute epsilon.
        wd: absolute decay.
    """

    names: tuple[str, ...]
    kind: str
    lr: float
    eps: float
    wd: float


def groups(
    optimizer: Optimizer, shape: TransformerShape, numbers: Parameterization
) -> tuple[Group, ...]:
    """The parameters of a transformer, those with equal numbers together."""
    found: dict[tuple[str, float, float, float], list[str]] = {}
    for spec in shape.parameters:
        rule = numbers.role(spec.role)
        kind = _kind(optimizer.name, spec.role)
        lr = rule.lr
        if optimizer.name == "muon" and kind == "adam":
            lr *= optimizer.muon_other
        eps = optimizer.eps * (1.0 if rule.eps is None else rule.eps) if kind == "adam" else 0.0
        decays = optimizer.decay_vectors or not (spec.role.is_gain or spec.role.is_bias)
        wd = optimizer.weight_decay * (1.0 if rule.wd is None else rule.wd) if decays else 0.0
        found.setdefault((kind, lr, eps, wd), []).append(spec.name)
    return tuple(Group(tuple(names), *facts) for facts, names in found.items())


def transformation(
    optimizer: Optimizer, parts: tuple[Group, ...], rate: Any
) -> optax.GradientTransformationExtraArgs | optax.GradientTransformation:
    """The optax transformation at one rate, which may be traced.

    Args:
        optimizer: the optimiser.
        parts: what `groups` returned.
        rate: of this step and member.
    """
    labels = {name: str(index) for index, group in enumerate(parts) for name in group.names}
    chains: dict[Any, Any] = {
        str(i): _chain(optimizer, group, rate) for i, group in enumerate(parts)
    }
    moved = optax.partition(chains, labels)
    if optimizer.clip is None:
        return moved
    return optax.chain(optax.clip_by_global_norm(optimizer.clip), moved)


def _kind(name: str, role: Role) -> str:
    match name:
        case "sgd" | "momentum":
            return "sgd"
        case "sign":
            return "sign"
        case "muon" if role.is_hidden_matrix:
            return "muon"
        case _:
            return "adam"


def _chain(optimizer: Optimizer, group: Group, rate: Any) -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(group.wd)
    descent = optax.scale(-1.0 * group.lr * rate)
    match group.kind:
        case "sgd":
            mu = optimizer.momentum if optimizer.name == "momentum" else None
            ball = optax.trace(mu, optimizer.nesterov) if mu else optax.identity()
            steps = (decay, ball, descent)
        case "sign":
            steps = (optax.scale_by_sign(), decay, descent)
        case "muon":
            orthogonal = scale_by_muon(
                beta=optimizer.momentum,
                nesterov=optimizer.nesterov,
                weight_dimension_numbers=_stacked_matrices(group.names),
            )
            return optax.chain(orthogonal, decay, descent)
        case _:
            moments = optax.scale_by_adam(optimizer.b1, optimizer.b2, group.eps)
            steps = (moments, decay, descent)
    return optax.chain(*steps)


def _stacked_matrices(names: tuple[str, ...]) -> Any:
    """Which axes of the tensors of a group are matrices, for optax: [layers, outputs, inputs]."""
    numbers = MuonDimensionNumbers(reduction_axis=2, output_axis=1)
    return lambda tree: {n: numbers if n in names else optax.MaskedNode() for n in tree}
