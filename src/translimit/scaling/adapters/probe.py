"""Whether what was set is read: numbers are changed, and outputs compared.

A module may have a score scale that nothing reads (x-transformers computes with the one of an inner
module), and a norm undoes every factor in front of it. Neither shows in names. Here the number is
changed, the module is run on an example, and the output must change:

* every score scale, times 64: its output may not be bit-identical;
* every parameter that carries a factor of the forward pass, times 64 and times 512: behind a norm
  both give the same output, up to its epsilon.

Matrices of zeros, such as a readout at its start, hide what comes before them: they are drawn for
the time of the comparison. All weights, modes and random states are restored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from translimit.core import TorchModule, TorchTensor, TorchTensors
from translimit.describe import NameTable, Role
from translimit.scaling.adapters.names import Match, bare_name
from translimit.scaling.engine import Rules
from translimit.scaling.errors import UnsupportedModuleError

#: What a module is called on: tensors, arguments by name, or a function of the module.
Example: TypeAlias = (
    TorchTensor | Mapping[str, object] | Sequence[object] | Callable[[TorchModule], object] | None
)
#: Modules of attention that are changed one at a time, at most.
_MOST = 8
#: The share of a parameter's effect that still changes behind a norm, by its epsilon.
_SHARE = 3e-3
_ONCE, _TWICE = 64.0, 512.0


def unread_scales(
    model: TorchModule,
    scales: Mapping[str, tuple[TorchModule, str]],
    run: Callable[[TorchModule], Any],
) -> list[str]:
    """The score scales that no output depends on, as `module.attribute`.

    Args:
        model: with any weights.
        scales: modules and their attributes by name; those inside of another one count with it.
        run: from the module to its output.
    """
    names = sorted(scales, key=len)
    owners = [n for n in names if not any(n.startswith(f"{o}.") for o in names if o != n)]
    owners.sort(key=list(scales).index)
    if len(owners) > _MOST:
        owners = [owners[0], owners[len(owners) // 2], owners[-1]]
    unread = []
    with _alive(model):
        plain = _tensors(run(model))
        for owner in owners:
            inside = [n for n in names if n == owner or n.startswith(f"{owner}.")]
            kept = [(*scales[n], float(getattr(*scales[n]))) for n in inside]
            try:
                for module, attribute, value in kept:
                    setattr(module, attribute, _ONCE * value)
                now = _tensors(run(model))
            finally:
                for module, attribute, value in kept:
                    setattr(module, attribute, value)
            if _equal(plain, now):
                unread.append(f"{owner}.{scales[owner][1]}")
    return unread


def undone_factors(
    model: TorchModule,
    names: Mapping[str, Sequence[str]],
    run: Callable[[TorchModule], Any],
    offsets: Mapping[str, float],
) -> list[str]:
    """The parameters whose size has no effect on the output: a norm follows, or nothing reads them.

    Args:
        model: with any weights.
        names: of parameters, by what an error calls them; those of one entry are changed together.
        run: from the module to its output.
        offsets: what the module adds to a parameter, where that is not 0: 1 for gains of Gemma.
    """
    parameters, undone = dict(model.named_parameters()), []
    with _alive(model):
        for what, those in names.items():
            tensors: dict[TorchTensor, float] = {
                parameters[name]: offsets.get(name, 0.0) for name in those
            }
            none, once, twice = (
                _tensors(_with(model, tensors, factor, run)) for factor in (0.0, _ONCE, _TWICE)
            )
            change = _distance(once, twice)  # a norm without an epsilon makes none of zeros
            if change == 0 or change <= _SHARE * _distance(none, once):
                undone.append(what)
    return undone


def folded_parameters(
    found: Mapping[str, Match], parameters: TorchTensors, rules: Rules
) -> dict[str, list[str]]:
    """The parameters that carry a factor of the forward pass, by role and template.

    Args:
        found: roles.
        parameters: by name, shared tensors once.
        rules: in folded style.
    """
    question, made = rules.question, dict[str, list[str]]()
    for name in parameters:
        role = found[name].role
        end = role is Role.BRANCH_GAIN if question.branch_gain else role.ends_branch
        folded = (end and question.m_L != 1) or (role is Role.READOUT and question.m_d != 1)
        folded |= role is Role.FINAL_NORM_GAIN and question.tied and question.m_d != 1
        if folded and not role.is_bias:
            template = re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", bare_name(name))
            made.setdefault(template, []).append(name)
    return made


def require_read(
    model: TorchModule,
    found: Mapping[str, Match],
    parameters: TorchTensors,
    scales: Mapping[str, tuple[TorchModule, str, float]],
    rules: Rules,
    example: Example,
    offset: float,
) -> None:
    """Refuse a module that does not read what is set: see `probe`."""
    run = runner(example)
    places = {name: (module, attribute) for name, (module, attribute, _) in scales.items()}
    if unread := unread_scales(model, places, run):
        raise UnsupportedModuleError(
            unread[0],
            "does not change the output: the module computes its scores with another number",
            "pass a NameTable whose `attention` and `score_scale` name the one that is read, or "
            "set it in the constructor and pass scores_set=True",
        )
    folded = folded_parameters(found, parameters, rules)
    offsets = {name: offset for name in parameters if found[name].role.is_gain}
    if undone := undone_factors(model, folded, run, offsets):
        raise UnsupportedModuleError(
            undone[0],
            "does not change the output with its size: a norm follows it, or nothing reads it",
            "ask for rules with branch_gain=True and name the gain of that norm 'branch_gain'",
        )


def unseen(
    rules: Rules,
    table: NameTable,
    scales: Mapping[str, tuple[TorchModule, str, float]],
    unseen: bool,
    scores_set: bool,
) -> list[str]:
    """Sentences about what was set without looking whether it is read."""
    if scores_set:
        return [f"the scores must have the scale {rules.score_scale:g}: it was not looked at"]
    moved = rules.score_scale != rules.question.target.head_dim**-0.5
    if not (scales and unseen and moved and table.by_number):
        return []
    name, (_, attribute, _) = next(iter(scales.items()))
    return [
        f"{bare_name(name)}.{attribute} was found by its name: pass example= (an input) to see "
        "that the module reads it"
    ]


def runner(example: Example) -> Callable[[TorchModule], Any]:
    """From an example to a function that runs a module on it."""

    def run(model: TorchModule) -> Any:
        if callable(example):
            return example(model)
        if isinstance(example, Mapping):
            return model(**example)
        return model(*example) if isinstance(example, tuple | list) else model(example)

    return run


@contextmanager
def _alive(model: TorchModule) -> Iterator[None]:
    """The module in evaluation mode, without gradients, and with no matrix of zeros."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    zeros = [
        tensor
        for tensor in model.parameters()
        if tensor.ndim > 1 and not tensor.detach().count_nonzero().item()
    ]
    draw, state = torch.Generator().manual_seed(0), torch.get_rng_state()
    model.eval()
    try:
        with torch.no_grad():
            for tensor in zeros:
                drawn = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
                tensor.copy_((drawn * tensor.shape[-1] ** -0.5).to(tensor))
            yield
    finally:
        with torch.no_grad():
            for tensor in zeros:
                tensor.zero_()
        for module, mode in modes:
            module.training = mode
        torch.set_rng_state(state)


def _with(
    model: TorchModule,
    tensors: Mapping[TorchTensor, float],
    factor: float,
    run: Callable[[TorchModule], Any],
) -> Any:
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        for tensor, offset in tensors.items():
            tensor.add_(offset).mul_(factor).sub_(offset)
        return run(model)
    finally:
        for tensor, old in zip(tensors, kept, strict=True):
            tensor.copy_(old)


def _tensors(output: Any) -> list[TorchTensor]:
    """All tensors of numbers in what a module returned."""
    import torch

    if isinstance(output, torch.Tensor):
        return [output.detach().double().clone()] if output.is_floating_point() else []
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, Mapping | tuple | list):
        return [one for part in parts for one in _tensors(part)]
    return []


def _equal(one: Sequence[TorchTensor], other: Sequence[TorchTensor]) -> bool:
    import torch

    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _distance(one: Sequence[TorchTensor], other: Sequence[TorchTensor]) -> float:
    return sum(float((a - b).norm()) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
