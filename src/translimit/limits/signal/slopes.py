r"""Many scalars of the last covariance at once: what is linear in their slopes Lambda, one by one.

On the way down scalars of lower levels join those of higher ones, and a sub-block is passed once
for all of them: what it draws does not depend on them. Slopes come as [m, n, n], those of scalars
that have not joined last; their number is a traced one, so that one program serves all sub-blocks.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float


def accumulate(
    total: Any,
    slopes: Float[Array, "m n n"] | tuple[Array, ...],
    joined: Array | int | None,
    function: Callable[..., Any],
) -> Any:
    """Add a function of each of the first slopes to its place in a total.

    Args:
        total: arrays [m, ...], one for every result of the function.
        slopes: of all scalars, or several such arrays.
        joined: how many have joined; all by default.
        function: of one of them, or of one of each array.
    """
    several = slopes if isinstance(slopes, tuple) else (slopes,)

    def body(place: Array, total: Any) -> Any:
        new = function(*(one[place] for one in several))
        return jax.tree.map(lambda old, more: old.at[place].add(more), total, new)

    return jax.lax.fori_loop(0, len(several[0]) if joined is None else joined, body, total)
