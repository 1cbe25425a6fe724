r"""Branches along depth: do the layers push tokens one way, or each its own?

With the branches b_l [n, D] that L layers add, all tokens flattened,

    s = |sum_l b_l|^2 / sum_l |b_l|^2

is 1 for independent branches and L for equal ones: noise, as in the covariance SDE of the shaped
Transformer, or drift, as in a flow along depth. Layers that share their weights repeat the mean of
the branch over tokens, which says nothing of them: of these it is taken without that mean.

Sources: Noci et al., arXiv 2306.17759 (layers as noise); Castin et al., arXiv 2501.18322 (layers as
a flow); documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
from jaxtyping import Float


@final
class Straightness:
    """Sums over layers, which are given one by one and not kept.

    Args:
        centred: whether the mean over tokens is left out, as for layers that share their weights.

    Examples:
        >>> import numpy as np
        >>> sums = Straightness()
        >>> for branch in np.ones((3, 4, 2)):
        ...     sums.add(branch)
        >>> sums.ratio()
        3.0
    """

    def __init__(self, *, centred: bool = False):
        self.centred = centred
        self._total: np.ndarray | None = None
        self._squares = 0.0

    def add(self, branch: Float[np.ndarray, "n D"]) -> None:
        """One layer more.

        Args:
            branch: what it adds to the stream.
        """
        rows = branch - branch.mean(axis=0) if self.centred else branch
        self._total = rows if self._total is None else self._total + rows
        self._squares += float((rows**2).sum())

    def ratio(self) -> float:
        """s; NaN without a layer, or where all branches are zero."""
        if self._total is None or self._squares == 0:
            return math.nan
        return float((self._total**2).sum()) / self._squares
