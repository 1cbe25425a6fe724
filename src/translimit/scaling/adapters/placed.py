"""Names against structure: where a role must be read, and which role a place has.

A table gives roles by names. What a module does on an example (`structure_of`) tells where every
parameter is read, and a role has its places:

| role | where it is read |
|---|---|
| embeddings | in front of the first branch |
| gain and bias of a block's norm | in a branch, in front of its first maps or inside, where a norm is |
| query, key; gains of their norms | as maps whose output makes the scores; between these and the scores |
| value, inputs and gates of MLPs and experts | inside of a branch |
| ends of branches | as the last map of a branch |
| `branch_gain` | behind the last map of a branch |
| gain and bias of the final norm, readout | behind the last branch |

Where the two contradict, sentences tell both. A parameter without a name in the table takes the role
that alone has its place. Nothing is said where the pass shows no residual sums.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from translimit.core import TorchModule
from translimit.describe import NameTable, Role
from translimit.scaling.adapters.branches import Branch, Place, Structure
from translimit.scaling.adapters.matching import matches
from translimit.scaling.adapters.names import Match, bare_name, unnamed
from translimit.scaling.adapters.probe import Example
from translimit.scaling.adapters.structure import structure_of
from translimit.scaling.adapters.tables import Names, table_of
from translimit.scaling.errors import AmbiguousRuleError

#: Of one tensor with both.
QK = (Role.QUERY, Role.KEY)
_BEFORE_MAPS = frozenset({Place.ENTRY, Place.INNER})
_PLACES: dict[Role, frozenset[Place]] = {
    **dict.fromkeys(
        (Role.TOKEN_EMBEDDING, Role.PATCH_EMBEDDING, Role.POSITION_EMBEDDING),
        frozenset({Place.EMBEDDING}),
    ),
    **dict.fromkeys((Role.BLOCK_NORM_GAIN, Role.BLOCK_NORM_BIAS), _BEFORE_MAPS),
    **dict.fromkeys((Role.QUERY, Role.KEY), frozenset({Place.SCORE_MAP})),
    **dict.fromkeys(
        (Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN, Role.QK_GAIN, Role.QK_GAIN_SHARED),
        frozenset({Place.SCORES}),
    ),
    **dict.fromkeys(
        (Role.VALUE, Role.MLP_IN, Role.MLP_GATE, Role.EXPERT_IN), frozenset({Place.INNER})
    ),
    **dict.fromkeys(
        (Role.ATTENTION_OUT, Role.MLP_OUT, Role.EXPERT_OUT), frozenset({Place.END_MAP})
    ),
    Role.BRANCH_GAIN: frozenset({Place.END}),
    **dict.fromkeys((Role.FINAL_NORM_GAIN, Role.FINAL_NORM_BIAS), frozenset({Place.FINAL})),
    Role.READOUT: frozenset({Place.READOUT}),
}
#: What a parameter that multiplies is, at places that only one role has.
_GAINS = {
    Place.ENTRY: Role.BLOCK_NORM_GAIN,
    Place.END: Role.BRANCH_GAIN,
    Place.FINAL: Role.FINAL_NORM_GAIN,
}


@dataclass(frozen=True)
class Contradiction:
    """A parameter whose name and whose place say two things.

    Attributes:
        parameter: its name, with `*` for numbers where several are alike.
        names: all of them.
        role: by its name.
        sentence: both, for people.
        remedy: what to do.
    """

    parameter: str
    names: tuple[str, ...]
    role: Role
    sentence: str
    remedy: str


@dataclass(frozen=True)
class Placed:
    """Roles by names and, where names say nothing, by structure.

    Attributes:
        found: what is known of every parameter.
        filled: the roles that the structure gave, by name.
        structure: of the module.
        contradictions: where the two differ.
    """

    found: Mapping[str, Match]
    filled: Mapping[str, Role]
    structure: Structure
    contradictions: tuple[Contradiction, ...]

    @property
    def facts(self) -> dict[str, bool]:
        """What `rules_for(..., seen=)` takes: the options of rules that a module decides."""
        branches, places = self.structure.branches, self.structure.places.values()
        gains = any(match.role is Role.BRANCH_GAIN for match in self.found.values())
        return {
            "branch_gain": gains or any(one.ends_in_norm for one in branches),
            "qk_norm": any(one.normed_scores for one in branches),
            "packed_qkv": any({*QK} <= {*match.parts} for match in self.found.values()),
            "tied": any({Place.EMBEDDING, Place.READOUT} <= one for one in places),
        }


def placed(model: TorchModule, names: Names, example: Example) -> Placed:
    """Roles of all parameters, with one forward pass beside the names.

    Args:
        model: any module; it stays as it is.
        names: a family, a table, or `{pattern: role}` beside the module's own table.
        example: an input of the module, or a function that runs it.

    Raises:
        UnmatchedParameterError: parameters for which neither a name nor a place gives one role.
        AmbiguousRuleError: two roles of one parameter.
    """
    structure, table = structure_of(model, example), table_of(model, names)
    told = {
        name: role
        for name in unnamed(table, [name for name, _ in model.named_parameters()])
        if (role := role_of_place(structure, bare_name(name))) is not None
    }
    patterns = {f"^{bare_name(name)}": role for name, role in told.items()}
    found = matches(model, table.extended(patterns) if patterns else table)
    return Placed(found, told, structure, contradictions(structure, found))


def role_of_place(structure: Structure, name: str) -> Role | None:
    """The role that alone has the place of a parameter, or None.

    Args:
        structure: of the module.
        name: of the parameter.
    """
    places = structure.places.get(name, frozenset())
    if len(places) != 1:
        return None
    (place,) = places
    if name in structure.gains:
        branch = _branch_of(structure, name)
        if place is Place.ENTRY and (branch is None or not branch.reads_norm):
            return None
        return None if place is Place.FINAL and not structure.final_norm else _GAINS.get(place)
    ends = [branch for branch in structure.branches if name in branch.ends]
    if place is Place.END_MAP and ends and not ends[0].parallel:
        return Role.ATTENTION_OUT if ends[0].attention else Role.MLP_OUT
    return None


def contradictions(structure: Structure, found: Mapping[str, Match]) -> tuple[Contradiction, ...]:
    """Where names and structure say two things; those of several blocks are one.

    Args:
        structure: of the module.
        found: roles by names.
    """
    if not structure.branches:
        return ()
    made: dict[tuple[str, str], list[str]] = {}
    for name, match in found.items():
        said = _contradicts(structure, bare_name(name), match)
        if said is not None:
            template = re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", bare_name(name))
            made.setdefault((template, said), []).append(name)
    return tuple(
        _told(structure, found, template, said, those) for (template, said), those in made.items()
    )


def sentences_of(told: Placed, table: NameTable) -> list[str]:
    """What a report says of the roles that one pass gave, and of what it did not see.

    Args:
        told: roles by names and structure.
        table: of the names.

    Raises:
        AmbiguousRuleError: names of a table that contradict the structure; those that the user
            gave are told and kept.
    """
    said = list[str]()
    for one in told.contradictions:
        own = all(told.found[name].pattern in table.strict for name in one.names)
        if not own:
            raise AmbiguousRuleError("names", one.sentence, one.remedy)
        said.append(f"{one.sentence}: the name counts")
    by_role: dict[Role, list[str]] = {}
    for name, role in told.filled.items():
        by_role.setdefault(role, []).append(name)
    for role, names in by_role.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        said.append(f"{names[0]}{more} is a {role.value} by its place in a forward pass")
    if not told.structure.branches:
        said.append("the forward pass shows no residual sums: roles are by names alone")
    for module in told.structure.never_called:
        said.append(f"{module} is not called in a forward pass, and nothing reads its parameters")
    return said


def _contradicts(structure: Structure, name: str, match: Match) -> str | None:
    """What a place says against a role, or None."""
    places, role = structure.places.get(name, frozenset()), match.role
    allowed = _PLACES.get(role)
    if not places or allowed is None or places == {Place.NOWHERE}:
        return None
    if not places & allowed:
        return "is read " + ", and ".join(sorted(place.in_words for place in places))
    branch = _branch_of(structure, name)
    if role is Role.BLOCK_NORM_GAIN and branch is not None and not branch.reads_norm:
        return "multiplies what no norm of its branch has made free of scale"
    if role is Role.FINAL_NORM_GAIN and not structure.final_norm:
        return "multiplies what no norm has made free of scale"
    return None


def _told(
    structure: Structure, found: Mapping[str, Match], template: str, said: str, those: list[str]
) -> Contradiction:
    role = found[those[0]].role
    more = f" (and {len(those) - 1} more)" if len(those) > 1 else ""
    right = role_of_place(structure, bare_name(those[0]))
    if right is not None and right is not role:
        remedy = f"pass names={{{template!r}: {right.value!r}}}, or the role that it has"
    else:
        remedy = f"pass names={{{template!r}: the role that it has}}; 'unscaled' where none is"
    sentence = f"{those[0]}{more} is a {role.value} by its name, and {said}"
    return Contradiction(template, tuple(those), role, sentence, remedy)


def _branch_of(structure: Structure, name: str) -> Branch | None:
    """The branch in front of whose maps a gain is."""
    return next((one for one in structure.branches if name in one.gains), None)
