"""Where in a module the parts are that rules and checks speak about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from translimit.describe import Role
from translimit.scaling.adapters.families import Names, table_of
from translimit.scaling.adapters.names import Match, NameTable, bare_name, matching
from translimit.scaling.errors import AmbiguousRuleError


@dataclass(frozen=True)
class Places:
    """Names of submodules, in the order of the layers.

    Attributes:
        blocks: whose outputs are the residual stream.
        attention: that hold the logit scale.
        query: query projections; none where they are packed.
        key: key projections.
        packed: projections that hold query, key and value.
        mlp_in: whose outputs are the pre-activations of hidden units (without the gate).
        readout: the last linear map.
    """

    blocks: tuple[str, ...]
    attention: tuple[str, ...]
    query: tuple[str, ...]
    key: tuple[str, ...]
    packed: tuple[str, ...]
    mlp_in: tuple[str, ...]
    readout: tuple[str, ...]


def matches(model: Any, names: Names = None) -> dict[str, Match]:
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
    found = table.match(parameters)
    seen: dict[int, str] = {}
    for name, tensor in parameters.items():
        first = seen.setdefault(id(tensor), name)
        two = {found[first].role, found[name].role}
        if len(two) > 1 and two != {Role.TOKEN_EMBEDDING, Role.READOUT}:
            raise AmbiguousRuleError(
                "names",
                f"{first} ({found[first].role}) and {name} ({found[name].role}) are one tensor",
                "only token embedding and readout may be tied: give both one role",
            )
    return found


def roles(model: Any, names: Names = None) -> dict[str, Role]:
    """Every parameter of a module with its role, by the names of `named_parameters`.

    A tensor that packs query, key and value has the role of the query: where it is allowed, its
    three parts take the same. Arguments and errors are those of `matches`.
    """
    return {name: match.role for name, match in matches(model, names).items()}


def places(model: Any, names: Names = None) -> Places:
    """Where blocks, attention, projections and readout are, as names of submodules.

    A name is that of `model.named_modules()`, wrappers and all. Arguments and errors are those of
    `matches`.
    """
    table, found = table_of(model, names), matches(model, names)
    modules = [name for name, _ in model.named_modules()]

    def holding(*wanted: Role, packed: bool = False) -> tuple[str, ...]:
        return tuple(
            name.rpartition(".")[0]
            for name, match in found.items()
            if match.role in wanted and match.packed == packed
        )

    return Places(
        blocks=tuple(matching(table.blocks, modules)),
        attention=attention_modules(table, found, modules),
        query=holding(Role.QUERY),
        key=holding(Role.KEY),
        packed=holding(Role.QUERY, packed=True),
        mlp_in=holding(Role.MLP_IN),
        readout=holding(Role.READOUT),
    )


def attention_modules(
    table: NameTable, found: dict[str, Match], modules: list[str]
) -> tuple[str, ...]:
    """The modules that hold the logit scale: the table's, else those above query projections."""
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
