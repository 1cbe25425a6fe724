"""One step of training of a PyTorch module: the loss of a batch, and the move of its optimisers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from translimit.checks.errors import FactoryError, guarded
from translimit.checks.schedules import ScheduleName, decay_begins, schedule_factor

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: What a factory calls a batch.
Batch = TypeVar("Batch")


class Kept(NamedTuple):
    """A training to come back to.

    Attributes:
        model: the state of the module.
        optimizers: their states.
        drawn: the state of the random numbers.
    """

    model: Mapping[str, object]
    optimizers: list[dict[str, object]]
    drawn: Tensor


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
        self._rates = [[group["lr"] for group in one.param_groups] for one in optimizers]
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

    def through(
        self,
        horizons: Sequence[int],
        schedule: ScheduleName,
        batch: Callable[[int], Batch],
        end: Callable[[], float],
        stepped: Callable[[], None] | None = None,
    ) -> list[float]:
        """Train under a schedule, and take the loss at each horizon; NaN from where it diverged.

        Args:
            horizons: increasing; one alone unless the schedule is constant or wsd.
            schedule: what multiplies the rates that the optimisers have at first.
            batch: of a step.
            end: the loss of the module as it is.
            stepped: called after every update, as a schedule of the factory is.
        """
        if schedule != "wsd":
            ends: list[float] = []
            done, fine = 0, True
            for steps in horizons:
                fine = fine and self._run(done, steps, steps, schedule, batch, stepped)
                ends.append(end() if fine else math.nan)
                done = steps
            return ends
        ends, done, fine = [], 0, True
        for steps in horizons:
            begun = decay_begins(steps)
            fine = fine and self._run(done, begun, steps, "constant", batch, stepped)
            done, kept = begun, self._kept()
            decayed = fine and self._run(begun, steps, steps, schedule, batch, stepped)
            ends.append(end() if decayed else math.nan)
            self._return_to(kept)
        return ends

    def _run(
        self,
        first: int,
        last: int,
        steps: int,
        schedule: ScheduleName,
        batch: Callable[[int], Batch],
        stepped: Callable[[], None] | None,
    ) -> bool:
        """Updates from one step to another; whether all losses were finite."""
        for step in range(first, last):
            self._multiply(schedule, step, steps)
            one = guarded("batch", lambda step=step: batch(step))
            if not math.isfinite(self.update(one)):
                return False
            if stepped is not None:
                stepped()
        return True

    def _multiply(self, schedule: ScheduleName, step: int, steps: int) -> None:
        """Set all rates to a multiple of the first ones; a constant schedule touches none."""
        if schedule in ("constant", "own"):
            return
        factor = schedule_factor(schedule, step, steps)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = factor * rate

    def _kept(self) -> Kept:
        """Module, optimisers and random state, to come back to."""
        import torch

        optimizers = [copy.deepcopy(one.state_dict()) for one in self.optimizers]
        return Kept(copy.deepcopy(self.model.state_dict()), optimizers, torch.get_rng_state())

    def _return_to(self, kept: Kept) -> None:
        import torch

        self.model.load_state_dict(kept.model)
        for one, state in zip(self.optimizers, kept.optimizers, strict=True):
            one.load_state_dict(state)
        torch.set_rng_state(kept.drawn)

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
