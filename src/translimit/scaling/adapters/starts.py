"""How a module was drawn, and by which factor every parameter must be multiplied to start right.

The rules give the ratio target / base of standard deviations. A module drawn with one fixed
standard deviation (Hugging Face's `initializer_range`) needs the whole ratio; one drawn by fan-in
(`torch.nn.Linear`: uniform of standard deviation (3 n_in)^{-1/2}, weight and bias) has part of it
already, and GPT-2 and its relatives divide the ends of branches by (2 L)^{1/2} or L^{1/2}. Here
this is told, seen from the standard deviations, or known from the reader of the module's family
(`translimit.scaling.adapters.drawn`) where the weights agree with it. A gain that is stored as
1 + w (Gemma) is multiplied as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    TorchTensor,
    TorchTensors,
    brief,
    nearest,
)
from translimit.describe import TRUNCATED_STD, Axis, NameTable, Role, Size
from translimit.scaling.adapters.drawn import Drawn
from translimit.scaling.adapters.names import Match
from translimit.scaling.engine import Rules
from translimit.scaling.errors import ShapeMismatchError, UnsupportedModuleError
from translimit.scaling.live_start import require_live_start
from translimit.scaling.question import Question

#: How many standard errors, and which share beside, a standard deviation may be off.
_STANDARD_ERRORS, _SHARE = 5.0, 0.02

STARTS = ("auto", "fixed", "fan_in")

#: How a module was drawn: one of `STARTS`, or standard deviations of the base by role.
Start: TypeAlias = str | Mapping[Role, float] | Mapping[str, float] | Mapping[Role | str, float]


def spread(tensor: TorchTensor) -> float:
    """The root mean square of a parameter: a standard deviation, or the constant of a gain."""
    return tensor.detach().double().pow(2).mean().sqrt().item()


def _has_std(std: float, entries: int, expected: float) -> bool:
    """Whether the deviation of so many entries is the expected one, within its error."""
    slack = _STANDARD_ERRORS / math.sqrt(2 * entries) + _SHARE
    return abs(std / expected - 1) <= slack


def scheme_of(
    table: NameTable,
    found: Mapping[str, Match],
    parameters: TorchTensors,
    rules: Rules,
    fixed_std: float | None,
) -> str:
    """`fixed` or `fan_in`, by the standard deviations of the matrices.

    Args:
        table: of the family.
        found: roles.
        parameters: by name.
        rules: of the target.
        fixed_std: what the configuration of the module says, or None.

    Raises:
        ArgumentError: neither fits: the weights were trained, scaled or drawn otherwise.
    """
    size = rules.question.target
    drawn = {
        name: (spread(tensor), tensor.numel(), found[name])
        for name, tensor in parameters.items()
        if (found[name].role.is_hidden_matrix or found[name].role is Role.READOUT)
        and tensor.ndim == 2
    }
    drawn = {name: told for name, told in drawn.items() if told[0] > 0}

    def fits(expected: dict[str, tuple[float, ...]]) -> str | None:
        """The first name whose standard deviation is none of those expected."""
        for name, (std, count, _) in drawn.items():
            if not any(_has_std(std, count, one) for one in expected[name]):
                return name
        return None

    if fixed_std is not None:
        depth = (2 * size.layers) ** -0.5 if table.depth_scaled else 1.0
        wrong = fits(
            {
                name: (fixed_std * (depth if match.role.ends_branch else 1.0),)
                for name, (_, _, match) in drawn.items()
            }
        )
        if wrong is None:
            return "fixed"
        told = f"its configuration draws {fixed_std:g}"
    else:
        by_fan_in = {}
        for name, (_, _, match) in drawn.items():
            n_in = match.role.fan_in.length(size)
            n_out = sum(role.fan_out.length(size) for role in match.parts)
            xavier = (2 / (n_in + n_out)) ** 0.5 if match.packed else None
            default = (3 * n_in) ** -0.5
            by_fan_in[name] = (default,) if xavier is None else (default, xavier)
        wrong = fits(by_fan_in)
        if wrong is None:
            return "fan_in"
        ends = ends_of_branches(found, parameters, size)
        if _one_std_for_all(drawn, size, ends):
            return "fixed"
        told = "torch.nn.Linear draws (3 n_in)^(-1/2)"
    raise ArgumentError(
        "start",
        f"cannot tell how the weights were drawn: {wrong} has the standard deviation "
        f"{drawn[wrong][0]:.4g}, and {told}",
        "apply the rules to a fresh module; or pass start='fixed' or 'fan_in', the base module as "
        "base=, or the report of the first application as report=",
    )


def agrees(drawn: Drawn, found: Mapping[str, Match], parameters: TorchTensors) -> bool:
    """Whether the matrices have the standard deviations that the reader of their family says.

    Args:
        drawn: by the reader.
        found: roles.
        parameters: by name.
    """
    seen = False
    for name, tensor in parameters.items():
        match, std = found[name], spread(tensor)
        known = [drawn.target[one] for one in match.parts if drawn.target.get(one, 0.0) > 0]
        if not (match.role.is_hidden_matrix and known and std > 0):
            continue
        seen = True
        if not any(_has_std(std, tensor.numel(), one) for one in known):
            return False
    return seen


def ends_of_branches(found: Mapping[str, Match], parameters: TorchTensors, size: Size) -> float:
    """What the ends of branches are drawn with beside all other hidden matrices: 1, or less.

    Args:
        found: roles.
        parameters: by name.
        size: of the module.

    Returns:
        (2 L)^{-1/2} or L^{-1/2} where their standard deviations have that ratio, else 1.
    """
    sums = {True: (0.0, 0), False: (0.0, 0)}
    for name, tensor in parameters.items():
        if found[name].role.is_hidden_matrix and tensor.ndim == 2:
            end = found[name].role.ends_branch
            total, count = sums[end]
            sums[end] = total + spread(tensor) ** 2 * tensor.numel(), count + tensor.numel()
    (last, n), (others, m) = sums[True], sums[False]
    if not (last and others):
        return 1.0
    ratio = math.sqrt((last / n) / (others / m))
    slack = _STANDARD_ERRORS * math.hypot((2 * n) ** -0.5, (2 * m) ** -0.5) + _SHARE
    known = ((2 * size.layers) ** -0.5, size.layers**-0.5, 1.0)
    return next((one for one in known if abs(ratio / one - 1) <= slack), 1.0)


def _one_std_for_all(
    drawn: Mapping[str, tuple[float, int, Match]], size: Size, ends: float
) -> bool:
    """Whether matrices with different fan-in have the same standard deviation."""
    hidden = [told for told in drawn.values() if told[2].role.is_hidden_matrix]
    if not hidden:
        return False
    fan_ins = [match.role.fan_in.length(size) for _, _, match in hidden]
    stds = [std / (ends if match.role.ends_branch else 1.0) for std, _, match in hidden]
    fewest = min(count for _, count, _ in hidden)
    slack = 2 * (_STANDARD_ERRORS / math.sqrt(2 * fewest) + _SHARE)
    return max(fan_ins) > 1.4 * min(fan_ins) and max(stds) < (1 + min(slack, 0.2)) * min(stds)


def already(scheme: str, depth_scaled: bool, role: Role, question: Question) -> float:
    """The ratio target / base that the module's own way to draw a role gives."""
    base, target = question.base, question.target
    ratio = 1.0
    if scheme == "fan_in":
        # A bias is drawn by the fan-in of its weight; that of patches is never scaled.
        linear = role.is_bias and "norm" not in role and role is not Role.PATCH_BIAS
        of = Role(role.value.removesuffix("_bias")) if linear else role
        if of.fan_in is not Axis.FIXED:
            ratio *= (of.fan_in.length(target) / of.fan_in.length(base)) ** -0.5
    if depth_scaled and role.ends_branch and not role.is_bias:
        ratio *= (target.layers / base.layers) ** -0.5
    return ratio


