"""The pictures of pages that are neither of a tutorial nor of the gallery.

`make pictures` (minutes) writes

- `assets/explore.webp`: `translimit explore gpt2` in a browser (Chromium and playwright),
- `assets/predict-gpt2.webp`: what `translimit predict gpt2 --plot` draws,
- `assets/cloud.webp`: the first figure of the demo of `castin2025/particles-and-closure`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from small_images import smallest_webp

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "docs" / "assets"
#: Pixels of the window and around its figures, and milliseconds that the first of them may take.
WIDTH, HEIGHT, MARGIN, PATIENCE = 1280, 900, 22, 300_000
#: Names under which distributions install the browser.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SERVE = "from translimit.explore import serve; serve('gpt2', port=0, browser=False, ahead=False)"


def explorer() -> bytes:
    """The page of GPT-2 as PNG, once its figures are drawn."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no Chromium on PATH: apt-get install chromium")
    command = [sys.executable, "-u", "-c", _SERVE]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with sync_playwright() as driver:
            opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            page.wait_for_selector("#charts svg")
            page.wait_for_timeout(1000)
            box = page.locator("#charts").bounding_box()
            assert box is not None
            left, bottom = box["x"] - MARGIN, box["y"] + box["height"] + MARGIN
            width = box["width"] + 2 * MARGIN
            return page.screenshot(
                clip={"x": left, "y": 0.0, "width": width, "height": bottom}, full_page=True
            )
    finally:
        server.terminate()
        server.wait(30)


def predicted(folder: Path) -> bytes:
    """The panels of GPT-2 as PNG.

    Args:
        folder: in which to work.
    """
    _translimit("predict", "gpt2", "--plot", str(folder / "page.png"))
    return (folder / "page.png").read_bytes()


def cloud(folder: Path) -> bytes:
    """The first figure of the demo as PNG.

    Args:
        folder: in which to work.
    """
    run = folder / "run"
    _translimit(*("run", "castin2025/particles-and-closure", "--preset", "demo", "--out", str(run)))
    return (run / "figures" / "castin2025-particles-and-closure-picture.png").read_bytes()


def write() -> None:
    """Draw all and write them."""
    with tempfile.TemporaryDirectory() as name:
        for file, png, width in (
            ("explore.webp", explorer(), 1100),
            ("predict-gpt2.webp", predicted(Path(name)), 1200),
            ("cloud.webp", cloud(Path(name)), 800),
        ):
            path = ASSETS / file
            path.write_bytes(smallest_webp(png, width))
            print(f"{file}: {path.stat().st_size / 1000:.0f} kB")


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _translimit(*words: str) -> None:
    command = [sys.executable, "-m", "translimit", *words]
    subprocess.run(command, check=True, env=_environment(), stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    write()
