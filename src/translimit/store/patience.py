"""Waiting for a store that is out of reach: a file server restarts, a mount comes back."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from translimit.core import StoreError, cause_of
from translimit.store.start import START

T = TypeVar("T")

#: Seconds for which a write waits, and the pauses between its attempts: first, growing, longest.
PATIENCE = 60.0
_FIRST, _GROWTH, _LONGEST = 0.1, 2.0, 10.0
_GONE = {
    getattr(errno, name)
    for name in (
        "ENOENT", "EIO", "ENXIO", "ENODEV", "ESTALE", "ENOTCONN", "ECONNRESET", "ECONNREFUSED",
        "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO",
    )
    if hasattr(errno, name)
}  # fmt: skip


def patiently(
    action: Callable[[], T],
    run: Path | str,
    *,
    seconds: float = PATIENCE,
    away: Callable[[BaseException], bool] | None = None,
) -> T:
    """Do something with a run folder, again after growing pauses while the folder is out of reach.

    Args:
        action: what to do; it is started anew each time.
        run: the run folder, or the URL of another store.
        seconds: for how long.
        away: whether an error means that the store is out of reach; by default that of a folder.

    Raises:
        StoreError: the folder was out of reach for that long.
        Exception: what `action` raises for another reason, at once.
    """
    until, pause = time.monotonic() + seconds, _FIRST
    while True:
        try:
            return action()
        except Exception as error:
            gone = out_of_reach(error, Path(run)) if away is None else away(error)
            if not gone:
                raise
            if time.monotonic() + pause > until:
                raise StoreError(
                    run,
                    f"was out of reach for {seconds:g} seconds ({cause_of(error)})",
                    "start the same run again when it is back",
                ) from error
        time.sleep(pause)
        pause = min(_LONGEST, _GROWTH * pause)


def out_of_reach(error: BaseException, run: Path) -> bool:
    """Whether an error, or one that caused it, is a store that cannot be reached."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, StoreError):
            return False  # somebody has judged it already
        if isinstance(chain, OSError) and chain.errno in _GONE:
            return True
        chain = chain.__cause__ or chain.__context__
    try:
        return not (run / START).exists()
    except OSError:
        return True
