"""The rules in PyTorch: starts, score scales and parameter groups of an unmodified module.

Nothing is attached to a tensor and no module is replaced, so that deepcopy, state dicts,
torch.compile, DDP and FSDP (with original parameters) see what they always see. What was done is
in a report, plain data, with which groups are built again when training resumes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Json,
    JsonObject,
    MissingExtraError,
    whole_file,
)
from translimit.describe import Role
from translimit.scaling.adapters.foreign import Module, Optimizer, Tensor, Tensors
from translimit.scaling.adapters.matching import matches
from translimit.scaling.adapters.modules import require_fit, scales_of
from translimit.scaling.adapters.names import Match, bare_name
from translimit.scaling.adapters.optimizers import require_class as require_class
from translimit.scaling.adapters.optimizers import require_clip, require_numbers, require_torch
from translimit.scaling.adapters.optimizers import require_ratios as require_ratios
from translimit.scaling.adapters.report import (
    KIND,
    SCHEMA,
    AppliedNumbers,
    AppliedParameter,
    AppliedReport,
    read_report,
)
from translimit.scaling.adapters.starts import Start, base_stds, factors
from translimit.scaling.adapters.tables import Names, table_of, unwrapped
from translimit.scaling.engine import Rules
from translimit.scaling.errors import AlreadyAppliedError


class ParameterGroups(list[dict[str, Any]]):
    """Parameter groups that every optimiser of PyTorch accepts, with the report of how they arose.

    Every group has `params`, `lr`, `weight_decay` (0 where nothing decays), `eps` where the
    update has one, and for reading `names`, `roles`, `lr_ratio` and `update`. Parameters that
    take the same share a group. Betas, momentum and all else stay the optimiser's.

    Attributes:
        report: plain data: the rules, and of every parameter its role, shape, factor and numbers.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], report: AppliedReport):
        super().__init__(groups)
        self.report = report

    def of(self, update: str) -> list[dict[str, Any]]:
        """The groups with one kind of update: `orthogonal` is what Muon takes."""
        return [group for group in self if group["update"] == update]

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, for `apply(..., report=path)` in another process.

        Raises:
            StoreError: the file cannot be written (a full disk is a `DiskFullError`); an old one
                is untouched.
        """
        content = (json.dumps(self.report, indent=1) + "\n").encode()
        with whole_file(Path(path), remedy="name another file", again="save it again") as temporary:
            temporary.write_bytes(content)


def apply(
    model: Module,
    rules: Rules,
    *,
    lr: float,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    adam_lr: float | None = None,
    names: Names = None,
    start: Start = "auto",
    base: Module | None = None,
    seed: int | None = None,
    decay_vectors: bool = False,
    optimizer: Optimizer | type[Optimizer] | None = None,
    clip_tuned_in: str | None = None,
    report: str | Path | AppliedReport | JsonObject | None = None,
    force: bool = False,
) -> ParameterGroups:
    """Start a freshly built target right, and say what its optimiser takes.

    Multiplies every parameter by what its start lacks, sets the score scale through the
    attribute of every attention module, and returns parameter groups. Everything is checked
    before anything is changed. With base == target nothing changes.

    Args:
        model: the target, a `torch.nn.Module` as its constructor drew it; also inside
            torch.compile, DDP or FSDP.
        rules: in folded style, of this size.
        lr: tuned at the base; schedules multiply it.
        eps: of Adam, at the base.
        weight_decay: at the base.
        adam_lr: of the AdamW beside Muon, tuned at the base.
        names: a family, a NameTable, or `{pattern: role}` beside the module's own table.
        start: how the module was drawn: `fixed` (one standard deviation whatever the size),
            `fan_in` (as torch.nn.Linear does), or the base's standard deviations by role;
            by default it is seen from the weights.
        base: a freshly drawn module of the base, from which standard deviations are taken instead.
        seed: draw all random starts again, Gaussian, from this seed.
        decay_vectors: let gains and biases decay too.
        optimizer: the class (or instance) that will train, to have it checked.
        clip_tuned_in: the style in which a clip of the global gradient norm was tuned.
        report: of a first application, or its file: weights stay as they are, scales are set
            and groups built as then.
        force: apply although it was done before.

    Returns:
        groups for the optimiser, with a report.

    Raises:
        UnmatchedParameterError: parameters without a role.
        AmbiguousRuleError: parameters with two.
        UnsupportedModuleError: post-LN; a style that needs multipliers; tied embeddings without
            the fold; a packed projection that needs several rates; no settable score scale.
        ShapeMismatchError: a module of another size than the rules' target.
        AlreadyAppliedError: rules were applied to these weights before.
        DegenerateInitError: matrices at zero that no gradient leaves.
        ConversionError: a clip tuned in another style.
        ArgumentError: weights that do not look freshly drawn, an optimiser of another class, or
            one that PyTorch does not have.
        ConfigError: a report of other rules or another module.
        MissingExtraError: torch is not installed.

    Equation: w <- (s_target / s_now) w, eta = lr r_lr, epsilon = eps r_eps, lambda = wd r_wd.
    """
    require_numbers(lr=lr, eps=eps, weight_decay=weight_decay)
    require_torch(rules)
    if rules.question.kind.beside is not None and adam_lr is None:
        raise ArgumentTypeError("adam_lr", "is missing", "give the rate of the AdamW beside Muon")
    require_clip(rules, clip_tuned_in)
    if optimizer is not None:
        require_class(optimizer, rules)

    table, found = table_of(model, names), matches(model, names)
    parameters = dict(model.named_parameters())
    require_fit(model, found, parameters, rules)
    scales = scales_of(model, table, found, rules)
    if report is None:
        _require_first(parameters, rules, force)
        _require_material(parameters)
        told = None
        if base is not None:
            told = base_stds(matches(base, names), dict(base.named_parameters()))
        scheme, factor = factors(
            table,
            found,
            parameters,
            rules,
            start,
            fixed_std=_fixed_std(model),
            base=told,
        )
        _scale(parameters, found, factor, seed)
    else:
        saved = read_report(report, rules, parameters)
        scheme = str(saved["start"])
        factor = {name: saved["parameters"][bare_name(name)]["factor"] for name in parameters}
    for module, attribute, _ in scales.values():
        setattr(module, attribute, rules.score_scale)
    for tensor in parameters.values():
        _applied()[tensor] = rules.digest

    numbers = {
        name: _numbers(rules, match.role, lr, eps, weight_decay, adam_lr, decay_vectors)
        for name, match in found.items()
        if name in parameters
    }
    made: AppliedReport = {
        "kind": KIND,
        "schema": SCHEMA,
        "rules": rules.to_json(),
        "table": table.family,
        "start": scheme,
        "warnings": [*rules.warnings, *_remarks(parameters)],
        "scales": {
            bare_name(name): {
                "attribute": attribute,
                "before": now if report is None else None,
                "now": rules.score_scale,
            }
            for name, (_, attribute, now) in scales.items()
        },
        "parameters": {
            bare_name(name): _of_parameter(tensor, found[name], factor[name], numbers[name])
            for name, tensor in parameters.items()
        },
    }
    return ParameterGroups(_merged(parameters, found, numbers), made)


def _of_parameter(
    tensor: Tensor, match: Match, factor: float, numbers: AppliedNumbers
) -> AppliedParameter:
    """What the report says of one parameter."""
    told = {
        "role": match.role.value,
        "packed": match.packed,
        "shape": list(tensor.shape),
        "factor": factor,
        "trained": tensor.requires_grad,
    }
    return cast(AppliedParameter, {**told, **numbers})


def preview(model: Module, rules: Rules, *, names: Names = None) -> list[dict[str, Json]]:
    """What `apply` would give every parameter, as ratios target / base; nothing is changed.

    Args:
        model: the target.
        rules: in folded style, of this size.
        names: as in `apply`.

    Returns:
        a row a parameter: `name`, `role`, `shape`, and `init`, `lr`, `eps` and `wd` of its role.

    Raises:
        UnmatchedParameterError: parameters without a role.
        UnsupportedModuleError: a module without a place for the rules.
        ShapeMismatchError: a module of another size.
    """
    table, found = table_of(model, names), matches(model, names)
    parameters = dict(model.named_parameters())
    require_fit(model, found, parameters, rules)
    scales_of(model, table, found, rules)
    rows = []
    for name, tensor in parameters.items():
        numbers = rules.role(found[name].role).to_json()
        told = {key: numbers[key] for key in ("init", "lr", "eps", "wd")}
        role, shape = found[name].role.value, list(tensor.shape)
        rows.append({"name": bare_name(name), "role": role, "shape": shape, **told})
    return rows


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch") from error
    return torch


@functools.cache
def _applied() -> MutableMapping[Tensor, str]:
    """Tensor to digest of the rules applied to it, by identity; tensors do not notice."""
    _torch()
    from torch.utils.weak import WeakIdKeyDictionary

    return WeakIdKeyDictionary()


def _numbers(
    rules: Rules,
    role: Role,
    lr: float,
    eps: float,
    weight_decay: float,
    adam_lr: float | None,
    decay_vectors: bool,
) -> AppliedNumbers:
    """What a parameter of a role takes, absolute."""
    rule, update = rules.role(role), rules.update(role)
    beside = rules.question.kind.of(role) is not rules.question.kind
    rate = adam_lr if beside and adam_lr is not None else lr
    vector = role.is_gain or role.is_bias
    decays = rule.wd is not None and (decay_vectors or not vector)
    made: AppliedNumbers = {
        "lr": rate * rule.lr,
        "lr_ratio": rule.lr,
        "weight_decay": weight_decay * (rule.wd or 0.0) if decays else 0.0,
        "update": update.name.lower(),
    }
    return made if rule.eps is None else {**made, "eps": eps * rule.eps}


def _merged(
    parameters: Tensors,
    found: Mapping[str, Match],
    numbers: Mapping[str, AppliedNumbers],
) -> list[dict[str, Any]]:
    """One group for all that take the same, in the order of the module."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, tensor in parameters.items():
        if not tensor.requires_grad:
            continue
        told = numbers[name]
        group = groups.setdefault(
            tuple(sorted(told.items())), {"params": [], **told, "names": [], "roles": []}
        )
        group["params"].append(tensor)
        group["names"].append(bare_name(name))
        if found[name].role.value not in group["roles"]:
            group["roles"].append(found[name].role.value)
    return list(groups.values())


