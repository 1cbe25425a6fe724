"""Charts: every number lands where the axis says, and nothing is drawn outside of it."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from translimit.explore.drawing import HEIGHT, WIDTH, svg
from translimit.figures import Band, Cells, Chart, ChartAxis, Line, Points

X, Y = ChartAxis("layer", 0.0, 10.0), ChartAxis("overlap", 0.0, 1.0)


def parsed(chart: Chart) -> ET.Element:
    return ET.fromstring(svg(chart))


def test_places_of_linear_and_logarithmic_axes() -> None:
    np.testing.assert_allclose(ChartAxis("", -2.0, 2.0).place([-2, 0, 1]), [0, 0.5, 0.75])
    np.testing.assert_allclose(
        ChartAxis("", 0.01, 100.0, log=True).place([0.01, 1, 10]), [0, 0.5, 0.75]
    )
    assert np.isnan(ChartAxis("", 0.1, 1.0, log=True).place([0.0, -1.0])).all()


def test_a_line_goes_through_its_points() -> None:
    chart = Chart("a line", X, Y, (Line([0, 5, 10], [0.0, 1.0, 0.5], "#123456"),))
    inner = parsed(chart).find("svg/svg")
    width, height = float(inner.get("width")), float(inner.get("height"))
    path = inner.find("path").get("d")
    numbers = np.array(re.findall(r"[-\d.]+", path), dtype=float).reshape(-1, 2)
    expected = [[0, height], [width / 2, 0], [width, height / 2]]
    np.testing.assert_allclose(numbers, expected, atol=0.06)


def test_nan_breaks_a_line_and_infinity_is_left_out() -> None:
    marks = (Line([0, 1, 2, 3, 4], [0.1, 0.2, np.nan, 0.4, np.inf]),)
    path = parsed(Chart("a line", X, Y, marks)).find("svg/svg/path").get("d")
    assert path.count("M") == 2
    assert "nan" not in path
    assert "inf" not in path


def test_every_kind_of_mark_is_valid_and_labelled() -> None:
    marks = (
        Cells(np.array([[0, 0, 1], [1, 1, 1]]), ("#111111", "#222222"), ("cold", "hot")),
        Band([0, 5, 10], [0.1, np.nan, 0.3], [0.4, 0.5, 0.6], "#345678", "a band"),
        *(Points([5], [0.5], "#123456", kind, kind) for kind in ("disc", "ring", "square", "star")),
        Line([0, 10], [0.5, 0.5], label="<a line> & more", dash="2 4"),
    )
    root = parsed(Chart('says "<so>"', X, Y, marks, title="title"))
    text = "".join(root.itertext())
    for label in ("cold", "hot", "a band", "disc", "ring", "square", "star", "<a line> & more"):
        assert label in text
    assert root.find("svg").get("aria-label") == 'says "<so>"'
    assert root.find("svg").get("role") == "img"
    # Runs of equal cells are one rectangle each.
    assert len(root.findall("svg/svg/rect")) == 3 + 1


def test_empty_bands_are_left_out() -> None:
    marks = (Band([0, 1], [np.nan] * 2, [np.nan] * 2, "#345678"),)
    assert parsed(Chart("nothing", X, Y, marks)).find("svg/svg/path") is None


@pytest.mark.parametrize(
    "axis",
    [
        ChartAxis("x", 0.0, 1.0),
        ChartAxis("x", 0.0, 0.0123),
        ChartAxis("x", -1.3e4, 2.7e4),
        ChartAxis("x", 1e-3, 1e3, log=True),
        ChartAxis("x", 1.0, 1000.0, log=True),
    ],
)
def test_ticks_are_few_short_and_inside(axis: ChartAxis) -> None:
    ticks = axis.marks()
    assert 3 <= len(ticks) <= 8
    places = [float(axis.place(value)) for value, _ in ticks]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert all(len(text) <= 6 for _, text in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_text_stays_inside_of_the_picture() -> None:
    chart = Chart("a line", X, ChartAxis("overlap", 0.0, 1.0), (Line([0, 1], [0, 1]),))
    for text in parsed(chart).findall("svg/text"):
        if text.get("x") is None:
            continue
        wide = 7.5 * len(text.text)
        x, anchor = float(text.get("x")), text.get("text-anchor")
        left = {"middle": x - wide / 2, "end": x - wide}[anchor]
        assert left >= -1
        assert left + wide <= WIDTH + 4
        assert 8 <= float(text.get("y")) <= HEIGHT
