"""What a command prints or saves: one JSON document, a table, a figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from translimit.cli.terminal import write_json
from translimit.core import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


def print_json(data: object) -> None:
    """Print plain data as one JSON document."""
    from translimit.store import dump_json

    write_json(dump_json(data))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure, whole or not at all, in the format that the suffix names.

    Raises:
        StoreError: the file cannot be written.
    """
    with whole_file(path, remedy="name another file", again="draw it again") as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix.removeprefix("."))
