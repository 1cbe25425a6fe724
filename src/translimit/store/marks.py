"""Which cells are being computed: a small file beside a cell, from its start to its end.

A mark is for people who look at a run (`translimit status`) and decides nothing. One that a killed
worker leaves behind is a temporary like any other and goes with the next start of the run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from translimit.core import TEMPORARY, StoreError
from translimit.store.cells import CellAddress
from translimit.store.jsonfiles import write_json
from translimit.store.records import MarkRecord
from translimit.store.shapes import NUMBER, load_record


@contextlib.contextmanager
def running_mark(address: CellAddress) -> Iterator[None]:
    """Leave a mark while a cell is computed; where it cannot be written there is none."""
    path = _path(address)
    with contextlib.suppress(OSError):
        address.run.stat()  # a run folder that has vanished is not made again here
        path.parent.mkdir(parents=True, exist_ok=True)
        where = {"pid": os.getpid(), "host": platform.node(), "started": time.time()}
        write_json(path, where)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def read_mark(address: CellAddress) -> MarkRecord | None:
    """The `pid`, `host` and `started` (seconds since the epoch) of who computes a cell, if any."""
    path = _path(address)
    try:
        if not path.exists():
            return None
        return load_record(path, {"pid": int, "host": str, "started": NUMBER}, MarkRecord)
    except StoreError:
        return None  # it went while we looked, or is none


def _path(address: CellAddress) -> Path:
    return address.folder.with_name(f"{TEMPORARY}{address.folder.name}-started")
