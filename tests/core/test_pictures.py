"""Solutions in a notebook: a table, and a small picture of what can be drawn."""

import base64
import re

import numpy as np
import xarray
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from translimit.core import Outcome, small_picture
from translimit.figures import plot_predictions
from translimit.limits.homogenized import SimplexSolution


def pixels(html: str) -> bytes:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found
    return base64.b64decode(found[1])


def test_a_picture_is_a_png_with_its_label():
    html = small_picture(Figure(), "an empty figure")
    assert 'alt="an empty figure"' in html
    assert pixels(html).startswith(b"\x89PNG")


def test_a_solution_shows_its_plot_beside_the_table():
    found = SimplexSolution(
        ts=np.linspace(0.0, 2.0, 3),
        overlap=np.array([0.0, 0.4, 0.8]),
        second_moments=np.zeros((3, 3)),
        discretisation=0.0,
        outcome=Outcome.successful,
    )
    html = found._repr_html_()
    assert "<caption>SimplexSolution</caption>" in html
    assert pixels(html).startswith(b"\x89PNG")
    assert found.collapse_time(0.5) == 1.25


def test_every_prediction_has_a_colour_of_its_own():
    steps, inputs = 4, 16
    values = np.linspace(0.0, 1.0, steps)[:, None] * np.linspace(-1.0, 1.0, inputs)
    data = xarray.Dataset(
        {
            "predictions": (("time", "input"), values),
            "stderr": (("time", "input"), np.zeros_like(values)),
            "targets": ("input", values[-1]),
        },
        coords={"time": np.arange(steps)},
    )
    ax = plot_predictions(data)
    assert "12 of 16 curves" in ax.get_legend().get_texts()[0].get_text()
    few = plot_predictions(data.isel(input=slice(5))).get_legend()
    assert "curves" not in few.get_texts()[0].get_text()
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    colours = [to_rgb(line.get_color()) for line in lines]
    assert len(colours) == len(set(colours)) == 12
    light = [sum(colour) for colour in colours]
    assert light == sorted(light)  # from dark to light in the order of the targets


def test_few_targets_have_a_colour_and_a_dash_each():
    targets = np.where(np.arange(10) % 3 == 0, -1.0, 1.0)
    values = np.linspace(0.0, 1.0, 4)[:, None] * targets
    data = xarray.Dataset(
        {
            "predictions": (("time", "input"), values),
            "stderr": (("time", "input"), np.zeros_like(values)),
            "targets": ("input", targets),
        },
        coords={"time": np.arange(4)},
    )
    ax = plot_predictions(data)
    told = [one.get_text() for one in ax.get_legend().get_texts()]
    assert told == ["target -1", "target 1", "targets"]
    curves = [line for line in ax.lines if len(line.get_xdata()) == 4]
    looks = {(line.get_color(), line.get_linestyle()) for line in curves}
    assert len(curves) == 10
    assert len(looks) == 2
    ends = {line.get_color(): float(line.get_ydata()[-1]) for line in curves}
    assert sorted(ends.values()) == [-1.0, 1.0]
