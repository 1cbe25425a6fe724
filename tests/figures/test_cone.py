"""Covariances in cone and disc."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from translimit.figures import (
    cone_coordinates,
    plot_cone,
    plot_disc,
    plot_disc_map,
)


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
