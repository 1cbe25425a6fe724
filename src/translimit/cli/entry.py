"""The entry point: from arguments to an exit status.

0: the command did its work (a refuted claim is a result); 2: unusable input, told in one line on
standard error; 1: an internal failure, a failed cell or a full disk; 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from translimit._version import __version__
from translimit.cli.garbage import rarely_collected
from translimit.cli.terminal import say, use_stand_ins
from translimit.core import (
    ArgumentError,
    CellError,
    DiskFullError,
    StoreError,
    TranslimitError,
    disk_full,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: by default those of the process.

    Returns:
        The exit status.
    """
    use_stand_ins()
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(__version__)
        return 0
    try:
        with rarely_collected():
            from translimit.cli.commands import execute
            from translimit.cli.parse import parse

            command = parse(arguments)
        execute(command)
        sys.stdout.flush()
    except (DiskFullError, CellError) as error:
        return _fail(error, 1)
    except (ArgumentError, StoreError, ImportError) as error:
        if not isinstance(error, TranslimitError):
            raise
        return _fail(error, 2)
    except TranslimitError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        print("translimit: interrupted; the same command finishes it", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()  # whoever read it has left
        return 1
    except OSError as error:
        if not disk_full(error):
            raise
        _drop_output()
        place = error.filename or "standard output"
        return _fail(DiskFullError(place, "the disk is full", "free space and do it again"), 1)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def _drop_output() -> None:
    """Let what is still buffered go nowhere, since it has no other place to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: TranslimitError, status: int) -> int:
    say(f"translimit: {' '.join(str(error).split())}", error=True)
    return status
