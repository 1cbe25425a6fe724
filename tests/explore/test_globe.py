"""The sphere of tokens: what the page is told, how a reader turns it, moves and redraws starts."""

import html
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from tests.explore.pages import needs_browser, quiet

from translimit.explore import Globe, View, page, panel_of
from translimit.explore.clusters import HORIZON, network
from translimit.explore.starts import start
from translimit.limits.meanfield import SphereFlow


def told(shown: str) -> dict:
    (text,) = re.findall('data-globe="([^"]*)"', shown)
    return json.loads(html.unescape(text))


def test_the_page_is_told_the_way_of_every_token_and_the_network() -> None:
    panel = panel_of(View(panel="clusters", tokens=8, time=0.1, moved="1:0,0,-2"))
    (globe,) = (one for one in panel.figures if isinstance(one, Globe))
    data = told(page.figure_html(globe))
    np.testing.assert_allclose(data["path"][-1], globe.path[-1], atol=1e-3)
    np.testing.assert_allclose(data["network"], globe.network, atol=1e-3)
    np.testing.assert_allclose(data["path"][0][1], [0, 0, -1], atol=1e-3)
    assert data["moved"] == "1:0,0,-2"


def test_starts_are_unit_tokens_and_more_of_them_keep_the_first() -> None:
    few, many = start(3, 4, seed=5), start(3, 9, seed=5)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1.0)
    np.testing.assert_array_equal(few, many[:4])
    assert np.abs(few - start(3, 4, seed=6)).max() > 0.1
    # Tokens beyond the cloud are passed over, and the circle has no moved ones.
    np.testing.assert_array_equal(few, start(3, 4, seed=5, moved="7:1,0,0"))
    np.testing.assert_array_equal(start(2, 4, 5), start(2, 4, 5, "1:1,0,0"))


def test_a_layer_of_the_network_is_a_step_of_the_limit() -> None:
    initial = start(3, 6, seed=1)
    flow = SphereFlow(initial=initial, t1=HORIZON, beta=2.0)
    velocity = flow.velocity(jnp.asarray(initial), jnp.full(6, -np.log(6)))
    errors = [
        np.abs((network(initial, 2.0, layers)[1] - initial) * layers / HORIZON - velocity).max()
        for layers in (750, 1500)
    ]
    assert errors[0] < 0.02
    assert 1.8 < errors[0] / errors[1] < 2.2


@pytest.mark.slow
@needs_browser
def test_a_reader_turns_it_moves_a_start_and_draws_others(visit) -> None:
    shown, seen = visit("?panel=clusters&tokens=4&time=0")
    sphere = shown.locator("tl-globe svg[tabindex]")
    before = sphere.inner_html()
    sphere.focus()
    shown.keyboard.press("ArrowRight")
    assert sphere.inner_html() != before
    box = sphere.bounding_box()
    start_of = shown.locator("tl-globe .start").last
    number, place = start_of.get_attribute("data-token"), start_of.bounding_box()
    shown.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    shown.mouse.up()
    shown.wait_for_function(f"document.getElementById('link').href.includes('moved={number}%3A')")
    shown.get_by_role("button", name="draw other starts").click()
    shown.wait_for_function("document.getElementById('link').href.endsWith('seed=1')")
    quiet(seen)
