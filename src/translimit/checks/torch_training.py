"""One step of training of a PyTorch module: the loss of a batch, and the move of its optimisers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from translimit.checks.errors import FactoryError, guarded

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: What a factory calls a batch.
Batch = TypeVar("Batch")


class TorchTraining(Generic[Batch]):
    """A module with its optimisers and its loss.

    Args:
        model: the module.
        optimizers: over its parameters.
        loss: of the module and a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        loss: Callable[[nn.Module, Batch], Tensor],
    ):
        self.model, self.optimizers, self._loss_of = model, optimizers, loss
        #: By parameter: what decay alone leaves of its start, and the velocity of that.
        self._left: dict[int, tuple[float, float]] = {}

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, in the mode in which the module is.

        Raises:
            FactoryError: the function of the loss raises.
        """
        return guarded("loss", lambda: self._loss_of(self.model, batch))

    def update(self, batch: Batch) -> float:
        """One update; returns the loss from which it starts, and stays where that is not finite."""
        return self.step(self.forward(batch))

    def forward(self, batch: Batch) -> Tensor:
        """The loss from which a step goes back.

        Raises:
            FactoryError: it is not one number.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        if not (hasattr(loss, "backward") and loss.numel() == 1):
            raise FactoryError("loss", f"returned {type(loss).__name__}", "return one number")
        return loss

    def step(self, loss: Tensor) -> float:
        """Move the parameters, where the loss is finite; returns it."""
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()
            self._decay()
            for optimizer in self.optimizers:
                optimizer.step()
        return value

    def left(self, parameter: Tensor) -> float:
        """What weight decay alone has left of the start of a parameter, 1 without decay.

        Steps of SGD and of decoupled decays are linear in the weights apart from the gradient: what
        is learned is the rest. L2 inside of Adam is not, and counts as no decay.
        """
        return self._left.get(id(parameter), (1.0, 0.0))[0]

    @property
    def decays(self) -> bool:
        """Whether any parameter does."""
        return bool(self._left)

    def _decay(self) -> None:
        """One step of decay: w <- (1 - eta lambda) w, through the velocity under SGD."""
        for optimizer in self.optimizers:
            kinds = {one.__name__ for one in type(optimizer).__mro__}
            for group in optimizer.param_groups:
                rate, decay = float(group["lr"]), float(group.get("weight_decay") or 0.0)
                coupled = "Adam" in kinds and "AdamW" not in kinds
                if not decay or (coupled and not group.get("decoupled_weight_decay")):
                    continue
                for parameter in group["params"]:
                    if parameter.grad is None:
                        continue
                    share, velocity = self._left.get(id(parameter), (1.0, 0.0))
                    if "SGD" in kinds:
                        mu = float(group.get("momentum") or 0.0)
                        damping = float(group.get("dampening") or 0.0)
                        first = id(parameter) not in self._left
                        push = decay * share
                        velocity = push if first else mu * velocity + (1 - damping) * push
                        step = push + mu * velocity if group.get("nesterov") else velocity
                        self._left[id(parameter)] = share - rate * step, velocity
                    else:
                        self._left[id(parameter)] = share * (1 - rate * decay), 0.0
