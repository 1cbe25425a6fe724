r"""Softmax at every position under a random readout: what its loss and its gradients are made of.

With logits of variance w_U K, A the overlap of two positions' softmaxes, and p the share of a
token's own word under a tied readout (`readout` says how they come together).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from translimit.core import (
    ArgumentError,
    ArrayInput,
    as_float64,
    require_count,
    require_covariance,
    require_finite,
    require_real,
)
from translimit.limits.signal.partition import WIDEST, log_partition, softmax_overlap

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


class Moments(NamedTuple):
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


def moments(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None
) -> Moments:
    """The moments of tokens with covariance K, for targets and, where the readout is tied, ids.

    Args:
        cov: K, of the tokens that the readout reads (after the final norm) [n, n].
        targets: ids of the words to come [n].
        readout: the readout.
        ids: of the tokens themselves [n], where the readout is tied.

    Raises:
        ArgumentError: no covariance, tokens of unequal mean squares, ids of another number or none
            under a tied readout.
    """
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
    return Moments(
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
