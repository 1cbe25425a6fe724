"""The weights of a PyTorch module by layer and role, each as one matrix that maps rows to columns.

Names are matched by the family's table. Tensors that pack query, key and value, or gate and input,
are cut as the module cuts them.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError
from translimit.describe import Attention, Experts, FeedForward, NameTable, Role, Stack
from translimit.predict.module_kinds import Module
from translimit.scaling import AmbiguousRuleError, UnmatchedParameterError
from translimit.scaling.adapters import Match, bare_name, match_names

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor: TypeAlias = Any

#: What an error says to do with a module that cannot be read.
INSTEAD = "predict its configuration, or describe its Stack"

_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
_READ = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Weight:
    """One parameter of a module, or the part of it that has one role.

    Attributes:
        name: of the parameter.
        role: of the part.
        layer: its number, or None outside of the layers.
        shared: whether it is of the block that a mixture of experts sends every token to.
        tensor: as torch.nn.Linear stores it, [outputs, inputs]; of experts one after the other.
    """

    name: str
    role: Role
    layer: int | None
    shared: bool
    tensor: Tensor

    @property
    def is_matrix(self) -> bool:
        """Whether it is drawn at random, unlike gains, biases and waves that do not train."""
        fixed = self.role is Role.UNSCALED and not self.tensor.requires_grad
        return not (self.role.is_gain or self.role.is_bias or fixed)

    def numbers(self) -> Float[np.ndarray, ...]:
        """Its entries in single precision, in double where they are stored so.

        Raises:
            ArgumentError: entries that are not finite.
        """
        tensor = self.tensor.detach().cpu()
        single = str(tensor.dtype) in ("torch.float16", "torch.bfloat16")
        made = (tensor.float() if single else tensor).numpy()
        if not np.isfinite(made).all():
            raise ArgumentError("module", f"{self.name} is not finite", "initialise it again")
        return made


def module_weights(model: Module, table: NameTable, stack: Stack) -> list[Weight]:
    """All parameters of a module by layer and role.

    Args:
        model: the module, without what wraps it.
        table: the names of its family.
        stack: that its configuration describes.

    Raises:
        ArgumentError: weights that are not there (on the device meta) or quantised, parameters of
            which the family does not know, shapes that differ from the configuration's.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in named.items():
        _require_numbers(name, tensor)
    found = _matched(table, named)
    _require_layers({n for n, m in found.items() if m.role.in_block}, len(stack.layers))
    made = []
    for name, match in found.items():
        layer = layer_of(name) if match.role.in_block else None
        for role, tensor in _parts(name, named[name], match, layer, table, stack):
            shared = "shared" in match.pattern
            wanted = None if layer is None else _shape(role, stack, layer, shared=shared)
            if tensor.ndim > 1 and wanted is not None and tuple(tensor.shape[-2:]) != wanted:
                raise _other_shape(name, role, tuple(tensor.shape[-2:]), wanted)
            made.append(Weight(name, role, layer, shared, tensor))
    return made


def layer_of(name: str) -> int:
    """The number of the layer in a parameter's name, the first number in it.

    Args:
        name: of the parameter.

    >>> layer_of("transformer.h.3.mlp.experts.0.weight")
    3
    """
    found = _NUMBER.search(bare_name(name))
    if found is None:
        raise ArgumentError("module", f"{name} does not tell its layer", INSTEAD)
    return int(found[1])


def branches_of(stack: Stack, layer: int) -> Iterator[Attention | FeedForward | Experts]:
    """The branches of a layer whose matrices have roles.

    Args:
        stack: the stack.
        layer: its number.
    """
    for block in stack.layers[layer]:
        for branch in block.branches:
            if isinstance(branch, Attention | FeedForward | Experts):
                yield branch


def _matched(table: NameTable, named: Mapping[str, Tensor]) -> dict[str, Match]:
    try:
        return match_names(table, named)
    except (UnmatchedParameterError, AmbiguousRuleError) as error:
        remedy = f"pass the model of {table.family} alone, as its class builds it; or {INSTEAD}"
        raise ArgumentError("module", error.problem, remedy) from None


