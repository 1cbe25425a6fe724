"""A worker process of this machine as its parent sees it.

It is a fresh interpreter with threads and device in its environment, so that its bits do not depend
on what this process has loaded, and programs need no `__main__` guard. It dies with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from translimit.execute.base import Job, JobResult, lost


class Child:
    """One worker process: give it jobs, one at a time; it says so when it dies.

    Args:
        function: `package.module:name` of what it calls.
        environment: of the process.
        search: where it finds modules.
    """

    def __init__(self, function: str, environment: Mapping[str, str], search: Sequence[str]):
        program = (
            f"import sys; sys.path[:] = {list(search)!r}; "
            "from translimit.execute.worker import main; main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
        )
        self.opening = json.dumps({"parent": os.getpid(), "function": function}).encode() + b"\n"

    def ask(self, job: Job) -> JobResult | None:
        """The result of a job, or None where the process died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = json.dumps({"name": job.name, "arguments": dict(job.arguments)})
        answer = b""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(self.opening + request.encode() + b"\n")
            self.opening = b""
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        return JobResult.from_json(json.loads(answer)) if answer.endswith(b"\n") else None

    def kill(self) -> None:
        """End it at once; whoever waits in `ask` gets None."""
        self.process.kill()

    def end(self) -> str:
        """Let it leave, or end it; how it ended, in words."""
        try:
            self.process.communicate(timeout=5)  # the end of its input tells a living worker
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        code = self.process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"


def died(job: Job, how: str) -> JobResult:
    """The result of a job whose worker process died."""
    return lost(job, f"its worker process {how}")
