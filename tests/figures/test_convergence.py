"""The figure of convergence: points, fit and theory."""

import matplotlib as mpl
import numpy as np
import xarray as xr

from translimit.core import fit_rate
from translimit.figures import (
    plot_convergence,
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
