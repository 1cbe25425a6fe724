"""Figures show what they are given: data on the axes, labels, errors, nothing global."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from translimit.core import ArgumentError, fit_rate
from translimit.figures import (
    plot_angles,
    plot_cloud,
    plot_convergence,
    plot_ellipses,
    plot_hemispheres,
    plot_trajectories,
)


def test_convergence_shows_points_fit_and_theory():
    sizes = np.array([8, 16, 32])
    errors = 3.0 / sizes[:, None] * np.ones((3, 5))
    coords = {"layers": ("layers", sizes, {"long_name": "layers $L$"})}
    error = xr.DataArray(errors[:, 0], dims="layers", coords=coords)
    fit = fit_rate(sizes, errors)
    before = dict(mpl.rcParams)
    ax = plot_convergence(error, 0.1 * error, fit=fit, predicted_rate=-1.0)
    assert dict(mpl.rcParams) == before
    labels = ax.get_legend_handles_labels()[1]
    assert any("fitted rate \N{MINUS SIGN}1.000" in label for label in labels)
    assert any("predicted" in label for label in labels)
    assert ax.get_xlabel() == "layers $L$"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    theory = next(line for line in ax.lines if "predicted" in str(line.get_label()))
    x, y = theory.get_data()
    np.testing.assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), -1.0)


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


def test_circle_and_sphere():
    angles = np.array([[3.0, 0.0], [-3.1, 0.5]])  # the first token crosses pi
    tokens = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    data = xr.Dataset({"tokens": (("time", "token", "component"), tokens)}, {"time": [0.0, 1.0]})
    crossing, straight = plot_angles(data).lines
    assert np.isnan(crossing.get_ydata()[0])
    np.testing.assert_allclose(straight.get_ydata(), [0.0, 0.5])
    points = xr.DataArray([[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], dims=("token", "component"))
    _, back, front = plot_hemispheres(points).lines
    assert back.get_xydata().tolist() == [[0.0, 0.6]]
    assert front.get_xydata().tolist() == [[0.6, 0.0]]
    with pytest.raises(ArgumentError, match="has 3 components"):
        plot_angles(xr.Dataset({"tokens": (("time", "token", "component"), np.ones((1, 2, 3)))}))
    with pytest.raises(ArgumentError, match=r"pass \[token, 3\]"):
        plot_hemispheres(points[:, :2])
