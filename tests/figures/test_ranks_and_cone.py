"""The figures of limits draw what they are given: bars, eigenvalue paths, cone and disc."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from translimit.figures import (
    cone_coordinates,
    plot_cone,
    plot_disc,
    plot_disc_map,
    plot_eigenvalue_paths,
    plot_rank_histogram,
)


def test_histogram_bars_and_bound():
    counts = {"slopes": [0, 3, 7, 2], "threshold": [1, 4, 7, 0]}
    ax = plot_rank_histogram(counts, ["0", "1", "2", "undecided"], bound=2)
    heights = [patch.get_height() for patch in ax.patches]
    assert heights == [0, 3, 7, 2, 1, 4, 7, 0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2", "undecided"]
    assert ax.lines[0].get_xdata()[0] == 2.5
    assert ax.get_legend_handles_labels()[1] == ["slopes", "threshold"]


def test_eigenvalue_paths_leave_zeros_out():
    values = np.array([[2.0, 1.0, 0.0], [2.0, 0.1, 0.0], [2.0, np.nan, 0.0]])
    paths = xr.DataArray(values, dims=("time", "eigenvalue"), coords={"time": [1.0, 10.0, 100.0]})
    ax = plot_eigenvalue_paths(paths)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2.0, 2.0, 2.0], [1.0, 0.1]]


def test_eigenvalue_paths_of_members_have_one_label_each():
    values = np.array([[[2.0, 1.0], [2.0, 0.1]], [[3.0, 1.0], [3.0, 0.2]]])
    dims = ("start", "time", "eigenvalue")
    ax = plot_eigenvalue_paths(xr.DataArray(values, dims=dims, coords={"time": [1.0, 10.0]}))
    assert len(ax.lines) == 4
    assert ax.get_legend_handles_labels()[1] == [r"$\lambda_1$", r"$\lambda_2$"]
    assert [line.get_ydata()[1] for line in ax.lines] == [2.0, 3.0, 0.1, 0.2]


def test_disc_map_has_colours_where_finite_and_grey_where_infinite():
    points = np.array([-0.5, 0.0, 0.5])
    values = np.array([[1.0, 2.0, np.nan], [3.0, np.inf, 4.0], [np.inf, 5.0, 6.0]])
    coords = {"u": points, "w": points}
    ax = plot_disc_map(xr.DataArray(values, dims=("u", "w"), coords=coords), label="$t^*$")
    grey, colours = ax.collections
    # Rows of a mesh are w.
    shown = np.where(np.isfinite(values), values, np.nan).T
    np.testing.assert_array_equal(np.ma.filled(colours.get_array(), np.nan), shown)
    np.testing.assert_array_equal(~np.ma.getmaskarray(grey.get_array()), np.isinf(values.T))
    nothing = plot_disc_map(xr.DataArray(values * np.inf, dims=("u", "w"), coords=coords))
    assert len(nothing.collections) == 1


def test_cone_coordinates_of_definite_singular_and_isotropic():
    direction = np.array([np.cos(0.4), np.sin(0.4)])
    line = np.outer(direction, direction)
    x, y, z = cone_coordinates(line)
    assert z == pytest.approx(np.hypot(x, y))  # on the cone
    assert np.arctan2(y, x) == pytest.approx(0.8)  # at twice the angle of the line
    np.testing.assert_allclose(cone_coordinates(np.eye(2)), [0.0, 0.0, 2.0])


def test_paths_in_cone_and_disc():
    covs = np.array([[np.eye(2), np.diag([3.0, 1.0]), np.full((2, 2), np.nan)]] * 3)
    points = cone_coordinates(covs)
    disc = plot_disc(points)
    np.testing.assert_allclose(disc.lines[1].get_xdata(), [0.0, 0.5])
    assert len(disc.lines) == 1 + 2 * 3
    cone = plot_cone(points, Figure().add_subplot(projection="3d"), shown=2)
    assert len(cone.lines) == 3 * 2
    np.testing.assert_allclose(cone.lines[0].get_data_3d()[2], [2.0, 4.0])