def _require_numbers(name: str, tensor: Tensor) -> None:
    if tensor.is_meta or type(tensor).__name__ == "UninitializedParameter":
        raise ArgumentError(
            "module", f"{name} has no numbers yet (device meta)", "build it on a real device"
        )
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in _READ:
        raise ArgumentError(
            "module",
            f"{name} holds {kind}, as quantised weights do",
            f"pass the module before it is quantised, in {', '.join(_READ)}",
        )


def _require_layers(names: Iterable[str], count: int) -> None:
    there = sorted({layer_of(name) for name in names})
    if there != list(range(count)):
        told = f"{len(there)} layers" if there else "no layer"
        raise ArgumentError(
            "config",
            f"describes {count} layers, and the module has {told}",
            "pass the module's own configuration",
        )


def _parts(
    name: str, tensor: Tensor, match: Match, layer: int | None, table: NameTable, stack: Stack
) -> list[tuple[Role, Tensor]]:
    """A parameter as torch.nn.Linear stores it, cut into its roles; vectors as they are."""
    if not match.packed:
        turned = match.transposed and tensor.ndim > 1
        return [(match.role, tensor.transpose(-1, -2) if turned else tensor)]
    if tensor.ndim == 1:  # biases
        return [(match.role, tensor)]
    rows = tensor.transpose(-1, -2) if match.transposed else tensor
    if Role.QUERY not in match.parts:
        return list(zip(match.parts, rows.chunk(len(match.parts), dim=-2), strict=True))
    of = None if layer is None else _attention(stack, layer)
    if of is None:
        raise ArgumentError("config", f"describes no attention for {name}", INSTEAD)
    heads, keys = of.heads * of.head_dim, of.key_heads * of.head_dim
    sizes = [heads, keys, of.key_heads * of.values]
    if rows.shape[-2] != sum(sizes):
        raise _other_shape(name, match.role, tuple(rows.shape), (sum(sizes), stack.dim))
    if table.interleaved:
        apart = rows.reshape(of.heads, len(sizes), of.head_dim, rows.shape[-1])
        parts = [apart[:, i].reshape(heads, rows.shape[-1]) for i in range(len(sizes))]
    else:
        parts = list(rows.split(sizes, dim=-2))
    return list(zip(match.parts, parts, strict=True))


def _attention(stack: Stack, layer: int) -> Attention | None:
    return next((one for one in branches_of(stack, layer) if isinstance(one, Attention)), None)


def _shape(role: Role, stack: Stack, layer: int, *, shared: bool) -> tuple[int, int] | None:
    """Outputs and inputs of a matrix of a layer; None for what is no matrix."""
    dim = stack.dim
    for branch in branches_of(stack, layer):
        if isinstance(branch, Attention):
            queries, keys = branch.heads * branch.head_dim, branch.key_heads * branch.head_dim
            made = {
                Role.QUERY: (queries, dim),
                Role.KEY: (keys, dim),
                Role.VALUE: (branch.key_heads * branch.values, dim),
                Role.ATTENTION_OUT: (dim, branch.heads * branch.values),
            }
        else:
            units = branch
            made = {}
            if isinstance(branch, Experts):
                made[Role.ROUTER] = (1 if shared else branch.count, dim)
                units = branch.shared if shared and branch.shared else branch.expert
            assert isinstance(units, FeedForward)
            width = units.width
            made |= {Role.MLP_IN: (width, dim), Role.MLP_OUT: (dim, width)}
            if units.gated:
                made[Role.MLP_GATE] = (width, dim)
        if role in made:
            return made[role]
    return None


def _other_shape(
    name: str, role: Role, has: tuple[int, ...], wanted: tuple[int, ...]
) -> ArgumentError:
    told, own = (" x ".join(map(str, one)) for one in (wanted, has))
    return ArgumentError(
        "config",
        f"describes a {role} of {told}, and {name} of the module has {own}",
        "pass the module's own configuration",
    )
