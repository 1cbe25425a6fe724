"""Which parameter of a module has which role, and which modules hold the score scale."""

from __future__ import annotations

from translimit.describe import NameTable, Role
from translimit.scaling.adapters.foreign import Module
from translimit.scaling.adapters.names import Match, bare_name, match_names, matching
from translimit.scaling.adapters.tables import Names, table_of
from translimit.scaling.errors import AmbiguousRuleError


def matches(model: Module, names: Names = None) -> dict[str, Match]:
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
    found = match_names(table, parameters)
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


def roles(model: Module, names: Names = None) -> dict[str, Role]:
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
