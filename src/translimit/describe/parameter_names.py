"""The names of parameters in a family of modules: patterns, each with the role it stands for.

A pattern is a dotted path whose `*` stands for one part; it matches a name that ends with it:
`h.*.ln_1.weight` matches `transformer.h.11.ln_1.weight`. `{q,k}` stands for either, and a `^` at
the beginning for the root: `^head.weight` matches no other name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe.roles import Role, unknown_role

#: The roles that one packed tensor has, first the one that `roles` gives it.
QKV = (Role.QUERY, Role.KEY, Role.VALUE)
QKV_BIAS = (Role.QUERY_BIAS, Role.KEY_BIAS, Role.VALUE_BIAS)

#: What modules call the number that multiplies q . k.
SCALE_ATTRIBUTES = ("scaling", "scale", "softmax_scale")


@dataclass(frozen=True)
class NameTable:
    """The names of one family of modules.

    Attributes:
        family: its name.
        roles: pattern of parameters to role, or to the roles of one packed tensor.
        transposed: patterns of matrices stored (in, out).
        attention: patterns of the modules that hold the score scale; without any, the modules
            above query projections.
        score_scale: attributes of these that may hold it, the first that exists counts.
        depth_scaled: the ends of branches are drawn with standard deviation s (2 L)^{-1/2}.
        interleaved: whether a packed tensor of query, key and value goes head by head,
            [heads, (query, key, value), head_dim], instead of part by part.
        gain_offset: added to the gains of norms that are stored; 1 where they begin at zero.
        norm_order: the last parts of the names of a layer's norms in the order of the stream, where
            the module has them in another.
        by_number: roles outside of blocks are not given to names with a number in them.
        strict: every pattern must match a parameter (tables of users).
        remark: what an error about an unmatched name adds.
    """

    family: str
    roles: Mapping[str, Role | tuple[Role, ...]]
    transposed: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    score_scale: tuple[str, ...] = SCALE_ATTRIBUTES
    depth_scaled: bool = False
    interleaved: bool = False
    gain_offset: float = 0.0
    norm_order: tuple[str, ...] = ()
    by_number: bool = False
    strict: frozenset[str] = field(default_factory=frozenset)
    remark: str = ""

    @property
    def packed_qkv(self) -> bool:
        """Whether query, key and value are one tensor."""
        return QKV in self.roles.values()

    def extended(self, names: Mapping[str, Role | str | tuple[Role | str, ...]]) -> NameTable:
        """Another one, in which the given patterns come first.

        Raises:
            ArgumentError: no such role, or an empty pattern.
            ArgumentTypeError: names are no mapping of text.
        """
        own: dict[str, Role | tuple[Role, ...]] = {}
        for pattern, role in names.items():
            if not isinstance(pattern, str):
                raise ArgumentTypeError(
                    "names", f"has the key {pattern!r}", "pass {pattern: role}, patterns as text"
                )
            if not pattern.strip(".^"):
                raise ArgumentError("names", "has an empty pattern", "name a parameter")
            own[pattern] = tuple(map(_role, role)) if isinstance(role, tuple) else _role(role)
        return replace(self, roles={**self.roles, **own}, strict=self.strict.union(own))


def linear_names(pattern: str, role: Role) -> dict[str, Role]:
    """Weight and bias of a linear map of a role.

    >>> linear_names("h.*.mlp.c_fc", Role.MLP_IN)["h.*.mlp.c_fc.bias"].value
    'mlp_in_bias'
    """
    return {f"{pattern}.weight": role, f"{pattern}.bias": Role(f"{role.value}_bias")}


def norm_names(pattern: str, kind: str) -> dict[str, Role]:
    """Gain and bias of a norm, of kind `block`, `final` or `embedding`."""
    return {
        f"{pattern}.weight": Role(f"{kind}_norm_gain"),
        f"{pattern}.bias": Role(f"{kind}_norm_bias"),
    }


#: Readouts of Hugging Face's heads for words and classes.
READOUT_NAMES = {
    "{lm_head,score,classifier}.weight": Role.READOUT,
    "{lm_head,score,classifier}.bias": Role.READOUT_BIAS,
}


def _role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise unknown_role(role) from None