def _drawn_ratio(
    drawn: Drawn, role: Role, tensor: TorchTensor, question: Question, fixed_std: float | None
) -> float:
    """Target over base of one parameter: by the reader.

    A readout that the reader leaves out has the configuration's deviation, or is drawn by fan-in.
    """
    if role is Role.READOUT and role not in drawn.target and tensor.ndim == 2:
        n_in, std, entries = role.fan_in.length(question.target), spread(tensor), tensor.numel()
        fixed = fixed_std is not None and _has_std(std, entries, fixed_std)
        # LeCun's rule, the same corrected for a cut that is not made, and that of torch.nn.Linear.
        known = (n_in**-0.5, n_in**-0.5 / TRUNCATED_STD, (3 * n_in) ** -0.5)
        if not fixed and any(_has_std(std, entries, one) for one in known):
            return already("fan_in", False, role, question)
    return drawn.ratio(role)


def base_stds(found: Mapping[str, Match], parameters: TorchTensors) -> dict[Role, float]:
    """The standard deviation of every role in a base module, over all its blocks."""
    sums: dict[Role, tuple[float, int]] = {}
    for name, tensor in parameters.items():
        total, count = sums.get(found[name].role, (0.0, 0))
        n = tensor.numel()
        sums[found[name].role] = (total + spread(tensor) ** 2 * n, count + n)
    return {role: math.sqrt(total / count) for role, (total, count) in sums.items()}


