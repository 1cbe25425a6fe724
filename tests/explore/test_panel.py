"""Panels without a browser: their Python lines give what is drawn, their references exist."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np
import pytest

from translimit.core import ArgumentError, ConfigError
from translimit.experiments import all_experiments
from translimit.explore import (
    CHOICES,
    PANELS,
    SLIDERS,
    TEXTS,
    Globe,
    Panel,
    View,
    page,
    panel_of,
    warm,
)
from translimit.explore.view import PANEL_NAMES
from translimit.figures import Chart, Line
from translimit.predict import predict

#: Small views, so that a program is compiled once in this file.
VIEWS = {
    "overlaps": View(heads=4, head_dim=16, tokens=4, layers=32),
    "covariance": View(panel="covariance", heads=2, head_dim=16, layers=16, score_temperature=0.5),
    "ellipses": View(panel="ellipses", time=0.2),
    "clusters": View(panel="clusters", tokens=8, time=0.1, score_temperature=0.2, moved="1:1,2,-2"),
    "regimes": View(panel="regimes"),
    "rates": View(panel="rates", alpha_a=0.6),
    "training": View(panel="training", heads=2, head_dim=4, layers=2, alpha_l=0.7, gamma0=1.5),
    "stack": View(panel="stack", heads=2, head_dim=8, layers=3, tokens=4),
    "all": View(panel="all", heads=2, head_dim=16, layers=16, tokens=4),
}
#: Those that cost more seconds of compilation than the quick tests have.
DEAR = {"covariance", "stack", "training", "all"}


def cases(names) -> list:
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in DEAR else name
        for name in sorted(names)
    ]


def same(drawn, computed) -> None:
    if isinstance(drawn, list | str):
        assert drawn == computed
        return
    np.testing.assert_allclose(
        np.asarray(computed, dtype=float), np.asarray(drawn, dtype=float), rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize(
    "name", [*cases(set(PANELS) - {"clusters"}), pytest.param("clusters", marks=pytest.mark.slow)]
)
def test_the_python_lines_give_what_is_drawn(name: str) -> None:
    panel = panel_of(VIEWS[name])
    space: dict = {}
    exec(compile(panel.code, f"<{name}>", "exec"), space)
    assert panel.numbers
    for key, drawn in panel.numbers.items():
        same(drawn, space[key])


@pytest.mark.parametrize("name", cases(PANELS))
def test_a_panel_says_what_it_assumes_and_how_far_it_was_verified(name: str) -> None:
    panel = panel_of(VIEWS[name])
    assert panel.says.endswith(".")
    assert panel.assumptions
    assert panel.verified or name == "all"
    experiments = all_experiments()
    for one in panel.verified:
        experiment = experiments[one.experiment]
        presets = experiment.presets.values()
        claims = {name for config in presets for name in experiment.claim_names(config)}
        for wanted in one.claims:
            assert any(fnmatch(claim, wanted) for claim in claims), (one.experiment, wanted)


@pytest.mark.parametrize("name", cases(PANELS))
def test_figures_are_valid_have_a_text_and_show_the_numbers(name: str) -> None:
    panel = panel_of(VIEWS[name])
    assert panel.figures
    for figure in panel.figures:
        ET.fromstring(page.figure_html(figure))
        assert len((figure.chart if isinstance(figure, Globe) else figure).alt) > 20
    whole = page.panel_html(name, panel) + page.details_html(VIEWS[name], panel)
    ET.fromstring(f"<div>{re.sub('&[a-z]+;', ' ', whole)}</div>")


def lines_of(panel: Panel) -> list[np.ndarray]:
    return [
        np.asarray(mark.y, dtype=float)
        for chart in panel.figures
        if isinstance(chart, Chart)
        for mark in chart.marks
        if isinstance(mark, Line)
    ]


def test_a_solve_ends_where_all_tokens_are_one() -> None:
    panel = panel_of(View(panel="overlaps", step=1000.0, layers=1000, tokens=4))
    assert panel.numbers["overlap"][-1] == 1.0
    ends = [mark.x[-1] for mark in panel.figures[0].marks if isinstance(mark, Line)]
    assert 1000 in ends


def test_the_overlap_that_is_drawn_is_the_solution() -> None:
    panel = panel_of(VIEWS["overlaps"])
    assert any(np.array_equal(line, panel.numbers["overlap"]) for line in lines_of(panel))


def test_scores_of_zero_collapse_when_the_closed_form_says() -> None:
    # Without scores: gamma' = (1 - gamma) (1 + (n - 1) gamma) / n for large width, so that gamma
    # is 1/2 when log((1 + (n-1)/2) / (1/2)) of tau has passed.
    view = replace(VIEWS["overlaps"], score_temperature=1e4, head_dim=1024, heads=512, step=4.0)
    each = view.step**2 / view.heads
    n = view.tokens
    expected = np.log((1 + (n - 1) * 0.5) / 0.5) / each
    assert panel_of(view).numbers["collapse"][0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "slider", "value"),
    [
        ("rates", "heads", 16),
        ("rates", "head_dim", 128),
        ("rates", "layers", 24),
        ("rates", "alpha_a", 0.8),
        ("rates", "alpha_l", 0.7),
        ("regimes", "heads", 16),
        ("regimes", "layers", 24),
        ("regimes", "step", 1.0),
        ("ellipses", "score_temperature", 2.0),
        ("ellipses", "time", 0.3),
        ("ellipses", "maps", "rotation"),
        ("ellipses", "maps_text", "1,0,0,1 / 1,0,0,1 / 0,0,0,0"),
        ("clusters", "tokens", 16),
        ("clusters", "score_temperature", 1.0),
        ("clusters", "time", 0.6),
        ("clusters", "layers", 6),
        ("clusters", "seed", 3),
        ("clusters", "moved", "2:0,0,1"),
        ("overlaps", "heads", 8),
        ("overlaps", "head_dim", 8),
        ("overlaps", "layers", 64),
        ("overlaps", "step", 0.7),
        ("overlaps", "score_temperature", 0.5),
    ],
)
def test_a_slider_changes_the_figure(name: str, slider: str, value: object) -> None:
    assert slider in PANELS[name].reads
    view = VIEWS[name]
    assert getattr(view, slider) != value
    before = [*map(page.figure_html, panel_of(view).figures)]
    after = [*map(page.figure_html, panel_of(replace(view, **{slider: value})).figures)]
    assert before != after


@pytest.mark.slow
def test_many_tokens_have_a_limit_and_no_networks() -> None:
    panel = panel_of(View(panel="stack", heads=4, head_dim=32, layers=2, tokens=1024))
    few = panel_of(View(panel="stack", heads=4, head_dim=32, layers=2, tokens=64))
    assert "at most 64 tokens" in panel.says
    assert "in single networks" in few.says
    # More tokens that start orthogonal stay further apart.
    assert panel.numbers["mean"][-1] < few.numbers["mean"][-1]
    assert panel.numbers["matrix"].shape == (1024, 1024)


@pytest.mark.slow
def test_a_described_stack_is_what_predict_says() -> None:
    sizes = {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_inner": 128}
    own = {"model_type": "gpt2", "initializer_range": 0.2, "vocab_size": 1000, **sizes}
    view = replace(View(panel="stack", tokens=6).described_by(json.dumps(own)), panel="stack")
    panel, said = panel_of(view), predict(own, tokens=6)
    drawn = panel.numbers["mean"]
    # The same draws, so that the depth is the same to the last digit.
    np.testing.assert_allclose(drawn, said.curves["overlap"].value, rtol=1e-9)
    np.testing.assert_allclose(panel.numbers["error"], said.curves["overlap"].error, rtol=1e-9)
    assert str(said.collapse) in panel.says.replace("Mean", "mean")
    assert said.source in " ".join(panel.assumptions)
    # Without the temperature and the step of the description the curve is another one.
    plain = panel_of(replace(view, score_temperature=1.0, step=0.3)).numbers["mean"]
    assert np.abs(plain - drawn).max() > 0.05


def test_every_control_is_read_by_a_panel_of_its_own() -> None:
    read = {slider for name, kind in PANELS.items() if name != "all" for slider in kind.reads}
    assert read == {*SLIDERS, *CHOICES, *TEXTS, "seed"}


@pytest.mark.parametrize("time", [0.0, 1.0])
def test_the_ends_of_the_depth(time: float) -> None:
    for name in ("ellipses", "clusters"):
        panel = panel_of(replace(VIEWS[name], time=time))
        assert name == "ellipses" or np.isfinite(panel.numbers["sphere"]).all()


def test_the_law_ends_where_attention_is_strong() -> None:
    panel = panel_of(replace(VIEWS["ellipses"], score_temperature=0.2, time=1.0))
    assert np.isfinite(panel.numbers["blow_up_time"])
    assert "exists no more" in panel.says
    weak = panel_of(replace(VIEWS["ellipses"], score_temperature=10.0, time=1.0))
    assert "no blow-up" in weak.says


def test_what_a_limit_refuses_is_told_in_words() -> None:
    with pytest.raises(ArgumentError, match="can start orthogonal"):
        panel_of(View(heads=1, head_dim=8, tokens=16))
    for panel in ("regimes", "stack"):
        with pytest.raises(ArgumentError, match="head_dim: got 1: the stream has width 1"):
            panel_of(View(panel=panel, heads=1, head_dim=1))
    with pytest.raises(ConfigError, match="overlaps"):
        View(panel="overlap")
    assert tuple(PANELS) == PANEL_NAMES
    assert "role=" in page.message_html("<wrong>", "rates")
    assert "&lt;wrong&gt;" in page.message_html("<wrong>", "rates")


def test_a_link_is_told_with_the_panel() -> None:
    view = VIEWS["rates"]
    told = page.details_html(view, replace(panel_of(view), assumptions=("as `this` says",)))
    assert f'href="?{view.to_query().replace("&", "&amp;")}"' in told
    assert "<li>as <code>this</code> says</li>" in told


def test_what_is_compiled_once_answers_at_once() -> None:
    view = VIEWS["ellipses"]
    warm.compute(view)
    assert warm.is_ready(view)
    assert warm.is_ready(replace(view, score_temperature=3.0))
    assert warm.is_ready(VIEWS["rates"])
    assert not warm.is_ready(VIEWS["stack"])
    assert not warm.is_ready(View(panel="overlaps", tokens=63))


def test_the_plan_covers_every_stop_of_the_sliders() -> None:
    planned = {(view.panel, PANELS[view.panel].shape(view)) for view in warm.plan()}
    for name, kind in PANELS.items():
        if not kind.quick or kind.shape(View()) is None:
            continue
        for slider in set(kind.reads) & set(SLIDERS):
            for stop in SLIDERS[slider].values:
                view = replace(View(panel=name), **{slider: stop})
                assert (name, kind.shape(view)) in planned


def test_a_limit_that_does_not_hold_is_grey_and_says_where_to_look() -> None:
    view = replace(View().described_by("gpt2"), panel="overlaps")
    panel = panel_of(view)
    assert "This architecture" in panel.aside
    assert "hidden units" in panel.aside
    whole = page.panel_html("overlaps", panel, view.to_query())
    assert 'class="charts aside"' in whole
    assert 'href="?config=gpt2&amp;panel=stack"' in whole
    # Large steps alone are reason enough; where the limit holds, nothing is grey.
    assert "small steps" in panel_of(View(step=5.0)).aside
    assert not panel_of(View()).aside
    assert "aside" not in page.panel_html("overlaps", panel_of(View()))


def test_large_steps_are_told_before_anything_else() -> None:
    assert panel_of(View(step=5.0)).says.startswith("With steps this large a limit is no guide.")
    assert panel_of(View()).says.startswith("The overlap reaches")
