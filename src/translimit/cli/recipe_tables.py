"""Tables of published recipes of scaling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from translimit.cli.tables import rows_of

if TYPE_CHECKING:
    from translimit.scaling.recipes import Invariants, Recipe

_NUMBERS = ("start", "rate", "epsilon", "decay", "scale")


def recipes_table(recipes: Iterable[Recipe]) -> Table:
    """The recipes with their sources and optimisers."""
    rows = [
        (
            one.name,
            one.source,
            ", ".join(one.optimizers),
            "yes" if one.depth else "no",
        )
        for one in recipes
    ]
    return rows_of(("recipe", "source", "optimizers", "rule of depth"), rows)


def recipe_table(made: Invariants) -> Table:
    """The numbers of one recipe: what no move of a tensor changes."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for row, numbers in made.table().items():
        cells = tuple(numbers.get(name, "") for name in _NUMBERS)
        alike.setdefault(cells, []).append(row)
    rows = [(", ".join(names), *cells) for cells, names in alike.items()]
    return rows_of(("parameters", *_NUMBERS), rows)
