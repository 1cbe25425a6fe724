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

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Estimate,
    as_float64,
    require_count,
    require_covariance,
    require_finite,
    require_real,
)
from translimit.describe import Embedding, Normalisation, Stack
from translimit.limits.signal.partition import (
    WIDEST,
    log_partition,
    log_partition_cov,
    softmax_overlap,
)

#: Gauss-Hermite nodes of the own-token logit.
NODES = 48
#: Mean squares of the tokens that are read may differ by this factor; those of zero tokens may too.
UNEQUAL = 1.05


@dataclass(frozen=True, eq=False)
class Readout:
    """A readout at initialisation.

    Attributes:
        words: V, entries of the vocabulary, at least 2.
        dim: D, of the tokens that it reads, at least 2.
        logit_std: w_U^(1/2), of logits of tokens with unit entries, at most 40.
        own_token_logit: c, the mean logit of a token's own word where the readout is the table of
            embeddings (`own_token_logit`): one number, or one for every token; 0 otherwise.

    Raises:
        ArgumentError: a number outside its bounds.
        ArgumentTypeError: a count that is no integer.
    """

    words: int
    dim: int
    logit_std: float | int
    own_token_logit: ArrayInput = 0.0

    def __post_init__(self) -> None:
        require_count(self.words, "words", 2)
        require_count(self.dim, "dim", 2)
        require_real(self.logit_std, "logit_std", WIDEST)
        own = as_float64(self.own_token_logit, "own_token_logit")
        if np.ndim(own) > 1:
            raise ArgumentError(
                "own_token_logit", f"has shape {np.shape(own)}", "pass one number, or one a token"
            )
        require_finite(own, "own_token_logit")

    @property
    def tied(self) -> bool:
        """Whether a token's own word has a logit of its own."""
        return bool(np.any(np.asarray(self.own_token_logit) != 0.0))


def own_token_logit(
    stack: Stack,
    mean_square: ArrayInput,
    *,
    logit_scale: float | int = 1.0,
    kept: ArrayInput | None = None,
) -> Float[np.ndarray, "*n"]:
    """The mean logit c = lambda D sigma_E^2 mu s_E Pi s of a token's own word in a tied readout.

    A token of the last level is mu s_E Pi times its embedding, and what the branches added; s_E is
    the scale of a norm of embeddings, s = g / (q_L + norm_eps)^(1/2) that of the final norm.

    Args:
        stack: the stack, with the embedding of its tokens.
        mean_square: q_L, mean square of the entries of tokens before the final norm, of any shape.
        logit_scale: lambda, what logits are multiplied with.
        kept: Pi, what is left of the stream's first tokens at the last level: the product of all
            residual multipliers (the default) and of the scales of the norms after a sum
            (`stream_kept`).

    Raises:
        ArgumentError: a stack without a table of embeddings; norms after a sum and no `kept`.

    Examples:
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> embedding = describe.Embedding(0.08, multiplier=16.0)
        >>> final = describe.Normalisation()
        >>> stack = describe.Stack(
        ...     256, ((describe.SubBlock((attention,)),),), embedding, norm_final=final
        ... )
        >>> round(float(own_token_logit(stack, 3.638)), 2)
        13.74
    """
    of = stack.embedding
    if not isinstance(of, Embedding):
        raise ArgumentError("stack", "has no table of embeddings", "give it an Embedding")
    if of.inner is not None:
        raise ArgumentError(
            "stack", "maps its embedding to the stream by a matrix", "its readout is another one"
        )
    if kept is None:
        if any(block.norm_post for block in stack.sub_blocks):
            raise ArgumentError(
                "kept", "is not given for a stack with norms after a sum", "pass their scales"
            )
        kept = float(np.prod([block.residual for block in stack.sub_blocks]))
    coefficient = of.multiplier * as_float64(kept, "kept")
    if of.norm is not None:
        raw = (of.multiplier * of.std) ** 2 + of.position_std**2 + of.type_std**2
        coefficient = coefficient * of.norm.gain / np.sqrt(raw + of.norm.norm_eps)
    if stack.norm_final is not None:
        squares = require_finite(as_float64(mean_square, "mean_square"), "mean_square")
        total = squares + stack.norm_final.norm_eps
        coefficient = coefficient * np.where(
            total > 0, stack.norm_final.gain / np.sqrt(np.where(total > 0, total, 1.0)), 0.0
        )
    scale = require_real(logit_scale, "logit_scale", POSITIVE)
    return np.asarray(scale * stack.dim * of.std**2 * coefficient)


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
    of = _moments(cov, targets, readout, ids)
    n, words = len(of.p), readout.words
    kept = 1 - of.p
    # Covariances of targets, of targets and partitions, of partitions, of own words with all.
    spread = of.variance * (of.hit - (kept[:, None] + kept[None, :]) / words)
    spread += np.outer(kept, kept) * log_partition_cov(words, of.sigma, of.correlation)
    row = np.sqrt(np.outer(of.row, of.row)) * of.sigma**2
    spread += of.same * np.outer(of.p, of.p) * (of.variance + row)
    aimed = of.variance * of.p[:, None] * of.aim
    spread -= aimed + aimed.T
    loss = of.partition + of.gained - of.own * np.diagonal(of.aim)
    return Estimate(float(loss.mean()), max(float(spread.sum()), 0.0) ** 0.5 / n)


