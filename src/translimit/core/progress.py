"""A progress bar with the time left, on standard error, quiet when nobody is looking."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from translimit.core.text import printable

#: Seconds before a bar appears: what is done sooner needs none.
PATIENCE = 1.0


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None]]:
    """A context that yields a function of the fraction done.

    The bar appears after a second, even where nothing has been reported yet: libraries are being
    loaded, or programs compiled. Nothing is drawn where standard error is no terminal, so that logs
    stay clean; a pipe behind standard output does not silence it.
    """
    if not sys.stderr.isatty():
        yield lambda fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(printable(label), total=1.0)
    appears = threading.Timer(PATIENCE, bar.start)
    appears.daemon = True
    appears.start()
    try:
        yield lambda fraction: bar.update(task, completed=float(fraction))
    finally:
        appears.cancel()
        appears.join()
        bar.stop()


def part_of(
    progress: Callable[[float], object] | None, start: float, end: float
) -> Callable[[float], object] | None:
    """The progress of a part that begins and ends at these fractions of the whole.

    >>> seen = []
    >>> part_of(seen.append, 0.5, 1.0)(0.5)
    >>> seen
    [0.75]
    """
    if progress is None:
        return None
    return lambda fraction: progress(start + (end - start) * fraction)
