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
            for optimizer in self.optimizers:
                optimizer.step()
        return value
