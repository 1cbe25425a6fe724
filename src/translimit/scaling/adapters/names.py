"""From the names of parameters to their roles by a name table, every parameter exactly once.

A pattern matches the end of a name; one that begins with `^` matches a whole name, from the root.
Of the patterns that match, those of the user count before the table's, and of these the anchored
ones before the others. What stands outside of blocks is no part of a numbered one: the plain table
takes `head.weight` and `decoder.head.weight`, and not `blocks.0.head.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from translimit.describe import NameTable, Role
from translimit.scaling.errors import AmbiguousRuleError, UnmatchedParameterError

#: What torch.compile, FSDP and activation checkpointing put into names, and DDP before them.
WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

#: How many names an error lists.
LISTED = 12


@dataclass(frozen=True)
class Match:
    """What a name table says about one parameter.

    Attributes:
        role: of the parameter; of a packed one, the first of its parts.
        parts: the roles of a tensor that holds query, key and value, or gate and input of a gated
            block; one role otherwise.
        transposed: a matrix stored (in, out), unlike `torch.nn.Linear`.
        pattern: what matched.
    """

    role: Role
    parts: tuple[Role, ...]
    transposed: bool
    pattern: str

    @property
    def packed(self) -> bool:
        """Whether the tensor holds several roles."""
        return len(self.parts) > 1


def unnamed(table: NameTable, names: Iterable[str]) -> list[str]:
    """The names for which a table has no pattern, in their order.

    Args:
        table: of the module.
        names: of parameters.
    """
    return [name for name in names if not _hits(table, bare_name(name))]


def _hits(table: NameTable, plain: str) -> dict[str, Role | tuple[Role, ...]]:
    """The patterns of a name that count, with their roles."""
    hits = {p: r for p, r in table.roles.items() if _compiled(p).search(plain)}
    # What the user adds stands above what the family has.
    hits = {p: r for p, r in hits.items() if p in table.strict} or hits
    hits = {p: r for p, r in hits.items() if p.startswith("^")} or hits
    if table.by_number and any(part.isdigit() for part in plain.split(".")):
        hits = {p: r for p, r in hits.items() if p in table.strict or _in_block(r)}
    return hits


def match_names(table: NameTable, names: Iterable[str]) -> dict[str, Match]:
    """Every name with what the table says about it.

    Raises:
        UnmatchedParameterError: names without a pattern, or patterns of the user without a
            name; the message lists them.
        AmbiguousRuleError: a name that patterns give different roles.
    """
    found: dict[str, Match] = {}
    unmatched, used, listed = [], set(), list(names)
    for name in listed:
        plain = bare_name(name)
        hits = _hits(table, plain)
        used |= hits.keys()
        if len(set(hits.values())) > 1:
            told = ", ".join(f"{p} -> {_text(r)}" for p, r in hits.items())
            raise AmbiguousRuleError("names", f"{name} has two roles: {told}", "keep one")
        if not hits:
            unmatched.append(name)
            continue
        pattern, role = next(iter(hits.items()))
        parts = role if isinstance(role, tuple) else (role,)
        transposed = any(_compiled(p).search(plain) for p in table.transposed)
        found[name] = Match(parts[0], parts, transposed, pattern)
    if any(name.endswith("_flat_param") for name in unmatched):
        raise UnmatchedParameterError(
            "names", "FSDP has flattened the parameters", "use FSDP with use_orig_params=True"
        )
    if unmatched:
        raise UnmatchedParameterError(
            "names",
            f"the table {table.family!r} has no role for {len(unmatched)} of {len(listed)} "
            f"parameters: {_some(unmatched)}",
            "pass names={pattern: role} for them, for example "
            f"{{{_pattern_for(unmatched[0])!r}: {_guess(unmatched[0])!r}}}, with the role that it "
            "has; there are roles for factors, gates of heads and embeddings of values, and "
            f"'unscaled' keeps the numbers of the base for what no role is for{table.remark}",
        )
    if idle := sorted(table.strict - used):
        raise UnmatchedParameterError(
            "names",
            f"no parameter matches: {_some(idle)}",
            "take names from model.named_parameters()",
        )
    return found


def bare_name(name: str) -> str:
    """A name without what torch.compile, DDP, FSDP and checkpointing put into it.

    >>> bare_name("module._orig_mod.h.0._fsdp_wrapped_module.ln_1.weight")
    'h.0.ln_1.weight'
    """
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":
        del parts[0]
    return ".".join(parts)


def matching(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names that end with one of the patterns, in their order."""
    compiled = [_compiled(pattern) for pattern in patterns]
    return [name for name in names if any(one.search(bare_name(name)) for one in compiled)]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    def part(text: str) -> str:
        pieces = re.split(r"(\*|\{[^}]*\})", text)
        made = ""
        for piece in pieces:
            if piece == "*":
                made += r"[^.]+"
            elif piece.startswith("{"):
                made += "(?:" + "|".join(map(re.escape, piece[1:-1].split(","))) + ")"
            else:
                made += re.escape(piece)
        return made

    begin = "^" if pattern.startswith("^") else r"(?:^|\.)"
    return re.compile(begin + part(pattern.removeprefix("^")) + "$")


