"""Tokens on the circle and on the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from translimit.core import ArgumentError
from translimit.figures.style import COLOURS, finish, new_axes

if TYPE_CHECKING:
    import xarray


def plot_angles(data: xarray.Dataset, ax: Axes | None = None, *, shown: int = 300) -> Axes:
    """Angles of tokens on the circle against depth; a token that crosses pi leaves a gap.

    Args:
        data: `tokens` [time, token, component], two components.
        ax: axes to draw into.
        shown: the first so many tokens are drawn; the legend says how many there are.

    Raises:
        ArgumentError: tokens that do not lie in the plane.
    """
    ax = new_axes(ax)
    if data.sizes["component"] != 2:
        raise ArgumentError(
            "tokens",
            f"has {data.sizes['component']} components",
            "pass 2: plot_angles draws the circle",
        )
    every = np.asarray(data["tokens"])
    tokens = every[:, :shown]
    part = f" of {every.shape[1]}" if shown < every.shape[1] else ""
    angles = np.arctan2(tokens[..., 1], tokens[..., 0])
    jumps = np.abs(np.diff(angles, axis=0, append=angles[-1:])) > np.pi
    lines = ax.plot(
        np.asarray(data["time"]),
        np.where(jumps, np.nan, angles),
        "-",
        color=COLOURS[0],
        alpha=0.3,
        linewidth=0.6,
        rasterized=True,
    )
    if lines:
        lines[0].set_label(f"one line a token, {tokens.shape[1]}{part}")
    ax.set_yticks([-np.pi, 0.0, np.pi], ["$-\\pi$", "0", "$\\pi$"])
    ax.set_ylim(-np.pi, np.pi)
    return finish(ax, xlabel="depth $t$", ylabel="angle")


def plot_hemispheres(tokens: xarray.DataArray, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Tokens on the sphere in three dimensions, seen from above: dots in front, rings behind.

    Args:
        tokens: one cloud [token, component], three components of norm one.
        ax: axes to draw into.
        title: of the axes.

    Raises:
        ArgumentError: tokens that do not have three components.
    """
    ax = new_axes(ax)
    points = np.asarray(tokens)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ArgumentError("tokens", f"has shape {points.shape}", "pass [token, 3]")
    turn = np.linspace(0.0, 2.0 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color="0.6", linewidth=0.8)
    front = points[:, 2] >= 0
    ax.plot(*points[~front, :2].T, "o", color=COLOURS[1], fillstyle="none", markersize=4)
    ax.plot(*points[front, :2].T, ".", color=COLOURS[0], markersize=6)
    ax.set_aspect("equal")
    ax.set_xlim(-1.08, 1.08)
    ax.set_ylim(-1.08, 1.08)
    return finish(ax, xlabel="$x_1$", ylabel="$x_2$", title=title, legend=False)
