r"""Optimisers of a training problem, one record each: what an update makes of a gradient.

With the gradient G of a weight in units where it has a limit (`PopulationSampling`), an update adds
rate times u to the weight, after the weight has been multiplied by 1 - eta_0 weight_decay:

| record | u |
|---|---|
| `SGD()` | G, or its gathered past under the heavy ball (`momentum` of the problem) |
| `Adam(b1, b2, eps)` | m / (1 - b1^(t+1)) / (sqrt(v / (1 - b2^(t+1))) + eps) |
| `AdamW(b1, b2, eps, weight_decay)` | the same, with decoupled decay |
| `Sign(weight_decay)` | sign(G), 0 where G is 0: Adam at b1 = b2 = 0, eps -> 0 |

with m <- b1 m + (1 - b1) G and v <- b2 v + (1 - b2) G^2. What `kind` names is the record by which
scaling rules and trainer know the same optimiser.

Reference: Adam: arXiv 1412.6980; AdamW: arXiv 1711.05101; documentation, "Training dynamics".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import NOT_NEGATIVE, POSITIVE, Bounds, require_real
from translimit.describe import OPTIMIZERS, OptimizerKind, Update

#: What an optimiser keeps of every weight.
Slots = tuple[Float[Array, "..."], ...]


@dataclass(frozen=True)
class AbstractOptimizer(abc.ABC):
    """An optimiser in the limit; frozen and hashable, it compiles into the program."""

    kind: ClassVar[OptimizerKind]
    #: How many arrays of the size of the weights it keeps.
    slots: ClassVar[int] = 0

    @property
    def elementwise(self) -> bool:
        """Whether an update is no outer product, so that the stream is not linear."""
        return self.kind.update is not Update.GRADIENT

    @property
    def decay(self) -> float:
        """What weights lose beside an update, over the learning rate."""
        return 0.0

    @property
    def discontinuous(self) -> bool:
        """Whether an update jumps where a gradient vanishes."""
        return self.kind.update is Update.SIGN

    @abc.abstractmethod
    def update(
        self, gradient: Float[Array, "*shape"], slots: Slots, t: Int[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Slots]:
        """The update u of unit rate at time t (0 for the first), and what is kept."""


@dataclass(frozen=True)
class SGD(AbstractOptimizer):
    """Gradient descent; its heavy ball is the `momentum` of the problem."""

    kind: ClassVar[OptimizerKind] = OPTIMIZERS["sgd"]

    def update(self, gradient: Array, slots: Slots, t: Array) -> tuple[Array, Slots]:
        """The gradient."""
        del t
        return gradient, slots


@dataclass(frozen=True)
class HeavyBall(AbstractOptimizer):
    """Gradient descent with the heavy ball; users give `momentum` to the problem instead.

    Attributes:
        momentum: mu.
    """

    momentum: float

    kind: ClassVar[OptimizerKind] = OPTIMIZERS["momentum"]
    slots: ClassVar[int] = 1

    def update(self, gradient: Array, slots: Slots, t: Array) -> tuple[Array, Slots]:
        """The velocity."""
        del t
        velocity = self.momentum * slots[0] + gradient
        return velocity, (velocity,)


@dataclass(frozen=True)
class Adam(AbstractOptimizer):
    """Adam, with its moments debiased.

    Attributes:
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: epsilon in units of the gradient G of the limit, positive: where gradients vanish
            identically there is no limit without it. That of a hat matrix of a network of width n
            is beta_0 L^(-alpha_L) eps / (gamma_0 n^(3/2)), that of embedding and readout
            eps / (gamma_0 n).

    Raises:
        ArgumentError: numbers out of range.
    """

    b1: float | int = 0.9
    b2: float | int = 0.999
    eps: float | int = 1e-3

    kind: ClassVar[OptimizerKind] = OPTIMIZERS["adam"]
    slots: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("b1", "b2"):
            value = require_real(getattr(self, name), name, Bounds(0.0, 1.0, "[)"))
            object.__setattr__(self, name, value)
        object.__setattr__(self, "eps", require_real(self.eps, "eps", POSITIVE))

    def update(self, gradient: Array, slots: Slots, t: Array) -> tuple[Array, Slots]:
        """The first moment over the root of the second, both debiased."""
        m = self.b1 * slots[0] + (1 - self.b1) * gradient
        v = self.b2 * slots[1] + (1 - self.b2) * gradient**2
        count = t + 1.0
        root = jnp.sqrt(v / (1 - self.b2**count))
        return m / (1 - self.b1**count) / (root + self.eps), (m, v)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Attributes:
        weight_decay: beside an update all weights of blocks, embedding and readout are multiplied
            by 1 - eta_0 weight_decay.
    """

    weight_decay: float | int = 0.1

    kind: ClassVar[OptimizerKind] = OPTIMIZERS["adamw"]

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        decay = require_real(self.weight_decay, "weight_decay", NOT_NEGATIVE)
        object.__setattr__(self, "weight_decay", decay)

    @property
    def decay(self) -> float:
        """The weight decay."""
        return float(self.weight_decay)


@dataclass(frozen=True)
class Sign(AbstractOptimizer):
    """Sign descent, with decoupled weight decay.

    Attributes:
        weight_decay: as in `AdamW`.

    Raises:
        ArgumentError: a negative decay.
    """

    weight_decay: float | int = 0.0

    kind: ClassVar[OptimizerKind] = OPTIMIZERS["sign"]

    def __post_init__(self) -> None:
        """Check the decay."""
        decay = require_real(self.weight_decay, "weight_decay", NOT_NEGATIVE)
        object.__setattr__(self, "weight_decay", decay)

    @property
    def decay(self) -> float:
        """The weight decay."""
        return float(self.weight_decay)

    def update(self, gradient: Array, slots: Slots, t: Array) -> tuple[Array, Slots]:
        """The sign of every gradient."""
        del t
        return jnp.sign(gradient), slots
