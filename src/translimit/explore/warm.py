"""Compiling ahead: the programs behind the panels, one after the other, while the page is read.

Panels whose views share a shape share a compiled program. What is compiled is remembered, so that
the page can show a sign of progress where a view has to wait.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from translimit.core import TranslimitError
from translimit.explore.controls import SLIDERS
from translimit.explore.panel import Panel
from translimit.explore.registry import PANELS, panel_of
from translimit.explore.view import View

_ready: set[tuple[str, Hashable]] = set()
_locks: dict[tuple[str, Hashable], threading.Lock] = defaultdict(threading.Lock)
_guard = threading.Lock()


def is_ready(view: View) -> bool:
    """Whether the open panel answers at once: its program is compiled, or it needs none."""
    kind, second = PANELS[view.panel], view.second
    shapes = [kind.shape(one) for one in (view, second if kind.compares else None) if one]
    return all(shape is None or (view.panel, shape) in _ready for shape in shapes)


def compute(view: View) -> Panel:
    """The open panel of a view; two threads never compile the same program.

    Raises:
        TranslimitError: as `panel_of`.
    """
    return panel_of(view, _alone)


def _alone(view: View) -> Panel:
    kind = PANELS[view.panel]
    if is_ready(view):
        return kind.panel(view)
    key = view.panel, kind.shape(view)
    with _guard:
        lock = _locks[key]
    with lock:
        found = kind.panel(view)
    _ready.add(key)
    return found


def plan() -> Sequence[View]:
    """The views that between them need every program behind the stops of the sliders."""
    first = View()
    tokens, heads = SLIDERS["tokens"].values, SLIDERS["heads"].values
    return [
        *(
            replace(first, panel=name)
            for name in ("overlaps", "ellipses", "clusters", "covariance", "regimes")
        ),
        *(replace(first, panel="overlaps", tokens=int(one)) for one in tokens),
        *(replace(first, panel="covariance", heads=int(one)) for one in heads),
    ]


def start(views: Sequence[View] | None = None) -> threading.Thread:
    """Compile what the plan needs, in a thread that ends with the process."""
    chosen = plan() if views is None else views

    def work() -> None:
        for view in chosen:
            if not is_ready(view):
                try:
                    compute(view)
                except TranslimitError:  # told where somebody asks for it
                    continue

    thread = threading.Thread(target=work, name="translimit-explore-warm", daemon=True)
    thread.start()
    return thread
