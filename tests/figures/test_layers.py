"""Layers over a table: every number lands in the mark that it belongs to, in both back ends."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure

from translimit import figures
from translimit.core import ArgumentError
from translimit.explore import svg

TABLE = figures.Table(
    ("case", "size", "mean", "stderr", "limit", "low", "high"),
    tuple(
        (case, n, k + 1.0 / n, 0.1 / n, k + 0.0, k - 1.0, k + 1.0)
        for k, case in enumerate(("cold", "hot"))
        for n in (10, 20, 40)
    ),
)
LAYERS = (
    figures.band("low", "high", label=""),
    figures.line("limit", label="limit of {}", dash=""),
    figures.points("mean", "stderr"),
    figures.level(0.5, label="half"),
)


def test_series_keep_their_colour_and_shape_in_all_layers() -> None:
    layout = figures.Layout(x="size", by="case", log="x", ticks=True, ylabel="value")
    (chart,) = layout.charts(TABLE, LAYERS, "means")
    bands, lines, points, levels = (
        [mark for mark in chart.marks if isinstance(mark, kind)]
        for kind in (figures.Band, figures.Line, figures.Points, figures.Level)
    )
    assert [m.colour for m in lines] == [m.colour for m in points] == list(figures.COLOURS[:2])
    assert [m.colour for m in bands] == list(figures.COLOURS[:2])
    assert [m.kind for m in points] == list(figures.SHAPES[:2])
    assert [m.label for m in points] == ["cold", "hot"]
    assert [m.label for m in lines] == ["limit of cold", "limit of hot"]
    assert levels[0].colour == figures.INK
    np.testing.assert_allclose(points[1].y, [1.1, 1.05, 1.025])
    np.testing.assert_allclose(points[1].error, [0.01, 0.005, 0.0025])
    assert [label for _, label in chart.x.ticks] == ["10", "20", "40"]
    assert layout.series(TABLE, LAYERS) == 2


def test_ticks_can_be_named_by_a_column() -> None:
    rows = ((1, "second", 0.5), (0, "first", 0.1), (1, "second", 0.7))
    table = figures.Table(("place", "moment", "gap"), rows)
    layout = figures.Layout(x="place", ticks="moment")
    (chart,) = layout.charts(table, (figures.points("gap"),))
    assert chart.x.ticks == ((0.0, "first"), (1.0, "second"))
    with pytest.raises(ArgumentError, match="unknown 'moments'"):
        figures.Layout(x="place", ticks="moments").charts(table, (figures.points("gap"),))


def test_a_line_for_all_rows_passes_every_point_once() -> None:
    layout = figures.Layout(x="size", by="case")
    table = figures.Table(
        ("case", "size", "law"), tuple((case, n, n**2) for case in ("b", "a") for n in (2, 3, 1))
    )
    (chart,) = layout.charts(table, (figures.line("law", by="", series=None),))
    np.testing.assert_allclose(chart.marks[0].x, [1, 2, 3])
    np.testing.assert_allclose(chart.marks[0].y, [1, 4, 9])


def test_panels_have_their_rows_and_titles() -> None:
    layout = figures.Layout(x="size", panels="case", titles={"hot": "$T > 0$"})
    cold, hot = layout.charts(TABLE, (figures.points("mean", label="networks"),))
    assert (cold.title, hot.title) == ("cold", "$T > 0$")
    np.testing.assert_allclose(hot.marks[0].y, [1.1, 1.05, 1.025])


def test_histograms_and_images_take_their_grids_from_the_columns() -> None:
    table = figures.Table(
        ("x", "y", "z"), tuple((i, j, 10 * i + j) for i in (0, 1) for j in (5, 7))
    )
    (chart,) = figures.Layout(x="x").charts(table, (figures.image("z", "y", label="shade"),))
    np.testing.assert_allclose(chart.marks[0].values, [[5, 15], [7, 17]])
    bins = figures.Table(("centre", "height"), ((0.5, 1.0), (1.5, 3.0)))
    for left, edges in ((False, [0, 1, 2]), (True, [0.5, 1.5, 2.5])):
        layers = (figures.steps("height", left=left),)
        (chart,) = figures.Layout(x="centre").charts(bins, layers)
        np.testing.assert_allclose(chart.marks[0].edges, edges)


def test_rows_are_chosen_by_value() -> None:
    layer = figures.points("mean", where={"size": (10, 40)}, series=3)
    (chart,) = figures.Layout(x="size").charts(TABLE, (layer,))
    np.testing.assert_allclose(chart.marks[0].x, [10, 40, 10, 40])
    with pytest.raises(ArgumentError, match=r"unknown 'meen'.*mean"):
        figures.Layout(x="size").charts(TABLE, (figures.points("meen"),))


def test_both_back_ends_draw_every_mark() -> None:
    marks = (
        figures.Image([0, 1], [0, 1], np.array([[0.0, 1.0], [np.nan, 0.5]]), "shade"),
        figures.Band([0, 1], [0, 0], [1, 1], "#0072B2", "band"),
        figures.Line([0, 1], [0, 1], label="line", dash="6 3", shape="disc"),
        *(figures.Points([0.5], [0.5], "#123456", kind, kind) for kind in figures.SHAPES),
        figures.Points([0.1, 0.9], [0.2, 0.8], label="bars", error=[0.1, np.inf], joined=True),
        figures.Steps([0, 0.5, 1], [0.3, 0.6], label="steps"),
        figures.Level(0.25, label="level"),
        figures.Level(0.75, label="upright", vertical=True),
    )
    chart = figures.Chart("all", figures.ChartAxis("x"), figures.ChartAxis("y"), marks)
    root = ET.fromstring(svg(chart))
    text = "".join(root.itertext())
    ax = figures.draw_chart(chart, Figure().subplots())
    drawn = ax.get_legend_handles_labels()[1]
    for mark in marks[1:]:
        assert mark.label in text
        assert mark.label in drawn
    bars = [p for p in root.findall("svg/svg/path") if "V" in p.get("d")]
    assert len(bars) == 1  # one error is infinite


@pytest.mark.parametrize(("names", "shared"), [("abcdef", True), ("abcde", False)])
def test_many_names_stand_once_above_all_panels(names: str, shared: bool) -> None:
    """Panels keep one width, also where the last has some of the names only."""

    def panel(title: str, labels: str) -> figures.Chart:
        marks = tuple(figures.Line([0, 1], [0, 1], label=f"{one} with words") for one in labels)
        return figures.Chart(title, figures.ChartAxis("x"), figures.ChartAxis("y"), marks, title)

    figure = Figure(figsize=(9, 4), layout="constrained")
    charts = [panel("first", names), panel("second", names), panel("third", names[:-1])]
    figures.draw_charts(charts, figure)
    figure.draw_without_rendering()
    widths = [ax.get_position().width for ax in figure.axes]
    assert max(widths) < 1.02 * min(widths)
    assert [len(legend.get_texts()) for legend in figure.legends] == [len(names)] * shared
    told = [ax.get_legend() is not None for ax in figure.axes]
    assert told == ([False] * 3 if shared else [True, False, True])


def test_ranges_follow_the_marks_where_none_is_given() -> None:
    chart = figures.Chart(
        "a line",
        figures.ChartAxis("x", log=True),
        figures.ChartAxis("y", 0.0),
        (figures.Line([1, 10, 100], [1.0, np.nan, 3.0]), figures.Level(4.0)),
    ).ranged()
    assert chart.x.low < 1 < 100 < chart.x.high
    assert chart.y.low == 0.0
    assert chart.y.high > 4
    with pytest.raises(ArgumentError, match="has no range"):
        figures.ChartAxis("x").place([1.0])
