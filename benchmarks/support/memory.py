"""Peak resident memory of a process, for benchmarks that run each case in a fresh one."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_gib() -> float:
    """Peak resident memory of this process in GiB, interpreter and compiler included."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux keeps the peak of the parent in getrusage across exec; VmHWM starts afresh.
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
