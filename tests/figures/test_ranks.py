"""Histograms of ranks and paths of eigenvalues."""

import numpy as np
import xarray as xr

from translimit.figures import (
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
