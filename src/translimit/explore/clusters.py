"""Tokens on the circle and on the sphere draw together in clusters, and clusters merge.

The clouds of all sizes are one compiled program: tokens beyond those asked for have weight zero.

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation, "The
Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from translimit.core import SPHERE, solve
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import SLIDERS, View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line, Points
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

beta = {beta!r}  # 1 / temperature
now, clusters = {{}}, {{}}
for dim in (2, 3):  # the circle, the sphere
    start = np.random.default_rng(dim).standard_normal(({most}, dim))[:{tokens}]
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    solution = solve(SphereFlow(initial=start, t1={horizon}, beta=beta))
    now[dim] = solution.tokens[{index}]  # at depth {depth:.3g}
    clusters[dim] = len(set(cluster_labels(now[dim], cluster_angle(beta)).tolist()))
circle, sphere = now[2], now[3]
on_circle, on_sphere = clusters[2], clusters[3]
"""


def shape(view: View) -> Hashable:
    """One program for every view."""
    del view
    return ()


def panel(view: View) -> Panel:
    """What attention with a normalised stream does to tokens on the circle and on the sphere."""
    n, beta = view.tokens, 1.0 / view.temperature
    index = round(100 * view.time)
    depth = HORIZON * index / 100
    delta = cluster_angle(beta)
    circle, sphere = _flow(2, n, beta), _flow(3, n, beta)
    on_circle, on_sphere = (
        len(set(cluster_labels(tokens[index], delta).tolist())) for _, tokens in (circle, sphere)
    )

    return Panel(
        says=f"At depth {depth:.3g} the {n} tokens form {_clusters(on_circle)} on the circle and "
        f"{_clusters(on_sphere)} on the sphere (closer than {delta:.2g} in angle).",
        figures=(
            _circle(
                f"{n} tokens on the circle at depth {depth:.3g}: {_clusters(on_circle)}; their "
                "start as open circles.",
                circle[1][0],
                circle[1][index],
            ),
            _angles(f"The angle of every token against depth, up to {HORIZON:g}.", *circle, depth),
            _sphere(
                f"{n} tokens on the sphere, seen from one side, at depth {depth:.3g}: "
                f"{_clusters(on_sphere)}; those on the far side as open circles.",
                sphere[1][: index + 1],
            ),
        ),
        assumptions=(
            "Tokens in the plane and in space, scaled to norm one after every layer, in the limit "
            "of small steps; the same weights Q = K = V = I at every depth.",
            f"Attention at inverse temperature β = {beta:.3g}; clusters at low temperature are "
            "metastable and last for times like e^β.",
            "Drawn from one uniform start each, the same at every view.",
        ),
        verified=(
            Verified(
                "castin2025/sphere-clustering",
                ("growth-sa", "clusters-*", "energy-increases"),
                "growth rates and the number of clusters, against theory",
            ),
        ),
        code=CODE.format(most=MOST, tokens=n, beta=beta, horizon=HORIZON, index=index, depth=depth),
        numbers={
            "circle": circle[1][index],
            "sphere": sphere[1][index],
            "on_circle": on_circle,
            "on_sphere": on_sphere,
        },
    )


def _flow(dim: int, n: int, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Depths, and the first n tokens at each."""
    start = np.random.default_rng(dim).standard_normal((MOST, dim))
    start = SPHERE.project(start)
    weights = np.where(np.arange(MOST) < n, 1.0 / n, 0.0)
    solution = solve(SphereFlow(initial=start, t1=HORIZON, beta=beta, weights=weights))
    return np.asarray(solution.ts), np.asarray(solution.tokens)[:, :n]


def _clusters(count: int) -> str:
    return f"{count} cluster{'s' if count > 1 else ''}"


def _circle(alt: str, start: np.ndarray, now: np.ndarray) -> Chart:
    turn = np.linspace(0, 2 * np.pi, 181)
    ticks = ((-1.0, "−1"), (0.0, "0"), (1.0, "1"))
    return Chart(
        alt=alt,
        title="tokens on the circle",
        x=ChartAxis("first component", -1.3, 1.3, ticks=ticks),
        y=ChartAxis("second component", -1.3, 1.3, ticks=ticks),
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


def _sphere(alt: str, path: np.ndarray) -> Chart:
    """From the direction (1, 1, 1); what is behind is open."""
    axes = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 2.0]])
    axes = SPHERE.project(axes)
    away, across, up = np.moveaxis(path @ axes.T, -1, 0)
    front = away[-1] > 0
    turn = np.linspace(0, 2 * np.pi, 181)
    ticks = ((-1.0, ""), (0.0, ""), (1.0, ""))
    behind = np.where(away > 0, np.nan, across), np.where(away > 0, np.nan, up)
    before = np.where(away > 0, across, np.nan), np.where(away > 0, up, np.nan)
    return Chart(
        alt=alt,
        title="tokens on the sphere",
        x=ChartAxis("seen from one side", -1.3, 1.3, ticks=ticks),
        y=ChartAxis("", -1.3, 1.3, ticks=ticks),
        square=True,
        marks=(
            Line(np.cos(turn), np.sin(turn), INK, width=1.0),
            *(
                Line(x, y, INK, "", "2 3", 1.0, 0.35)
                for x, y in zip(*(b.T for b in behind), strict=True)
            ),
            *(
                Line(x, y, INK, "" if k else "the way from the start", "", 1.0, 0.5)
                for k, (x, y) in enumerate(zip(*(b.T for b in before), strict=True))
            ),
            Points(across[-1][~front], up[-1][~front], COLOURS[1], "now, far side", "ring", 5.0),
            Points(across[-1][front], up[-1][front], COLOURS[1], "now, near side", "disc", 6.0),
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
        x=ChartAxis("depth t", 0.0, HORIZON),
        y=ChartAxis("angle", -np.pi, np.pi, ticks=ticks),
        marks=(
            *(
                Line(ts, one, COLOURS[0], "" if k else "one line a token", "", 1.3, 0.7)
                for k, one in enumerate(angles.T)
            ),
            Line([depth] * 2, [-np.pi, np.pi], COLOURS[1], "now", "", 1.6),
        ),
    )
