r"""The table of a user's own code, read off live parameter groups.

Rates, epsilons, decays and starts of the base and of the target are compared parameter by
parameter, and every ratio is written as a monomial if one with small exponents gives it. A row has
what most of its parameters have; one that differs has an entry under its own name. A parameter is
compared with that of the same name, or, where the base has fewer blocks, with the last whose name
differs in numbers alone.

Rates, epsilons and decays are exact. A start is drawn: the logarithm of the root mean square of n
Gaussian entries has the standard deviation (2 n)^{-1/2}, so a ratio of two counts as a monomial
within 4.5 of those of both together, all parameters of a row that agree taken as one.

What the forward pass multiplies does not show in an optimiser: it is told as `multipliers`; the
score scale is read where attention tells it.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from translimit.core import ArgumentError, nearest
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
_EXACT = 1e-6
_ERRORS = 4.5
_ROW_OF = {role: row for row, role in ROWS.items()}
_QK_GAINS = {Role.QK_GAIN, Role.QK_GAIN_SHARED, Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN}


@dataclass(frozen=True)
class _Tensor:
    """What one parameter has: its row, numbers, and how many entries its start was drawn from."""

    row: str
    numbers: Mapping[str, float]
    drawn: float
    power: int


def read(
    optimizer: Optimizer | Sequence[Optimizer],
    model: Module,
    *,
    roles: Callable[[Module], Mapping[str, Role | str]],
    base: tuple[Optimizer | Sequence[Optimizer], Module],
    sizes: tuple[Size, Size],
    multipliers: Mapping[str, tuple[float, float]] | None = None,
    normed: Collection[str] = (),
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
        multipliers: by row, what the forward pass multiplies the output of its map by, at the base
            and at the target: `{"readout": (1.0, 0.25)}`; `scores` for a score scale that no
            attribute tells.
        normed: rows whose map a norm follows, as `attention_out` and `mlp_out` with norms behind
            branches; their scale is no number of the network. Queries and keys that have gains
            count without being named.
        name: how a comparison calls it.

    Raises:
        ArgumentError: parameters that no group has, that the base has no counterpart of, or whose
            ratio is no monomial; an unknown row.
    """
    small, large = sizes
    factors = dict(multipliers or {})
    for row in (*factors, *normed):
        if row not in ROWS and row != "scores":
            raise ArgumentError(row, "is no row of a recipe", nearest(row, ROWS))
    then, now = _tensors(*base, roles, factors, 0), _tensors(optimizer, model, roles, factors, 1)
    like: dict[str, _Tensor] = {re.sub(r"\d+", "*", key): one for key, one in then.items()}
    rows: dict[str, list[tuple[str, _Tensor, _Tensor]]] = {}
    for key, one in now.items():
        first = then.get(key) or like.get(re.sub(r"\d+", "*", key))
        if first is None or first.row != one.row:
            raise ArgumentError(
                key, "has no counterpart in the base", "build both from one class at two sizes"
            )
        for number in one.numbers.keys() & first.numbers.keys():
            rows.setdefault(f"{one.row}.{number}", []).append((key, first, one))
    found: dict[str, Monomial] = {}
    undecided: dict[str, str] = {}
    for key in sorted(rows, key=_order):
        _read_row(key, rows[key], sizes, found, undecided)
    scores = _score_scales(base[1], model, roles, factors)
    if scores is not None:
        found["scores"] = _monomial("scores", scores[1] / scores[0], small, large, _EXACT)[0]
    made = {_ROW_OF[Role(role)] for role in roles(model).values()}
    gains = {"query", "key"} if made & {_ROW_OF[role] for role in _QK_GAINS} else set[str]()
    powers = {one.row: one.power for one in now.values()}
    return Invariants(name, small, large, found, powers, frozenset({*normed, *gains}), undecided)


def _order(key: str) -> tuple[int, str]:
    row, _, number = key.partition(".")
    return list(ROWS).index(row), number


def _read_row(
    key: str,
    parameters: Sequence[tuple[str, _Tensor, _Tensor]],
    sizes: tuple[Size, Size],
    found: dict[str, Monomial],
    undecided: dict[str, str],
) -> None:
    """Write the monomial of a row, and that of each parameter that differs from it."""
    number = key.partition(".")[2]
    small, large = sizes

    def ratio(of: Sequence[tuple[str, _Tensor, _Tensor]]) -> tuple[float, float]:
        """Of the root mean squares, with the entries of each as weights, and 4.5 errors."""
        if number != "start":
            _, first, one = of[0]
            return one.numbers[number] / first.numbers[number], _EXACT
        squares, counts = [0.0, 0.0], [0.0, 0.0]
        for _, *both in of:
            for place, one in enumerate(both):
                weight = min(one.drawn, 1e18)
                squares[place] += weight * one.numbers[number] ** 2
                counts[place] += weight
        slack = _ERRORS * math.sqrt(sum(0.5 / count for count in counts)) + _EXACT
        return math.sqrt(squares[1] / squares[0] * counts[0] / counts[1]), slack

    ratios = {name: ratio([(name, first, one)]) for name, first, one in parameters}
    own = {
        name: _monomial(f"{key} ({name})", value, small, large, slack)[0]
        for name, (value, slack) in ratios.items()
    }

    def agree(power: Monomial) -> list[str]:
        expected = math.log(power.at(small, large))
        return [one for one, (r, slack) in ratios.items() if abs(math.log(r) - expected) <= slack]

    alike = max((agree(power) for power in dict.fromkeys(own.values())), key=len)
    value, slack = ratio([one for one in parameters if one[0] in alike])
    found[key], others = _monomial(key, value, small, large, slack)
    if others:
        undecided[key] = f"{found[key]} or {' or '.join(map(str, others[:3]))}"
    found |= {f"{key} ({name})": power for name, power in own.items() if name not in alike}


