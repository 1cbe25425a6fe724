r"""Softmax at every position under a random readout: what its loss and its gradients are made of.

With logits of variance w_U K, A the overlap of two positions' softmaxes, and p the share of a
token's own word under a tied readout (`readout` says how they come together). Where logits are
capped their law is that of `logits`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    as_float64,
    require_count,
    require_covariance,
    require_finite,
    require_real,
)
from translimit.limits.signal.logits import Logits
from translimit.limits.signal.partition import WIDEST

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
        softcap: c where logits u are c tanh(u / c), as in Gemma 2; None without a cap. `logit_std`
            and `own_token_logit` are those before it.

    Raises:
        ArgumentError: a number outside its bounds.
        ArgumentTypeError: a count that is no integer.
    """

    words: int
    dim: int
    logit_std: float | int
    own_token_logit: ArrayInput = 0.0
    softcap: float | int | None = None

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
        if self.softcap is not None:
            require_real(self.softcap, "softcap", POSITIVE)

    def logits(self, mean_square: float | int = 1.0) -> Logits:
        """The logits of a token.

        Args:
            mean_square: of its entries.
        """
        cap = None if self.softcap is None else float(self.softcap)
        return Logits(self.words, self.logit_std * mean_square**0.5, cap)

    @property
    def tied(self) -> bool:
        """Whether a token's own word has a logit of its own."""
        return bool(np.any(np.asarray(self.own_token_logit) != 0.0))


class Moments(NamedTuple):
    """Of the softmax at every position, over readouts; n x n but for vectors. Uncapped, phi' = 1.

    Attributes:
        law: of the logits.
        correlation: R of the tokens; 0 for tokens of norm zero, their diagonal too.
        variance: w_U K.
        partition: E log Z of every token [n].
        hit: 1[t'_i = t'_j].
        same: 1[t_i = t_j]; zeros without an own word.
        aim: 1[t_i = t'_j].
        own: c of every token [n].
        value: the mean capped logit of the own word [n].
        row: r, the share of its own row in a token [n].
        slope: E phi' of every token [n].
        p: E p_i [n].
        push: E phi' p_i [n].
        pulled: E phi' (p_i - 1[t'_i = t_i]) [n].
        gained: E log(1 + s) [n].
        along: what pulls a token along itself, before what the overlaps take away [n].
        pairs: E phi'_i phi'_j (p_i - 1[t'_i = t_i])(p_j - 1[t'_j = t_j]) S_ij.
        rest: E(1 - p_i)(1 - p_j) A_ij.
    """

    law: Logits
    correlation: np.ndarray
    variance: np.ndarray
    partition: np.ndarray
    hit: np.ndarray
    same: np.ndarray
    aim: np.ndarray
    own: np.ndarray
    value: np.ndarray
    row: np.ndarray
    slope: np.ndarray
    p: np.ndarray
    push: np.ndarray
    pulled: np.ndarray
    gained: np.ndarray
    along: np.ndarray
    pairs: np.ndarray
    rest: np.ndarray

    def bracket(self, words: int, *, below_norm: bool) -> np.ndarray:
        """What multiplies w_U / n^2, without pulls."""
        r = self.row if below_norm else np.zeros_like(self.row)
        own = self.aim.diagonal()  # a token that is its own target pulls its row by p - 1
        one = self.pairs * (1 - r[:, None] - r[None, :])
        along = np.sqrt(np.outer(r, r)) * np.outer(self.pulled, self.pulled) * self.correlation
        aimed = np.outer((1 - r) * self.pulled, (1 - own) * self.slope) * self.aim
        dead = (self.correlation.diagonal() == 0.0)[:, None]
        met = np.where(
            dead | dead.T, np.outer(self.slope, self.slope), self.law.targets(self.correlation)
        )
        fresh = self.hit * met * np.outer(1 - own, 1 - own) + self.rest
        crossed = self.law.crossed(self.correlation) / words
        fresh = fresh - (2 - self.p[:, None] - self.p[None, :]) * crossed
        return fresh + one + along - aimed - aimed.T


