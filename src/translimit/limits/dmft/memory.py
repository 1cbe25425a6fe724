"""Memory of a pass, told before it starts."""

from __future__ import annotations

import numpy as np

from translimit.limits.dmft.plan import Plan

#: What the compiler and the reading of kernels at the end add; at 2,000 history rows
#: 8.7 GiB were resident at the peak (part 4 of benchmarks/dmft.py).
_MARGIN = 1.4


def pass_bytes(plan: Plan) -> int:
    """Peak bytes of a pass: histories, kernels, coefficient rows, and what a step works on."""
    n, K, D = plan.layers * len(plan.units), plan.history, plan.sources
    doubles = (4 * n + 2) * K * D + 6 * n * K**2 + 3 * plan.slots * plan.rows * D
    doubles += 4 * len(plan.units) * K * D  # one layer's slices
    total = 8 * doubles
    for unit in plan.units:
        histories = sum(rows * width for rows, width in unit.buffers().values())
        size = np.dtype(getattr(unit, "dtype", "float64")).itemsize
        total += size * plan.layers * histories
    return int(_MARGIN * total)
