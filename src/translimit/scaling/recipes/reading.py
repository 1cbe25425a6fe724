"""The table of a user's own code, read off live parameter groups.

Rates, epsilons, decays and starts of the base and of the target are compared role by role, and
every ratio is written as a monomial if one with small exponents gives it. What the forward pass
multiplies does not show in an optimiser: branches, readout and embedding count as not multiplied,
and the score scale is read where attention tells it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from translimit.core import ArgumentError
from translimit.describe import SCALE_ATTRIBUTES, Role, Size
from translimit.scaling.recipes.invariants import ROWS, Invariants
from translimit.scaling.recipes.monomials import Monomial

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer
else:
    Module = Optimizer = Any

#: Exponents that are tried.
_POWERS = tuple(Fraction(n, 2) for n in (0, -1, -2, 1, 2, -3, 3, -4, 4))
#: Starts are drawn; rates are exact.
_TOLERANCE = {"start": 0.03, "rate": 1e-6, "epsilon": 1e-6, "decay": 1e-6, "scores": 1e-6}


def read(
    optimizer: Optimizer | Sequence[Optimizer],
    model: Module,
    *,
    roles: Callable[[Module], Mapping[str, Role | str]],
    base: tuple[Optimizer | Sequence[Optimizer], Module],
    sizes: tuple[Size, Size],
    name: str = "own",
) -> Invariants:
    """The invariants of a target's parameter groups over those of a base.

    Args:
        optimizer: of the target, as it is built, before any schedule.
        model: the target, freshly drawn.
        roles: from a module to the roles of its parameters by name: `scaling.adapters.roles`.
        base: optimiser and module of the base.
        sizes: of base and target; ratios that are not 1 must differ, or exponents are ambiguous:
            the simplest are told.
        name: how a comparison calls it.

    Raises:
        ArgumentError: parameters that no group has, or a ratio that is no monomial.
    """
    small, large = sizes
    then, now = _numbers(*base, roles), _numbers(optimizer, model, roles)
    found: dict[str, Monomial] = {}
    for key, value in now.items():
        if key in then and then[key] > 0 and value > 0:
            found[key] = _monomial(key, value / then[key], small, large)
    return Invariants(name, small, large, found)


def _numbers(
    optimizer: Optimizer | Sequence[Optimizer],
    model: Module,
    roles: Callable[[Module], Mapping[str, Role | str]],
) -> dict[str, float]:
    """Absolute numbers by row, of the first block where there are several."""
    optimizers: Sequence[Any] = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    groups: dict[int, Mapping[str, Any]] = {
        id(tensor): group
        for one in optimizers
        for group in one.param_groups
        for tensor in group["params"]
    }
    rows: dict[Role, str] = {role: row for row, role in ROWS.items()}
    found, modules = roles(model), dict(model.named_modules())
    made: dict[str, float] = {}
    for name, tensor in model.named_parameters():
        group = groups.get(id(tensor))
        if group is None:
            raise ArgumentError(name, "is in no group of the optimizer", "pass all its optimizers")
        role = Role(found[name])
        if role is Role.QUERY and (scale := _score_scale(modules, name)) is not None:
            made.setdefault("scores", scale)
        if role not in rows:
            continue
        told = {
            "start": tensor.detach().double().pow(2).mean().sqrt().item(),
            "rate": float(group["lr"]),
            "epsilon": float(group.get("eps") or 0.0),
            "decay": float(group["lr"]) * float(group.get("weight_decay") or 0.0),
        }
        for number, value in told.items():
            if number != "start" or not role.is_bias:
                made.setdefault(f"{rows[role]}.{number}", value)
    return made


def _score_scale(modules: Mapping[str, Module], query: str) -> float | None:
    """The number of attention around a query projection, where it tells one."""
    owner = query.rpartition(".")[0]
    for place in (owner, owner.rpartition(".")[0]):
        for attribute in SCALE_ATTRIBUTES:
            value = getattr(modules.get(place), attribute, None)
            if isinstance(value, float):
                return value
    return None


def _monomial(key: str, ratio: float, small: Size, large: Size) -> Monomial:
    """The simplest monomial that gives a ratio."""
    tolerance = _TOLERANCE[key.rpartition(".")[2]]
    for made in _simplest_first():
        if abs(math.log(ratio) - math.log(made.at(small, large))) <= tolerance:
            return made
    raise ArgumentError(
        key,
        f"has the ratio {ratio:.4g}, which is no product of powers of the sizes' ratios",
        "compare sizes whose rates follow a rule, or look at this parameter by hand",
    )


@functools.cache
def _simplest_first() -> tuple[Monomial, ...]:
    def order(powers: tuple[Fraction, ...]) -> tuple[object, ...]:
        return sum(map(abs, powers)), -abs(powers[0]), -abs(powers[2]), powers

    return tuple(
        Monomial(*powers) for powers in sorted(itertools.product(_POWERS, repeat=3), key=order)
    )
