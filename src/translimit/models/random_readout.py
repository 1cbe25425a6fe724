r"""The loss of a language model that reads a random stack.

    loss = 1/n sum_i (log sum_v e^{u_iv} - u_{i t'_i}),    u_i = c tanh(lambda W_U N(x_i) / c),

N the stack's final norm, c a soft cap where there is one, and W_U a matrix of its own or the table
of embeddings.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    AnyArray,
    ArgumentError,
    Key,
    Module,
    require_count,
    require_number,
    require_real,
)
from translimit.describe import Embedding, Stack
from translimit.models.random_tokens import table_rows
from translimit.models.token_norms import normalise


@final
class LanguageReadout(Module):
    """Logits, and the words that the loss expects.

    Attributes:
        targets: the word that follows each token [n].
        words: V, entries of the vocabulary.
        std: of the entries of a matrix of its own; None where the readout is tied.
        tied: the key that `RandomStack.draw_tokens` drew the tokens from: the readout is the table
            of embeddings then.
        multiplier: lambda, of the logits.
        softcap: c, or None.

    Raises:
        ArgumentError: neither or both of `std` and `tied`, targets that are no words.
        ArgumentTypeError: an argument of the wrong type.
    """

    targets: Int[AnyArray, " n"]
    words: int = eqx.field(static=True)
    std: float | int | None = eqx.field(static=True, default=None)
    tied: Key | None = None
    multiplier: float | int = eqx.field(static=True, default=1.0)
    softcap: float | int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        require_count(self.words, "words", 2)
        require_number(self.multiplier, "multiplier")
        if self.softcap is not None:
            require_real(self.softcap, "softcap", POSITIVE)
        if (self.std is None) == (self.tied is None):
            raise ArgumentError(
                "std", "stands beside tied, or both are missing", "pass one of them"
            )
        if self.std is not None:
            require_real(self.std, "std", NOT_NEGATIVE)
        ids = np.asarray(self.targets)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ArgumentError(
                "targets", f"have shape {ids.shape}, {ids.dtype}", "pass one row of whole numbers"
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < self.words:
            raise ArgumentError(
                "targets",
                f"go from {ids.min()} to {ids.max()}",
                f"pass ids from 0 to {self.words - 1}",
            )


def language_loss(
    readout: LanguageReadout, stack: Stack, x: Float[Array, "n dim"], key: Key
) -> Float[Array, ""]:
    """The mean loss of one network.

    Args:
        readout: logits and targets.
        stack: its final norm and embedding.
        x: tokens that leave the last layer.
        key: of a matrix of the readout's own, or of the table.
    """
    dim, words = x.shape[1], jnp.arange(readout.words)
    if readout.std is None:
        assert isinstance(stack.embedding, Embedding)  # `RandomStack.simulate` looks
        matrix = table_rows(stack.embedding, dim, words, key)
    else:
        matrix = readout.std * jax.random.normal(key, (readout.words, dim), jnp.float32)
    logits = readout.multiplier * normalise(stack.norm_final, x) @ matrix.astype(x.dtype).T
    if readout.softcap is not None:
        logits = readout.softcap * jnp.tanh(logits / readout.softcap)
    own = jnp.take_along_axis(logits, jnp.asarray(readout.targets)[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - own)