def _pattern_for(name: str) -> str:
    """A pattern that covers the name in every block."""
    parts = bare_name(name).split(".")
    return ".".join("*" if part.isdigit() else part for part in parts[-4:])


#: Parts of names, and the role that a parameter with one probably has.
_GUESSES = {
    r"x0_lambdas?|skip_weight": Role.SKIP_FACTOR,
    r"sa_lambdas?|value_lambdas?|v_lambdas?": Role.BLOCK_FACTOR,
    r"resid_lambdas?|lambdas": Role.STREAM_FACTOR,
    r"attn_gate": Role.NARROW_HEAD_GATE,
    r"\bve\b|value_emb": Role.VALUE_EMBEDDING,
    r"scalar|ve_gate|smear": Role.UNSCALED,
    r"router|\.gate\.wg|mlp\.gate\.": Role.ROUTER,
    r"experts?\..*(down|w2|out)": Role.EXPERT_OUT,
    r"experts?\.": Role.EXPERT_IN,
    r"q_norm|q_ln|query_norm|q_layernorm": Role.QUERY_NORM_GAIN,
    r"k_norm|k_ln|key_norm|k_layernorm": Role.KEY_NORM_GAIN,
    r"gamma|layer_?scale|lambda": Role.BRANCH_GAIN,
    r"\d.*(norm|ln)": Role.BLOCK_NORM_GAIN,
    r"norm|ln_": Role.FINAL_NORM_GAIN,
    r"pos|cls|register": Role.POSITION_EMBEDDING,
    r"patch": Role.PATCH_EMBEDDING,
    r"emb|wte|vocab": Role.TOKEN_EMBEDDING,
    r"\d.*(qkv|q_proj|query|wq|\bq\b|c_attn|in_proj)": Role.QUERY,
    r"\d.*(k_proj|key|wk|\bk\b)": Role.KEY,
    r"\d.*(v_proj|value|wv|\bv\b)": Role.VALUE,
    r"\d.*(attn|attention).*(proj|out|o_proj|wo|dense)|\d.*(to_out|\bwo\b)": Role.ATTENTION_OUT,
    r"\d.*gate": Role.MLP_GATE,
    r"\d.*(down|fc2|w2|c_proj|linear2|proj2)": Role.MLP_OUT,
    r"\d": Role.MLP_IN,
    r".": Role.READOUT,
}


def _guess(name: str) -> str:
    """The role that a name suggests, for the example of a message."""
    plain = bare_name(name)
    owner = plain.rpartition(".")[0] or plain
    role = next(r for pattern, r in _GUESSES.items() if re.search(pattern, owner + "."))
    if not plain.endswith("bias"):
        return role.value
    stem = role.value.removesuffix("_gain")
    return next((one.value for one in Role if one.value == f"{stem}_bias"), role.value)


def _in_block(role: Role | tuple[Role, ...]) -> bool:
    return (role[0] if isinstance(role, tuple) else role).in_block


def _text(role: Role | tuple[Role, ...]) -> str:
    return " + ".join(role) if isinstance(role, tuple) else role.value


def _some(names: list[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
