r"""The input side: what the stream starts from, and what the embedding learns.

h^1_a = sum over columns of Phi_ac E_c, where columns are features of the inputs, or tokens of a
vocabulary and positions. E_c starts white and learns at a rate that is its own: an embedding has
two kernels,

    K^x = Phi Phi^T  of its sources,    K^lr = Phi diag(rates) Phi^T  of its memory,

which differ where positions are frozen, or learn at another rate. Updates that are no outer
products see Phi itself.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Embedding:
    """The embedding as sources of the stream.

    Attributes:
        start: coefficients of the fields on the sources.
        source_cov: covariance of the sources.
        memory: K^lr.
        phi: the columns themselves, whose E_c are independent.
        rates: learning rate of every column, relative to the others.
    """

    start: Float[np.ndarray, "fields sources"]
    source_cov: Float[np.ndarray, "sources sources"]
    memory: Float[np.ndarray, "fields fields"]
    phi: Float[np.ndarray, "fields columns"]
    rates: Float[np.ndarray, " columns"]

    @property
    def kernel(self) -> Float[np.ndarray, "fields fields"]:
        """K^x, the kernel of the stream at the start."""
        return self.start @ self.source_cov @ self.start.T

    def for_each_token(self, tokens: int) -> Embedding:
        """Every input once for each of its tokens."""
        fields = np.arange(len(self.start)).reshape(-1, tokens)
        place = np.repeat(fields, tokens, axis=0).reshape(-1)
        memory = self.memory[np.ix_(place, place)]
        return Embedding(self.start[place], self.source_cov, memory, self.phi[place], self.rates)


def of_features(
    inputs: Float[np.ndarray, "inputs tokens dim"], position_std: float, position_rate: float
) -> Embedding:
    """Real inputs: one source for every field, with the kernel of the inputs."""
    x = inputs.reshape(-1, inputs.shape[2])
    kernel = x @ x.T / x.shape[1]
    same = np.tile(np.eye(inputs.shape[1]), (len(inputs), len(inputs))) * position_std**2
    positions = _places(len(inputs), inputs.shape[1], position_std)
    phi = np.concatenate([x / x.shape[1] ** 0.5, positions], axis=1)
    rates = np.repeat([1.0, position_rate], [x.shape[1], positions.shape[1]])
    return Embedding(np.eye(len(x)), kernel + same, kernel + position_rate * same, phi, rates)


def of_tokens(
    token_ids: Int[np.ndarray, "inputs tokens"],
    vocabulary: int,
    position_std: float,
    position_rate: float,
    *,
    tied: bool,
) -> Embedding:
    """Tokens and positions: one white source for each word that occurs (tied: for all words)."""
    P, S = token_ids.shape
    ids = token_ids.reshape(-1)
    if tied:
        words = np.eye(vocabulary)[ids]
    else:
        words = np.eye(len(np.unique(ids)))[np.unique(ids, return_inverse=True)[1]]
    places = _places(P, S, position_std)
    memory = words @ words.T + position_rate * places @ places.T
    start = np.concatenate([words, places], axis=1)
    rates = np.repeat([1.0, position_rate], [words.shape[1], places.shape[1]])
    return Embedding(start, np.eye(start.shape[1]), memory, start, rates)


def _places(inputs: int, tokens: int, std: float) -> Float[np.ndarray, "fields places"]:
    """One-hot positions times their standard deviation; no columns at zero."""
    return std * np.tile(np.eye(tokens), (inputs, 1))[:, : tokens if std else 0]
