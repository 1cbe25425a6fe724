r"""Coordinates of a PyTorch module while it trains on one batch, by forward hooks.

The fields of a step are those of evaluation mode on the repeated batch, at the weights before the
next update. They are recorded in the forward pass of that update, which has these weights and this
batch, unless training mode makes it another pass (dropout, running means): then in a pass of their
own. What a linear map learned is (W_t - W_0) x_0, its module called on the input x_0 that it had
at the start; the learned scores are c k . q of such keys and queries, without the rotation of
rotary positions, which is orthogonal. Hooks are removed, and modes restored, before the optimiser
moves on. What weight decay alone does to the start is no learning: the share of the start that it
leaves is taken from both sides, W_t - a_t W_0 (`TorchTraining.left`).

Reference: documentation, "Checking your own model".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, cast

from translimit.checks.errors import FactoryError
from translimit.checks.fields import alike, changes, detached, rms, same, stacked
from translimit.checks.places import Places
from translimit.checks.torch_training import Batch, TorchTraining
from translimit.describe import Role, Size

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Roles of maps whose outputs are fields.
_FIELD_ROLES = (Role.QUERY, Role.KEY, Role.MLP_IN)
#: Changes below so many units in the last place are round-off of two passes.
_ROUND_OFF = 64


class TorchRecorder(Generic[Batch]):
    """The fields of a module on one batch, and what its maps give at the inputs of the start.

    Fields come from the passes that training makes. Those are in training mode: one stands for a
    pass in evaluation mode if it called all modules of fields, drew no random number of PyTorch's
    and changed no buffer, and if the first one of a factory gave the fields and the loss of a pass
    in evaluation mode to the last bit. Where one does not, fields are from then on taken apart, in
    passes of their own.

    Args:
        training: of the module.
        batch: repeated in every step.
        size: of the network, for the shape of heads.
        places: modules at which fields are taken.
        score_scale: what multiplies q . k; head_dim^(-1/2) where nothing tells it.
        apart: whether fields need passes of their own; asked of the start by default.

    Raises:
        FactoryError: a place that is no module, or none at all.
    """

    def __init__(
        self,
        training: TorchTraining[Batch],
        batch: Batch,
        size: Size,
        *,
        places: Places,
        score_scale: float | None,
        apart: bool | None,
    ):
        self.training, self.batch, self.size = training, batch, size
        self.places, self.score_scale = places, score_scale
        self.modules = dict(training.model.named_modules())
        mapped = (name for names in places.maps.values() for name in names)
        self.mapped = tuple(dict.fromkeys((*mapped, *places.packed)))
        ends = (*places.blocks[-1:], *filter(None, [places.readout]))
        inside = (n for role in _FIELD_ROLES for n in places.maps.get(role, ()))
        #: Modules whose outputs are fields.
        self.seen = tuple(dict.fromkeys((*ends, *places.packed, *inside)))
        #: Those, and the maps.
        self.watched = tuple(dict.fromkeys((*self.mapped, *ends)))
        if missing := [name for name in self.watched if name not in self.modules]:
            raise FactoryError(
                "places",
                f"{missing[0]!r} is not a module of the model",
                "take names from model.named_modules()",
            )
        if not self.watched:
            raise FactoryError("places", "no module has a role", "name roles or places")
        self.buffers = [module._buffers for module in self.modules.values()]
        self.inputs: dict[str, Tensor] = {}
        self.start: dict[str, Tensor] = {}
        self.at_start: dict[str, float] = {}
        self.tokens, self.apart = 0, apart

    def updated(self, look: bool) -> tuple[dict[str, float], float]:
        """Coordinates, where asked for, and the loss of the update that starts from them."""
        if not self.start:
            loss = self._first()
            return self.at_start, self.training.step(loss)
        if not look:
            return {}, self.training.update(self.batch)
        learned, left = self._learned(), self._all_left()
        if self.apart:
            now, loss = self._evaluated(self.seen)[0], self.training.forward(self.batch)
        else:
            now, loss, stands = self._passed(self.seen)
            if not stands:
                self.apart, now = True, self._evaluated(self.seen)[0]
        value = self.training.step(loss)
        return self._coordinates(now, learned, left), value

    def ended(self) -> dict[str, float]:
        """Coordinates where no update follows."""
        if self.start:
            now, learned = self._evaluated(self.seen)[0], self._learned()
            return self._coordinates(now, learned, self._all_left())
        self._begin(self._evaluated(self.watched, self.inputs)[0])
        return self.at_start

    def _first(self) -> Tensor:
        """The loss of the first update, from the fields of the start."""
        if self.apart is False:
            start, loss, stands = self._passed(self.watched, self.inputs)
            if not stands:
                self.apart, start = True, self._evaluated(self.watched, self.inputs)[0]
            self._begin(start)
            return loss
        start, start_loss = self._evaluated(self.watched, self.inputs)
        self._begin(start)
        if self.apart:
            return self.training.forward(self.batch)
        now, loss, stands = self._passed(self.seen)
        pairs = [(value, start[name]) for name, value in now.items()]
        self.apart = not (stands and all(same(*pair) for pair in (*pairs, (loss, start_loss))))
        return loss

    def _begin(self, start: dict[str, Tensor]) -> None:
        """Keep what is compared with the start.

        Args:
            start: outputs of the watched modules.
        """
        self.tokens = self._tokens()
        start = {name: self._bare(name, value) for name, value in start.items()}
        self.start, self.start_fields = start, self._fields(start)
        told = ((name, getattr(self.modules[name], "bias", None)) for name in self.mapped)
        self.biases = {
            name: bias.detach().clone()
            for name, bias in told
            if bias is not None and hasattr(bias, "detach")
        }
        self.start_maps = {
            role: stacked([start[name] for name in names])
            for role, names in self.places.maps.items()
        }
        self.starts = {f"start of {role.value}": rms(x) for role, x in self.start_maps.items()}
        if self.places.packed:
            for name in ("query", "key", "value"):
                self.starts[f"start of {name}"] = rms(self.start_fields[name])
        self.starts |= self._input_sizes()
        self.at_start = self._coordinates(start, start)

    def count_tokens(self) -> int:
        """Tokens of the batch, by a pass of their own."""
        self._evaluated(self.watched, self.inputs)
        return self._tokens()

    def _tokens(self) -> int:
        wide = [x for x in self.inputs.values() if x.ndim > 1 and x.is_floating_point()]
        return max((one.numel() // one.shape[-1] for one in wide), default=0)

    def _input_sizes(self) -> dict[str, float]:
        """Root mean squares of the inputs that maps had at the start, by role."""
        owners = {role.value: names for role, names in self.places.maps.items()}
        if self.places.packed:
            owners |= dict.fromkeys(("query", "key", "value"), self.places.packed)
        sizes = {}
        for role, names in owners.items():
            given = [self.inputs[name] for name in names]
            if given and all(one.is_floating_point() for one in given) and (size := rms(given)):
                sizes[f"input of {role}"] = size
        return sizes

    def _bare(self, name: str, value: Tensor) -> Tensor:
        """The output of a module; of an embedding that multiplies (Gemma's), that of its rows."""
        from torch import nn

        module = self.modules[name]
        if name in self.mapped and isinstance(module, nn.Embedding):
            return nn.Embedding.forward(module, self.inputs[name]).detach()
        return value

    def _learned(self) -> dict[str, Tensor]:
        """Outputs of the maps at the inputs that they had at the start."""
        import torch

        with torch.no_grad():
            given = {name: self.modules[name](self.inputs[name]) for name in self.mapped}
            return {name: self._bare(name, value) for name, value in given.items()}

    def _coordinates(
        self,
        now: Mapping[str, Tensor],
        learned: Mapping[str, Tensor],
        left: Mapping[str, Tensor] | None = None,
    ) -> dict[str, float]:
        """Root mean squares of fields and of their changes.

        Args:
            now: outputs of the modules of fields.
            learned: of the maps at the inputs of the start.
            left: what decay alone would have left of them, where weights decay.
        """
        found: dict[str, float] = {}
        start, fields = self.start_fields, self._fields(now)
        for name in ("stream", "hidden", "output", "key", "query", "score"):
            if name in start:
                found[name] = rms(fields[name])
                found[f"{name}_change"] = rms(changes(fields[name], start[name]))
        moved, old_maps = self._attended(learned), self.start_maps
        if left is not None:
            start = {**start, **self._attended(left)}
            old_maps = {
                role: stacked([left[name] for name in names])
                for role, names in self.places.maps.items()
            }
        for name in ("key", "query", "score"):
            if name in start:
                found[f"learned_{name}_change"] = self._moved(moved[name], start[name])
        if self.places.packed:
            found["update of value"] = self._moved(moved["value"], start["value"])
        for role, old in old_maps.items():
            if role not in (Role.QUERY, Role.KEY):
                new = stacked([learned[name] for name in self.places.maps[role]])
                found[f"update of {role.value}"] = self._moved(new, old)
        return found | self.starts

    def _all_left(self) -> dict[str, Tensor] | None:
        """What decay alone would have left of the maps, before the next step; None without it."""
        if not self.training.decays:
            return None
        return {name: self._left(name) for name in self.mapped}

    def _left(self, name: str) -> Tensor:
        """What decay alone would have left of a map's output at the start."""
        module, old = self.modules[name], self.start[name]
        own = dict(module.named_parameters(recurse=False))
        bias = own.pop("bias", None)
        shares = {self.training.left(one) for one in own.values()} or {1.0}
        share = sum(shares) / len(shares)
        if bias is None or name not in self.biases:
            return share * old
        kept = self.biases[name]
        kept = kept if old.shape[-1] == kept.numel() else kept[:, None, None]
        return share * (old - kept) + self.training.left(bias) * kept

    def _moved(self, new: list[Tensor], old: list[Tensor]) -> float:
        """The size of a change; 0 where decay leaves nothing but round-off of it."""
        import torch

        change = rms(changes(new, old))
        if self.training.decays and old:
            noise = max(torch.finfo(one.dtype).eps for one in old if one.is_floating_point())
            return 0.0 if change <= _ROUND_OFF * noise * rms(old) else change
        return change

    @contextmanager
    def _watching(
        self, names: Sequence[str], inputs: dict[str, Tensor] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Outputs, and inputs where asked for, of modules in the passes made meanwhile."""
        outputs: dict[str, Tensor] = {}

        def hook(name: str) -> Callable[..., None]:
            def keep(
                module: nn.Module,
                given: tuple[object, ...],
                named: dict[str, object],
                output: Tensor | tuple[Tensor, ...],
            ) -> None:
                if inputs is not None:
                    first = given[0] if given else next(iter(named.values()))
                    inputs[name] = cast("Tensor", detached(first))
                told = output[0] if isinstance(output, tuple) else output
                outputs[name] = cast("Tensor", detached(told))

            return keep

        hooks = [
            self.modules[name].register_forward_hook(hook(name), with_kwargs=True) for name in names
        ]
        try:
            yield outputs
        finally:
            for one in hooks:
                one.remove()

    def _evaluated(
        self, names: Sequence[str], inputs: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Outputs of modules and the loss of one pass in evaluation mode; modes are restored."""
        import torch

        model = self.training.model
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad(), self._watching(names, inputs) as outputs:
                loss = self.training.loss(self.batch)
        finally:
            for module, mode in modes:
                module.training = mode
        if missing := [name for name in names if name not in outputs]:
            raise FactoryError(
                "places", f"the loss does not call {missing[0]!r}", "name modules that it calls"
            )
        return outputs, loss

    def _passed(
        self, names: Sequence[str], inputs: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor, bool]:
        """Outputs of modules and the loss of a pass of training; whether it may stand for others.

        It may not where it drew random numbers, changed a buffer, or left a module out.
        """
        before = self._state()
        with self._watching(names, inputs) as outputs:
            loss = self.training.forward(self.batch)
        return outputs, loss, self._state() == before and len(outputs) == len(names)

    def _state(self) -> tuple[list[tuple[int, int]], list[bytes]]:
        """What a pass changes if it draws random numbers or keeps something in buffers."""
        import torch

        cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        buffers = [one for owned in self.buffers for one in owned.values() if one is not None]
        self.held = buffers  # alive until they are compared: no other takes their identity
        return (
            [(id(buffer), buffer._version) for buffer in buffers],
            [state.numpy().tobytes() for state in (torch.get_rng_state(), *cards)],
        )

    def _fields(self, outputs: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Fields of all blocks from the outputs of modules."""
        places = self.places
        found = {
            "stream": stacked([outputs[block] for block in places.blocks[-1:]]),
            "hidden": stacked([outputs[one] for one in places.maps.get(Role.MLP_IN, ())]),
            "output": [] if places.readout is None else [outputs[places.readout]],
            **self._attended(outputs),
        }
        return {name: values for name, values in found.items() if values}

    def _attended(self, outputs: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Queries, keys and scores of all blocks; packed values too."""
        places, names = self.places, ("query", "key", "value")
        packed = [self._split(one) for one in stacked([outputs[n] for n in places.packed])]
        found = {name: [parts[i] for parts in packed] for i, name in enumerate(names)}
        own = [[outputs[n] for n in places.maps.get(role, ())] for role in (Role.QUERY, Role.KEY)]
        if all(map(alike, own)):
            own = [stacked(values) for values in own]
        for name, values in zip(names, own, strict=False):
            found[name] += values
        pairs = zip(found["query"], found["key"], strict=True)
        found["score"] = [self._scores(query, key) for query, key in pairs]
        return found

    def _split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value of a packed output [..., 3 d or d + 2 G N]."""
        size = self.size
        if self.places.interleaved:
            heads = packed.unflatten(-1, (size.heads, 3, size.head_dim))
            return tuple(heads[..., part, :].flatten(-2) for part in range(3))
        keys = size.groups * size.head_dim
        return packed.split((packed.shape[-1] - 2 * keys, keys, keys), dim=-1)

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
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
        scale = head_dim**-0.5 if self.score_scale is None else self.score_scale
        return scale * q @ k.transpose(-2, -1)
