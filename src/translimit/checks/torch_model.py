"""PyTorch modules under a check: what a factory returns, and the numbers of its param groups.

Reference: documentation, "Checking your own model".
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, cast

from translimit.checks.batches import examples_of, first_examples
from translimit.checks.errors import FactoryError, guarded
from translimit.checks.fields import rms
from translimit.checks.lint import ParameterNumbers
from translimit.checks.places import Places, find_places, score_scale, score_scale_of
from translimit.checks.schedules import ScheduleName
from translimit.checks.torch_recorder import TorchRecorder
from translimit.checks.torch_training import Batch, TorchTraining
from translimit.checks.trial import PROBES
from translimit.core import Record, brief
from translimit.describe import SCALE_ATTRIBUTES, Role, Size
from translimit.scaling import Rules

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.lr_scheduler import LRScheduler as Scheduler


@dataclass(frozen=True, kw_only=True)
class TorchModel(Record, Generic[Batch]):
    """What a factory of PyTorch models returns.

    Attributes:
        model: the module, initialised.
        optimizer: over its parameters, one or several; its groups hold the absolute rates.
        batch: the batch of a step, the same for the same step and at every size.
        rules: what is promised, from the base to this size.
        loss: of the module and a batch; by default `model(**batch).loss`, as Hugging Face's.
        roles: role by name of a parameter, several for a packed tensor; by default those of the
            name tables of `translimit.scaling.adapters`.
        places: modules at which coordinates are taken; by default found from the roles.
        repeated: the batch of a coordinate check. Updates of many tokens are coherent only once
            the width exceeds their number: by default it is the batch of step 0, or as many of its
            first examples as have no more tokens than the narrowest network is wide, where it is a
            tensor, or a tuple, list or dictionary of them with examples along their first axis.
        probe: batches on which a transfer sweep takes the loss at the end; by default those of
            the first 4 steps.
        scheduler: of the optimiser's rates, for sweeps with the schedule `own`; it steps after
            every update, and `trial.steps` says how many there are.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
    batch: Callable[[int], Batch]
    rules: Rules | None = None
    loss: Callable[[nn.Module, Batch], Tensor] | None = None
    roles: Mapping[str, Role | Sequence[Role]] | None = None
    places: Places | None = None
    repeated: Batch | None = None
    probe: Sequence[Batch] | None = None
    scheduler: Scheduler | Sequence[Scheduler] = ()

    def __post_init__(self) -> None:
        from torch import nn, optim

        if not isinstance(self.model, nn.Module):
            raise FactoryError(
                "model", f"got {type(self.model).__name__}", "pass a torch.nn.Module"
            )
        if not all(isinstance(one, optim.Optimizer) for one in self.optimizers):
            raise FactoryError(
                "optimizer",
                f"got {brief(self.optimizer)}",
                "pass a torch.optim.Optimizer, or a list",
            )
        if not callable(self.batch):
            raise FactoryError("batch", f"got {brief(self.batch)}", "pass a function of the step")

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """All of them."""
        one = self.optimizer
        return tuple(one) if isinstance(one, list | tuple) else (one,)  # pyright: ignore

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        """All of them."""
        one = self.scheduler
        return tuple(one) if isinstance(one, list | tuple) else (one,)  # pyright: ignore

    @cached_property
    def role_table(self) -> dict[str, tuple[Role, ...]]:
        """Roles by name of a parameter, always as tuples."""
        if self.roles is None:
            from translimit.scaling.adapters import matches

            found = matches(self.model)
            return {name: match.parts for name, match in found.items()}
        return {
            name: (Role(role),) if isinstance(role, str) else tuple(Role(one) for one in role)
            for name, role in self.roles.items()
        }

    def numbers(self, rate: float) -> list[ParameterNumbers]:
        """What the optimiser does to every trained parameter, and how it starts.

        Args:
            rate: of the base, over which rates are told.
        """
        groups = {
            id(parameter): group
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        found, offset = [], self._gain_offset()
        for name, parameter in self.model.named_parameters():
            group = groups.get(id(parameter), {})
            lr, roles = group.get("lr"), self.role_table.get(name, ())
            stored = offset if any(role.is_gain for role in roles) else 0.0
            found.append(
                ParameterNumbers(
                    name=name,
                    roles=roles,
                    lr=None if lr is None else float(lr) / rate,
                    eps=group.get("eps"),
                    wd=group.get("weight_decay"),
                    init=rms([parameter.detach() + stored]),
                    entries=parameter.numel(),
                )
            )
        return found

    def _gain_offset(self) -> float:
        """What is added to the gains that are stored."""
        if self.roles is not None:
            return 0.0
        from translimit.scaling.adapters import table_of

        return table_of(self.model).gain_offset

    def score_scale(self) -> float | None:
        """What multiplies q . k, where the attention modules tell it, all the same."""
        modules = dict(self.model.named_modules())
        told = {score_scale(modules[name]) for name in self.found_places.attentions}
        return told.pop() if len(told) == 1 else None

    @cached_property
    def found_places(self) -> Places:
        """Where coordinates are taken."""
        return self.places or find_places(self.model, self.role_table)

    @cached_property
    def _training(self) -> TorchTraining[Batch]:
        def default(model: nn.Module, batch: Batch) -> Tensor:
            return model(**cast("Mapping[str, Tensor]", batch)).loss

        return TorchTraining(self.model, self.optimizers, self.loss or default)

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
            size: of the network, for the shape of heads.
            apart: whether fields need passes of their own, in evaluation mode; asked of the start
                by default.
            narrowest: width of the narrowest network, which the tokens of the batch of step 0
                should not exceed; no limit by default.
            examples: how many examples of the batch of step 0 another network took, 0 for all;
                asked of `narrowest` by default.

        Returns:
            By coordinate, one number a step; NaN from where the loss is not finite. `tokens` is the
            number of tokens of the batch, `examples` how many of its examples were taken where not
            all were, `apart` is 1 where fields had passes of their own, and `decays` where weights
            decay.
        """
        batch, taken = self.repeated, 0
        if batch is None:
            batch = guarded("batch", lambda: self.batch(0))
        scale = self.score_scale()
        if scale is None and self.rules is not None:
            scale = self.rules.score_scale

        def recorder_of(batch: Batch) -> TorchRecorder[Batch]:
            places = self.found_places
            return TorchRecorder(
                self._training, batch, size, places=places, score_scale=scale, apart=apart
            )

        if self.repeated is None and narrowest is not None:
            taken, there = examples or 0, examples_of(batch)
            if examples is None and there > 1:
                tokens = recorder_of(batch).count_tokens()
                taken = max(1, narrowest * there // tokens) if tokens > narrowest else 0
            batch = first_examples(batch, taken) if taken else batch
        recorder = recorder_of(batch)
        found: dict[str, list[float]] = {}
        finite = True
        for step in range(steps[-1] + 1):
            look = step in steps
            measured: dict[str, float] = {}
            if finite and step < steps[-1]:
                measured, loss = recorder.updated(look)
                finite = math.isfinite(loss)
            elif finite:
                measured = recorder.ended()
            for name in recorder.at_start if look else ():
                found.setdefault(name, []).append(measured.get(name, math.nan))
        facts = {"tokens": recorder.tokens, "apart": bool(recorder.apart), "examples": taken}
        for name, value in {**facts, "decays": self._training.decays}.items():
            found[name] = [float(value)] * len(steps)
        return found

    def unread(self) -> list[tuple[str, str, str]]:
        """What is set and does nothing: role, parameter, and a sentence for people.

        What attention modules give must change with every score scale (a loss may not: in a deep
        network one of many small branches is below its last digit), and the output, in folded
        style along the depth, with the size of what carries the factor of the branches.
        """
        from translimit.scaling.adapters import (
            Match,
            folded_parameters,
            undone_factors,
            unread_scales,
        )

        batch = self.repeated if self.repeated is not None else self.batch(0)
        modules = dict(self.model.named_modules())
        scales: dict[str, tuple[nn.Module, str]] = {}
        for name in self.found_places.attentions:
            now = score_scale(modules[name])
            for inner, module in modules[name].named_modules():  # what holds the same number
                told = [one for one in SCALE_ATTRIBUTES if score_scale_of(module, one) == now]
                if told:
                    scales[f"{name}.{inner}" if inner else name] = module, told[0]

        places = self.found_places
        ends = [*places.blocks[-1:], *filter(None, [places.readout])]

        def run(names: Sequence[str]) -> list[object]:
            seen: list[object] = []
            hooks = [
                modules[name].register_forward_hook(lambda module, given, out: seen.append(out))
                for name in names
            ]
            try:
                return [self._training.loss(batch), *seen]
            finally:
                for hook in hooks:
                    hook.remove()

        said = []
        if idle := unread_scales(self.model, scales, lambda model: run((*ends, *scales))):
            more = f" (and {len(idle) - 1} more)" if len(idle) > 1 else ""
            what = f"the score scale {idle[0]}{more} is set and not read"
            said.append(("scores", idle[0], f"{what}: nothing changes with it"))
        if self.rules is None or self.rules.question.style != "folded":
            return said
        parameters = dict(self.model.named_parameters())
        found = {
            name: Match(self.role_table[name][0], self.role_table[name], False, "")
            for name in parameters
            if self.role_table.get(name)
        }
        known = {name: parameters[name] for name in found}
        folded = folded_parameters(found, known, self.rules)
        offset = self._gain_offset()
        offsets = {name: offset for name, one in found.items() if one.role.is_gain}
        for template in undone_factors(self.model, folded, lambda model: run(ends), offsets):
            role = found[folded[template][0]].role.value
            said.append(
                (
                    role,
                    template,
                    f"the {role} carries a factor that does nothing: a norm follows {template}, or "
                    "nothing reads it (rules with branch_gain=True put the factor of the branches "
                    "into the gain of the norm)",
                )
            )
        return said

    def misplaced(self) -> list[tuple[str, str, str]]:
        """What a forward pass reads elsewhere than its role says: role, parameter, sentence."""
        from translimit.scaling.adapters import Match, contradictions, structure_of

        batch = self.repeated if self.repeated is not None else self.batch(0)
        structure = structure_of(self.model, lambda _: self._training.loss(batch))
        found = {
            name: Match(those[0], those, False, "")
            for name, those in self.role_table.items()
            if those
        }
        return [
            (one.role.value, one.parameter, one.sentence)
            for one in contradictions(structure, found)
        ]

    def train(self, steps: int, schedule: ScheduleName = "constant") -> float:
        """Train on fresh batches and return the mean loss on the probe; NaN if it diverged."""
        return self.train_through((steps,), schedule)[0]

    def train_through(
        self, horizons: Sequence[int], schedule: ScheduleName = "constant"
    ) -> list[float]:
        """Train on fresh batches, with the mean loss on the probe at each horizon; NaN if diverged.

        Args:
            horizons: updates, increasing; one alone unless the schedule is constant or wsd.
            schedule: what multiplies the rates of the optimisers; with `own` nothing does, and
                `scheduler` steps after every update.

        Raises:
            FactoryError: a scheduler that would not step.
        """
        if self.schedulers and schedule != "own":
            raise FactoryError(
                "scheduler",
                f"is given, and the sweep multiplies the rates itself ({schedule})",
                "sweep with schedule 'own', or leave it out",
            )
        probe = self.probe
        if probe is None:
            probe = [guarded("batch", lambda i=i: self.batch(i)) for i in range(PROBES)]

        def stepped() -> None:
            for one in self.schedulers:
                one.step()

        end = functools.partial(self._loss_on, probe)
        return self._training.through(horizons, schedule, self.batch, end, stepped)

    def seconds_of_update(self, updates: int) -> float:
        """What an update takes, after one that is not counted; the model is of no use then.

        Args:
            updates: how many are timed.
        """
        batches = [guarded("batch", lambda i=i: self.batch(i)) for i in range(updates + 1)]
        self._training.update(batches[0])
        before = time.perf_counter()
        for batch in batches[1:]:
            self._training.update(batch)
        return (time.perf_counter() - before) / updates

    def _loss_on(self, probe: Sequence[Batch]) -> float:
        import torch

        was = self.model.training
        self.model.eval()
        with torch.no_grad():
            losses = [float(self._training.loss(batch)) for batch in probe]
        self.model.train(was)
        return sum(losses) / len(losses)
