"""`build_report`: from a run folder to `report.html`, its figures and their tables.

Everything is drawn in memory first, so that a failure leaves the folder as it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from translimit.core import StoreError
from translimit.report.contents import Page, read_page
from translimit.report.typesetting import source, template
from translimit.store import write_bytes

#: In the folder of the figures: which there are.
FIGURES_INDEX = "index.json"


def build_report(run: str | Path) -> Path:
    """Build, or rebuild, the report of a run: the same results give the same bytes.

    Args:
        run: the run folder. A run that is not complete is reported too: the page says first which
            cells are missing, and shows the experiments that have all of theirs.

    Returns:
        The path of `report.html` in the run folder. Beside it, `figures/` holds every figure as
        `.svg`, `.png` and the table behind it as `.csv`, and `index.json` with their titles.

    Raises:
        StoreError: no run folder, one that cannot be read, or one that cannot be written.
        ConfigError: an experiment of the run is not installed.
        ReportError: an experiment's claims, figures or tables cannot be shown; nothing
            is written.
    """
    page = read_page(run)
    content = render(page)
    folder = Path(run)
    try:
        figures = folder / "figures"
        figures.mkdir(exist_ok=True)
        for name, data in page.files.items():
            write_bytes(figures / name, data)
        write_bytes(figures / FIGURES_INDEX, _index(page))
        write_bytes(folder / "report.html", content.encode())
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise StoreError(folder, problem, "make the run folder writable, or copy it") from error
    return folder / "report.html"


def _index(page: Page) -> bytes:
    """The figures of each experiment in their order, for a page over many runs."""
    found = {
        section.name: [{"file": figure.file, "title": figure.title} for figure in section.figures]
        for section in page.sections
    }
    return (json.dumps(found, indent=1) + "\n").encode()


def render(page: Page) -> str:
    """The page as HTML that asks nothing of the network."""
    from markupsafe import Markup

    style, script = source("report.css"), source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        template("report.html.j2").render(
            page=page,
            style=Markup(style),  # both are files of this package
            script=Markup(script),
            script_digest=digest,
        )
        + "\n"
    )
