"""Which parameter of a module has which role, and which modules hold the score scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from translimit.core import TorchModule, TorchTensor
from translimit.describe import NameTable, Role
from translimit.scaling.adapters.names import Match, bare_name, match_names, matching
from translimit.scaling.adapters.tables import Names, table_of
from translimit.scaling.errors import AmbiguousRuleError


def matches(model: TorchModule, names: Names = None) -> dict[str, Match]:
    """Every parameter of a module with its role and its layout.

    Args:
        model: anything with `named_parameters`; shared tensors are listed under every name.
        names: a family, a table, or `{pattern: role}` beside the module's own table.

    Raises:
        UnmatchedParameterError: parameters without a role, or patterns without a parameter.
        AmbiguousRuleError: two roles of one parameter, or of one tensor, but for token embedding
            and readout, which may be tied.
        UnsupportedModuleError: a module that normalises after the sum.
    """
    table = table_of(model, names)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = refined(match_names(table, parameters), parameters)
    seen: dict[int, str] = {}
    for name, tensor in parameters.items():
        first = seen.setdefault(id(tensor), name)
        two = {found[first].role, found[name].role}
        if len(two) > 1 and two != {Role.TOKEN_EMBEDDING, Role.READOUT}:
            raise AmbiguousRuleError(
                "names",
                f"{first} ({found[first].role}) and {name} ({found[name].role}) are one tensor",
                "give both one role: only token embedding and readout may be tied",
            )
    return found


#: Norms that end a branch by their names alone, and one that does where the next has its own.
_ENDING = (
    *("post_feedforward_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
    *("post_norm1", "post_norm2"),
)
_AFTER_ATTENTION, _BEFORE = "post_attention_layernorm", "input_layernorm"
_BEFORE_MLP = "pre_feedforward_layernorm"
_NUMBER = re.compile(r"(^|\.)\d+(?=\.)")
_SHARED_EXPERTS = re.compile(r"(^|\.)shared_(experts?|mlp)\.")
_OF_EXPERTS = {
    Role.MLP_IN: Role.EXPERT_IN,
    Role.MLP_GATE: Role.EXPERT_IN,
    Role.MLP_OUT: Role.EXPERT_OUT,
    Role.MLP_IN_BIAS: Role.EXPERT_IN_BIAS,
    Role.MLP_GATE_BIAS: Role.EXPERT_IN_BIAS,
    Role.MLP_OUT_BIAS: Role.EXPERT_OUT_BIAS,
}


def refined(found: Mapping[str, Match], parameters: Mapping[str, TorchTensor]) -> dict[str, Match]:
    """Roles by what a module of Hugging Face does, where its table has one for several things.

    MLPs of routed experts are experts; gains of normalised queries that all heads share are such;
    the gain of a norm at the end of a branch is the branch's.

    Args:
        found: by the name table.
        parameters: by name.
    """
    names = [bare_name(name) for name in found]
    has = {end for name in names for end in (_BEFORE, _BEFORE_MLP) if f".{end}." in f".{name}"}
    ends = (*_ENDING, _AFTER_ATTENTION) if has != {_BEFORE} and names else _ENDING
    routed = any(match.role is Role.ROUTER for match in found.values())
    shared = _shared_by_heads(found, parameters)
    made: dict[str, Match] = {}
    for name, match in found.items():
        plain, role = bare_name(name), match.role
        owner = plain.rpartition(".")[0].rpartition(".")[2]
        if role is Role.BLOCK_NORM_GAIN and owner in ends:
            match = replace(match, role=Role.BRANCH_GAIN, parts=(Role.BRANCH_GAIN,))
        elif role in (Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN) and shared:
            match = replace(match, role=Role.QK_GAIN_SHARED, parts=(Role.QK_GAIN_SHARED,))
        elif role in (Role.QUERY_BIAS, Role.KEY_BIAS) and shared and "norm" in owner:
            match = replace(match, role=Role.QK_BIAS_SHARED, parts=(Role.QK_BIAS_SHARED,))
        elif role in _OF_EXPERTS and routed and _routed(plain):
            parts = tuple(_OF_EXPERTS[part] for part in match.parts)
            match = replace(match, role=parts[0], parts=parts)
        made[name] = match
    return made


def _routed(name: str) -> bool:
    return "experts." in name and not _SHARED_EXPERTS.search(name)


def _shared_by_heads(found: Mapping[str, Match], parameters: Mapping[str, TorchTensor]) -> bool:
    """Whether the gains of normalised queries have fewer entries than the stream is wide."""

    def most(*roles: Role) -> int:
        told = [parameters[name].numel() for name, one in found.items() if one.role in roles]
        return max(told, default=0)

    width = most(Role.BLOCK_NORM_GAIN, Role.FINAL_NORM_GAIN)
    return 0 < most(Role.QUERY_NORM_GAIN) < width


def roles(model: TorchModule, names: Names = None) -> dict[str, Role]:
    """Every parameter of a module with its role, by the names of `named_parameters`.

    A tensor that packs query, key and value has the role of the query: where it is allowed, its
    three parts take the same. Arguments and errors are those of `matches`.
    """
    return {name: match.role for name, match in matches(model, names).items()}


def attention_modules(
    table: NameTable, found: dict[str, Match], modules: list[str]
) -> tuple[str, ...]:
    """The modules that hold the score scale: the table's, else those above query projections."""
    if table.attention:
        return tuple(matching(table.attention, modules))
    above = []
    for name, match in found.items():
        if match.role is Role.QUERY:
            projection = name.rpartition(".")[0]
            # An `in_proj_weight` is the attention's own, a `q.weight` is the projection's.
            own = match.packed and bare_name(name).endswith("in_proj_weight")
            above.append(projection if own else projection.rpartition(".")[0])
    return tuple(dict.fromkeys(above))
