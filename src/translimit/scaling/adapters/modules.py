"""What a module of PyTorch must be for the rules to fit: shapes, ties, packing, score scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from translimit.core import TorchModule, TorchTensors
from translimit.describe import Axis, NameTable, Role, Size
from translimit.scaling.adapters.matching import attention_modules
from translimit.scaling.adapters.names import Match
from translimit.scaling.adapters.tables import facts_of_model, unwrapped
from translimit.scaling.engine import Rules
from translimit.scaling.errors import ShapeMismatchError, UnsupportedModuleError

#: Facts of a configuration that are options of the rules, and what each means in words.
_FACTS = {
    "branch_gain": "ends its branches in gains, of norms or of their own, which take the factor",
    "scaled_embedding": "multiplies its embedding by the root of the width",
    "normalised_gates": "has gates of experts that sum to a constant",
}


def require_fit(
    model: TorchModule, found: Mapping[str, Match], parameters: TorchTensors, rules: Rules
) -> None:
    """Refuse a module that is not the target, or has no place for the rules.

    Raises:
        ShapeMismatchError: another width, depth, number of heads, or hidden width.
        UnsupportedModuleError: multipliers that the module does not have; tied embeddings, or a
            norm at the end of branches, that the rules do not know of; one tensor that would need
            several rates.
    """
    rules.require_plain_module()
    _require_ties(found, model, rules)
    _require_facts(found, model, rules)
    together = any(match.packed and Role.QUERY in match.parts for match in found.values())
    if together and not rules.question.packed_qkv:
        Rules(replace(rules.question, packed_qkv=True))  # refuses what one tensor cannot take
    _require_shapes(found, parameters, rules.question.target)
    _require_heads(model, rules.question.target)


def _require_ties(found: Mapping[str, Match], model: TorchModule, rules: Rules) -> None:
    named = dict(model.named_parameters(remove_duplicate=False))
    ends = {
        role: {id(named[name]) for name, match in found.items() if match.role is role}
        for role in (Role.TOKEN_EMBEDDING, Role.READOUT)
    }
    tied = bool(ends[Role.TOKEN_EMBEDDING] & ends[Role.READOUT])
    if tied != rules.question.tied and (tied or ends[Role.READOUT]):
        says, other = ("one tensor", "two") if tied else ("two tensors", "one")
        raise UnsupportedModuleError(
            "tied",
            f"token embedding and readout are {says} in the module and {other} in the rules",
            f"pass tied={tied} to the rules",
        )
    gain = any(match.role is Role.FINAL_NORM_GAIN for match in found.values())
    if tied and not gain:  # what `rules` refuses with final_norm_gain=False
        Rules(replace(rules.question, final_norm_gain=False))


def _require_facts(found: Mapping[str, Match], model: TorchModule, rules: Rules) -> None:
    """Refuse rules that were asked for another kind of module than its configuration says."""
    told = facts_of_model(model)
    told |= {"branch_gain": True} if _has(found, Role.BRANCH_GAIN) else {}
    for name, value in told.items():
        if getattr(rules.question, name) is not value:
            raise UnsupportedModuleError(
                name,
                f"is {getattr(rules.question, name)} in the rules, and the module "
                f"{_FACTS[name] if value else 'does not have it'}",
                f"pass {name}={value} to the rules, or ask `rules_for` with configurations",
            )
    if rules.question.branch_gain and not _has(found, Role.BRANCH_GAIN):
        raise UnsupportedModuleError(
            "branch_gain",
            "no parameter is a branch_gain, so that the factor of the branches has no place",
            "name the gains in names={pattern: 'branch_gain'}, or ask for rules without it",
        )
    if _has(found, Role.ROUTER) and rules.question.target.experts is None:
        raise ShapeMismatchError(
            "experts",
            "are in the module and not in the sizes",
            "pass Size(..., experts=, active_experts=)",
        )


def _has(found: Mapping[str, Match], role: Role) -> bool:
    return any(match.role is role for match in found.values())


def _require_shapes(found: Mapping[str, Match], parameters: TorchTensors, size: Size) -> None:
    layers = sum(found[name].role is Role.ATTENTION_OUT for name in parameters)
    if layers != size.layers:
        raise ShapeMismatchError(
            "target",
            f"has {size.layers} layers, and the module has {layers}",
            f"pass the sizes of this module as the target (now {size})",
        )
    for name, tensor in parameters.items():
        wanted, shape = _shape(found[name], size), tuple(tensor.shape)
        if size.experts is not None and not found[name].role.is_routed:
            wanted = _of_any_units(found[name], wanted)
        if wanted is None or len(wanted) > len(shape):
            continue
        if len(wanted) == 2:
            shape = (shape[0], shape[-1])
        if found[name].role.is_routed:
            shape = tuple(tensor.shape)[-len(wanted) :]
        if found[name].role is Role.READOUT:
            shape = _of_one_token(found[name], wanted, shape)
        if not _fits(wanted, shape):
            turned = _fits(wanted, shape[::-1])
            if turned and found[name].role.is_routed:
                continue  # experts are stored in both ways
            told = " x ".join("any" if want is None else str(want) for want in wanted)
            raise ShapeMismatchError(
                name,
                f"has shape {tuple(tensor.shape)}, and a {found[name].role} of the target has "
                f"{told}" + (": it is stored the other way round" if turned else ""),
                "pass a NameTable whose `transposed` has its pattern (like Conv1D) or has not "
                "(like Linear)"
                if turned
                else f"pass the sizes of this module as the target (now {size})",
            )


def _of_any_units(
    match: Match, wanted: tuple[int | None, ...] | None
) -> tuple[int | None, ...] | None:
    """Beside experts an MLP, of the first layers or shared, may have hidden units of its own."""
    role = match.role
    if wanted is None or Axis.HIDDEN not in (role.fan_in, role.fan_out):
        return wanted
    if len(wanted) == 1:
        return None
    rows = role.fan_out is Axis.HIDDEN
    return (None, wanted[1]) if rows is not match.transposed else (wanted[0], None)


def _of_one_token(
    match: Match, wanted: tuple[int | None, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """A readout may read several tokens side by side, as DINOv2's class token and their mean."""
    axis = 0 if match.transposed else 1
    width = wanted[axis]
    if width is None or shape[axis] % width:
        return shape
    return (width, shape[1]) if match.transposed else (shape[0], width)


