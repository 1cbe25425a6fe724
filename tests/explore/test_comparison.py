"""Two architectures in one chart: what is drawn, what is said, what an address carries."""

import json
from urllib.parse import parse_qsl

import numpy as np
import pytest

from translimit.core import ArgumentError, ConfigError
from translimit.describe import PUBLIC_MODELS, read_stack
from translimit.explore import PANELS, Panel, View, page, panel_of
from translimit.explore.comparison import compared
from translimit.explore.resizing import first_step
from translimit.figures import Band, Chart, ChartAxis, Line, Points

OWN = {"model_type": "gpt2", "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 100}


def again(view: View) -> View:
    return View.from_query(dict(parse_qsl(view.to_query())))


@pytest.mark.parametrize("text", ["heads=16,head_dim=32,layers=24", "gpt2", json.dumps(OWN)])
def test_an_address_carries_the_second_architecture(text: str) -> None:
    second = View().described_by(text)
    view = View(panel="rates", heads=2).compared_with(second)
    assert again(view) == view
    found = view.second
    assert found is not None
    assert (found.heads, found.layers, found.config) == (second.heads, second.layers, second.config)
    assert found.panel == "rates"
    assert found.reading().stack == second.reading().stack
    assert view.compared_with(None) == View(panel="rates", heads=2)


@pytest.mark.parametrize("text", ["heads=16,head_dim=32,layers=24", "gpt2"])
def test_a_second_is_read_as_the_command_line_reads_it(text: str) -> None:
    view = View.from_query({"panel": "rates", "heads": "2", "other": text})
    wanted = View().described_by(text)
    found = view.second
    assert found is not None
    assert (found.heads, found.head_dim, found.layers) == (
        wanted.heads,
        wanted.head_dim,
        wanted.layers,
    )
    assert (found.config, found.panel, view.heads) == (wanted.config, "rates", 2)
    assert again(view) == view


def test_a_second_by_its_name_alone_has_its_sizes() -> None:
    found = View(other='{"config": "gpt2", "heads": 8}').second
    assert found is not None
    assert (found.layers, found.heads) == (12, 8)


@pytest.mark.parametrize(
    ("other", "kind", "says"),
    [
        ('{"head": 4}', ConfigError, "heads"),
        ('{"heads": 0}', ArgumentError, "heads"),
        ("heads=16,head_dim=32", ArgumentError, "layers"),
        ("heads=16,head=32,layers=4", ArgumentError, "head"),
        ("{", ConfigError, "neither JSON"),
        ('{"panel": "rates"}', ConfigError, "not compared"),
        (json.dumps({"config": "y" * 5000}), ConfigError, "characters"),
    ],
)
def test_a_second_that_is_not_understood_is_refused_in_words(other, kind, says) -> None:
    with pytest.raises(kind, match=says):
        View(other=other)


def test_both_are_drawn_and_told() -> None:
    view = View(panel="rates").compared_with(View(heads=32))
    panel, alone = panel_of(view), panel_of(View(panel="rates", heads=32))
    assert alone.says in panel.says
    assert "'heads': '32'" in panel.code
    points = [mark for mark in panel.figures[0].marks if isinstance(mark, Points)]
    assert [one.hollow for one in points] == [False, False, True, True]
    np.testing.assert_array_equal(points[2].x, alone.numbers["rates"])
    assert points[2].label == "learning rate (second)"
    page.panel_html("rates", panel)


def test_axes_hold_both_and_only_curves_are_taken_over() -> None:
    def shown(end: float) -> Panel:
        x = np.linspace(0, end, 5)
        marks = (Band(x, x, x, "#0072B2"), Line([1, 1], [0, 9]), Line(x, x, "#0072B2", "overlap"))
        chart = Chart("a chart", ChartAxis("layer", 0, end), ChartAxis("overlap", 0.0, end), marks)
        return Panel("It is so.", (chart,), (), (), "x = 1\n", {})

    view = View(other='{"layers": 12}')
    chart = compared(shown(2.0), shown(7.0), view).figures[0]
    assert isinstance(chart, Chart)
    assert (chart.x.low, chart.x.high, chart.y.high) == (0, 7.0, 7.0)
    assert len(chart.marks) == 4
    (line,) = chart.marks[3:]
    assert isinstance(line, Line)
    assert (line.label, line.dash) == ("overlap (second)", "6 3")
    assert line.colour != "#0072B2"


def test_a_second_that_is_refused_leaves_the_first() -> None:
    panel = panel_of(View(panel="regimes", other='{"heads":1,"head_dim":1}'))
    assert "is refused: head_dim: got 1" in panel.says
    assert repr(panel.figures) == repr(panel_of(View(panel="regimes")).figures)
    # A panel that does not compare passes over it.
    assert not PANELS["ellipses"].compares


@pytest.mark.parametrize("name", PUBLIC_MODELS)
def test_a_known_architecture_is_itself_and_short_in_an_address(name: str) -> None:
    view = View().described_by(name)
    assert view.config == name
    assert again(view) == view
    found, same = read_stack(PUBLIC_MODELS[name]).stack, view.reading().stack
    assert (same.dim, len(same.layers)) == (found.dim, len(found.layers))
    assert first_step(same) == pytest.approx(first_step(found), rel=1e-2)
