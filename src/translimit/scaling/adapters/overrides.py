"""The rules as a table of overrides for Megatron-LM, torchtitan, and plain PyTorch.

Megatron-LM matches names by `ParamKey(name=glob)`, merges what all matching keys say, and takes
`max_lr`, `min_lr`, `eps` and `wd_mult`. torchtitan matches names by
`ParamGroupConfig(pattern=regex)`, where the first pattern counts, and takes `optimizer_kwargs`.
Plain PyTorch takes a parameter group for every row, by regular expressions of nanoGPT's names.
Their own rules for width know no heads and no depth: these rows do. Starts and the score scale
are settings of the model there, and stand in the table as ratios and as a number.

Reference: Megatron-LM, `megatron/core/optimizer`; torchtitan, `torchtitan/components/optimizer`.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Json,
    JsonObject,
    brief,
    nearest,
    require_real,
)
from translimit.describe import OPTIMIZERS, QKV, OptimizerKind, Role, Update
from translimit.scaling.adapters.framework_names import (
    FRAMEWORKS,
    Framework,
    Patterns,
    patterns_of,
)
from translimit.scaling.engine import Rules
from translimit.scaling.errors import UnmatchedParameterError, UnsupportedModuleError

KIND = "translimit.scaling.overrides"
SCHEMA = 2

#: Hidden matrices that read no stream and have a start of their own.
_UP = (Role.QUERY_UP, Role.KEY_VALUE_UP)
#: What Megatron-LM calls the shape factors of Muon's updates; it has none for "none".
_MUON_MODES = {
    "original": "shape_scaling",
    "match_rms_adamw": "spectral",
    "unit_rms_norm": "unit_rms_norm",
}


def overrides(
    rules: Rules,
    framework: Framework,
    *,
    lr: float,
    min_lr: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    adam_lr: float | None = None,
    names: Mapping[str, Role | str] | None = None,
    parameters: Iterable[str] | None = None,
) -> dict[str, Json]:
    """The table of a framework: every pattern with what its parameters take, as plain data.

    Args:
        rules: in folded style.
        framework: `megatron`, `torchtitan`, or `pytorch`.
        lr: largest rate of the schedule, tuned at the base.
        min_lr: smallest rate of the schedule, at the base (Megatron-LM).
        eps: of Adam, at the base.
        weight_decay: at the base; gains and biases have none.
        betas: of Adam (torchtitan and PyTorch, whose groups are complete in themselves).
        adam_lr: of the AdamW beside Muon, tuned at the base.
        names: `{pattern: role}` of a model with other names, instead of the table here; globs
            for Megatron-LM, regular expressions elsewhere.
        parameters: names of all parameters of the model, or of a stage of it: rows that match none
            of them are left out, and a parameter without a row is refused.

    Returns:
        `overrides`, a row a pattern, with `take` for the framework and the ratios behind it;
        `model`, what is set elsewhere; the rules themselves.

    Raises:
        ArgumentError: no such framework, or an optimiser that it does not have.
        ArgumentTypeError: Muon without the rate of the AdamW beside it.
        UnmatchedParameterError: parameters without a row.
        UnsupportedModuleError: a style that needs multipliers, one packed tensor that needs
            several rates, tied embeddings in torchtitan, whose Llama 3 has two tensors, or latents
            elsewhere than in Megatron-LM.

    Equation: take = (lr r_lr, eps r_eps, weight_decay r_wd), as in every adapter.
    """
    if framework not in FRAMEWORKS:
        raise ArgumentError(
            "framework", f"got {brief(framework)}", nearest(str(framework), FRAMEWORKS)
        )
    for name, value in (("lr", lr), ("min_lr", min_lr), ("eps", eps), ("decay", weight_decay)):
        require_real(value, name)
    kind = rules.question.kind
    optimizer = _name_of(kind, framework)
    if optimizer is None:
        covered = [name for name, one in OPTIMIZERS.items() if _name_of(one, framework)]
        raise ArgumentError(
            "optimizer",
            f"is {kind.name!r}, and the export to {framework} covers {', '.join(covered)}",
            "ask for rules of one of them",
        )
    rules.require_plain_module()
    if kind.beside is not None and adam_lr is None:
        raise ArgumentTypeError("adam_lr", "is missing", "give the rate of the AdamW beside Muon")
    muon = _muon_mode(rules) if framework == "megatron" else None
    three = {rules.role(role) for role in QKV}
    if names is not None:
        table: Patterns = {(pattern,): (Role(role),) for pattern, role in names.items()}
    else:
        table = patterns_of(framework, rules.question.target, one_rule=len(three) == 1)
    if names is None and framework != "torchtitan" and not rules.question.packed_qkv:
        Rules(replace(rules.question, packed_qkv=True))  # their projection is one tensor
    if rules.question.tied:
        if framework == "torchtitan" and names is None:
            raise UnsupportedModuleError(
                "tied", "torchtitan's Llama 3 has two tensors", "ask for rules with tied=False"
            )
        table = {globs: listed for globs, listed in table.items() if Role.READOUT not in listed}
    given = set(_UP) - rules.question.without_rule
    rows: list[dict[str, Json]] = []
    for patterns, roles in table.items():
        rule, vector = (
            rules.role(roles[0]),
            roles[0].is_gain or roles[0].is_bias or roles[0].is_factor,
        )
        beside = kind.of(roles[0]) is not kind and adam_lr is not None
        rate = adam_lr if beside and adam_lr is not None else lr
        least = min_lr * rate / lr if lr else min_lr
        decay = weight_decay * (rule.wd or 0.0) * (not vector)
        ratios = {"init": rule.init, "lr": rule.lr, "eps": rule.eps, "weight_decay": rule.wd}
        for pattern in patterns:
            if framework == "megatron":
                take: dict[str, Json] = {"max_lr": rate * rule.lr, "min_lr": least * rule.lr}
                take["wd_mult"] = 0.0 if vector or rule.wd is None else rule.wd
            else:
                take = {"lr": rate * rule.lr, "betas": list(betas), "weight_decay": decay}
                if rules.update(roles[0]) is not Update.ADAM:
                    del take["betas"]
            if rule.eps is not None:
                take["eps"] = eps * rule.eps
            listed = [role.value for role in roles]
            rows.append({"pattern": pattern, "roles": listed, "take": take, "ratios": ratios})
    if parameters is not None:
        rows = _rows_of(rows, list(parameters), framework)
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "framework": framework,
        "optimizer": optimizer,
        "base_values": {"lr": lr, "min_lr": min_lr, "eps": eps, "weight_decay": weight_decay},
        "model": {
            "score_scale": rules.score_scale,
            **({} if muon is None else {"muon_scale_mode": muon}),
            "init_ratios": {
                "embeddings": rules.role(Role.TOKEN_EMBEDDING).init,
                "hidden_matrices": rules.role(Role.QUERY).init,
                "ends_of_branches": rules.role(Role.ATTENTION_OUT).init,
                "readout": rules.role(Role.READOUT).init,
                "final_norm_gain": rules.role(Role.FINAL_NORM_GAIN).init,
                **{role.value: rules.role(role).init for role in _UP if role in given},
            },
        },
        "overrides": rows,
        "rules": rules.to_json(),
    }


def _muon_mode(rules: Rules) -> str | None:
    """Megatron's name of the shape factor that the rules divide out; None for another optimiser."""
    if rules.question.kind.update is not Update.ORTHOGONAL:
        return None
    adjust = rules.question.muon_adjust
    if adjust not in _MUON_MODES:
        raise ArgumentError(
            "muon_adjust",
            f"is {adjust!r}, and Megatron-LM has {', '.join(_MUON_MODES.values())}",
            f"ask for rules with one of {', '.join(map(repr, _MUON_MODES))}",
        )
    return _MUON_MODES[adjust]