def _fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return all(want in (None, have) for want, have in zip(wanted, shape, strict=False))


def _shape(match: Match, size: Size) -> tuple[int | None, ...] | None:
    """First and last axis as the target has them; None for an axis that is not scaled."""
    role = match.role
    if role in (Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN, Role.QK_GAIN, Role.SHAPED_GAIN):
        return None
    if role is Role.UNSCALED or role.is_factor:
        return None
    if role is Role.ROUTER and size.experts is not None:
        return (None, size.width)
    n_out = sum(round(part.fan_out.length(size)) for part in match.parts)
    if role is Role.KEY_VALUE_DOWN:
        n_out += size.rope_dim or 0  # rows of keys that turn
    if role.is_gain or role.is_bias:
        return None if role.fan_out is Axis.FIXED else (n_out,)
    if role in (Role.TOKEN_EMBEDDING, Role.POSITION_EMBEDDING):
        return (None, size.width)
    if role is Role.VALUE_EMBEDDING:
        return (None, n_out)
    if role is Role.NARROW_HEAD_GATE:
        return (None, n_out) if match.transposed else (n_out, None)
    if role is Role.PATCH_EMBEDDING:
        return (size.width, None)
    shape = (None if role.fan_out is Axis.FIXED else n_out, round(role.fan_in.length(size)))
    return shape[::-1] if match.transposed else shape


