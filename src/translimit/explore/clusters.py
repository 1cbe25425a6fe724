"""Tokens on the circle and on the sphere draw together in clusters, and clusters merge.

Beside the limit of small steps, a network: layers of one step each, with the norm after every one.
The clouds of all sizes are one compiled program: tokens beyond those asked for have weight zero.

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation, "The
Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from jaxtyping import Float

from translimit.core import SPHERE, solve
from translimit.explore.globe import Globe
from translimit.explore.panel import Panel, Verified
from translimit.explore.starts import start
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line, Points
from translimit.limits.meanfield import SphereFlow
from translimit.observe import cluster_angle, cluster_labels

#: Tokens of the compiled program, and of the figures.
MOST = 64
#: Depth at the end of the slider.
HORIZON = 15.0
CODE = """\
import numpy as np
from translimit import solve
from translimit.explore.clusters import network
from translimit.explore.starts import start
from translimit.limits.meanfield import SphereFlow
from translimit.observe import cluster_angle, cluster_labels

beta = {beta!r}  # 1 / score temperature
now, clusters, finite = {{}}, {{}}, {{}}
for dim in (2, 3):  # the circle, the sphere
    initial = start(dim, {tokens}, {seed}, {moved!r})
    solution = solve(SphereFlow(initial=initial, t1={horizon}, beta=beta))
    now[dim] = solution.tokens[{index}]  # at depth {depth:.3g}
    clusters[dim] = len(set(cluster_labels(now[dim], cluster_angle(beta)).tolist()))
    # A network of {layers} layers over depth {horizon:g}: x <- N(x + step attention(x))
    finite[dim] = network(initial, beta, {layers})[{layer}]
circle, sphere = now[2], now[3]
on_circle, on_sphere = clusters[2], clusters[3]
network_circle, network_sphere = finite[2], finite[3]
"""


def shape(view: View) -> Hashable:
    """One program for every view."""
    del view
    return ()


def panel(view: View) -> Panel:
    """What attention with a normalised stream does to tokens on the circle and on the sphere."""
    n, beta = min(view.tokens, MOST), 1.0 / view.score_temperature
    index = round(100 * view.time)
    depth = HORIZON * index / 100
    layer = round(view.layers * index / 100)
    delta = cluster_angle(beta)
    starts = [start(dim, n, view.seed, view.moved) for dim in (2, 3)]
    circle, sphere = (_flow(one, beta) for one in starts)
    finite = [network(one, beta, view.layers) for one in starts]
    on_circle, on_sphere = (
        len(set(cluster_labels(tokens[index], delta).tolist())) for _, tokens in (circle, sphere)
    )
    apart = _apart(finite[1][layer], sphere[1][index])
    drawn = "" if n == view.tokens else f" (of {view.tokens}; more are too many to draw)"

    return Panel(
        says=f"At depth {depth:.3g} the {n} tokens{drawn} form {_clusters(on_circle)} on the "
        f"circle and {_clusters(on_sphere)} on the sphere (closer than {delta:.2g} in angle). "
        f"After {layer} of {view.layers} layers those of a network are {apart:.2g} in angle away.",
        figures=(
            _circle(
                f"{n} tokens on the circle at depth {depth:.3g}: {_clusters(on_circle)}; their "
                "start as open circles, those of a network as squares.",
                circle[1][0],
                circle[1][index],
                finite[0][layer],
                view.layers,
            ),
            Globe(
                _sphere(
                    f"{n} tokens on the sphere, seen from one side, at depth {depth:.3g}: "
                    f"{_clusters(on_sphere)}; those on the far side as open circles.",
                    sphere[1][: index + 1],
                    finite[1][layer],
                    view.layers,
                ),
                sphere[1][: index + 1],
                finite[1][layer],
                view.moved,
            ),
            _angles(
                f"The angle of every token on the circle against depth, up to {HORIZON:g}.",
                *circle,
                depth,
                finite[0],
            ),
        ),
        assumptions=(
            "Tokens in the plane and in space, scaled to norm one after every layer, in the limit "
            "of small steps; the same weights Q = K = V = I at every depth.",
            f"Attention at inverse temperature β = {beta:.3g}; clusters at low temperature are "
            "metastable and last for times like e^β.",
            f"The limit is that of many layers over the same depth. A network of {view.layers} "
            f"takes steps of {HORIZON / view.layers:.3g}; its distance falls like one over layers.",
            f"Uniform starts of seed {view.seed}"
            + (", some moved by hand." if view.moved else ", the same at every view."),
        ),
        verified=(
            Verified(
                "castin2025/sphere-clustering",
                ("growth-sa", "clusters-*", "energy-increases"),
                "growth rates and the number of clusters, against theory",
            ),
        ),
        code=CODE.format(
            tokens=n,
            seed=view.seed,
            moved=view.moved,
            beta=beta,
            horizon=HORIZON,
            index=index,
            depth=depth,
            layers=view.layers,
            layer=layer,
        ),
        numbers={
            "circle": circle[1][index],
            "sphere": sphere[1][index],
            "on_circle": on_circle,
            "on_sphere": on_sphere,
            "network_circle": finite[0][layer],
            "network_sphere": finite[1][layer],
        },
    )


def network(
    initial: Float[np.ndarray, "tokens dim"], beta: float, layers: int
) -> Float[np.ndarray, "levels tokens dim"]:
    """Tokens after every layer of a network: x <- N(x + step attention(x)), Q = K = V = I.

    Args:
        initial: tokens of norm one [tokens, dim].
        beta: inverse temperature of the softmax.
        layers: how many share the depth `HORIZON`; the step is its part of one layer.
    """
    found, step = [np.asarray(initial, dtype=float)], HORIZON / layers
    for _ in range(layers):
        tokens = found[-1]
        scores = np.exp(beta * (tokens @ tokens.T - 1.0))
        added = scores @ tokens / scores.sum(axis=1, keepdims=True)
        found.append(np.asarray(SPHERE.project(tokens + step * added)))
    return np.stack(found)


def _apart(some: np.ndarray, others: np.ndarray) -> float:
    """The mean angle between tokens of two clouds."""
    return float(2 * np.arcsin(np.linalg.norm(some - others, axis=1).clip(max=2.0) / 2).mean())


def _flow(initial: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Depths, and the tokens at each."""
    n, dim = initial.shape
    padded = np.concatenate([initial, np.tile(np.eye(dim)[:1], (MOST - n, 1))])
    weights = np.where(np.arange(MOST) < n, 1.0 / n, 0.0)
    solution = solve(SphereFlow(initial=padded, t1=HORIZON, beta=beta, weights=weights))
    return np.asarray(solution.ts), np.asarray(solution.tokens)[:, :n]


