r"""PyTorch modules under a check: coordinates by forward hooks, numbers from the param groups.

The fields of a step are those of one forward pass in evaluation mode on the repeated batch. What a
linear map learned is (W_t - W_0) x_0, its module called on the input x_0 that it had at the start;
the learned logits are c k . q of such keys and queries, without the rotation of rotary positions,
which is orthogonal. Hooks are removed, and modes restored, before the optimiser moves on.

Reference: documentation, "Checking your own model".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from translimit.checks.errors import FactoryError
from translimit.checks.factory import guarded
from translimit.checks.lint import ParameterNumbers
from translimit.checks.places import Places, find_places, logit_scale
from translimit.core import brief
from translimit.describe import Role, Size
from translimit.scaling import Rules

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Probe batches of a transfer sweep, where the factory names none: the first training ones.
PROBES = 4


@dataclass(frozen=True, kw_only=True)
class TorchModel:
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
        repeated: the batch of a coordinate check, by default that of step 0. A small one: updates
            of many tokens are coherent only once the width exceeds their number.
        probe: batches on which a transfer sweep takes the loss at the end; by default those of
            the first 4 steps.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
    batch: Callable[[int], Any]
    rules: Rules | None = None
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    roles: Mapping[str, Role | Sequence[Role]] | None = None
    places: Places | None = None
    repeated: Any = None
    probe: Sequence[Any] | None = None

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
        found = []
        for name, parameter in self.model.named_parameters():
            group = groups.get(id(parameter), {})
            lr = group.get("lr")
            found.append(
                ParameterNumbers(
                    name=name,
                    roles=self.role_table.get(name, ()),
                    lr=None if lr is None else float(lr) / rate,
                    eps=group.get("eps"),
                    wd=group.get("weight_decay"),
                    init=_rms([parameter.detach()]),
                    entries=parameter.numel(),
                )
            )
        return found

    def logit_scale(self) -> float | None:
        """What multiplies q . k, where the attention modules tell it, all the same."""
        modules = dict(self.model.named_modules())
        told = {logit_scale(modules[name]) for name in self.found_places.attentions}
        return told.pop() if len(told) == 1 else None

    @cached_property
    def found_places(self) -> Places:
        """Where coordinates are taken."""
        return self.places or find_places(self.model, self.role_table)

    def record(self, steps: Sequence[int], size: Size) -> dict[str, list[float]]:
        """Train on one batch and record coordinates after some numbers of updates.

        Args:
            steps: increasing; 0 is the start.
            size: of the network, for the shape of heads.

        Returns:
            By coordinate, one number a step; NaN from where the loss is not finite.
        """
        batch = self.repeated
        if batch is None:
            batch = guarded("batch", lambda: self.batch(0))
        recorder = _Recorder(self, batch, size)
        start, found, done, finite = recorder.fields(), {}, 0, True
        for step in steps:
            while done < step and finite:
                finite = math.isfinite(self._update(batch))
                done += 1
            measured = recorder.coordinates(start, first=step == 0) if finite else {}
            for name in recorder.names:
                found.setdefault(name, []).append(measured.get(name, math.nan))
        found["tokens"] = [float(recorder.tokens)] * len(steps)
        return found

    def train(self, steps: int) -> float:
        """Train on fresh batches and return the mean loss on the probe; NaN if it diverged."""
        import torch

        probe = self.probe
        if probe is None:
            probe = [guarded("batch", lambda i=i: self.batch(i)) for i in range(PROBES)]
        for step in range(steps):
            batch = guarded("batch", lambda step=step: self.batch(step))
            if not math.isfinite(self._update(batch)):
                return math.nan
        was = self.model.training
        self.model.eval()
        with torch.no_grad():
            losses = [float(self._loss(batch)) for batch in probe]
        self.model.train(was)
        return sum(losses) / len(losses)

    def _loss(self, batch: Any) -> Tensor:
        def default(model: nn.Module, batch: Any) -> Tensor:
            return model(**batch).loss

        return guarded("loss", lambda: (self.loss or default)(self.model, batch))

    def _update(self, batch: Any) -> float:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        if not (hasattr(loss, "backward") and loss.numel() == 1):
            raise FactoryError("loss", f"returned {type(loss).__name__}", "return one number")
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
        return value


class _Recorder:
    """The fields of a module on one batch, and what its maps give at the inputs of the start."""

    def __init__(self, made: TorchModel, batch: Any, size: Size):
        self.made, self.batch, self.size = made, batch, size
        self.places, self.scale = made.found_places, made.logit_scale()
        if self.scale is None and made.rules is not None:
            self.scale = made.rules.logit_scale
        self.modules = dict(made.model.named_modules())
        places = self.places
        self.mapped = {name: None for names in places.maps.values() for name in names}
        self.mapped |= dict.fromkeys(places.packed)
        ends = (*places.blocks[-1:], *filter(None, [places.readout]))
        self.watched = list({**self.mapped, **dict.fromkeys(ends)})
        if missing := [name for name in self.watched if name not in self.modules]:
            raise FactoryError(
                "places",
                f"{missing[0]!r} is not a module of the model",
                "take names from model.named_modules()",
            )
        if not self.watched:
            raise FactoryError("places", "no module has a role", "name roles or places")
        self.inputs: dict[str, Any] = {}
        self.tokens = 0
        self.names: list[str] = []

    def fields(self) -> dict[str, Tensor]:
        """Outputs of all watched modules in one forward pass; the first call keeps inputs."""
        import torch

        model, outputs, inputs = self.made.model, {}, {}

        def hook(name: str) -> Callable[..., None]:
            def keep(module: Any, given: Any, named: Any, output: Any) -> None:
                inputs[name] = _detached(given[0] if given else next(iter(named.values())))
                outputs[name] = _detached(output[0] if isinstance(output, tuple) else output)

            return keep

        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        hooks = [
            self.modules[name].register_forward_hook(hook(name), with_kwargs=True)
            for name in self.watched
        ]
        try:
            with torch.no_grad():
                self.made._loss(self.batch)
        finally:
            for one in hooks:
                one.remove()
            for module, mode in modes:
                module.training = mode
        if missing := [name for name in self.watched if name not in outputs]:
            raise FactoryError(
                "places", f"the loss does not call {missing[0]!r}", "name modules that it calls"
            )
        if not self.inputs:
            self.inputs = inputs
            wide = [one for one in inputs.values() if one.ndim > 1 and one.is_floating_point()]
            self.tokens = max((one.numel() // one.shape[-1] for one in wide), default=0)
        return outputs

    def learned(self) -> dict[str, Tensor]:
        """Outputs of the maps at the inputs that they had at the start."""
        import torch

        with torch.no_grad():
            return {name: _detached(self.modules[name](self.inputs[name])) for name in self.mapped}

    def coordinates(self, start: Mapping[str, Tensor], *, first: bool) -> dict[str, float]:
        """Root mean squares of fields and of their changes.

        Args:
            start: fields of the start.
            first: whether this is the start.
        """
        now = start if first else self.fields()
        learned = start if first else self.learned()
        found: dict[str, float] = {}
        for name, here, there in (
            ("stream", now, start),
            ("hidden", now, start),
            ("output", now, start),
            ("key", now, start),
            ("query", now, start),
            ("logit", now, start),
        ):
            pairs = list(zip(self._field(name, here), self._field(name, there), strict=True))
            if pairs:
                found[name] = _rms(value for value, _ in pairs)
                found[f"{name}_change"] = _rms(value - old for value, old in pairs)
        for name in ("key", "query", "logit"):
            pairs = list(zip(self._field(name, learned), self._field(name, start), strict=True))
            if pairs:
                found[f"learned_{name}_change"] = _rms(new - old for new, old in pairs)
        for role, names in self.places.maps.items():
            found[f"start of {role.value}"] = _rms(start[name] for name in names)
            if role not in (Role.QUERY, Role.KEY):
                found[f"update of {role.value}"] = _rms(learned[n] - start[n] for n in names)
        for part, role in (("query", Role.QUERY), ("key", Role.KEY), ("value", Role.VALUE)):
            if self.places.packed:
                old, new = self._field(part, start), self._field(part, learned)
                found[f"start of {part}"] = _rms(old)
                if role is Role.VALUE:
                    found["update of value"] = _rms(b - a for a, b in zip(old, new, strict=True))
        self.names = list(found)
        return found

    def _field(self, name: str, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """One field of all blocks, from the outputs of modules."""
        places = self.places
        match name:
            case "stream":
                return [outputs[block] for block in places.blocks[-1:]]
            case "output":
                return [] if places.readout is None else [outputs[places.readout]]
            case "hidden":
                return [outputs[one] for one in places.maps.get(Role.MLP_IN, ())]
            case "logit":
                keys, queries = self._field("key", outputs), self._field("query", outputs)
                return [self._logits(q, k) for q, k in zip(queries, keys, strict=True)]
        part = ("query", "key", "value").index(name)
        split = [self._split(outputs[one])[part] for one in places.packed]
        return [*split, *(outputs[one] for one in places.maps.get(Role(name), ()))]

    def _split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value of a packed output [..., 3 d or d + 2 G N]."""
        size = self.size
        if self.places.interleaved:
            heads = packed.unflatten(-1, (size.heads, 3, size.head_dim))
            return tuple(heads[..., part, :].flatten(-2) for part in range(3))
        keys = size.groups * size.head_dim
        return packed.split((packed.shape[-1] - 2 * keys, keys, keys), dim=-1)

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        """C q . k of all pairs of tokens [..., heads, queries, keys]."""
        head_dim = self.size.head_dim
        if key.shape[-1] % head_dim or query.shape[-1] % head_dim:
            raise FactoryError(
                "model",
                f"its keys have {key.shape[-1]} entries, no multiple of head_dim = {head_dim}",
                "build it with the sizes of trial.size",
            )
        q = query.unflatten(-1, (-1, head_dim)).transpose(-3, -2)
        k = key.unflatten(-1, (-1, head_dim)).transpose(-3, -2)
        if q.shape[-3] != k.shape[-3]:
            k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
        scale = head_dim**-0.5 if self.scale is None else self.scale
        return scale * q @ k.transpose(-2, -1)


def _detached(value: Any) -> Any:
    return value.detach().clone() if hasattr(value, "detach") else value


def _rms(fields: Any) -> float:
    """Root mean square over all entries of several tensors."""
    import torch

    total, entries = 0.0, 0
    for field in fields:
        total += float(torch.linalg.vector_norm(field)) ** 2
        entries += field.numel()
    return math.sqrt(total / entries) if entries else math.nan
