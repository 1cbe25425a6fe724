r"""Optimisers, one record each: how an update moves a role, what it keeps, who implements it.

Scaling rules, trainer, adapters and command line read these records and know no names. With the
gradient g of a weight w, the rate eta and the decay lambda,

| record | update u | decay | step |
|---|---|---|---|
| `SGD`, `MOMENTUM` | g, or its gathered past (heavy ball, or Nesterov's) | L2 | g <- g + lambda w;  w <- w - eta u |
| `ADAM` | m / (sqrt(v) + eps), m and v debiased | none | w <- w - eta u |
| `ADAMW` | the same | decoupled | w <- w - eta (u + lambda w) |
| `SIGN` | sign(g); Lion in optax | decoupled | the same |
| `MUON` | the orthogonal factor of the momentum of hidden matrices; AdamW moves all else | decoupled | the same |

An optimiser is added by its record, its name in `OptimizerName` and its place in `OPTIMIZERS`, all
of them here; a record of one's own is passed in place of a name.

>>> OPTIMIZERS["muon"].of(Role.READOUT)
OptimizerKind('adamw')

Reference: Adam: arXiv 1412.6980; AdamW: arXiv 1711.05101; Lion: arXiv 2302.06675; Muon: K. Jordan
et al. (2024).
"""  # noqa: E501

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from translimit.core import ArgumentError, nearest
from translimit.describe.roles import Role

if TYPE_CHECKING:
    from optax import GradientTransformation
else:  # what reads the records without training imports no optax
    GradientTransformation = Any

#: The names of the records here.
OptimizerName = Literal["sgd", "momentum", "adam", "adamw", "sign", "muon"]


class Update(enum.Enum):
    """How an optimiser's step depends on the gradient; rates and moves of the rules follow."""

    GRADIENT = "proportional to it"
    ADAM = "of unit size entry by entry, above an epsilon"
    SIGN = "its sign"
    ORTHOGONAL = "its orthogonal factor"

    @property
    def power(self) -> int:
        """The power p of eta -> eta / theta^p."""
        return 2 if self is Update.GRADIENT else 1


class WeightDecay(enum.Enum):
    """Where the weight decay acts."""

    NONE = "nowhere"
    COUPLED = "L2: added to the gradient, before the update"
    DECOUPLED = "beside the update"


@dataclass(frozen=True)
class Hyperparameters:
    """What an optax transformation is made of, beside rate and decay.

    Attributes:
        momentum: mu.
        nesterov: Nesterov's form of it.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: Adam's epsilon.
        matrix_axes: the axes of a matrix that reads and writes, of inputs and of outputs.
    """

    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    matrix_axes: tuple[int, int] = (0, 1)


#: From gradients to updates of unit rate; decay and rate are put behind it.
Maker = Callable[[Hyperparameters], GradientTransformation]


@dataclass(frozen=True, repr=False)
class OptimizerKind:
    """An optimiser as the rules, the trainer and the adapters see it.

    Attributes:
        name: as users write it.
        update: how its step depends on the gradient.
        optax: makes its update in optax. Where `update` is Adam's, the trainer asks for epsilon 1
            and divides gradients by their epsilons, which must be the same.
        weight_decay: where the decay acts.
        slots: arrays of the size of a parameter that it keeps.
        torch: classes of PyTorch, or derived from one, that take such a step; none: refused there.
        not_torch: classes derived from those that take another step.
        megatron: its name in Megatron-LM, or None where the export does not cover it.
        torchtitan: its name in torchtitan, or None.
        beside: the optimiser that moves all but hidden matrices, at a rate of its own; None where
            one moves everything.
        trained: makes its update in the networks of this package, where that is another one.
        momentum: mu that it has in optax by default.
        nesterov: whether it has Nesterov's form by default.

    Raises:
        ArgumentError: an empty name, a negative number of slots.
    """

    name: str
    update: Update
    optax: Maker
    weight_decay: WeightDecay = WeightDecay.DECOUPLED
    slots: int = 0
    torch: tuple[str, ...] = ()
    not_torch: tuple[str, ...] = ()
    megatron: str | None = None
    torchtitan: str | None = None
    beside: OptimizerKind | None = None
    trained: Maker | None = None
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ArgumentError("name", "is empty", "give the optimizer a name")
        if self.slots < 0:
            raise ArgumentError("slots", f"got {self.slots}", "pass at least 0")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def of(self, role: Role) -> OptimizerKind:
        """The optimiser that moves a role: this one, or the one beside it."""
        return self if self.beside is None or role.is_hidden_matrix else self.beside


