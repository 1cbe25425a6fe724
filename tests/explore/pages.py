"""What tests of the page in a browser share: when they run, and how they drive it."""

import importlib.util
import shutil
import time
from dataclasses import dataclass, field

import pytest

from translimit.explore import PANELS, SLIDERS

MARIMO = importlib.util.find_spec("marimo") is not None  # not loaded: it changes other libraries
PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
#: Marks of a file whose tests need a browser.
NEEDS_BROWSER = [
    pytest.mark.skipif(
        not CHROMIUM,
        reason="THE EXPLORER WAS NOT SEEN: no Chromium on PATH (apt-get install chromium)",
    ),
    pytest.mark.skipif(not PLAYWRIGHT, reason="playwright is not installed"),
    pytest.mark.skipif(not MARIMO, reason="marimo is not installed: the explorer was not seen"),
]


def needs_browser(test):
    """A test that needs a browser in a file whose others do not."""
    for mark in NEEDS_BROWSER:
        test = mark(test)
    return test


PHONE, DESKTOP = 390, 1280
#: Milliseconds that a browser may need on a busy machine; nothing is measured against it.
PATIENCE = 300_000


@dataclass
class Seen:
    """What the page did besides what it showed."""

    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def sliders(page) -> dict:
    """Those that the panel shows, by name."""
    reads = PANELS[page.get_attribute("#panel", "data-panel")].reads
    named = {
        name: page.get_by_role("slider", name=SLIDERS[name].label, exact=True)
        for name in reads
        if name in SLIDERS
    }
    for one in named.values():
        one.wait_for()
    assert page.get_by_role("slider").count() == len(named)
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
    """Elements of ours, and within controls, that reach beyond the right edge and do not scroll."""
    return page.evaluate("""() => {
      const above = (element) => element.parentElement ?? element.getRootNode().host;
      // The whole application scrolls within boxes that clip: only what is inside of it counts.
      const clips = (element) => {
        for (let box = above(element); box && box.id !== "App"; box = above(box))
          if (getComputedStyle(box).overflowX !== "visible") return true;
        return false;
      };
      const within = (element) =>
        [element, ...[...(element.shadowRoot?.querySelectorAll("*") ?? [])].flatMap(within)];
      return [...document.querySelectorAll(".tl *, .tl-sliders *")].flatMap(within)
        .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .filter((e) => !clips(e)).map((e) => e.outerHTML.slice(0, 120));
    }""")


def quiet(seen: Seen) -> None:
    assert seen.console == []
    assert seen.outside == []
