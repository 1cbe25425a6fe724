r"""Covariances of the plane as points above the cone of positive semi-definite matrices.

Sigma has the coordinates (Sigma_11 - Sigma_22, 2 Sigma_12, tr Sigma); it is positive semi-definite
above the cone z = (x^2 + y^2)^(1/2), singular on it. Divided by the trace it lies in the unit disc,
whose rim are the lines: the angle there is twice that of the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.axes3d import Axes3D

from translimit.figures.style import COLOURS, LIMIT, finish, new_axes

if TYPE_CHECKING:
    import xarray


def cone_coordinates(cov: Float[np.ndarray, "*batch 2 2"]) -> Float[np.ndarray, "*batch 3"]:
    """(Sigma_11 - Sigma_22, 2 Sigma_12, tr Sigma)."""
    return np.stack(
        [
            cov[..., 0, 0] - cov[..., 1, 1],
            2.0 * cov[..., 0, 1],
            cov[..., 0, 0] + cov[..., 1, 1],
        ],
        axis=-1,
    )


def plot_cone(
    points: Float[np.ndarray, "paths times 3"], ax: Axes3D, *, shown: int = 40, title: str = ""
) -> Axes3D:
    """Paths above the cone, from small circles to dots, in a three-dimensional `Axes3D`.

    Args:
        points: coordinates of `cone_coordinates` [paths, times, 3]; NaN ends a path.
        ax: axes made with `projection="3d"`.
        shown: at most so many paths, equally spaced.
        title: of the axes.
    """
    picks = np.unique(np.linspace(0, len(points) - 1, min(shown, len(points))).astype(int))
    top = np.nanmax(points[picks][..., 2])
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 37), np.linspace(0, top, 2))
    ax.plot_surface(
        height * np.cos(angle), height * np.sin(angle), height, color="#bbbbbb", alpha=0.2
    )
    for path in points[picks]:
        kept = path[np.isfinite(path).all(axis=-1)]
        ax.plot(*kept.T, color=COLOURS[0], linewidth=0.7, alpha=0.7)
        ax.plot(*kept[:1].T, "o", color=COLOURS[0], fillstyle="none", markersize=2.5)
        ax.plot(*kept[-1:].T, ".", color=COLOURS[1], markersize=4)
    ax.set_xlabel(r"$\Sigma_{11} - \Sigma_{22}$", fontsize="small")
    ax.set_ylabel(r"$2\Sigma_{12}$", fontsize="small")
    ax.set_zlabel(r"tr $\Sigma$", fontsize="small")
    ax.set_title(title, fontsize="medium")
    return ax


def plot_disc(
    points: Float[np.ndarray, "paths times 3"],
    ax: Axes | None = None,
    *,
    title: str = "",
) -> Axes:
    """Paths of Sigma / tr Sigma in the unit disc; its rim are the covariances of rank one.

    Args:
        points: coordinates of `cone_coordinates` [paths, times, 3]; NaN ends a path.
        ax: axes to draw into.
        title: of the axes.
    """
    ax = new_axes(ax)
    turn = np.linspace(0, 2 * np.pi, 181)
    ax.plot(np.cos(turn), np.sin(turn), color=LIMIT, linewidth=0.8)
    for path in points:
        kept = path[np.isfinite(path).all(axis=-1) & (path[:, 2] > 0)]
        x, y = (kept[:, :2] / kept[:, 2:]).T
        ax.plot(x, y, color=COLOURS[0], linewidth=0.6, alpha=0.6)
        ax.plot(x[-1:], y[-1:], ".", color=COLOURS[1], markersize=5)
    ax.set_aspect("equal")
    return finish(
        ax,
        xlabel=r"$(\Sigma_{11} - \Sigma_{22})\,/\,$tr $\Sigma$",
        ylabel=r"$2\Sigma_{12}\,/\,$tr $\Sigma$",
        title=title,
        legend=False,
    )


def plot_disc_map(
    values: xarray.DataArray,
    ax: Axes | None = None,
    *,
    label: str = "",
    title: str = "",
) -> Axes:
    """A number for every covariance of trace one, as colours in the unit disc.

    Args:
        values: [u, w], with u = Sigma_11 - Sigma_22 and w = 2 Sigma_12 as coordinates; NaN is not
            drawn, infinity is grey.
        ax: axes to draw into.
        label: of the colours.
        title: of the axes.
    """
    ax = new_axes(ax)
    table = np.asarray(values.transpose("w", "u"), dtype=float)
    u, w = np.asarray(values["u"]), np.asarray(values["w"])
    grey = np.where(np.isinf(table), 0.0, np.nan)
    ax.pcolormesh(u, w, grey, cmap="Greys", vmin=-1.0, vmax=3.0, shading="nearest", rasterized=True)
    shown = np.where(np.isfinite(table), table, np.nan)
    if np.isfinite(shown).any():
        mesh = ax.pcolormesh(
            u, w, shown, cmap="viridis", norm="log", shading="nearest", rasterized=True
        )
        ax.figure.colorbar(mesh, ax=ax, label=label, shrink=0.7)
    turn = np.linspace(0, 2 * np.pi, 181)
    ax.plot(np.cos(turn), np.sin(turn), color=LIMIT, linewidth=0.8)
    ax.set_aspect("equal")
    return finish(
        ax,
        xlabel=r"$\Sigma_{11} - \Sigma_{22}$",
        ylabel=r"$2\Sigma_{12}$",
        title=title,
        legend=False,
    )
