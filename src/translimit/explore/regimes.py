"""Which limit the network is in: the map over depth and step, with the network as a point.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from translimit.core import ArgumentError
from translimit.describe import AbstractHeads, WideHeads
from translimit.explore.networks import TOO_LARGE, head_overlaps, mean_effect_overlaps
from translimit.explore.pairs import DIM, diffusive_pair, mean_effect_pair, pair_chart, with_mean
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import Cells, Chart, ChartAxis, Points
from translimit.limits.homogenized import Classification, Regime, classify

#: Places of the map, even on logarithmic axes: layers (the first few would round) and steps.
LAYERS = np.geomspace(1, 1000, 31)
STEPS = np.geomspace(1e-3, 100.0, 36)
#: From light to dark, so that a grey print tells them apart as well.
_SHADES = {
    Regime.FROZEN: "#d3eaf8",
    Regime.BALLISTIC: "#ebc24a",
    Regime.MODIFIED: "#56b4e9",
    Regime.DIFFUSIVE: "#c8590a",
    Regime.DISCRETE: "#43205c",
}
_NAMES = {
    Regime.FROZEN: "frozen",
    Regime.BALLISTIC: "ballistic",
    Regime.MODIFIED: "modified",
    Regime.DIFFUSIVE: "diffusive",
    Regime.DISCRETE: "discrete",
}
CODE = """\
import numpy as np
from translimit.describe import ShiftedHeads, WideHeads
from translimit.explore.networks import head_overlaps, mean_effect_overlaps
from translimit.explore.pairs import diffusive_pair, mean_effect_pair
from translimit.limits.homogenized import classify