def factors(
    table: NameTable,
    found: Mapping[str, Match],
    parameters: TorchTensors,
    rules: Rules,
    start: Start,
    *,
    fixed_std: float | None,
    base: Mapping[Role, float] | None,
    drawn: Drawn | None = None,
) -> tuple[str, dict[str, float]]:
    """How the module was drawn, and the factor of every parameter.

    Args:
        table: of the family.
        found: roles.
        parameters: by name, shared tensors once.
        rules: of the target.
        start: `auto`, `fixed`, `fan_in`, or standard deviations of the base by role.
        fixed_std: what the configuration of the module says, or None.
        base: standard deviations of a base module by role, or None.
        drawn: those that the reader of the module's family says, or None.

    Raises:
        ArgumentError: an unknown start, or weights that do not look freshly drawn.
        ArgumentTypeError: a start of another type.
        DegenerateInitError: matrices at zero that no gradient leaves.
        ShapeMismatchError: a role starts at zero here and not in the base.
    """
    zero = {role for role in _roles_at_zero(found, parameters)}
    require_live_start(zero)
    told = _told(start) if base is None else dict(base)
    if told is not None:
        made = {}
        for name, tensor in parameters.items():
            role, now = found[name].role, spread(tensor)
            if role.is_gain and table.gain_offset:
                made[name] = rules.role(role).init
                continue
            wanted = told[role] * rules.role(role).init if role in told else now
            if role not in told and role not in _CONSTANT and now > 0:
                raise ArgumentError(
                    "start", f"says nothing about {role} ({name})", "give its standard deviation"
                )
            if now == 0 and wanted > 0:
                raise ShapeMismatchError(
                    name,
                    "starts at zero, and in the base it does not",
                    "let it start at zero in both, or in neither",
                )
            made[name] = wanted / now if now > 0 else 1.0
        return ("base" if base is not None else "told"), made
    scheme = str(start)
    if start in ("auto", "fixed") and drawn is not None and agrees(drawn, found, parameters):
        return "fixed", {
            name: rules.role(found[name].role).init
            / _drawn_ratio(drawn, found[name].role, tensor, rules.question, fixed_std)
            for name, tensor in parameters.items()
        }
    if start == "auto":
        scheme = scheme_of(table, found, parameters, rules, fixed_std)
    scaled = table.depth_scaled
    if scheme == "fixed" and not scaled:
        scaled = ends_of_branches(found, parameters, rules.question.target) < 1
    return scheme, {
        name: rules.role(found[name].role).init
        / already(scheme, scaled, found[name].role, rules.question)
        for name in parameters
    }


def require_stored_gains(
    table: NameTable,
    found: Mapping[str, Match],
    parameters: TorchTensors,
    factor: Mapping[str, float],
) -> None:
    """Refuse to multiply gains that are stored as zeros.

    Raises:
        UnsupportedModuleError: a gain of zeros whose table does not say that 1 is added.
    """
    for name, tensor in parameters.items():
        gain = found[name].role.is_gain and factor[name] != 1 and table.gain_offset == 0
        if gain and not tensor.detach().count_nonzero().item():
            raise UnsupportedModuleError(
                name,
                f"is a gain of zeros, which the factor {factor[name]:g} leaves at zero: modules "
                "like Gemma's add 1 to it",
                "go by the table of its family, or pass a NameTable with gain_offset=1",
            )


#: Roles that need no word in a table of standard deviations: their start is constant.
_CONSTANT = tuple(role for role in Role if role.is_bias or role.is_gain or role.is_factor)


def _told(start: Start) -> dict[Role, float] | None:
    if isinstance(start, Mapping):
        return {Role(role): float(std) for role, std in start.items()}
    if not isinstance(start, str):
        raise ArgumentTypeError("start", f"got {brief(start)}", f"pass one of {', '.join(STARTS)}")
    if start not in STARTS:
        raise ArgumentError("start", f"unknown start {start!r}", nearest(start, STARTS))
    return None


def _roles_at_zero(found: Mapping[str, Match], parameters: TorchTensors) -> set[Role]:
    """The roles all of whose tensors are zero; a packed tensor stands for its parts."""
    live: set[Role] = set()
    seen: set[Role] = set()
    for name, tensor in parameters.items():
        seen |= set(found[name].parts)
        if tensor.detach().count_nonzero().item():
            live |= set(found[name].parts)
    return seen - live
