"""The page in a real browser: it opens, answers to keys, fits a phone and asks nobody else."""

import importlib.util
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from translimit.explore import PANELS, SLIDERS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
MARIMO = importlib.util.find_spec("marimo") is not None  # not loaded: it changes other libraries

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM,
        reason="THE EXPLORER WAS NOT SEEN: no Chromium on PATH (apt-get install chromium)",
    ),
    pytest.mark.skipif(not MARIMO, reason="marimo is not installed: the explorer was not seen"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PHONE, DESKTOP = 390, 1280
#: Milliseconds that a browser may need on a busy machine; nothing is measured against it.
PATIENCE = 300_000
#: Heavy panels are compiled where they are asked for.
SERVE = (
    "from translimit.explore import serve; serve({config!r}, port=0, browser=False, ahead=False)"
)


@dataclass
class Seen:
    """What the page did besides what it showed."""

    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-u", "-c", SERVE.format(config=None)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, address):
    """Open the page at a query; returns the page and what it did besides."""
    contexts = []

    def go(query: str = "", width: int = DESKTOP, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page, seen = context.new_page(), Seen()
        page.set_default_timeout(PATIENCE)

        def only_here(route) -> None:
            if urlsplit(route.request.url).hostname == "127.0.0.1":
                route.continue_()
            else:
                seen.outside.append(route.request.url)
                route.abort()

        page.route(re.compile("^(http|ws)"), only_here)
        page.on("console", lambda one: seen.console.append(one.text) if one.type == "error" else 0)
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        page.goto(f"{address}&{query.removeprefix('?')}")
        page.wait_for_selector("#details, #message")
        return page, seen

    yield go
    for context in contexts:
        context.close()


def sliders(page) -> dict:
    """Those that the panel shows, by name."""
    reads = PANELS[page.get_attribute("#panel", "data-panel")].reads
    named = {
        name: page.get_by_role("slider", name=SLIDERS[name].label, exact=True) for name in reads
    }
    for one in named.values():
        one.wait_for()
    assert page.get_by_role("slider").count() == len(reads)
    return named


def press(page, slider=None, key: str = "ArrowRight") -> float:
    """Press a key on a slider, or where the focus is, and wait for another figure; milliseconds."""
    if slider is not None:
        slider.focus()
    before = page.inner_html("#charts")
    start = time.perf_counter()
    page.keyboard.press(key)
    page.wait_for_function(
        """before => {
            const now = document.getElementById("charts");
            return now !== null && now.innerHTML !== before;
        }""",
        arg=before,
    )
    return 1e3 * (time.perf_counter() - start)


def load(page, file) -> None:
    """Choose a file with the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_text("or load a config.json").click()
    chooser.value.set_files(file)


def overflow(page) -> int:
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def outside_of_the_page(page) -> list[str]:
    """Elements of ours that reach beyond the right edge, unless an ancestor scrolls."""
    return page.evaluate("""() => {
      const clips = (element) => {
        for (let box = element; box && box !== document.body; box = box.parentElement)
          if (box.id !== "App" && getComputedStyle(box).overflowX !== "visible") return true;
        return false;
      };
      return [...document.querySelectorAll(".tl *, .tl-sliders *")]
        .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .filter((e) => !clips(e)).map((e) => e.outerHTML.slice(0, 120));
    }""")


def quiet(seen: Seen) -> None:
    assert seen.console == []
    assert seen.outside == []


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


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", sorted(PANELS))
def test_every_panel_opens_fits_and_every_slider_changes_it(visit, capsys, name, width) -> None:
    # At other tokens or heads the first figure waits for its program.
    small = "&heads=2&head_dim=16&layers=4&tokens=4" if name in ("stack", "training", "all") else ""
    page, seen = visit(f"?panel={name}&time=0.3{small}", width=width)
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
