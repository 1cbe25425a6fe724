"""The panels of the page, by name."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from translimit.core import TranslimitError
from translimit.explore import (
    clusters,
    comparison,
    covariance,
    ellipses,
    glance,
    overlaps,
    rates,
    regimes,
    stack,
    training,
)
from translimit.explore.panel import Panel
from translimit.explore.view import View


@dataclass(frozen=True)
class Kind:
    """A kind of panel.

    Attributes:
        title: what the page calls it.
        question: what it answers.
        reads: the controls that change it: sliders, choices, texts and the seed.
        panel: computes it.
        shape: views with the same shape share a compiled program; None where nothing is compiled.
        quick: whether its programs are compiled ahead, while the page is read.
        compares: whether it shows a second architecture in the same charts.
        plays: the slider that its button moves from stop to stop, or "".
    """

    title: str
    question: str
    reads: tuple[str, ...]
    panel: Callable[[View], Panel]
    shape: Callable[[View], Hashable]
    quick: bool = True
    plays: str = ""
    compares: bool = False


PANELS: dict[str, Kind] = {
    "overlaps": Kind(
        "Overlaps and collapse",
        "How do tokens align along depth, and in which layer do they collapse?",
        ("heads", "head_dim", "layers", "tokens", "step", "score_temperature"),
        overlaps.panel,
        overlaps.shape,
        plays="layers",
        compares=True,
    ),
    "covariance": Kind(
        "Covariance SDE",
        "What is random about the covariance when depth and width grow together?",
        ("heads", "head_dim", "layers", "step", "score_temperature"),
        covariance.panel,
        covariance.shape,
        plays="layers",
        compares=True,
    ),
    "ellipses": Kind(
        "Gaussian closure",
        "How does attention move a Gaussian cloud of infinitely many tokens?",
        ("score_temperature", "time", "variant", "maps", "maps_text"),
        ellipses.panel,
        ellipses.shape,
        plays="time",
    ),
    "clusters": Kind(
        "Clusters",
        "How do tokens on the circle and on the sphere gather?",
        ("tokens", "layers", "score_temperature", "time", "seed", "moved"),
        clusters.panel,
        clusters.shape,
        plays="time",
    ),
    "regimes": Kind(
        "Regime map",
        "Which limit is the network in?",
        ("heads", "head_dim", "layers", "step", "score_temperature"),
        regimes.panel,
        regimes.shape,
        plays="layers",
        compares=True,
    ),
    "rates": Kind(
        "Learning rates",
        "Which starts and rates carry a small model's tuning over?",
        ("heads", "head_dim", "layers", "alpha_a", "alpha_l", "optimizer"),
        rates.panel,
        rates.shape,
        plays="layers",
        compares=True,
    ),
    "training": Kind(
        "Training",
        "How does a network with infinitely many heads learn?",
        ("heads", "head_dim", "layers", "alpha_l", "gamma0", "rate", "time"),
        training.panel,
        training.shape,
        quick=False,
        plays="time",
        compares=True,
    ),
    "stack": Kind(
        "This architecture",
        "What does the described stack do at initialisation, block by block?",
        ("heads", "head_dim", "layers", "tokens", "step", "score_temperature", "time"),
        stack.panel,
        stack.shape,
        quick=False,
        plays="time",
        compares=True,
    ),
}


_QUICK = {name: (kind.title, kind.panel, kind.shape) for name, kind in PANELS.items() if kind.quick}
PANELS["all"] = Kind(
    "All at a glance",
    "What does each limit say of the same sliders?",
    tuple(dict.fromkeys(one for name in _QUICK for one in PANELS[name].reads)),
    glance.panel_from(_QUICK),
    glance.shape_of(_QUICK),
    quick=False,
)


def panel_of(view: View, alone: Callable[[View], Panel] | None = None) -> Panel:
    """The open panel of a view, with its second architecture where the panel compares two.

    Args:
        view: what the page shows.
        alone: computes the panel of one architecture; the panel's own function by default.

    Raises:
        TranslimitError: what the limit refuses; the message says why.

    Examples:
        >>> panel_of(View(panel="rates", heads=8)).table[0][0]
        'parameter'
    """
    kind = PANELS[view.panel]
    compute = kind.panel if alone is None else alone
    first = compute(replace(view, other=""))
    second = view.second
    if second is None or not kind.compares:
        return first
    try:
        return comparison.compared(first, compute(second), view)
    except TranslimitError as error:
        return comparison.refused(first, error, view)
