"""`build_report`: from a run folder to `report.html`, its figures and their tables.

Everything is drawn in memory first, so that a failure leaves the folder as it was.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translimit.core import StoreError, unwritable, write_all
from translimit.report.contents import Page, read_page
from translimit.report.typesetting import source, style, template
from translimit.store import Every, load_json, require_shape

if TYPE_CHECKING:
    from translimit.core import Progress

#: In the folder of the figures: which there are.
FIGURES_INDEX = "index.json"


def build_report(
    run: str | Path, experiments: Sequence[str] = (), *, progress: Progress | None = None
) -> Path:
    """Build, or rebuild, the report of a run: the same results give the same bytes.

    Args:
        run: the run folder. A run that is not complete is reported too: the page says first which
            cells are missing, and shows the experiments that have all of theirs.
        experiments: those of neither translimit nor an installed package, as `module:OBJECT`,
            whose figures may be drawn. The files of a run name no code: without this the page
            shows what is stored of such an experiment, and no figures.
        progress: called with the share of the experiments that are drawn.

    Returns:
        The path of `report.html` in the run folder. Beside it, `figures/` holds every figure as
        `.svg`, `.png` and the table behind it as `.csv`, and `index.json` with their titles.

    Raises:
        StoreError: no run folder, one that cannot be read, or one that cannot be written (a full
            disk is a `DiskFullError`); the folder is as it was.
        ConfigError: something of `experiments` cannot be loaded.
        ReportError: an experiment's claims, figures or tables cannot be shown; nothing
            is written.
    """
    page = read_page(run, experiments, progress)
    content = render(page)
    folder = Path(run)
    try:
        figures = folder / "figures"
        figures.mkdir(exist_ok=True)
        written = {figures / name: data for name, data in page.files.items()}
        written[figures / FIGURES_INDEX] = _index(page, figures / FIGURES_INDEX)
        written[folder / "report.html"] = content.encode()
        write_all(written)
    except StoreError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            (folder / "figures").rmdir()  # if it was made just now, and is empty
        remedy = "make the run folder writable, or copy it"
        raise unwritable(folder, error, remedy=remedy, again="build the report again") from error
    return folder / "report.html"


def read_index(path: Path) -> dict[str, list[dict[str, str]]]:
    """The `file` and `title` of the stored figures of each experiment, in their order.

    Raises:
        StoreError: there is no such file, or it is of another shape.
    """
    found = load_json(path)
    require_shape(found, Every([{"file": str, "title": str}]), path)
    return cast("dict[str, list[dict[str, str]]]", found)


def _index(page: Page, path: Path) -> bytes:
    """The figures of each experiment in their order, for a page over many runs.

    Those of an experiment that was not loaded are the ones that are there.
    """
    there = {}
    if page.not_loaded and path.exists():
        there = read_index(path)
    found = {
        section.name: [{"file": figure.file, "title": figure.title} for figure in section.figures]
        if section.loaded
        else there.get(section.name, [])
        for section in page.sections
    }
    return (json.dumps(found, indent=1) + "\n").encode()


def render(page: Page) -> str:
    """The page as HTML that asks nothing of the network."""
    from markupsafe import Markup

    script = source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        template("report.html.j2").render(
            page=page,
            style=Markup(style()),  # both are files of this package
            script=Markup(script),
            script_digest=digest,
        )
        + "\n"
    )