sizes = dict(tokens={tokens}, layers={layers}, step={step!r}, heads={heads})
centred = classify(WideHeads(dim={dim}, score_std={score_std!r}), **sizes)
same = np.eye({small})
mean = classify(
    ShiftedHeads(mean_v=same, mean_a=same, beta={score_std!r}, sigma_v={small}**-0.5), **sizes
)
found = [centred.regime.name, mean.regime.name]
decides = np.array([centred.diffusive_time, centred.diffusive_step, mean.noise, mean.third_order])
# Two tokens that start orthogonal, along depth: limits, and networks of these sizes
diffusive = diffusive_pair({dim}, {heads}, {layers}, {step!r}, {score_std!r})
ballistic, modified = mean_effect_pair({layers}, {step!r}, {score_std!r})
networks = head_overlaps(2, {dim}, {heads}, {layers}, {step!r}, {score_std!r})
networks_with_mean = mean_effect_overlaps({small}, {heads}, {layers}, {step!r}, {score_std!r})
"""


def shape(view: View) -> Hashable:
    """Two tokens, at every view."""
    del view
    return 2


def panel(view: View) -> Panel:
    """Frozen, ballistic, modified, diffusive or discrete, for heads without and with a mean."""
    if view.width < 2:
        raise ArgumentError(
            "head_dim", f"got {view.head_dim}: the stream has width 1", "pass wider heads"
        )
    laws = (
        WideHeads(dim=view.width, score_std=view.score_std),
        with_mean(view.score_std),
    )
    sizes = {
        "tokens": view.tokens,
        "layers": view.layers,
        "step": view.step,
        "heads": view.heads,
    }
    centred, mean = (classify(law, **sizes) for law in laws)
    maps = (_map("centred", view.width, view.heads), _map("mean", view.width, view.heads))

    def drawing(place: int, title: str) -> Chart:
        found = (centred, mean)[place]
        alt = (
            f"{title}: regimes over depth and step; the network at depth {view.layers} and step "
            f"{view.step:g} is {_NAMES[found.regime]}."
        )
        return _chart(alt, title, maps[place], view)

    step, score_std = float(view.step), view.score_std
    diffusive = diffusive_pair(view.width, view.heads, view.layers, step, score_std)
    ballistic, modified = mean_effect_pair(view.layers, step, score_std)
    networks = head_overlaps(2, view.width, view.heads, view.layers, step, score_std)
    shifted = mean_effect_overlaps(DIM, view.heads, view.layers, step, score_std)
    drawn = "" if len(networks) and len(shifted) else f" {TOO_LARGE}"
    return Panel(
        says=f"Heads without a mean effect: {_NAMES[centred.regime]} ({centred.regime.value}). "
        f"Heads with one: {_NAMES[mean.regime]} ({mean.regime.value}).{drawn}",
        figures=(
            drawing(0, "heads without a mean effect"),
            drawing(1, "heads with a mean effect"),
            pair_chart(
                "two tokens, heads without a mean effect",
                view.layers,
                {"frozen: nothing moves": np.zeros(2), "diffusive limit, mean": diffusive},
                networks,
            ),
            pair_chart(
                "two tokens, heads with a mean effect",
                view.layers,
                {"ballistic limit": ballistic, "modified equation": modified},
                shifted,
            ),
        ),
        assumptions=_assumptions(centred, mean),
        verified=(
            Verified(
                "koubbi2026/regimes",
                ("ballistic-order", "modified-order-corrected", "diffusive-order-*", "one-clock"),
                "the order of the error of each limit",
            ),
            Verified(
                "koubbi2026/overlaps",
                ("sde-is-the-chain", "one-diffusive-step-one-law"),
                "the stochastic limit against chains",
            ),
        ),
        code=CODE.format(
            tokens=view.tokens,
            layers=view.layers,
            step=view.step,
            heads=view.heads,
            dim=view.width,
            score_std=view.score_std,
            small=DIM,
        ),
        numbers={
            "found": [centred.regime.name, mean.regime.name],
            "decides": np.array(
                [centred.diffusive_time, centred.diffusive_step, mean.noise, mean.third_order],
                dtype=float,
            ),
            "diffusive": diffusive,
            "ballistic": ballistic,
            "modified": modified,
            "networks": networks,
            "networks_with_mean": shifted,
        },
        table=(
            ("number", "without a mean", "with a mean"),
            *(
                (name, f"{getattr(centred, field):.4g}", f"{getattr(mean, field):.4g}")
                for name, field in (
                    ("diffusive time of all layers", "diffusive_time"),
                    ("diffusive time of one layer", "diffusive_step"),
                    ("noise α η L", "noise"),
                    ("η² L", "second_order"),
                    ("η³ L", "third_order"),
                )
            ),
        ),
    )


def _assumptions(centred: Classification, mean: Classification) -> tuple[str, ...]:
    # The heads with a mean live in few dimensions; warnings of that say nothing of networks.
    said = dict.fromkeys((*centred.warnings, *(one for one in mean.warnings if "time" in one)))
    return (
        f"Small means at most {centred.tolerance:g}: a convention, not a theorem.",
        "Without a mean effect: centred Gaussian values. With one: every head has the same mean "
        f"map and noise of the same size, in {DIM} dimensions.",
        *(f"Note: {one}." for one in said),
    )


@lru_cache(maxsize=256)
def _map(kind: str, dim: int, heads: int) -> np.ndarray:
    """Numbers of regimes [steps, layers]; scores do not matter for them."""
    law: AbstractHeads = WideHeads(dim=dim, score_std=1.0) if kind == "centred" else with_mean(1.0)
    order = list(Regime)
    return np.array(
        [
            [
                order.index(
                    classify(law, tokens=2, layers=round(n), step=float(s), heads=heads).regime
                )
                for n in LAYERS
            ]
            for s in STEPS
        ]
    )


def _chart(alt: str, title: str, regimes: np.ndarray, view: View) -> Chart:
    return Chart(
        alt=alt,
        title=title,
        x=ChartAxis("depth L", float(LAYERS[0]), float(LAYERS[-1]), log=True),
        y=ChartAxis("step η", float(STEPS[0]), float(STEPS[-1]), log=True),
        marks=(
            Cells(regimes, tuple(_SHADES.values()), tuple(_NAMES.values())),
            Points([view.layers], [view.step], label="the network", kind="star", size=11.0),
        ),
    )
