r"""Where coordinates are taken in a PyTorch module: found from the roles of its parameters.

A module that owns a weight of a role gives the coordinate of that role; the blocks are the
numbered modules around the weights of blocks; the readout of tied embeddings is the other module
that holds the tensor of the token embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from translimit.checks.errors import FactoryError
from translimit.core import Record
from translimit.describe import SCALE_ATTRIBUTES, Role, family_of_class

if TYPE_CHECKING:
    from torch import nn

#: Roles of maps whose output at fixed inputs is a coordinate.
MAPS = (
    Role.TOKEN_EMBEDDING,
    Role.PATCH_EMBEDDING,
    Role.VALUE,
    Role.ATTENTION_OUT,
    Role.MLP_IN,
    Role.MLP_GATE,
    Role.MLP_OUT,
    Role.READOUT,
)
#: The same of latents, whose keys and queries are told by no other coordinate.
LATENT_MAPS = (Role.QUERY_DOWN, Role.QUERY_UP, Role.KEY_VALUE_DOWN, Role.KEY_VALUE_UP)
_BLOCK = re.compile(r"^(.*?\.)?(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Places(Record):
    """Names of modules; a coordinate without a place is not recorded.

    Attributes:
        blocks: in order; the output of each is the stream after it.
        maps: modules by role.
        packed: modules that give query, key and value in one tensor, one after the other; or, with
            `interleaved`, head by head.
        interleaved: whether packed outputs are [heads, (query, key, value), head_dim].
        attentions: modules with an attribute that multiplies q . k.
        readout: the module that gives the output f.
    """

    blocks: tuple[str, ...] = ()
    maps: Mapping[Role, tuple[str, ...]]
    packed: tuple[str, ...] = ()
    interleaved: bool = False
    attentions: tuple[str, ...] = ()
    readout: str | None = None


def find_places(model: nn.Module, roles: Mapping[str, Sequence[Role]]) -> Places:
    """The places of a module.

    Args:
        model: any module whose blocks are numbered in the names of their parameters.
        roles: by name of a parameter; several for a packed tensor.

    Raises:
        FactoryError: a name is no parameter of the module.
    """
    named: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
    for name in roles:
        if name not in named:
            raise FactoryError(
                "roles",
                f"{name!r} is not a parameter of the model",
                "take names from model.named_parameters()",
            )
    embeddings = {id(named[n]) for n, those in roles.items() if Role.TOKEN_EMBEDDING in those}
    maps: dict[Role, list[str]] = {}
    packed, blocks = [], {}
    for name, those in roles.items():
        owner = name.rpartition(".")[0]
        if any(role.in_block for role in those) and (match := _BLOCK.match(name)):
            blocks[int(match[2])] = f"{match[1] or ''}{match[2]}"
        if any(role.is_bias for role in those):
            continue
        if Role.QUERY in those and Role.KEY in those:
            packed.append(owner)
            continue
        if Role.READOUT in those and id(named[name]) in embeddings:
            continue  # tied: its factor is elsewhere, and so is what its output would tell
        for role in those:
            if role in (*MAPS, *LATENT_MAPS, Role.QUERY, Role.KEY) and owner:
                maps.setdefault(role, []).append(owner)
    readout = maps[Role.READOUT][0] if Role.READOUT in maps else _tied_end(named, roles)
    modules = dict(model.named_modules())
    owners = [*packed, *maps.get(Role.KEY, ())]
    parents = (_with_scale(modules, owner) for owner in owners)
    kinds = {type(modules.get(name.rpartition(".")[0], model)).__name__ for name in packed}
    families = [family for kind in kinds if (family := family_of_class(kind)) is not None]
    return Places(
        blocks=tuple(blocks[number] for number in sorted(blocks)),
        maps={role: tuple(names) for role, names in maps.items()},
        packed=tuple(packed),
        interleaved=any(family.interleaved for family in families),
        attentions=tuple(name for name in parents if name is not None),
        readout=readout,
    )


def _tied_end(named: Mapping[str, Any], roles: Mapping[str, Sequence[Role]]) -> str | None:
    """The other module that holds the tensor of the token embedding."""
    for name, those in roles.items():
        for other, value in named.items():
            if Role.TOKEN_EMBEDDING in those and other != name and value is named[name]:
                return other.rpartition(".")[0]
    return None


def score_scale(module: object) -> float | None:
    """What multiplies q . k in an attention module that tells it."""
    told = (score_scale_of(module, attribute) for attribute in SCALE_ATTRIBUTES)
    return next((value for value in told if value is not None), None)


def score_scale_of(module: object, attribute: str) -> float | None:
    """A number that a module has by a name, or None."""
    value = getattr(module, attribute, None)
    if isinstance(value, bool) or not isinstance(value, float | int):
        return None
    return float(value)


def _with_scale(modules: Mapping[str, Any], owner: str) -> str | None:
    """The nearest module around an owner of keys that tells its score scale."""
    name = owner.rpartition(".")[0]
    while name:
        if name in modules and score_scale(modules[name]) is not None:
            return name
        name = name.rpartition(".")[0]
    return None