def _remarks(parameters: Tensors) -> list[str]:
    """Sentences about weights for which the rules were not made."""
    half = [name for name, w in parameters.items() if w.element_size() < 4]
    if not half:
        return []
    return [
        f"{len(half)} parameters have fewer than 32 bits ({half[0]}, ...): rates and starts that "
        "fall with the width need float32 weights, with mixed precision around them"
    ]


def _scale(
    parameters: Tensors,
    found: Mapping[str, Match],
    factor: Mapping[str, float],
    seed: int | None,
) -> None:
    torch = _torch()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in parameters.items():
            role = found[name].role
            if generator is not None and not (role.is_gain or role.is_bias):
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                std = tensor.double().pow(2).mean().sqrt().item()
                tensor.copy_((std * noise).to(tensor))
            if factor[name] != 1:
                tensor.mul_(factor[name])


def _fixed_std(model: Module) -> float | None:
    """The `initializer_range` of a module of Hugging Face."""
    told = getattr(getattr(unwrapped(model), "config", None), "initializer_range", None)
    return float(told) if isinstance(told, float | int) and told > 0 else None


def _require_first(parameters: Tensors, rules: Rules, force: bool) -> None:
    done = [name for name, tensor in parameters.items() if tensor in _applied()]
    if done and not force:
        same = "these" if _applied()[parameters[done[0]]] == rules.digest else "other"
        raise AlreadyAppliedError(
            "model",
            f"{same} rules were applied before to {len(done)} of its {len(parameters)} parameters "
            f"({done[0]}, ...)",
            "pass report=groups.report to build its groups again, or force=True to scale again",
        )


def _require_material(parameters: Tensors) -> None:
    for name, tensor in parameters.items():
        if tensor.is_meta:
            raise ArgumentError(name, "is on the meta device", "draw the weights first")