def _clusters(count: int) -> str:
    return f"{count} cluster{'s' if count > 1 else ''}"


def _circle(alt: str, start: np.ndarray, now: np.ndarray, finite: np.ndarray, layers: int) -> Chart:
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
            Points(
                0.9 * finite[:, 0],
                0.9 * finite[:, 1],
                COLOURS[0],
                f"network of {layers} layers (drawn inside)",
                "square",
                3.0,
            ),
        ),
    )


def _sphere(alt: str, path: np.ndarray, finite: np.ndarray, layers: int) -> Chart:
    """From the direction (1, 1, 1); what is behind is open."""
    axes = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 2.0]])
    axes = SPHERE.project(axes)
    away, across, up = np.moveaxis(path @ axes.T, -1, 0)
    front = away[-1] > 0
    network_across, network_up = (finite @ axes[1:].T).T
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
            Points(
                network_across,
                network_up,
                COLOURS[0],
                f"network of {layers} layers",
                "square",
                3.0,
            ),
            Points(across[0], up[0], INK, "start", "diamond", 4.0),
        ),
    )


def _angles(
    alt: str, ts: np.ndarray, tokens: np.ndarray, depth: float, finite: np.ndarray
) -> Chart:
    ticks = ((-np.pi, "−π"), (0.0, "0"), (np.pi, "π"))
    levels = np.linspace(0.0, HORIZON, len(finite))
    name = f"network of {len(finite) - 1} layers"
    return Chart(
        alt=alt,
        title="angles on the circle",
        x=ChartAxis("depth t", 0.0, HORIZON),
        y=ChartAxis("angle", -np.pi, np.pi, ticks=ticks),
        marks=(
            *(
                Line(ts, one, COLOURS[1], "" if k else "one line a token", "", 1.6, 0.7)
                for k, one in enumerate(_unwrapped(tokens))
            ),
            *(
                Line(levels, one, COLOURS[0], "" if k else name, "3 3", 1.3, 0.8)
                for k, one in enumerate(_unwrapped(finite))
            ),
            Line([depth] * 2, [-np.pi, np.pi], INK, "now", "", 1.6),
        ),
    )


def _unwrapped(tokens: np.ndarray) -> np.ndarray:
    """Angles of tokens on the circle [tokens, times], broken where they pass the end."""
    angles = np.arctan2(tokens[..., 1], tokens[..., 0])
    jumps = np.abs(np.diff(angles, axis=0, append=angles[-1:])) > np.pi
    return np.where(jumps, np.nan, angles).T
