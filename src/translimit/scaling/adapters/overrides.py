"""The rules as a table of overrides for Megatron-LM and torchtitan, which own their training loop.

Megatron-LM matches names by `ParamKey(name=glob)`, merges what all matching keys say, and takes
`max_lr`, `min_lr`, `eps` and `wd_mult`. torchtitan matches names by
`ParamGroupConfig(pattern=regex)`, where the first pattern counts, and takes `optimizer_kwargs`.
Their own rules for width know no heads and no depth: these rows do. Starts and the score scale
are settings of the model there, and stand in the table as ratios and as a number.

Reference: Megatron-LM, `megatron/core/optimizer`; torchtitan, `torchtitan/components/optimizer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, assert_never

from translimit.core import ArgumentError, Json, JsonObject, brief, nearest, require_real
from translimit.describe import OPTIMIZERS, QKV, QKV_BIAS, OptimizerKind, Role
from translimit.scaling.engine import Rules
from translimit.scaling.errors import UnsupportedModuleError

KIND = "translimit.scaling.overrides"
SCHEMA = 2

Framework = Literal["megatron", "torchtitan"]

_IN_BLOCK = "*decoder.layers.*."
#: Globs of Megatron core's GPTModel, with and without Transformer Engine. Every pair is disjoint:
#: Megatron refuses a parameter that two keys give different values.
_MEGATRON: dict[tuple[str, ...], tuple[Role, ...]] = {
    ("*embedding.word_embeddings.weight",): (Role.TOKEN_EMBEDDING,),
    ("*embedding.position_embeddings.weight",): (Role.POSITION_EMBEDDING,),
    (
        f"{_IN_BLOCK}input_layernorm.weight",
        f"{_IN_BLOCK}pre_mlp_layernorm.weight",
        f"{_IN_BLOCK}linear_qkv.layer_norm_weight",
        f"{_IN_BLOCK}linear_fc1.layer_norm_weight",
    ): (Role.BLOCK_NORM_GAIN,),
    (
        f"{_IN_BLOCK}input_layernorm.bias",
        f"{_IN_BLOCK}pre_mlp_layernorm.bias",
        f"{_IN_BLOCK}linear_qkv.layer_norm_bias",
        f"{_IN_BLOCK}linear_fc1.layer_norm_bias",
    ): (Role.BLOCK_NORM_BIAS,),
    (f"{_IN_BLOCK}self_attention.linear_qkv.weight",): QKV,
    (f"{_IN_BLOCK}self_attention.linear_qkv.bias",): QKV_BIAS,
    (f"{_IN_BLOCK}self_attention.linear_proj.weight",): (Role.ATTENTION_OUT,),
    (f"{_IN_BLOCK}self_attention.linear_proj.bias",): (Role.ATTENTION_OUT_BIAS,),
    (f"{_IN_BLOCK}mlp.linear_fc1.weight",): (Role.MLP_IN, Role.MLP_GATE),
    (f"{_IN_BLOCK}mlp.linear_fc1.bias",): (Role.MLP_IN_BIAS, Role.MLP_GATE_BIAS),
    (f"{_IN_BLOCK}mlp.linear_fc2.weight",): (Role.MLP_OUT,),
    (f"{_IN_BLOCK}mlp.linear_fc2.bias",): (Role.MLP_OUT_BIAS,),
    ("*decoder.final_layernorm.weight",): (Role.FINAL_NORM_GAIN,),
    ("*decoder.final_layernorm.bias",): (Role.FINAL_NORM_BIAS,),
    ("*output_layer.weight",): (Role.READOUT,),
}

#: Regular expressions for torchtitan's Llama 3, which has no biases.
_TORCHTITAN: dict[tuple[str, ...], tuple[Role, ...]] = {
    (r"(^|\.)tok_embeddings\.weight$",): (Role.TOKEN_EMBEDDING,),
    (r"(^|\.)(attention_norm|ffn_norm)\.weight$",): (Role.BLOCK_NORM_GAIN,),
    (r"\.attention\.(.*\.)?wq\.weight$",): (Role.QUERY,),
    (r"\.attention\.(.*\.)?wk\.weight$",): (Role.KEY,),
    (r"\.attention\.(.*\.)?wv\.weight$",): (Role.VALUE,),
    (r"\.attention\.(.*\.)?wo\.weight$",): (Role.ATTENTION_OUT,),
    (r"\.feed_forward\.w1\.weight$",): (Role.MLP_GATE,),
    (r"\.feed_forward\.w3\.weight$",): (Role.MLP_IN,),
    (r"\.feed_forward\.w2\.weight$",): (Role.MLP_OUT,),
    (r"(^|\.)norm\.weight$",): (Role.FINAL_NORM_GAIN,),
    (r"(^|\.)(output|lm_head)\.weight$",): (Role.READOUT,),
}

_TABLES = {"megatron": _MEGATRON, "torchtitan": _TORCHTITAN}


def overrides(
    rules: Rules,
    framework: Framework,
    *,
    lr: float,
    min_lr: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    names: Mapping[str, Role | str] | None = None,
) -> dict[str, Json]:
    """The table of a framework: every pattern with what its parameters take, as plain data.

    Args:
        rules: in folded style.
        framework: `megatron` or `torchtitan`.
        lr: largest rate of the schedule, tuned at the base.
        min_lr: smallest rate of the schedule, at the base (Megatron-LM).
        eps: of Adam, at the base.
        weight_decay: at the base; gains and biases have none.
        betas: of Adam (torchtitan, whose groups are complete in themselves).
        names: `{pattern: role}` of a model with other names, instead of the table here; globs
            for Megatron-LM, regular expressions for torchtitan.

    Returns:
        `overrides`, a row a pattern, with `take` for the framework and the ratios behind it;
        `model`, what is set elsewhere; the rules themselves.

    Raises:
        ArgumentError: no such framework, or an optimiser that it does not have.
        UnsupportedModuleError: a style that needs multipliers, one packed tensor that needs
            several rates, or tied embeddings in torchtitan, whose Llama 3 has two tensors.

    Equation: take = (lr r_lr, eps r_eps, weight_decay r_wd), as in every adapter.
    """
    if framework not in _TABLES:
        known = tuple(_TABLES)
        raise ArgumentError("framework", f"got {brief(framework)}", nearest(str(framework), known))
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
    table: Mapping[tuple[str, ...], tuple[Role, ...]] = _TABLES[framework]
    if names is not None:
        table = {(pattern,): (Role(role),) for pattern, role in names.items()}
    elif framework == "megatron" and not rules.question.packed_qkv:
        Rules(replace(rules.question, packed_qkv=True))  # linear_qkv is one tensor
    if rules.question.tied:
        if framework == "torchtitan" and names is None:
            raise UnsupportedModuleError(
                "tied", "torchtitan's Llama 3 has two tensors", "ask for rules with tied=False"
            )
        table = {globs: listed for globs, listed in table.items() if Role.READOUT not in listed}
    rows = []
    for patterns, roles in table.items():
        rule, vector = rules.role(roles[0]), roles[0].is_gain or roles[0].is_bias
        decay = weight_decay * (rule.wd or 0.0) * (not vector)
        ratios = {"init": rule.init, "lr": rule.lr, "eps": rule.eps, "weight_decay": rule.wd}
        for pattern in patterns:
            if framework == "megatron":
                take: dict[str, Json] = {"max_lr": lr * rule.lr, "min_lr": min_lr * rule.lr}
                take["wd_mult"] = 0.0 if vector or rule.wd is None else rule.wd
            else:
                take = {"lr": lr * rule.lr, "betas": list(betas), "weight_decay": decay}
            if rule.eps is not None:
                take["eps"] = eps * rule.eps
            listed = [role.value for role in roles]
            rows.append({"pattern": pattern, "roles": listed, "take": take, "ratios": ratios})
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "framework": framework,
        "optimizer": optimizer,
        "base_values": {"lr": lr, "min_lr": min_lr, "eps": eps, "weight_decay": weight_decay},
        "model": {
            "score_scale": rules.score_scale,
            "init_ratios": {
                "embeddings": rules.role(Role.TOKEN_EMBEDDING).init,
                "hidden_matrices": rules.role(Role.QUERY).init,
                "ends_of_branches": rules.role(Role.ATTENTION_OUT).init,
                "readout": rules.role(Role.READOUT).init,
                "final_norm_gain": rules.role(Role.FINAL_NORM_GAIN).init,
            },
        },
        "overrides": rows,
        "rules": rules.to_json(),
    }


def _name_of(kind: OptimizerKind, framework: Framework) -> str | None:
    """What the framework calls an optimiser; None where the export does not cover it."""
    match framework:
        case "megatron":
            return kind.megatron
        case "torchtitan":
            return kind.torchtitan
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
