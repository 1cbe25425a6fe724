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
    assert len(plot_trajectories(data, shown=3).lines) == 3 + 2


def test_one_dimension_is_refused():
    data = xr.Dataset(
        {"tokens": (("time", "token", "component"), np.zeros((2, 5, 1)))},
        coords={"time": [0.0, 1.0]},
    )
    with pytest.raises(ArgumentError, match="one component"):
        plot_trajectories(data)
