"""Two recipes number by number: what differs, as a monomial with exact exponents.

Both are brought into one form first (`translimit.scaling.recipes.exchanges`).
"""

from __future__ import annotations

from dataclasses import dataclass

from translimit.core import Json
from translimit.describe import OptimizerKind, OptimizerName, Size
from translimit.scaling.recipes.invariants import Invariants
from translimit.scaling.recipes.known import Recipe, get
from translimit.scaling.recipes.monomials import Monomial


@dataclass(frozen=True)
class Difference:
    """One number in which two recipes differ.

    Attributes:
        number: `row.start`, `.rate`, `.epsilon` or `.decay`, or `scores`; with a parameter's name
            behind it where that one differs from the rest of its row.
        ratio: the first recipe over the second.
        value: the ratio between the two sizes.
    """

    number: str
    ratio: Monomial
    value: float

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {"number": self.number, "ratio": str(self.ratio), "value": self.value}


def diff(
    a: str | Recipe | Invariants,
    b: str | Recipe | Invariants,
    base: Size,
    target: Size,
    optimizer: OptimizerName | OptimizerKind,
    *,
    force: bool = False,
) -> tuple[Difference, ...]:
    """Where a recipe differs from another one; nothing where they train the same network.

    Args:
        a: a recipe, its name, or numbers of one's own.
        b: another one.
        base: the tuned size.
        target: the other one; numbers are compared by exponents where both have them, so that a
            ratio of 1 hides nothing but what is 1.
        optimizer: of both.
        force: compare along depth although one has no rule there.

    Raises:
        ArgumentError: an unknown recipe.
        UnsupportedModuleError: as `Recipe.at`.

    Examples:
        >>> small = Size(head_dim=16, heads=4, layers=2)
        >>> large = Size(head_dim=16, heads=8, layers=2)
        >>> [one.number for one in diff("completep", "translimit", small, large, "adamw")]
        []
    """
    one, other = _both(a, b, base, target, optimizer, force)
    found = []
    for number, power in one.exponents.items():
        if (against := _of(other, number)) is None:
            continue
        ratio = power / against
        value = ratio.at(base, target)
        if abs(value - 1) > 1e-12:
            found.append(Difference(number, ratio, value))
    return tuple(found)


def not_compared(
    a: str | Recipe | Invariants,
    b: str | Recipe | Invariants,
    base: Size,
    target: Size,
    optimizer: OptimizerName | OptimizerKind,
    *,
    force: bool = False,
) -> tuple[str, ...]:
    """The numbers of `a` that `diff` passes over, for `b` has none; the arguments are its own."""
    one, other = _both(a, b, base, target, optimizer, force)
    return tuple(number for number in one.exponents if _of(other, number) is None)


def _both(
    a: str | Recipe | Invariants,
    b: str | Recipe | Invariants,
    base: Size,
    target: Size,
    optimizer: OptimizerName | OptimizerKind,
    force: bool,
) -> tuple[Invariants, Invariants]:
    def made(of: str | Recipe | Invariants) -> Invariants:
        if isinstance(of, Invariants):
            return of
        recipe = of if isinstance(of, Recipe) else get(of)
        return recipe.at(base, target, optimizer, force=force)

    one, other = made(a), made(b)
    return one.canonical(other.normed), other.canonical(one.normed)


def _of(made: Invariants, number: str) -> Monomial | None:
    """A number, that of the whole row for one parameter's."""
    return made.exponents.get(number, made.exponents.get(number.partition(" ")[0]))
