"""Colours survive colour blindness, and where they do not survive a grey print, shapes do."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure
from tests.figures.vision import (
    CLEARLY_LIGHTER,
    DICHROMATS,
    colour_alone,
    distance,
    lightness,
    seen,
)

from translimit.figures import (
    COLOURS,
    DASHES,
    HATCHES,
    LIMIT,
    MARKERS,
    marked,
    plot_eigenvalue_paths,
    plot_ellipses,
    plot_rank_histogram,
    plot_transfer,
)


def test_lightness_and_distance_are_those_of_cielab():
    assert [lightness(c) for c in ("black", "white")] == pytest.approx([0.0, 100.0], abs=1e-3)
    np.testing.assert_allclose(seen("red"), [53.24, 80.09, 67.20], atol=0.02)  # published values
    np.testing.assert_allclose(seen("blue"), [32.30, 79.19, -107.86], atol=0.02)
    for matrix in DICHROMATS.values():
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1.0, atol=2e-6)  # greys stay


def test_a_confusion_of_red_and_green_is_found():
    # Two colours that everybody else tells apart at once.
    assert distance("#b0502c", "#6f7a20") > 40
    assert distance("#b0502c", "#6f7a20", "deuteranopia") < 15


@pytest.mark.parametrize("viewer", ["everybody", *DICHROMATS])
def test_colours_stay_apart_for_every_viewer(viewer):
    near = {pair: distance(*pair, viewer) for pair in combinations(COLOURS, 2)}
    assert min(near.values()) > 15, near  # several times the just noticeable 2.3


def test_in_grey_only_shapes_tell_series_apart():
    assert all(abs(lightness(LIMIT) - lightness(c)) > CLEARLY_LIGHTER for c in COLOURS)
    grey = [abs(lightness(a) - lightness(b)) for a, b in combinations(COLOURS, 2)]
    assert min(grey) < 5  # two of them print alike: hence the rest of this file
    for shapes in (MARKERS, DASHES, HATCHES):
        assert len(set(shapes)) == len(shapes) == len(COLOURS)


def test_maps_go_from_dark_to_light():
    for name in ("viridis", "magma"):
        shades = [lightness(colour) for colour in colormaps[name](np.linspace(0, 1, 65))]
        assert np.all(np.diff(shades) > 0)


def test_series_that_differ_in_colour_alone_are_found():
    x = np.arange(30.0)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    for series in range(3):
        left.plot(x, x, color=COLOURS[series], label=f"s{series}")
    right.stairs([1.0, 2.0], color=COLOURS[0])  # named on the left
    right.stairs([2.0, 1.0], color=COLOURS[2])
    assert colour_alone(figure) == [("s0", "s1"), ("s0", "s2"), ("s1", "s2")]
    figure = Figure()
    ax = figure.subplots()
    ax.plot(x, x, "o", color=COLOURS[0], label="one")
    ax.plot(x, -x, "o", color=COLOURS[0], label="another")  # nothing tells them apart
    assert colour_alone(figure) == [("another", "one")]
    figure = Figure()
    ax = figure.subplots()
    for series in range(12):
        ax.plot(x, x, label=f"s{series}", **marked(series, len(x)))
    ax.plot(x, x, color=LIMIT, label="limit")
    assert colour_alone(figure) == []


def test_figures_of_several_series():
    x = np.array([1.0, 10.0, 100.0])
    values = np.outer(x, [1.0, 2.0, 3.0])
    paths = xr.DataArray(values, dims=("time", "eigenvalue"), coords={"time": x})
    counts = {"ours": [1, 2], "threshold": [2, 1], "Euler": [0, 3]}
    losses = np.ones((3, 2, 4)) * (1 + np.arange(4) ** 2)
    for ax in (
        plot_eigenvalue_paths(paths),
        plot_rank_histogram(counts, ["0", "1"]),
        plot_transfer(
            None,
            2.0 ** np.arange(4),
            losses,
            np.zeros(3),
            0.1 * np.ones(3),
            (1, 2, 4),
            bounds=("", "at most", "at least"),
        ),
    ):
        assert colour_alone(ax.figure) == []


def test_ellipses_darken_with_depth():
    times = np.arange(5.0)
    data = xr.Dataset(
        {
            "mean": (("time", "component"), np.zeros((5, 2))),
            "cov": (("time", "component", "component2"), np.eye(2) * (1 + times[:, None, None])),
        },
        coords={"time": times},
    )
    shades = [lightness(patch.get_edgecolor()) for patch in plot_ellipses(data).patches]
    assert np.all(np.diff(shades) < -5)
