"""What an optimiser of PyTorch must be, and stay, for the rates of the rules to hold."""

from __future__ import annotations

from typing import Any

from translimit.core import (
    NOT_NEGATIVE,
    ArgumentError,
    TorchOptimizer,
    brief,
    nearest,
    require_real,
)
from translimit.scaling.engine import Rules
from translimit.scaling.errors import ConversionError
from translimit.scaling.question import STYLES


def require_torch(rules: Rules) -> None:
    """Refuse rules of an optimiser that PyTorch does not have.

    Raises:
        ArgumentError: its record names no class.
    """
    kind = rules.question.kind
    if not kind.torch:
        raise ArgumentError(
            "optimizer",
            f"{kind.name!r} has no class of torch",
            "train it in optax, or give its record torch=(names of classes,)",
        )


def require_class(optimizer: TorchOptimizer | type[TorchOptimizer], rules: Rules) -> None:
    """Refuse an optimiser whose step is not the one that the rules are for.

    Raises:
        ArgumentError: another class, or an optimiser that PyTorch does not have.
    """
    require_torch(rules)
    wanted, given = rules.question.kind, optimizer
    given = given if isinstance(given, type) else type(given)
    lineage = {one.__name__ for one in given.__mro__}
    if not lineage & set(wanted.torch) or lineage & set(wanted.not_torch):
        raise ArgumentError(
            "optimizer",
            f"is {given.__name__}, and the rules are for {wanted.name!r}",
            f"use {' or '.join(wanted.torch[:2])}, or ask for other rules",
        )
    if rules.question.decay == "independent" and given.__module__.startswith("torch.optim"):
        raise ArgumentError(
            "optimizer",
            f"is torch's {given.__name__}, whose rate multiplies the decay, and the rules have "
            "decay='independent'",
            "ask for rules with decay='constant', or decay the weights apart from the optimizer",
        )


def require_ratios(optimizer: TorchOptimizer) -> None:
    """Refuse groups whose rates no longer have the ratios of the rules.

    A scheduler must multiply the rates of all groups alike (LambdaLR does); one that sets them
    undoes the rules.

    Raises:
        ArgumentError: naming the roles of a group that differs.
    """
    rates: dict[str, tuple[float, dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        if "lr_ratio" not in group:
            raise ArgumentError(
                "optimizer",
                "has groups that `apply` did not make",
                "build it with those of `apply`",
            )
        common = float(group["lr"]) / group["lr_ratio"]
        kind = "orthogonal" if group["update"] == "orthogonal" else "other"
        first, _ = rates.setdefault(kind, (common, group))
        if abs(common - first) > 1e-6 * abs(first):
            raise ArgumentError(
                "optimizer",
                f"the rate of {', '.join(group['roles'])} is {float(group['lr']):g}, not "
                f"{first * group['lr_ratio']:g}",
                "use a scheduler that multiplies the rates of all groups",
            )


def require_numbers(**numbers: float) -> None:
    """Refuse rates, epsilons and decays that are no numbers from 0 on."""
    for name, value in numbers.items():
        require_real(value, name, NOT_NEGATIVE)


def require_clip(rules: Rules, tuned_in: str | None) -> None:
    """Refuse a clip of the gradient norm that was tuned in another style."""
    if tuned_in is None:
        return
    if tuned_in not in STYLES:
        raise ArgumentError(
            "clip_tuned_in", f"got {brief(tuned_in)}", nearest(str(tuned_in), STYLES)
        )
    if tuned_in != rules.question.style:
        raise ConversionError(
            "clip_tuned_in",
            f"a clip of the global gradient norm tuned in style {tuned_in!r} acts differently in "
            f"{rules.question.style!r}: the gradient of a parameter scales with its multiplier",
            "train without clipping, or tune the clip in this style",
        )