def _gradient(numbers: Hyperparameters) -> GradientTransformation:
    import optax

    return optax.identity()


def _gathered(numbers: Hyperparameters) -> GradientTransformation:
    import optax

    return optax.trace(numbers.momentum, numbers.nesterov)


def _adam(numbers: Hyperparameters) -> GradientTransformation:
    import optax

    return optax.scale_by_adam(numbers.b1, numbers.b2, numbers.eps)


def _sign(numbers: Hyperparameters) -> GradientTransformation:
    import optax

    return optax.scale_by_sign()


def _lion(numbers: Hyperparameters) -> GradientTransformation:
    import optax

    return optax.scale_by_lion(numbers.b1, numbers.b2)


def _orthogonal(numbers: Hyperparameters) -> GradientTransformation:
    import jax
    from optax.contrib import MuonDimensionNumbers, scale_by_muon

    axes = MuonDimensionNumbers(*numbers.matrix_axes)
    return scale_by_muon(
        beta=numbers.momentum,
        nesterov=numbers.nesterov,
        # Every leaf is a matrix; those of other roles are masked, and no leaves.
        weight_dimension_numbers=lambda params: jax.tree.map(lambda _: axes, params),
    )


SGD = OptimizerKind(
    "sgd",
    Update.GRADIENT,
    _gradient,
    WeightDecay.COUPLED,
    torch=("SGD",),
    megatron="sgd",
)
MOMENTUM = OptimizerKind(
    "momentum",
    Update.GRADIENT,
    _gathered,
    WeightDecay.COUPLED,
    slots=1,
    torch=("SGD",),
    megatron="sgd",
)
ADAM = OptimizerKind(
    "adam",
    Update.ADAM,
    _adam,
    WeightDecay.NONE,
    slots=2,
    torch=("Adam", "FusedAdam"),
    not_torch=("AdamW",),  # torch.optim.AdamW derives from Adam, and its decay is another one
    megatron="adam",
    torchtitan="Adam",
)
ADAMW = OptimizerKind(
    "adamw",
    Update.ADAM,
    _adam,
    slots=2,
    torch=("AdamW", "FusedAdam", "AdamW8bit"),
    megatron="adam",
    torchtitan="AdamW",
)
SIGN = OptimizerKind("sign", Update.SIGN, _lion, torch=("Lion", "SignSGD", "Signum"), trained=_sign)
MUON = OptimizerKind(
    "muon",
    Update.ORTHOGONAL,
    _orthogonal,
    slots=2,
    torch=("Muon", "AdamW"),
    megatron="muon",
    beside=ADAMW,
    momentum=0.95,
    nesterov=True,
)

_RECORDS: dict[OptimizerName, OptimizerKind] = {
    "sgd": SGD,
    "momentum": MOMENTUM,
    "adam": ADAM,
    "adamw": ADAMW,
    "sign": SIGN,
    "muon": MUON,
}

#: The records by name.
OPTIMIZERS: Mapping[str, OptimizerKind] = MappingProxyType({**_RECORDS})


def optimizer_kind(optimizer: str | OptimizerKind) -> OptimizerKind:
    """The record of a name; a record of one's own is itself.

    Args:
        optimizer: a name of `OPTIMIZERS`, or a record.

    Raises:
        ArgumentError: an unknown name, or another record under a name of `OPTIMIZERS`.

    >>> optimizer_kind("adamw").slots
    2
    """
    if isinstance(optimizer, OptimizerKind):
        if OPTIMIZERS.get(optimizer.name, optimizer) != optimizer:
            raise ArgumentError(
                "optimizer",
                f"is called {optimizer.name!r}, which is another one here",
                "give it a name of its own",
            )
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ArgumentError(
            "optimizer", f"unknown optimizer {optimizer!r}", nearest(str(optimizer), OPTIMIZERS)
        )
    return OPTIMIZERS[optimizer]
