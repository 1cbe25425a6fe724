"""Room for compiled programs in a process that compiles many.

A small program that JAX compiles takes some fifteen to thirty memory mappings, those of one time
step of the DMFT some 750 together. Linux gives a process `vm.max_map_count` of them, 65,530 by
default, and aborts one that asks for more. What computes at shapes that the data decides, with
programs for each, can come there within an hour.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

#: Where Linux tells the mappings of this process, and how many it may have.
_OWN, _MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
#: The share of what a process may have from which on programs are dropped.
SHARE = 0.4


def drop_programs(most: int | None = None) -> bool:
    """Forget what JAX compiled in this process if it has very many memory mappings.

    What is needed again is compiled again, or read from the folder of `keep_programs`. Where the
    system tells no mappings nothing is done.

    Args:
        most: mappings up to which all is kept; by default 40 % of what the system allows.

    Returns:
        Whether programs were dropped.

    Examples:
        >>> drop_programs(most=10**9)
        False
    """
    if "jax" not in sys.modules or not (_OWN.exists() and _MOST.exists()):
        return False
    limit = int(SHARE * int(_MOST.read_text())) if most is None else most
    with _OWN.open() as lines:
        if sum(1 for _ in lines) <= limit:
            return False
    sys.modules["jax"].clear_caches()
    gc.collect()
    return True