class _OwnWord(NamedTuple):
    """Means over the own word's logit, at every position [n].

    Attributes:
        p: E p.
        value: E u.
        push: E phi' p.
        std: the deviation of p.
        pulled: E phi' (p - a), with a = 1 where the own word is the target.
        deviates: the deviation of phi' (p - a).
        gained: E log(1 + s).
        along: E (phi'^2 + phi'') p.
    """

    p: np.ndarray
    value: np.ndarray
    push: np.ndarray
    std: np.ndarray
    pulled: np.ndarray
    deviates: np.ndarray
    gained: np.ndarray
    along: np.ndarray


def moments(
    cov: ArrayInput, targets: ArrayInput, readout: Readout, ids: ArrayInput | None
) -> Moments:
    """The moments of tokens with covariance K [n, n], for targets and, where tied, ids.

    Arguments and errors are those of `readout_gradient`.
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
    law = readout.logits(float(lives.mean()))
    s = np.where(alive, 1 / np.sqrt(np.where(alive, squares, 1.0)), 0.0)
    correlation = np.clip(s[:, None] * s[None, :] * matrix, -1.0, 1.0)
    base = np.where(alive, law.log_partition, math.log(readout.words))
    own, same, aim = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    if readout.tied:
        if ids is None:
            raise ArgumentError("ids", "are not given for a tied readout", "pass those of tokens")
        row = _row(ids, "ids", n)
        own = np.where(alive, np.broadcast_to(np.asarray(readout.own_token_logit, float), n), 0.0)
        same, aim = _equal(row, row), _equal(row, hit)
    share = own**2 / max(law.std**2 * readout.dim, 1e-300)
    word = _OwnWord(*np.zeros((8, n)))
    if readout.tied:
        word = _own_word(own, share, law, base, aim.diagonal())
    alike = np.clip((correlation + share[:, None]) / (1 + share[:, None]), -1.0, 1.0)
    pairs = np.outer(word.pulled, word.pulled) + alike * np.outer(word.deviates, word.deviates)
    left = np.outer(1 - word.p, 1 - word.p) + same * alike * np.outer(word.std, word.std)
    return Moments(
        law=law,
        correlation=correlation,
        variance=readout.logit_std**2 * matrix,
        partition=base,
        hit=_equal(hit, hit),
        same=same,
        aim=aim,
        own=own,
        value=word.value,
        row=share,
        slope=np.where(alive, law.mean_slope, 1.0),
        p=word.p,
        push=word.push,
        pulled=word.pulled,
        gained=word.gained,
        along=(1 - word.p) * law.along + word.along,
        pairs=same * pairs,
        rest=left * law.overlap(correlation),
    )


def _own_word(
    own: np.ndarray, share: np.ndarray, law: Logits, base: np.ndarray, aimed: np.ndarray
) -> _OwnWord:
    if law.cap is None:
        z, weights = np.polynomial.hermite_e.hermegauss(NODES)
        weights = weights / weights.sum()
        z = law.std * z
    else:
        z, weights = law.nodes(law.std)
    z = own[:, None] + np.sqrt(1 + share)[:, None] * z
    there = own[:, None] != 0.0  # no own word where it has no logit
    u, slope = law.value(z), law.slope(z)
    log_s = np.where(there, u - base[:, None], -np.inf)
    p = 0.5 * (1.0 + np.tanh(0.5 * log_s))  # the logistic function
    mean, push = p @ weights, (slope * p) @ weights
    pulled = slope * (p - aimed[:, None])
    center = pulled @ weights
    return _OwnWord(
        p=mean,
        value=np.where(there[:, 0], u @ weights, 0.0),
        push=push,
        std=np.sqrt(np.maximum(p**2 @ weights - mean**2, 0.0)),
        pulled=center,
        deviates=np.sqrt(np.maximum(pulled**2 @ weights - center**2, 0.0)),
        gained=np.logaddexp(0.0, log_s) @ weights,
        along=(law.pull(z) * p) @ weights,
    )


def _row(ids: ArrayInput, name: str, n: int) -> Int[np.ndarray, " n"]:
    row = np.asarray(ids)
    if row.shape != (n,) or not np.issubdtype(row.dtype, np.integer):
        raise ArgumentError(name, f"have shape {row.shape}, {row.dtype}", f"pass {n} whole numbers")
    return row


def _equal(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one[:, None] == two[None, :]).astype(float)
