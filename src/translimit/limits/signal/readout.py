r"""The loss of a language model at initialisation, and the gradient that it sends down.

A readout gives logits lambda W_U y to V words; for unit tokens they have variance
w_U = D sigma_U^2 lambda^2. Tokens y have covariance K. With A the overlap of the softmaxes of two
positions (`partition`), the mean over n positions of -log p_{t'}, with targets t', has

    mean E log sum_v e^{u_v},    variance n^-2 sum_ij [w_U K_ij (1[t'_i = t'_j] - 2 / V)
                                                       + Cov(log Z_i, log Z_j)]

over readouts, and its gradient with respect to y the Gram matrix

    B_ij = w_U / n^2 (1[t'_i = t'_j] + A_ij - 2 / V + h_i h_j w_U K_ij / D),     h_i = 1 - A_ii.

The last term is the pull of all words on a token, along y_i itself: a final norm removes it.

A *tied* readout is the table of embeddings, and y_i still holds the row of its own id t_i: the
logit of that word has the mean c (`own_token_logit`) and, with r = c^2 / (w_U D) the share of the
row in the token, the variance w_U (1 + r). The word takes the share p of softmax, p = s / (1 + s)
with log s = u - E log Z; the others keep 1 - p. The loss gains E log(1 + s), less c wherever a
token is its own target, and with T_ij = 1[t_i = t'_j], S_ij = 1[t_i = t_j] the bracket is

    1[t'_i = t'_j] + E(1 - p_i)(1 - p_j) A_ij - (2 - p_i - p_j) / V
        + E p_i p_j S_ij - p_i T_ij - p_j T_ji + pulls                              (at y)
        + E p_i p_j ((1 - 2 r) S_ij + r R_ij) - (1 - r) (p_i T_ij + p_j T_ji)       (below a norm)

with h_i = 1 - E p_i^2 - E(1 - p_i)^2 A_ii and pulls along the row itself of order c / D.

Where logits are capped, targets and softmaxes count with the cap's slope: 1[t'_i = t'_j] with G,
1 / V with X / V, A and p_i as in `logits`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArrayInput,
    Estimate,
    as_float64,
    require_covariance,
)
from translimit.describe import Normalisation
from translimit.limits.signal.softmax_moments import Readout, moments


def initial_loss(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None = None
) -> Estimate:
    """The mean loss of networks, its `stderr` the standard deviation of one network's.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: no covariance, tokens of unequal mean squares, ids of another number or none
            under a tied readout.

    Examples:
        >>> readout = Readout(words=32_128, dim=512, logit_std=8**0.5)
        >>> loss = initial_loss(np.eye(4), [1, 2, 3, 4], readout)
        >>> round(loss.value, 2), round(loss.stderr, 2)
        (14.36, 1.42)
    """
    of = moments(cov, targets, readout, ids)
    n, words, law = len(of.p), readout.words, of.law
    kept = 1 - of.p
    # Covariances of targets, of targets and partitions, of partitions, of own words with all.
    spread = of.hit * law.targets_cov(of.correlation)
    spread -= (kept[:, None] + kept[None, :]) * law.crossed_cov(of.correlation) / words
    spread += np.outer(kept, kept) * law.partition_cov(of.correlation)
    row = np.sqrt(np.outer(of.row, of.row)) * law.std**2
    spread += of.same * np.outer(of.push, of.push) * (of.variance + row)
    aimed = of.variance * np.outer(of.push, of.slope) * of.aim
    spread -= aimed + aimed.T
    loss = of.partition + of.gained - of.value * np.diagonal(of.aim)
    return Estimate(float(loss.mean()), max(float(spread.sum()), 0.0) ** 0.5 / n)


def readout_gradient(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None = None
) -> Float[np.ndarray, "n n"]:
    """B of the gradient of the mean loss with respect to the tokens that the readout reads.

    The error is of order 1 / D. Of that order are negative eigenvalues, which are cut off.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: no covariance, tokens of unequal mean squares, ids of another number or none
            under a tied readout.
    """
    of = moments(cov, targets, readout, ids)
    h = of.along - of.pairs.diagonal() - of.rest.diagonal()
    logit = of.own * h
    along = of.same * (np.outer(of.push * of.own, h) + np.outer(h, of.push * of.own))
    along = along - logit[:, None] * of.aim - (logit[:, None] * of.aim).T
    pulls = of.variance * np.outer(h, h) + along
    bracket = of.bracket(readout.words, below_norm=False) + pulls / readout.dim
    return _covariance(readout.logit_std**2 / len(of.p) ** 2 * bracket)


def top_gradient(
    stream: ArrayInput,
    norm: Normalisation | None,
    targets: ArrayInput,
    readout: Readout,
    ids: ArrayInput | None = None,
) -> Float[np.ndarray, "n n"]:
    """B of the gradient of the mean loss at the top of the last layer, below the final norm.

    The norm takes away what lies along the token itself: the pull of all words, and a share of the
    own word. Errors are those of `readout_gradient`.

    Args:
        stream: C of the tokens of the last level [n, n].
        norm: the final norm; None where the readout reads the stream.
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: see `readout_gradient`.
    """
    matrix = require_covariance(as_float64(stream, "stream"), "stream")
    if norm is None:
        return readout_gradient(matrix, targets, readout, ids)
    squares = np.diagonal(matrix)
    total = squares + norm.norm_eps
    s = norm.gain * np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
    of = moments(s[:, None] * s[None, :] * matrix, targets, readout, ids)
    bracket = of.bracket(readout.words, below_norm=True)
    return _covariance(readout.logit_std**2 / len(of.p) ** 2 * np.outer(s, s) * bracket)


def _covariance(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The nearest covariance in the Frobenius norm: negative eigenvalues become zero."""
    matrix = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= 0:
        return matrix
    nearest = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return (nearest + nearest.T) / 2


def readout_square(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None = None
) -> float:
    """sigma_U^2 E |dW_U|^2 of the mean loss: the sum of B_ij K_ij without the pull of all words.

    Of a tied readout it is the part that the table has as a readout; `embedding_squares` is what it
    has as an embedding, and `tied_cross` what the two have in common.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: see `readout_gradient`.

    Examples:
        >>> readout = Readout(words=32_000, dim=512, logit_std=1.0)
        >>> round(readout_square(np.eye(4), [1, 2, 3, 4], readout), 3)
        0.25
    """
    of = moments(cov, targets, readout, ids)
    bracket = of.bracket(readout.words, below_norm=False)
    return float(np.sum(of.variance * bracket)) / len(of.p) ** 2
