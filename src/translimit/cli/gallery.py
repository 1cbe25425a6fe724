"""A run of each experiment in one folder, and the page over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from translimit.core import CellError, ConfigError


def make_gallery(
    folder: Path, names: tuple[str, ...], only_page: bool, compute: Callable[[str, Path], object]
) -> Path:
    """Run experiments that are not there yet, one after the other; the page after each.

    Args:
        folder: of the runs and the page.
        names: of the experiments; all by default.
        only_page: compute nothing.
        compute: runs one experiment into a folder and builds its report.

    Returns:
        The page.

    Raises:
        CellError: cells of some experiments failed; the others are there.
        ConfigError: an unknown experiment; nothing to show.
    """
    from translimit.experiments import all_experiments, get_experiment
    from translimit.report import build_gallery
    from translimit.store import slug

    chosen = [get_experiment(name) for name in names] or list(all_experiments().values())
    sources = names or tuple(one.name for one in chosen)
    paths = [folder / slug(one.name) for one in chosen]
    failed: dict[str, str] = {}

    def written() -> Path | None:
        present = [path for path in paths if (path / "run.json").exists()]
        return build_gallery(folder, present, names) if present else None

    page = written() if only_page else None
    for source, path in () if only_page else zip(sources, paths, strict=True):
        try:
            compute(source, path)
        except CellError as error:
            failed |= error.failures
        page = written()
    if failed:
        others = "" if page is None else f"; the page {page} shows the others"
        raise CellError(f"cells failed: {', '.join(failed)}{others}", failed)
    if page is None:
        raise ConfigError(
            "--only-page", f"there is no run in {folder}", "leave it out to compute the runs"
        )
    return page
