"""The button that plays a slider: it plays, gives way to the reader, and keeps still if asked."""

import pytest
from tests.explore.pages import NEEDS_BROWSER, quiet

from translimit.explore import PANELS, page

pytestmark = NEEDS_BROWSER


def state(shown) -> str:
    return shown.evaluate("document.querySelector('.tl-time tl-play').dataset.state")


def test_it_plays_to_the_end_and_gives_way_to_the_reader(visit) -> None:
    shown, seen = visit("?panel=ellipses&time=0.96")
    button = shown.get_by_role("button", name="play: part of the way")
    button.focus()
    shown.keyboard.press("Space")
    shown.wait_for_function("document.querySelector('.tl-time tl-play').dataset.state === 'paused'")
    assert shown.inner_text("#says").startswith("At depth 3 ")
    # Again, from the start; the focus stayed on the button.
    shown.keyboard.press("Space")
    shown.wait_for_function("!document.getElementById('says').innerText.startsWith('At depth 3 ')")
    shown.wait_for_function("!document.getElementById('says').innerText.startsWith('At depth 0 ')")
    assert state(shown) == "playing"
    shown.get_by_role("slider", name="part of the way").focus()
    shown.keyboard.press("ArrowLeft")
    assert state(shown) == "paused"
    quiet(seen)


def test_nothing_moves_by_itself_for_who_asks_for_reduced_motion(visit) -> None:
    shown, seen = visit("?panel=ellipses&time=0.5", reduced_motion="reduce")
    shown.get_by_role("button", name="step: part of the way").click()
    shown.wait_for_function(
        "document.getElementById('says').innerText.startsWith('At depth 1.56 ')"
    )
    shown.wait_for_timeout(400)
    assert shown.inner_text("#says").startswith("At depth 1.56 ")
    quiet(seen)


@pytest.mark.parametrize("name", [name for name, kind in PANELS.items() if kind.plays])
def test_a_panel_plays_a_slider_that_it_reads_and_no_other(name: str) -> None:
    kind = PANELS[name]
    assert kind.plays in kind.reads
    shown = page.slider_html(kind.plays, "the slider")
    assert f'<tl-play data-slider="{kind.plays}"' in shown
    assert f".tl-{kind.plays} tl-play" not in page.sliders_of(name)
    assert "<tl-play" not in page.slider_html("score_temperature", "the slider")