def _tensors(
    optimizer: Optimizer | Sequence[Optimizer],
    model: Module,
    roles: Callable[[Module], Mapping[str, Role | str]],
    factors: Mapping[str, tuple[float, float]],
    which: int,
) -> dict[str, _Tensor]:
    """The numbers of every parameter, by its name; a number that is zero is left out."""
    optimizers: Sequence[Any] = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    groups: dict[int, tuple[Mapping[str, Any], int]] = {
        id(tensor): (group, 2 if type(one).__name__ == "SGD" else 1)
        for one in optimizers
        for group in one.param_groups
        for tensor in group["params"]
    }
    found, made = roles(model), dict[str, _Tensor]()
    for name, tensor in model.named_parameters():
        if id(tensor) not in groups:
            raise ArgumentError(name, "is in no group of the optimizer", "pass all its optimizers")
        group, power = groups[id(tensor)]
        role = Role(found[name])
        values = tensor.detach().double()
        constant = bool((values == values.flatten()[0]).all())
        m = factors.get(_ROW_OF[role], (1.0, 1.0))[which]
        told = {
            "start": 0.0 if role.is_bias else m * values.pow(2).mean().sqrt().item(),
            "rate": m**power * float(group["lr"]),
            "epsilon": float(group.get("eps") or 0.0) / m,
            "decay": float(group["lr"]) * float(group.get("weight_decay") or 0.0),
        }
        numbers = {number: value for number, value in told.items() if value > 0}
        drawn = math.inf if constant else float(values.numel())
        made[name] = _Tensor(_ROW_OF[role], numbers, drawn, power)
    return made


def _score_scales(
    base: Module,
    model: Module,
    roles: Callable[[Module], Mapping[str, Role | str]],
    factors: Mapping[str, tuple[float, float]],
) -> tuple[float, float] | None:
    """The scales of the scores at the base and at the target, where attention tells them."""
    if "scores" in factors:
        return factors["scores"]
    found = [_score_scale(one, roles(one)) for one in (base, model)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _score_scale(model: Module, roles: Mapping[str, Role | str]) -> float | None:
    """The number of attention around the first query projection, where it tells one."""
    modules = dict(model.named_modules())
    for query in (name for name, role in roles.items() if Role(role) is Role.QUERY):
        owner = query.rpartition(".")[0]
        for place in (owner, owner.rpartition(".")[0]):
            for attribute in SCALE_ATTRIBUTES:
                value = getattr(modules.get(place), attribute, None)
                if isinstance(value, float):
                    return value
    return None


def _monomial(
    key: str, ratio: float, small: Size, large: Size, slack: float
) -> tuple[Monomial, list[Monomial]]:
    """The simplest monomial that gives a ratio, and others as simple with another value."""
    wanted = math.log(ratio)
    fits = [one for one in _simplest_first(small, large) if abs(wanted - one[1]) <= slack]
    if not fits:
        raise ArgumentError(
            key,
            f"has the ratio {ratio:.4g}, which is no product of powers of the sizes' ratios",
            "compare sizes whose rates follow a rule, or look at this parameter by hand",
        )
    first, value = fits[0]
    most = max(_weight(first), 1)
    others = [one for one, log in fits if abs(log - value) > _EXACT and _weight(one) <= most]
    return first, others


def _weight(made: Monomial) -> Fraction:
    return abs(made.d) + abs(made.N) + abs(made.L)


@functools.lru_cache(maxsize=8)
def _simplest_first(small: Size, large: Size) -> tuple[tuple[Monomial, float], ...]:
    """Monomials and the logarithms of their values."""

    def order(powers: tuple[Fraction, ...]) -> tuple[object, ...]:
        return sum(map(abs, powers)), -abs(powers[0]), -abs(powers[2]), powers

    made = (Monomial(*one) for one in sorted(itertools.product(_POWERS, repeat=3), key=order))
    return tuple((one, math.log(one.at(small, large))) for one in made)
