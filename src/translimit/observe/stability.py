r"""How far two clouds drift apart under one flow: the Dobrushin estimate, measured.

For data in a fixed ball W_2(mu_t, nu_t) <= C e^{Ct} W_2(mu_0, nu_0), with a C that grows with the
radius (for softmax exponentially in ||A|| R^2 in the worst case); for unbounded laws there is no
such estimate in general. What can be measured is the ratio W_2(t) / W_2(0), which must stay bounded
as the two clouds approach each other. Causal attention is stable in the conditional distance,
which couples tokens of equal position only.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    as_float64,
    conditional_wasserstein2,
    wasserstein2,
)


def stability_ratio(
    first: ArrayInput, second: ArrayInput, *, positions: ArrayInput | None = None
) -> Float[np.ndarray, " times"]:
    """W_2(t) / W_2(0) of two clouds along one flow; conditional W_2 where positions are given.

    Cost: one assignment, O(tokens^3), for every time; with positions one for every position.

    Args:
        first: a cloud along depth [times, tokens, dim], the first time the start.
        second: the other cloud at the same times [times, tokens, dim].
        positions: positions of the tokens of both clouds [tokens], for causal attention; several
            tokens at a position form a group.

    Returns:
        The ratio at every time, 1 at the first.

    Raises:
        ArgumentError: shapes that do not match, entries that are not finite, or clouds that agree
            at the start.
    """
    first, second = np.asarray(as_float64(first, "first")), np.asarray(as_float64(second, "second"))
    for name, cloud in (("first", first), ("second", second)):
        if cloud.ndim != 3 or 0 in cloud.shape:
            raise ArgumentError(name, f"has shape {cloud.shape}", "pass [times, tokens, dim]")
    if first.shape != second.shape:
        raise ArgumentError("second", f"has shape {second.shape}", f"pass shape {first.shape}")
    if positions is None:
        distances = [wasserstein2(x, y) for x, y in zip(first, second, strict=True)]
    else:
        distances = [
            conditional_wasserstein2(x, positions, y, positions)
            for x, y in zip(first, second, strict=True)
        ]
    if distances[0] == 0:
        raise ArgumentError("second", "agrees with first at the start", "perturb one of them")
    return np.array(distances) / distances[0]
