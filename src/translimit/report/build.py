"""`build_report`: from a run folder to `report.html`, its figures and their tables.

Everything is drawn in memory first, so that a failure leaves the folder as it was.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from translimit.core import StoreError
from translimit.report.contents import Page, read_page
from translimit.report.mathematics import plain, typeset
from translimit.report.numbers import format_count
from translimit.store import write_bytes

if TYPE_CHECKING:
    from jinja2 import Environment


def build_report(run: str | Path) -> Path:
    """Build, or rebuild, the report of a run: the same results give the same bytes.

    Args:
        run: the run folder. A run that is not complete is reported too: the page says first which
            cells are missing, and shows the experiments that have all of theirs.

    Returns:
        The path of `report.html` in the run folder. Beside it, `figures/` holds every figure as
        `.svg`, `.png` and the table behind it as `.csv`.

    Raises:
        StoreError: no run folder, one that cannot be read, or one that cannot be written.
        ConfigError: an experiment of the run is not installed.
        ReportError: an experiment's claims, figures, tables or formulas cannot be shown; nothing
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
        write_bytes(folder / "report.html", content.encode())
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise StoreError(folder, problem, "make the run folder writable, or copy it") from error
    return folder / "report.html"


def render(page: Page) -> str:
    """The page as HTML that asks nothing of the network."""
    from markupsafe import Markup

    style, script = _template("report.css"), _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            style=Markup(style),  # both are files of this package
            script=Markup(script),
            script_digest=digest,
        )
        + "\n"
    )


@functools.cache
def _environment() -> Environment:
    """Templates from the installed package, with escaping on."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["typeset"] = typeset
    environment.filters["plain"] = plain
    environment.filters["count"] = format_count
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment


def _template(name: str) -> str:
    return (resources.files("translimit.report") / "templates" / name).read_text(encoding="utf-8")