def _require_heads(model: TorchModule, size: Size) -> None:
    config = getattr(unwrapped(model), "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if isinstance(heads, int) and heads != size.heads:
        raise ShapeMismatchError(
            "target",
            f"has {size.heads} heads, and the module has {heads}",
            f"pass the sizes of this module as the target (now {size})",
        )


def scales_of(
    model: TorchModule, table: NameTable, found: Mapping[str, Match], rules: Rules
) -> dict[str, tuple[TorchModule, str, float]]:
    """The modules that hold the score scale: name to module, attribute and value there.

    Modules inside of one of attention that have the same number by a name of the table, as the
    one that x-transformers calls `attend`, are set with it. Empty where nothing need be set.

    Raises:
        UnsupportedModuleError: no attribute, or one with another scale than N^{-1/2}.
    """
    modules = dict(model.named_modules())
    size, wanted = rules.question.target, rules.score_scale
    usual = size.head_dim**-0.5
    made: dict[str, tuple[TorchModule, str, float]] = {}
    names = attention_modules(table, dict(found), list(modules))
    for name in names:
        module = modules[name]
        _require_head_dim(name, module, size)
        attribute = next((one for one in table.score_scale if _is_number(module, one)), None)
        if attribute is None:
            if math.isclose(wanted, usual, rel_tol=1e-12):
                continue
            raise _no_scale(name, module, rules)
        now = float(getattr(module, attribute))
        told = rules.question.base_score_scale is not None
        if not told and not any(math.isclose(now, one, rel_tol=1e-6) for one in (usual, wanted)):
            raise UnsupportedModuleError(
                f"{name}.{attribute}",
                f"is {now:g}, not head_dim^(-1/2) = {usual:g}",
                "pass the scale of the base as base_score_scale= to the rules; a scale that "
                "differs by layer (scale_attn_by_inverse_layer_idx) is not supported",
            )
        made[name] = (module, attribute, now)
        for inner, part in module.named_modules():
            own = next((one for one in table.score_scale if _is_number(part, one)), None)
            if inner and own and math.isclose(float(getattr(part, own)), now, rel_tol=1e-9):
                made[f"{name}.{inner}"] = (part, own, now)
    if len(names) < size.layers and not math.isclose(wanted, usual, rel_tol=1e-12):
        raise UnsupportedModuleError(
            "names",
            f"found modules of attention in {len(names)} of {size.layers} layers",
            "pass a NameTable with attention=(pattern,)",
        )
    return made


def _is_number(module: TorchModule, attribute: str) -> bool:
    value = getattr(module, attribute, None)
    return isinstance(value, float | int) and not isinstance(value, bool)


def _require_head_dim(name: str, module: TorchModule, size: Size) -> None:
    for attribute in ("head_dim", "head_size"):
        told = getattr(module, attribute, None)
        if isinstance(told, int) and told != size.head_dim:
            raise ShapeMismatchError(
                name,
                f"has heads of {told}, and the target of {size.head_dim}",
                f"pass the sizes of this module as the target (now {size})",
            )


def _no_scale(name: str, module: TorchModule, rules: Rules) -> UnsupportedModuleError:
    size, base = rules.question.target, rules.question.base
    if type(module).__name__ == "MultiheadAttention":
        return UnsupportedModuleError(
            name,
            "torch.nn.MultiheadAttention fixes its scores at head_dim^(-1/2) and packs query, key "
            f"and value, which needs the head dimension of the base, {base.head_dim} (the target "
            f"has {size.head_dim})",
            "split it into three torch.nn.Linear with scaled_dot_product_attention(..., "
            "scale=self.scaling), or scale heads instead of the head dimension",
        )
    return UnsupportedModuleError(
        name,
        f"has no number `scaling`, `scale` or `softmax_scale`, and the scores need "
        f"{rules.score_scale:g} instead of head_dim^(-1/2) = {size.head_dim**-0.5:g}",
        "read the scale from such an attribute, pass fold_scores=True to the rules, which "
        "needs a query projection of its own, or scores_set=True where the constructor has set it",
    )
