"""Tokens on the circle draw together in clusters, and clusters merge.

The clouds of all sizes are one compiled program: tokens beyond those asked for have weight zero.

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation, "The
Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from translimit.core import solve
from translimit.explore.chart import INK, Axis, Chart, Line, Points
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import SLIDERS, View
from translimit.figures import COLOURS
from translimit.limits.meanfield import SphereFlow
from translimit.observe import cluster_angle, cluster_labels

MOST = int(SLIDERS["tokens"].high)
#: Depth at the end of the slider.
HORIZON = 15.0
CODE = """\
import numpy as np
from translimit import solve
from translimit.limits.meanfield import SphereFlow
from translimit.observe import cluster_angle, cluster_labels

angles = np.random.default_rng(0).uniform(-np.pi, np.pi, {most})[:{tokens}]
start = np.stack([np.cos(angles), np.sin(angles)], axis=1)
beta = {beta!r}  # 1 / temperature
solution = solve(SphereFlow(initial=start, t1={horizon}, beta=beta))
now = solution.tokens[{index}]  # at depth {depth:.3g}
clusters = len(set(cluster_labels(now, cluster_angle(beta)).tolist()))
"""


def shape(view: View) -> Hashable:
    """One program for every view."""
    del view
    return ()


def panel(view: View) -> Panel:
    """What attention with a normalised stream does to tokens on the circle."""
    n, beta = view.tokens, 1.0 / view.temperature
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, MOST)
    start = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    weights = np.where(np.arange(MOST) < n, 1.0 / n, 0.0)
    solution = solve(SphereFlow(initial=start, t1=HORIZON, beta=beta, weights=weights))
    index = round(100 * view.time)
    depth = HORIZON * index / 100
    tokens = np.asarray(solution.tokens)[:, :n]
    delta = cluster_angle(beta)
    clusters = len(set(cluster_labels(tokens[index], delta).tolist()))

    return Panel(
        says=f"At depth {depth:.3g} the {n} tokens form {clusters} "
        f"cluster{'s' if clusters > 1 else ''} (closer than {delta:.2g} in angle).",
        figures=(
            _circle(
                f"{n} tokens on the circle at depth {depth:.3g}: {clusters} clusters; their start "
                "as open circles.",
                tokens[0],
                tokens[index],
            ),
            _angles(
                f"The angle of every token against depth, up to {HORIZON:g}.",
                np.asarray(solution.ts),
                tokens,
                depth,
            ),
        ),
        assumptions=(
            "Tokens in the plane, scaled to norm one after every layer, in the limit of small "
            "steps; the same weights Q = K = V = I at every depth.",
            f"Attention at inverse temperature β = {beta:.3g}; clusters at low temperature are "
            "metastable and last for times like e^β.",
            "Drawn from one uniform start, the same at every view.",
        ),
        verified=(
            Verified(
                "castin2025/sphere-clustering",
                ("growth-sa", "clusters-*", "energy-increases"),
                "growth rates and the number of clusters, against theory",
            ),
        ),
        code=CODE.format(most=MOST, tokens=n, beta=beta, horizon=HORIZON, index=index, depth=depth),
        numbers={"now": tokens[index], "clusters": clusters},
    )


def _circle(alt: str, start: np.ndarray, now: np.ndarray) -> Chart:
    turn = np.linspace(0, 2 * np.pi, 181)
    ticks = ((-1.0, "−1"), (0.0, "0"), (1.0, "1"))
    return Chart(
        alt=alt,
        title="tokens on the circle",
        x=Axis("first component", -1.3, 1.3, ticks=ticks),
        y=Axis("second component", -1.3, 1.3, ticks=ticks),
        square=True,
        marks=(
            Line(np.cos(turn), np.sin(turn), INK, width=1.0),
            Points(
                1.13 * start[:, 0],
                1.13 * start[:, 1],
                COLOURS[0],
                "start (drawn outside)",
                "ring",
                4.0,
            ),
            Points(now[:, 0], now[:, 1], COLOURS[1], "now", "disc", 6.0),
        ),
    )


def _angles(alt: str, ts: np.ndarray, tokens: np.ndarray, depth: float) -> Chart:
    angles = np.arctan2(tokens[..., 1], tokens[..., 0])
    jumps = np.abs(np.diff(angles, axis=0, append=angles[-1:])) > np.pi
    angles = np.where(jumps, np.nan, angles)
    ticks = ((-np.pi, "−π"), (0.0, "0"), (np.pi, "π"))
    return Chart(
        alt=alt,
        title="their angles",
        x=Axis("depth t", 0.0, HORIZON),
        y=Axis("angle", -np.pi, np.pi, ticks=ticks),
        marks=(
            *(
                Line(ts, one, COLOURS[0], "" if k else "one line a token", "", 1.3, 0.7)
                for k, one in enumerate(angles.T)
            ),
            Line([depth] * 2, [-np.pi, np.pi], COLOURS[1], "now", "", 1.6),
        ),
    )
