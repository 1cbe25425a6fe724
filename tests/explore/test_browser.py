"""The page in a real browser: it opens, answers to keys, fits a phone and asks nobody else."""

import os
import signal
import statistics
import subprocess
import sys

import pytest
from tests.explore.pages import (
    DESKTOP,
    NEEDS_BROWSER,
    PATIENCE,
    PHONE,
    load,
    outside_of_the_page,
    overflow,
    press,
    quiet,
    sliders,
)

from translimit.explore import PANELS

pytestmark = NEEDS_BROWSER


def test_the_page_opens_answers_to_the_keyboard_and_fits_a_phone(visit) -> None:
    page, seen = visit("?panel=rates&heads=4", width=PHONE)
    assert "heads=4" in page.inner_text("#says")
    for _ in range(60):  # with the tabulator alone
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "MARIMO-SLIDER":
            break
    else:
        pytest.fail("no slider was reached by the keyboard")
    press(page)
    assert "heads=8" in page.inner_text("#says")
    assert overflow(page) == 0
    assert outside_of_the_page(page) == []
    # Eight heads are the default, which an address leaves out.
    page.wait_for_function("!document.getElementById('link').href.includes('heads')")
    link = page.get_attribute("#link", "href")
    quiet(seen)
    assert "token" not in link + page.url  # neither what is shared nor what is kept

    again, seen = visit(link, width=DESKTOP, scheme="dark")
    assert again.inner_text("#says") == page.inner_text("#says")
    quiet(seen)


def test_a_wrong_address_is_a_message_and_no_traceback(visit) -> None:
    page, seen = visit("?heads=four&panel=rates")
    assert "whole number" in page.inner_text("#notice")
    assert "Traceback" not in page.inner_text("body")
    quiet(seen)


def test_an_architecture_is_typed_and_loaded(visit, tmp_path) -> None:
    page, seen = visit("?panel=rates")
    page.get_by_role("button", name="Describe an architecture").click()
    box = page.get_by_role("textbox").first
    box.fill("heads=16,head_dim=32,layers=6")
    box.blur()
    page.get_by_role("button", name="Read it").click()
    page.wait_for_function("document.getElementById('says').innerText.includes('heads=16')")
    config = tmp_path / "config.json"
    for heads in (12, 16):  # as a person does: by the button, and the same file once more
        config.write_text(
            f'{{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": {heads}}}'
        )
        load(page, config)
        page.wait_for_function(
            f"document.getElementById('says').innerText.includes('heads={heads}')"
        )
    config.write_text('{"model_type": "bert"}')
    load(page, config)
    page.wait_for_selector("#notice")
    assert "missing field num_hidden_layers" in page.inner_text("#notice")
    quiet(seen)


#: Small sizes where a program is compiled for each, from which the next stop of every slider shows:
#: training is cut at heads of dimension 8, and a step of the way must reach another of six layers.
STARTS = {
    "all": "time=0.3&heads=2&head_dim=16&layers=4&tokens=4",
    "stack": "time=0.24&heads=2&head_dim=16&layers=4&tokens=4",
    "training": "time=0.3&heads=2&head_dim=4&layers=4",
}


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", sorted(PANELS))
def test_every_panel_opens_fits_and_every_slider_changes_it(visit, capsys, name, width) -> None:
    page, seen = visit(f"?panel={name}&{STARTS.get(name, 'time=0.3')}", width=width)
    assert page.get_attribute("#panel", "data-panel") == name
    took: dict[str, list[float]] = {}
    for slider, handle in sliders(page).items():
        back, key = "ArrowLeft", "ArrowRight"
        if slider.startswith("alpha"):
            back, key = key, back
        press(page, handle, key)
        if width == DESKTOP:
            took[slider] = [press(page, handle, one) for one in (back, key, back, key)]
    assert overflow(page) == 0
    assert outside_of_the_page(page) == []
    for chart in page.locator("#charts figure.chart > svg").all():
        box = chart.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 150
        assert len(chart.get_attribute("aria-label")) > 20
    quiet(seen)
    if took:
        medians = {slider: f"{statistics.median(ms):.0f}" for slider, ms in took.items()}
        with capsys.disabled():
            print(f"\n{name}: ms from key to figure, at a compiled program: {medians}")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(visit, scheme) -> None:
    page, _ = visit("?panel=rates", scheme=scheme)
    dark, text = page.evaluate("""() => {
      const light = (colour) => {
        const canvas = document.createElement("canvas").getContext("2d");
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
        return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
      };
      return [light(getComputedStyle(document.body).backgroundColor),
              light(getComputedStyle(document.querySelector("#charts svg text")).fill)];
    }""")
    assert abs(dark - text) > 0.6
    assert (dark < 0.5) == (scheme == "dark")


@pytest.mark.slow
def test_an_interrupt_ends_the_command_while_a_page_is_open(browser) -> None:
    command = [sys.executable, "-m", "translimit", "explore", "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    with process.stdout:
        address = process.stdout.readline().split()[-1]
        page = browser.new_page()
        page.goto(f"{address}&panel=rates")
        page.wait_for_selector("#details", timeout=PATIENCE)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
            page.close()
