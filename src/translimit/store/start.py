"""Which start of a run may write its cells: the last one.

Every start writes a new token into the run folder, and every job carries the token of its start.
A job of an earlier start (its driver was killed, its node was cut off and came back) finds another
token just before it would put its cell in place, and drops it. The token is a file of its own, so
that a job reads a few bytes however large the run is.

Between reading the token and renaming the cell lies a moment in which a new start may pass. What a
late job stores in it is a whole cell of the same digest, hence the same bits.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from translimit.core import OvertakenError, write_bytes

START = ".start"


def new_start(run: Path) -> str:
    """Begin a start: jobs of every earlier one may write no more.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    token = secrets.token_hex(8)
    write_bytes(run / START, token.encode())
    return token


def require_start(run: Path, token: str) -> None:
    """Refuse to go on for an earlier start.

    Raises:
        OvertakenError: the run was started again, or ended.
        OSError: the run folder is out of reach.
    """
    if (run / START).read_text(encoding="utf-8") != token:
        raise OvertakenError(
            run,
            "was started again, or has ended, since this job began; what it computed is dropped",
            "nothing is lost: the later start computes the cell",
        )
