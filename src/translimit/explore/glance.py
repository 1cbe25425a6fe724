"""Every limit that answers at once, side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

from translimit.core import TranslimitError
from translimit.explore.panel import Panel
from translimit.explore.view import View
from translimit.figures import Chart

CODE = """\
from translimit.explore import PANELS, View

view = View.from_query({query!r})
says = [kind.panel(view).says for name, kind in PANELS.items() if name in {names}]
"""


def shape_of(parts: Mapping[str, tuple[str, Callable, Callable]]) -> Callable[[View], Hashable]:
    """What decides which compiled programs are used: the shapes of all parts."""
    return lambda view: tuple(shape(view) for _, _, shape in parts.values())


def panel_from(
    parts: Mapping[str, tuple[str, Callable, Callable]],
) -> Callable[[View], Panel]:
    """The panel that shows the first figure of every part, and what it says.

    Args:
        parts: name to title, panel and shape.
    """

    def panel(view: View) -> Panel:
        """What every limit predicts for the view."""
        says: list[str] = []
        charts: list[Chart] = []
        rows: list[tuple[str, ...]] = [("limit", "predicts")]
        for title, compute, _ in parts.values():
            try:
                found = compute(view)
            except TranslimitError as error:  # one limit refuses, the others stand
                rows.append((title, f"refused: {error}"))
                continue
            says.append(found.says)
            rows.append((title, f"{found.says} {found.aside}".strip()))
            first = next(one for one in found.figures if isinstance(one, Chart))
            charts.append(replace(first, title=title))
        query = {name: text for name, text in view.query.items() if name != "panel"}
        return Panel(
            says="What each limit predicts for the same sliders; the panels say what each assumes.",
            figures=tuple(charts),
            assumptions=(
                "The limits answer different questions about different blocks; no network obeys "
                "all of them at once. The regime map says which of them is near.",
            ),
            verified=(),
            code=CODE.format(query=query, names=list(parts)),
            numbers={"says": says},
            table=tuple(rows),
        )

    return panel
