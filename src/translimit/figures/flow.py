"""Clouds of tokens in the plane, and the ellipses of Gaussian laws beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Ellipse
from numpy.typing import ArrayLike

from translimit.core import ArgumentError
from translimit.figures.style import COLOURS, LIMIT, finish, new_axes

if TYPE_CHECKING:
    import xarray


def plot_ellipses(data: xarray.Dataset, ax: Axes | None = None, *, shown: int = 6) -> Axes:
    """Ellipses of one standard deviation in the first two components, pale to dark with depth.

    Args:
        data: `mean` [time, component] and `cov` [time, component, component2].
        ax: axes to draw into.
        shown: how many equally spaced times are drawn, of those where the law exists.
    """
    ax = new_axes(ax)
    _require_plane(data, "mean")
    exists = np.flatnonzero(np.isfinite(np.asarray(data["cov"])).all(axis=(1, 2)))
    picks = exists[np.unique(np.linspace(0, exists.size - 1, min(shown, exists.size)).astype(int))]
    shades = colormaps["viridis_r"](np.linspace(0.15, 1.0, picks.size))
    for colour, pick in zip(shades, picks, strict=True):
        mean = np.asarray(data["mean"][pick, :2])
        cov = np.asarray(data["cov"][pick, :2, :2])
        time = float(data["time"][pick])
        ax.add_patch(
            _ellipse(mean, cov, edgecolor=colour, linewidth=1.8, label=f"$t = {time:.3g}$")
        )
        ax.plot(*mean, ".", color=colour)
    ax.set_aspect("equal", adjustable="datalim")
    ax.autoscale_view()
    return finish(ax, xlabel="$x_1$", ylabel="$x_2$")


def plot_cloud(
    tokens: ArrayLike,
    mean: ArrayLike,
    cov: ArrayLike,
    ax: Axes | None = None,
    *,
    title: str = "",
    legend: bool = False,
    extent: tuple[float, float, float, float] | None = None,
) -> Axes:
    """A cloud in its first two components, with the ellipses of a Gaussian at 1 and 2 deviations.

    Args:
        tokens: the cloud [token, component].
        mean: mean of the Gaussian [component].
        cov: covariance of the Gaussian [component, component2].
        ax: axes to draw into.
        title: of the axes.
        legend: whether to name the series.
        extent: left, right, bottom and top of the axes; by default what the data need.
    """
    ax = new_axes(ax)
    points = np.asarray(tokens)
    ax.plot(
        points[:, 0],
        points[:, 1],
        ".",
        color=COLOURS[0],
        alpha=0.35,
        markersize=3,
        rasterized=True,
        label="tokens",
    )
    for deviations in (1.0, 2.0):
        patch = _ellipse(
            np.asarray(mean)[:2],
            deviations**2 * np.asarray(cov)[:2, :2],
            edgecolor=LIMIT,
            linewidth=1.6,
            linestyle="-" if deviations == 1.0 else "--",
            zorder=3,  # above the tokens
            label=f"closure, {deviations:.0f} standard deviation" + ("s" if deviations > 1 else ""),
        )
        ax.add_patch(patch)
    ax.set_aspect("equal", adjustable="box" if extent else "datalim")
    if extent:
        ax.axis(extent)
    return finish(ax, xlabel="$x_1$", ylabel="$x_2$", title=title, legend=legend)


def common_extent(*clouds: ArrayLike) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of axes that show every token of the clouds.

    Args:
        clouds: each [..., component], of which the first two components count.
    """
    points = np.concatenate([np.asarray(cloud)[..., :2].reshape(-1, 2) for cloud in clouds])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.05 * float((high - low).max())
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(right), float(bottom), float(top)


def plot_trajectories(data: xarray.Dataset, ax: Axes | None = None, *, shown: int = 200) -> Axes:
    """Paths of tokens in the first two components, from an open circle to a dot.

    In three dimensions the third is the depth of the picture: ends that are nearer are larger and
    darker, and what lies behind the middle is pale.

    Args:
        data: `tokens` [time, token, component].
        ax: axes to draw into.
        shown: the first so many tokens are drawn; the legend says how many there are.
    """
    ax = new_axes(ax)
    _require_plane(data, "tokens")
    every = np.asarray(data["tokens"])
    tokens = every[:, :shown]
    near = _nearness(tokens)
    ax.add_collection(
        LineCollection(
            [path[:, :2] for path in np.moveaxis(tokens, 1, 0)],
            colors=[to_rgba(COLOURS[0], 0.15 + 0.5 * float(one)) for one in near.mean(axis=0)],
            linewidths=0.8,
        )
    )
    times = np.asarray(data["time"]) if "time" in data.coords else np.arange(len(tokens))
    part = f", {tokens.shape[1]} of {every.shape[1]} tokens" if shown < every.shape[1] else ""
    start = [to_rgba(COLOURS[0], 0.3 + 0.7 * float(one)) for one in near[0]]
    end = [to_rgba(COLOURS[1], 0.3 + 0.7 * float(one)) for one in near[-1]]
    deep = "; large and dark is near" if tokens.shape[-1] == 3 else ""
    ax.scatter(
        *tokens[0, :, :2].T,
        s=8 + 14 * near[0],
        facecolors="none",
        edgecolors=start,
        label=f"start, $t = {float(times[0]):.3g}${part}",
    )
    ax.scatter(
        *tokens[-1, :, :2].T,
        s=4 + 12 * near[-1],
        c=end,
        label=f"end, $t = {float(times[-1]):.3g}${deep}",
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.autoscale_view()
    return finish(ax, xlabel="$x_1$", ylabel="$x_2$")


def _nearness(tokens: np.ndarray) -> np.ndarray:
    """From 0, behind, to 1, in front, by the third of three components; 1 without it."""
    if tokens.shape[-1] != 3:
        return np.ones(tokens.shape[:2])
    third = tokens[..., 2]
    finite = third[np.isfinite(third)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return np.nan_to_num((third - low) / (high - low if high > low else 1.0), nan=0.5)


def _ellipse(mean: np.ndarray, cov: np.ndarray, **style: object) -> Ellipse:
    """The ellipse (x - mean)^T cov^{-1} (x - mean) = 1, degenerate covariances included."""
    variances, axes = np.linalg.eigh(cov)
    width, height = 2.0 * np.sqrt(np.maximum(variances, 0.0))
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    return Ellipse((mean[0], mean[1]), width, height, angle=angle, fill=False, **style)  # pyright: ignore[reportArgumentType]


def _require_plane(data: xarray.Dataset, name: str) -> None:
    if data.sizes["component"] < 2:
        raise ArgumentError(
            name, "has one component", "plot a flow of at least two dimensions, or its variance"
        )
