"""The page in a real browser: nothing overflows, nothing is empty, nothing complains."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from translimit.figures import Table
from translimit.report import build_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM,
    reason="THE REPORT WAS NOT SEEN IN A BROWSER: no Chromium on PATH (apt-get install chromium)",
)

PHONE, DESKTOP = 390, 1280
#: Width of a window -> pixels within which a third of the first figure is seen: one screen of a
#: desktop, two of a tablet or a phone.
SCREENS = {DESKTOP: 800, 820: 2 * 1180, PHONE: 2 * 844}

#: Shows the page in a frame of the wanted width and writes down what it measures there.
FRAME = """<!doctype html><html><body style="margin: 0"><pre id="measured"></pre>
<iframe style="width: {width}px; height: 1200px; border: 0" srcdoc="{page}"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const page = event.target.contentDocument;
  const overflow = () => page.documentElement.scrollWidth - page.documentElement.clientWidth;
  const closed = overflow();
  const first = (page.querySelector("figure .canvas") ?? page.body).getBoundingClientRect();
  for (const details of page.querySelectorAll("details")) details.open = true;
  const clips = (element) => {{
    for (let box = element; box && box !== page.body; box = box.parentElement)
      if (page.defaultView.getComputedStyle(box).overflowX !== "visible") return true;
    return false;
  }};
  const outside = [...page.body.querySelectorAll("main *, header *, aside *, nav *, footer *")]
    .filter((e) => e.getBoundingClientRect().right > page.documentElement.clientWidth + 1)
    .filter((e) => !clips(e)).map((e) => e.outerHTML.slice(0, 120));
  const figures = [...page.querySelectorAll("figure")].map((figure) => {{
    const picture = figure.querySelector(".canvas > svg, .canvas > img").getBoundingClientRect();
    const card = figure.querySelector(".card").getBoundingClientRect();
    return {{width: picture.width, height: picture.height, room: card.width - picture.width}};
  }});
  const widths = [...page.querySelectorAll(".listing button")].map((b) => b.offsetWidth);
  const width = page.documentElement.clientWidth;
  document.getElementById("measured").textContent =
    JSON.stringify({{
      width, closed, opened: overflow(), outside, figures, widths,
      first: first.top + first.height / 3,
    }});
}});
</script></body></html>"""


@dataclass(frozen=True)
class Seen:
    """What the browser measured, and what it said on its console."""

    measured: dict[str, Any]
    console: list[str]


def look(page: str, width: int, folder: Path) -> Seen:
    """Open a page at a width, offline."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    done = chromium(folder, "--dump-dom", f"--window-size={max(width, 500)},1400", frame.as_uri())
    measured = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert measured, done.stderr
    assert measured[1], done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(html.unescape(measured[1])), console)


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a headless Chromium with a new profile and no network of its own."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory, averages) -> str:
    """A report with everything that is hard to fit: wide tables, long names, long words."""
    from .conftest import run_maker

    def widen(specs):
        columns = tuple(f"column_number_{i}" for i in range(14))
        table = Table(columns, tuple(tuple(range(14)) for _ in range(60)))
        long = "x" * 90
        return [
            replace(specs[0], table=table, caption=f"$W_{{{'+'.join('abcdefghij')}}}$ {long}"),
            *specs[1:],
        ]

    averages.WIDE = replace(
        averages.EXPERIMENT,
        name="somebody2026/an-experiment-with-a-name-that-goes-on-and-on-and-does-not-end",
        hook=widen,
    )

    def claims(honest):
        long = "a/very/long/reference/without/any/space/that/could/be/broken/anywhere/at/all"
        return [replace(honest[0], name="n" * 60, reference=long), *honest[1:]]

    make = run_maker(tmp_path_factory.mktemp("wide"), averages)
    run = make(["WIDE", "SECOND"], claims=claims, sizes=",".join(map(str, range(16, 22))))
    return build_report(run, ["averages:WIDE", "averages:SECOND"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", SCREENS)
def test_page_fits_and_is_quiet(wide_page, tmp_path, width):
    seen = look(wide_page, width, tmp_path)
    assert abs(seen.measured["width"] - width) <= 20  # less a scroll bar
    assert (seen.measured["closed"], seen.measured["opened"]) == (0, 0)
    assert seen.measured["outside"] == []
    assert seen.console == []
    assert seen.measured["first"] < SCREENS[width]
    assert len(seen.measured["figures"]) == 4
    for figure in seen.measured["figures"]:
        assert figure["width"] > 0.75 * min(width, 700) - 40
        assert figure["height"] > 100
        assert figure["room"] >= 0
    assert seen.measured["widths"]
    assert min(seen.measured["widths"]) > 0  # the script ran: the policy lets it


def test_the_measurements_notice_a_fault(tmp_path):
    page = (
        "<!doctype html><html><body><main><p style='width: 900px'>wide</p></main>"
        "<script>console.error('a complaint')</script></body></html>"
    )
    seen = look(page, PHONE, tmp_path)
    assert seen.measured["opened"] > 400
    assert len(seen.measured["outside"]) == 1
    assert "a complaint" in "".join(seen.console)


def test_incomplete_run_fits_a_phone(make_run, tmp_path):
    page = build_report(make_run(without=["n64"])).read_text(encoding="utf-8")
    seen = look(page, PHONE, tmp_path)
    assert seen.measured["opened"] == 0
    assert seen.console == []


def test_page_prints(reported, tmp_path):
    target = tmp_path / "report.pdf"
    chromium(tmp_path, f"--print-to-pdf={target}", (reported / "report.html").as_uri())
    assert target.read_bytes().startswith(b"%PDF")
    assert len(target.read_bytes()) > 30_000
