r"""The gradient of a table that makes tokens and logits: what its two parts have in common.

With e_v what a row gets as an embedding and o_v what it gets as a readout, the table has
sum_v |e_v + o_v|^2. Branches end in fresh matrices, so that e and o meet only on the residual path.
There a token still holds its own row: with c its mean logit, p its share of softmax, R the overlaps
of the tokens that are read, S_ij = 1[t_i = t_j] and T_ij = 1[t_i = t'_j],

    E 2 sum_v <e_v, o_v> = 2 / (n^2 D sigma^2) sum_ij c_i c_j X_ji (X_ij - R_ij X_jj),
    X_ij = p_j S_ij - T_ij.

The second term of the bracket is what the final norm takes away. Words that predict one another (a
b a b) have T_ij T_ji = 1. Where logits are capped, p and T bear the slope of the cap at their own
logit.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import numpy as np

from translimit.core import POSITIVE, ArrayInput, require_real
from translimit.limits.signal.softmax_moments import Readout, moments


def tied_cross(
    cov: ArrayInput,
    targets: ArrayInput,
    readout: Readout,
    ids: ArrayInput,
    table_std: float | int,
    *,
    normed: bool = True,
) -> float:
    """E 2 sum_v <e_v, o_v> of the mean loss, which |dE|^2 has beside the squares of its two parts.

    Fluctuations of p and terms of order 1 / V are left out.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout, with the logit of a token's own word.
        ids: of the tokens themselves [n].
        table_std: sigma, of the entries of the table.
        normed: whether a final norm stands before the readout.

    Raises:
        ArgumentError: see `readout_gradient`; a deviation that is not positive.

    Examples:
        >>> readout = Readout(words=32_000, dim=64, logit_std=0.8, own_token_logit=3.0)
        >>> value = tied_cross(np.eye(4), [1, 0, 3, 2], readout, [0, 1, 2, 3], 0.1)
        >>> round(value, 2)
        7.03
    """
    of = moments(cov, targets, readout, ids)
    std = require_real(table_std, "table_std", POSITIVE)
    # What a token sends to its own word has the slope of that word's logit, target or not.
    other = of.aim * (1.0 - of.same)
    share = of.pulled[None, :] * of.same - of.slope[None, :] * other
    kept = of.correlation * np.diagonal(share)[None, :] if normed else 0.0
    total = np.sum(np.outer(of.own, of.own) * share.T * (share - kept))
    return float(2 * total / (len(of.own) ** 2 * readout.dim * std**2))
