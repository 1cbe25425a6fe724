"""Clouds, ellipses and trajectories."""

import numpy as np
import pytest
import xarray as xr

from translimit.core import ArgumentError
from translimit.figures import (
    plot_cloud,
    plot_ellipses,
    plot_trajectories,
)


def test_ellipse_is_one_standard_deviation():
    cov = np.array([[2.0, 0.6], [0.6, 0.5]])
    data = xr.Dataset(
        {
            "mean": (("time", "component"), [[1.0, -1.0], [np.nan, np.nan]]),
            "cov": (("time", "component", "component2"), [cov, np.full((2, 2), np.nan)]),
        },
        coords={"time": [0.0, 1.0]},
    )
    (patch,) = plot_ellipses(data).patches  # the row after a blow-up is not drawn
    turn = np.radians(patch.angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    drawn = (axes * [(patch.width / 2) ** 2, (patch.height / 2) ** 2]) @ axes.T
    np.testing.assert_allclose(drawn, cov, rtol=1e-12)
    np.testing.assert_allclose(patch.center, [1.0, -1.0])


def test_cloud_and_trajectories():
    tokens = xr.DataArray(np.zeros((2, 5, 2)), dims=("time", "token", "component"))
    ax = plot_cloud(
        tokens[0],
        xr.DataArray([0.0, 0.0], dims="component"),
        xr.DataArray(np.eye(2), dims=("component", "component2")),
        extent=(-3.0, 3.0, -3.0, 3.0),
    )
    assert ax.get_xlim() == (-3, 3)
    assert len(ax.patches) == 2
    data = xr.Dataset({"tokens": tokens}, coords={"time": [0.0, 1.0]})
    paths, start, end = plot_trajectories(data, shown=3).collections
    assert len(paths.get_segments()) == len(start.get_offsets()) == len(end.get_offsets()) == 3
    assert start.get_label() == "start, $t = 0$, 3 of 5 tokens"


def test_trajectories_have_a_legend_and_what_is_near_stands_out():
    ends = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # near, far, between
    data = xr.Dataset(
        {"tokens": (("time", "token", "component"), np.stack([ends, ends]))},
        coords={"time": [0.0, 2.0]},
    )
    ax = plot_trajectories(data)
    _, _, end = ax.collections
    near, far, between = end.get_sizes()
    assert near > between > far
    shades = [colour[3] for colour in end.get_facecolor()]
    assert shades[0] > shades[2] > shades[1]
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "start, $t = 0$",
        "end, $t = 2$; large and dark is near",
    ]
    # In the plane nothing lies behind.
    _, _, flat = plot_trajectories(data.isel(component=slice(2))).collections
    assert len(set(flat.get_sizes())) == 1


def test_one_dimension_is_refused():
    data = xr.Dataset(
        {"tokens": (("time", "token", "component"), np.zeros((2, 5, 1)))},
        coords={"time": [0.0, 1.0]},
    )
    with pytest.raises(ArgumentError, match="one component"):
        plot_trajectories(data)
