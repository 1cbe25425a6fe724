"""The page served once for all tests, and a browser that opens it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tests.explore.pages import CHROMIUM, DESKTOP, PATIENCE, Seen

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FLAGS += ["--disable-component-update", "--disable-sync"]
#: Heavy panels are compiled where they are asked for.
SERVE = (
    "from translimit.explore import serve; serve({config!r}, port=0, browser=False, ahead=False)"
)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, address):
    """Open the page at a query; returns the page and what it did besides."""
    contexts = []

    def go(query: str = "", width: int = DESKTOP, scheme: str = "light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
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
