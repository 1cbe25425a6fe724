"""The animated picture of the front page: tokens on a sphere beside the law of infinitely many.

`make animation` solves both and writes `assets/sphere.gif`, and `assets/sphere-still.webp` for
readers who ask their system for reduced motion. The law is solved by a quadrature: the
vertices of a mesh with the mass of the start around each as their weight, moved by the same flow.
It is shown smoothed over a few degrees, since it concentrates on points.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PICTURE = ROOT / "docs" / "assets" / "sphere.gif"
#: One frame of it, between the start and the end.
STILL, SHOWN = PICTURE.with_name("sphere-still.webp"), 30

TOKENS, BETA, T1 = 400, 10.0, 9.0
#: Frames along depth, and copies of the last one.
FRAMES, HELD = 44, 12
#: Milliseconds of a frame, pixels of a sphere, colours of the picture.
DURATION, PIXELS, COLOURS = 90, 260, 48
#: Concentration of the smoothing: a width of 7 degrees.
SMOOTHING = 70.0
#: Centres of the bumps of the start, and their weights beside a uniform part.
CENTRES = ((1, 0.2, 0.1), (-0.3, 1, 0.5), (-0.8, -0.5, 0.6), (0.1, -1, -0.2), (-0.4, 0.3, -1))
WEIGHTS = (1.0, 0.8, 0.9, 0.7, 0.8)
SHARPNESS = 5.0


def start_density(points: np.ndarray) -> np.ndarray:
    """The density of the start, up to a factor [points]."""
    centres = np.array(CENTRES) / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    return 0.3 + np.exp(SHARPNESS * (points @ centres.T - 1)) @ np.array(WEIGHTS)


def sphere_mesh(rings: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of a spiral that covers the sphere evenly, and the area of each [points]."""
    count = rings**2
    place = np.arange(count) + 0.5
    height, turn = 1 - 2 * place / count, np.pi * (1 + 5**0.5) * place
    radius = np.sqrt(1 - height**2)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
    return points, np.full(count, 4 * np.pi / count)


def paths() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Depths, tokens [times, tokens, 3], nodes of the law [times, nodes, 3] and their weights."""
    from translimit import solve
    from translimit.limits.meanfield import SphereFlow

    rng = np.random.default_rng(3)
    tried = rng.standard_normal((40 * TOKENS, 3))
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    density = start_density(tried)
    tokens = tried[rng.uniform(0, density.max(), len(tried)) < density][:TOKENS]
    nodes, areas = sphere_mesh(45)
    weights = start_density(nodes) * areas
    weights /= weights.sum()
    ts = T1 * np.linspace(0, 1, FRAMES) ** 1.5
    finite = solve(SphereFlow(initial=tokens, t1=T1, beta=BETA), save=ts)
    law = solve(SphereFlow(initial=nodes, t1=T1, beta=BETA, weights=weights), save=ts)
    return ts, np.asarray(finite.tokens), np.asarray(law.tokens), weights


def frame(
    t: float, turn: float, tokens: np.ndarray, nodes: np.ndarray, weights: np.ndarray
) -> bytes:
    """One frame as PNG: tokens on the left, the smoothed law on the right.

    Args:
        t: the depth.
        turn: angle of the view.
        tokens: [tokens, 3].
        nodes: of the law [nodes, 3].
        weights: of the nodes.
    """
    from matplotlib.figure import Figure

    from translimit.figures import COLOURS as SERIES

    c, s, tilt = np.cos(turn), np.sin(turn), 0.35
    view = np.array([[c, s, 0], [-s * np.sin(tilt), c * np.sin(tilt), np.cos(tilt)]])
    view = np.vstack([view, np.cross(view[0], view[1])])
    across = np.linspace(-1.04, 1.04, 170)
    u, v = np.meshgrid(across, across)
    inside = u**2 + v**2 < 1
    facing = np.stack([u[inside], v[inside], np.sqrt(1 - u[inside] ** 2 - v[inside] ** 2)], axis=1)
    kernel = np.exp(SMOOTHING * (facing.astype("f4") @ (nodes @ view.T).T.astype("f4") - 1))
    smoothed = np.full(u.shape, np.nan)
    smoothed[inside] = np.sqrt(kernel @ weights.astype("f4") * 2 * SMOOTHING)

    figure = Figure(figsize=(2 * PIXELS / 100 + 0.2, PIXELS / 100 + 0.3), dpi=100)
    left, right = (figure.add_axes((x, 0.0, 0.49, 0.89)) for x in (0.005, 0.505))
    edge = np.linspace(0, 2 * np.pi, 200)
    seen = tokens @ view.T
    front = seen[:, 2] >= 0
    left.plot(*seen[~front, :2].T, ".", color="#cccccc", markersize=4)
    left.plot(*seen[front, :2].T, ".", color=SERIES[0], markersize=6)
    right.imshow(
        smoothed, extent=(-1.04, 1.04, -1.04, 1.04), origin="lower", cmap="Blues", vmin=0, vmax=5
    )
    for ax, title in ((left, f"{len(tokens)} tokens"), (right, "infinitely many")):
        ax.plot(np.cos(edge), np.sin(edge), color="#888888", linewidth=1)
        ax.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
        ax.set_title(title, fontsize=11)
        ax.axis("off")
    figure.text(0.5, 0.02, f"depth {t:.1f}", ha="center", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor="white")
    return out.getvalue()


def write() -> None:
    """Solve, draw and write the picture."""
    sys.path.insert(0, str(SOURCE))
    from PIL import Image

    ts, tokens, nodes, weights = paths()
    turns = np.linspace(0.2, 1.7, FRAMES + HELD)
    places = [*range(FRAMES), *[FRAMES - 1] * HELD]
    drawn = [
        Image.open(io.BytesIO(frame(ts[k], turn, tokens[k], nodes[k], weights))).convert("RGB")
        for k, turn in zip(places, turns, strict=True)
    ]
    palette = drawn[-1].quantize(COLOURS, dither=Image.Dither.NONE)
    frames = [one.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for one in drawn]
    drawn[SHOWN].save(STILL, quality=82, method=6)
    first, *rest = frames
    first.save(PICTURE, save_all=True, append_images=rest, duration=DURATION, loop=0, optimize=True)
    for path in (PICTURE, STILL):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    write()