def _rows_of(
    rows: list[dict[str, Json]], parameters: list[str], framework: Framework
) -> list[dict[str, Json]]:
    """The rows that match a parameter; refuses parameters without one."""

    def hit(row: dict[str, Json], name: str) -> bool:
        pattern = str(row["pattern"])
        if framework == "megatron":
            return fnmatch.fnmatchcase(name, pattern)
        return re.search(pattern, name) is not None

    if bare := [name for name in parameters if not any(hit(row, name) for row in rows)]:
        more = f", and {len(bare) - 5} more" if len(bare) > 5 else ""
        raise UnmatchedParameterError(
            "parameters",
            f"{', '.join(bare[:5])}{more} would train at the rate of the base: no row matches",
            "pass names={pattern: role} for all of them",
        )
    return [row for row in rows if any(hit(row, name) for name in parameters)]


def _name_of(kind: OptimizerKind, framework: Framework) -> str | None:
    """What the framework calls an optimiser; None where the export does not cover it."""
    match framework:
        case "megatron":
            return kind.megatron
        case "torchtitan":
            return kind.torchtitan
        case "pytorch":
            return kind.torch[0] if kind.torch else None
        case _:
            assert_never(framework)


def to_yaml(data: JsonObject) -> str:
    """Plain data as YAML: blocks for mappings and lists, JSON for what stands in them.

    JSON strings and numbers are YAML, but for numbers like 1e-08, which YAML 1.1 reads as text.
    """
    return "\n".join(_lines(data, 0)) + "\n"


def _lines(data: JsonObject | Sequence[Json], depth: int) -> list[str]:
    indent, made = "  " * depth, []
    if isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(value, Mapping | list) and value and not _flat(value):
                made += [f"{indent}{key}:", *_lines(value, depth + 1)]
            else:
                made.append(f"{indent}{key}: {_scalar(value)}")
        return made
    for item in data:
        if isinstance(item, Mapping) and item:
            first, *rest = _lines(item, depth + 1)
            made += [f"{indent}- {first.strip()}", *rest]
        else:
            made.append(f"{indent}- {_scalar(item)}")
    return made


def _flat(value: Json) -> bool:
    return isinstance(value, list) and not any(isinstance(one, Mapping | list) for one in value)


def _scalar(value: Json) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        text = repr(value)
        mantissa, exponent, power = text.partition("e")
        if exponent and "." not in mantissa:
            text = f"{mantissa}.0e{power}"
        return text
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(one) for one in value) + "]"
    return json.dumps(value)
