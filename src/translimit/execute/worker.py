"""A worker process: reads jobs from standard input, writes results, and dies with its parent.

The protocol is one JSON document a line. First comes the function, then one job at a time; each is
answered by one result. Standard output belongs to the protocol: what a
job prints goes to standard error. The end of the input means that the parent is gone or done,
however it ended, and the worker exits at once, even in the middle of a job.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from typing import Any, BinaryIO


def main() -> None:
    """Serve jobs until the input ends."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    parent = os.getppid()
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()

    opening = messages.get()
    if opening["parent"] != parent:
        os._exit(1)  # the parent died before we could ask to die with it
    from translimit.execute.base import Job, attempt

    while True:
        message = messages.get()
        result = attempt(opening["function"], Job(message["name"], message["arguments"]))
        answers.write(json.dumps(asdict(result)).encode() + b"\n")
        answers.flush()


def _listen(source: BinaryIO, messages: queue.SimpleQueue[Any]) -> None:
    """Pass messages on; leave the process when they end."""
    for line in source:
        messages.put(json.loads(line))
    os._exit(0)


def _die_with_parent() -> None:
    """On Linux, ask for SIGKILL when the parent dies: holds even inside long native code."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