def readout_gradient(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None = None
) -> Float[np.ndarray, "n n"]:
    """B of the gradient of the mean loss with respect to the tokens that the readout reads.

    The error is of order 1 / D.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: no covariance, tokens of unequal mean squares, ids of another number or none
            under a tied readout.
    """
    of = _moments(cov, targets, readout, ids)
    h = 1 - of.pairs.diagonal() - of.rest.diagonal()
    logit = of.own * h
    along = of.same * (np.outer(of.p * of.own, h) + np.outer(h, of.p * of.own))
    along = along - logit[:, None] * of.aim - (logit[:, None] * of.aim).T
    pulls = of.variance * np.outer(h, h) + along
    bracket = of.bracket(readout.words, below_norm=False) + pulls / readout.dim
    return readout.logit_std**2 / len(of.p) ** 2 * bracket


def top_gradient(
    stream: ArrayInput,
    norm: Normalisation | None,
    targets: ArrayInput,
    readout: Readout,
    ids: ArrayInput | None = None,
) -> Float[np.ndarray, "n n"]:
    """B of the gradient of the mean loss at the top of the last layer, below the final norm.

    The norm takes away what lies along the token itself: the pull of all words, and a share of the
    own word.

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
    of = _moments(s[:, None] * s[None, :] * matrix, targets, readout, ids)
    bracket = of.bracket(readout.words, below_norm=True)
    return readout.logit_std**2 / len(of.p) ** 2 * np.outer(s, s) * bracket


class _Moments(NamedTuple):
    """Of the softmax at every position, over readouts; n x n but for `sigma` and vectors.

    Attributes:
        correlation: R of the tokens; 0 for tokens of norm zero, their diagonal too.
        variance: w_U K.
        sigma: the deviation of logits.
        partition: E log Z of every token [n].
        hit: 1[t'_i = t'_j].
        same: 1[t_i = t_j]; zeros without an own word.
        aim: 1[t_i = t'_j].
        own: c of every token [n].
        row: r, the share of its own row in a token [n].
        p: E p_i [n].
        gained: E log(1 + s) [n].
        pairs: E p_i p_j S_ij.
        rest: E(1 - p_i)(1 - p_j) A_ij.
    """

    correlation: np.ndarray
    variance: np.ndarray
    sigma: float
    partition: np.ndarray
    hit: np.ndarray
    same: np.ndarray
    aim: np.ndarray
    own: np.ndarray
    row: np.ndarray
    p: np.ndarray
    gained: np.ndarray
    pairs: np.ndarray
    rest: np.ndarray

    def bracket(self, words: int, *, below_norm: bool) -> np.ndarray:
        """What multiplies w_U / n^2, without pulls."""
        r = self.row if below_norm else np.zeros_like(self.row)
        own = self.aim.diagonal()  # a token that is its own target pulls its row by p - 1
        p, other = self.p - own, 1 - own
        pairs = self.pairs + self.same * (np.outer(p, p) - np.outer(self.p, self.p))
        one = pairs * (1 - r[:, None] - r[None, :])
        along = np.sqrt(np.outer(r, r)) * np.outer(p, p) * self.correlation
        aimed = ((1 - r) * p)[:, None] * self.aim * other
        fresh = self.hit * np.outer(other, other) + self.rest
        fresh = fresh - (2 - self.p[:, None] - self.p[None, :]) / words
        return fresh + one + along - aimed - aimed.T


def _moments(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None
) -> _Moments:
    matrix = np.asarray(require_covariance(as_float64(cov, "cov"), "cov"))
    n, squares = len(matrix), np.diagonal(matrix)
    alive = squares > 0
    lives = squares[alive] if alive.any() else np.ones(1)
    if lives.max() > UNEQUAL * lives.min():
        raise ArgumentError(
            "cov",
            f"has mean squares from {lives.min():.3g} to {lives.max():.3g}",
            "pass the covariance after the final norm",
        )
    hit = _row(targets, "targets", n)
    square = float(lives.mean())
    sigma = readout.logit_std * square**0.5
    s = np.where(alive, 1 / np.sqrt(np.where(alive, squares, 1.0)), 0.0)
    correlation = np.clip(s[:, None] * s[None, :] * matrix, -1.0, 1.0)
    overlap = softmax_overlap(readout.words, sigma, correlation)
    base = np.where(alive, log_partition(readout.words, sigma), math.log(readout.words))
    own, same, aim = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    if readout.tied:
        if ids is None:
            raise ArgumentError("ids", "are not given for a tied readout", "pass those of tokens")
        row = _row(ids, "ids", n)
        own = np.where(alive, np.broadcast_to(np.asarray(readout.own_token_logit, float), n), 0.0)
        same, aim = _equal(row, row), _equal(row, hit)
    share = own**2 / max(sigma**2 * readout.dim, 1e-300)
    p, std, gained = _own_word(own, share, sigma, base) if readout.tied else np.zeros((3, n))
    alike = np.clip((correlation + share[:, None]) / (1 + share[:, None]), -1.0, 1.0)
    pairs = same * (np.outer(p, p) + alike * np.outer(std, std))
    left = np.outer(1 - p, 1 - p) + same * alike * np.outer(std, std)
    return _Moments(
        correlation=correlation,
        variance=readout.logit_std**2 * matrix,
        sigma=sigma,
        partition=base,
        hit=_equal(hit, hit),
        same=same,
        aim=aim,
        own=own,
        row=share,
        p=p,
        gained=gained,
        pairs=pairs,
        rest=left * overlap,
    )


def _own_word(
    own: np.ndarray, share: np.ndarray, sigma: float, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation of p, and E log(1 + s), over the own word's logit."""
    z, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    log_s = (own - base)[:, None] + sigma * np.sqrt(1 + share)[:, None] * z
    log_s = np.where(own[:, None] != 0.0, log_s, -np.inf)  # no own word where it has no logit
    p = 0.5 * (1.0 + np.tanh(0.5 * log_s))  # the logistic function
    mean = p @ weights
    std = np.sqrt(np.maximum(p**2 @ weights - mean**2, 0.0))
    return mean, std, np.logaddexp(0.0, log_s) @ weights


def _row(ids: ArrayInput, name: str, n: int) -> Int[np.ndarray, " n"]:
    row = np.asarray(ids)
    if row.shape != (n,) or not np.issubdtype(row.dtype, np.integer):
        raise ArgumentError(name, f"have shape {row.shape}, {row.dtype}", f"pass {n} whole numbers")
    return row


def _equal(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one[:, None] == two[None, :]).astype(float)
