"""The rules in PyTorch: starts, score scales and parameter groups of an unmodified module.

Nothing is attached to a tensor and no module is replaced, so that deepcopy, state dicts,
torch.compile, DDP and FSDP (with original parameters) see what they always see. What was done is
in a report, plain data, with which groups are built again when training resumes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import cast

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Json,
    JsonObject,
    MissingExtraError,
    TorchModule,
    TorchOptimizer,
    TorchTensor,
    TorchTensors,
)
from translimit.describe import Role
from translimit.scaling.adapters.drawn import drawn_by_family
from translimit.scaling.adapters.groups import ParameterGroups as ParameterGroups
from translimit.scaling.adapters.groups import merged, numbers_of
from translimit.scaling.adapters.matching import matches
from translimit.scaling.adapters.modules import require_fit, scales_of
from translimit.scaling.adapters.names import Match, bare_name
from translimit.scaling.adapters.optimizers import require_class as require_class
from translimit.scaling.adapters.optimizers import require_clip, require_numbers, require_torch
from translimit.scaling.adapters.optimizers import require_ratios as require_ratios
from translimit.scaling.adapters.placed import placed, sentences_of
from translimit.scaling.adapters.probe import Example, require_read, unseen
from translimit.scaling.adapters.publish import bake_scores as bake_scores
from translimit.scaling.adapters.report import (
    KIND,
    SCHEMA,
    AppliedNumbers,
    AppliedParameter,
    AppliedReport,
    read_report,
)
from translimit.scaling.adapters.starts import Start, base_stds, factors, require_stored_gains
from translimit.scaling.adapters.tables import Names, table_of, unwrapped
from translimit.scaling.engine import Rules
from translimit.scaling.errors import AlreadyAppliedError


def apply(
    model: TorchModule,
    rules: Rules,
    *,
    lr: float,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    adam_lr: float | None = None,
    names: Names = None,
    start: Start = "auto",
    base: TorchModule | None = None,
    seed: int | None = None,
    decay_vectors: bool = False,
    optimizer: TorchOptimizer | type[TorchOptimizer] | None = None,
    clip_tuned_in: str | None = None,
    report: str | Path | AppliedReport | JsonObject | None = None,
    example: Example = None,
    scores_set: bool = False,
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
            and groups built as then; with the `example` of then, where that gave roles.
        example: an input of the module (a tensor, a tuple, arguments by name, or a function that
            runs it): the module is then run on it to see that it reads what was set, and where it
            reads every parameter. Names that contradict this are refused, a parameter without a
            name takes the role of its place (`adapters.placed`).
        scores_set: the constructor has set the score scale, c_0 m_N^{-alpha_A}, where no attribute
            of attention tells it.
        force: apply although it was done before.

    Returns:
        groups for the optimiser, with a report.

    Raises:
        UnmatchedParameterError: parameters without a role.
        AmbiguousRuleError: parameters with two, by names or, with an example, by name and place.
        UnsupportedModuleError: post-LN; a style that needs multipliers; tied embeddings without
            the fold; a packed projection that needs several rates; no settable score scale; a
            gain stored as 1 + w without a word of it; with an example, a score scale that is not
            read, or a factor that a norm undoes: the module is then as it was.
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

    table, parameters = table_of(model, names), dict(model.named_parameters())
    if example is None:
        found, seen = matches(model, names), []
    else:
        both = placed(model, names, example)
        found = both.found
        seen = sentences_of(both, table)
    require_fit(model, found, parameters, rules)
    scales = {} if scores_set else scales_of(model, table, found, rules)
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
            drawn=drawn_by_family(model, rules.question.base, rules.question.target),
        )
        require_stored_gains(table, found, parameters, factor)
        if example is not None:
            require_read(model, found, parameters, scales, rules, example, table.gain_offset)
        _scale(parameters, found, factor, seed, table.gain_offset)
    else:
        saved = read_report(report, rules, parameters)
        scheme = str(saved["start"])
        factor = {name: saved["parameters"][bare_name(name)]["factor"] for name in parameters}
    for module, attribute, _ in scales.values():
        setattr(module, attribute, rules.score_scale)
    for tensor in parameters.values():
        _applied()[tensor] = rules.digest

    numbers = {
        name: numbers_of(rules, match.role, lr, eps, weight_decay, adam_lr, decay_vectors)
        for name, match in found.items()
        if name in parameters
    }
    made: AppliedReport = {
        "kind": KIND,
        "schema": SCHEMA,
        "rules": rules.to_json(),
        "table": table.family,
        "start": scheme,
        "warnings": [
            *rules.warnings,
            *unseen(rules, table, scales, example is None, scores_set),
            *_remarks(parameters),
            *_unscaled(found),
            *seen,
        ],
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
    return ParameterGroups(merged(parameters, found, numbers), made)


def _of_parameter(
    tensor: TorchTensor, match: Match, factor: float, numbers: AppliedNumbers
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


def preview(model: TorchModule, rules: Rules, *, names: Names = None) -> list[dict[str, Json]]:
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
def _applied() -> MutableMapping[TorchTensor, str]:
    """Tensor to digest of the rules applied to it, by identity; tensors do not notice."""
    _torch()
    from torch.utils.weak import WeakIdKeyDictionary

    return WeakIdKeyDictionary()


def _remarks(parameters: TorchTensors) -> list[str]:
    """Sentences about weights for which the rules were not made."""
    half = [name for name, w in parameters.items() if w.element_size() < 4]
    if not half:
        return []
    return [
        f"{len(half)} parameters have fewer than 32 bits ({half[0]}, ...): rates and starts that "
        "fall with the width need float32 weights, with mixed precision around them"
    ]


def _unscaled(found: Mapping[str, Match]) -> list[str]:
    """A sentence about parameters that keep the base's numbers."""
    names = [bare_name(name) for name, match in found.items() if match.role is Role.UNSCALED]
    if not names:
        return []
    told = f"{names[0]}, ..." if len(names) > 1 else names[0]
    return [f"{len(names)} parameters keep the numbers of the base ({told}): no rule was verified"]


def _scale(
    parameters: TorchTensors,
    found: Mapping[str, Match],
    factor: Mapping[str, float],
    seed: int | None,
    offset: float,
) -> None:
    torch = _torch()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in parameters.items():
            role = found[name].role
            if generator is not None and not (role.is_gain or role.is_bias or role.is_factor):
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                std = tensor.double().pow(2).mean().sqrt().item()
                tensor.copy_((std * noise).to(tensor))
            if factor[name] != 1:
                tensor.mul_(factor[name])
                if role.is_gain and offset:  # (offset + w) times the factor, stored as w
                    tensor.add_(offset * (factor[name] - 1))


def _fixed_std(model: TorchModule) -> float | None:
    """The `initializer_range` of a module of Hugging Face."""
    told = getattr(getattr(unwrapped(model), "config", None), "initializer_range", None)
    return float(told) if isinstance(told, float | int) and told > 0 else None


def _require_first(parameters: TorchTensors, rules: Rules, force: bool) -> None:
    done = [name for name, tensor in parameters.items() if tensor in _applied()]
    if done and not force:
        same = "these" if _applied()[parameters[done[0]]] == rules.digest else "other"
        raise AlreadyAppliedError(
            "model",
            f"{same} rules were applied before to {len(done)} of its {len(parameters)} parameters "
            f"({done[0]}, ...)",
            "pass report=groups.report to build its groups again, or force=True to scale again",
        )


def _require_material(parameters: TorchTensors) -> None:
    for name, tensor in parameters.items():
        if tensor.is_meta:
            raise ArgumentError(name, "is on the meta device", "draw the weights first")
