r"""The loss of a language model before training, and the gradients that it sends down.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import Json, Key, named_key, with_error
from translimit.describe import Embedding, StackReading
from translimit.limits.signal import (
    Readout,
    SignalPropagation,
    initial_loss,
    own_token_logit,
    readout_square,
    stream_kept,
    tied_cross,
    top_gradient,
)
from translimit.predict.curves import Curve
from translimit.predict.inputs import Tokens

#: The own-token logit matters from log V less this on.
MARGIN = 2.0


@dataclass(frozen=True)
class Loss:
    """The mean cross-entropy of the words to come, and the norms of its gradients.

    Attributes:
        value: of the loss, in nats.
        error: its standard deviation over networks.
        words: V.
        logit_std: deviation of the logits of a token.
        own_token_logit: c, the mean logit of a token's own word under a tied readout; 0 otherwise.
        softcap: of the logits; None without one. Both numbers before are those below it.
        capped_std: deviation of the logits under the cap.
        gradient_norm: of all weights of the layers together; 0 where none was sent back.
        curves: gradients of the stream by level, of groups of weights by layer, of tables and of
            the readout; of a tied readout the latter is what its table has as a readout, and
            `gradient_tied_table` the norm of both parts together.
    """

    value: float
    error: float
    words: int
    logit_std: float
    own_token_logit: float
    softcap: float | None
    capped_std: float
    gradient_norm: float
    curves: Mapping[str, Curve]

    @property
    def says(self) -> tuple[str, ...]:
        """The numbers in sentences."""
        uniform = math.log(self.words)
        told = [
            f"cross-entropy {with_error(self.value, self.error)} nats; a uniform guess over "
            f"{self.words} words has {uniform:.2f}",
            f"logits have deviation {self.logit_std:.3g}{self._under_cap}"
            + (
                f"; the gradient of all weights of the layers has norm {self.gradient_norm:.3g}"
                if self.curves
                else ""
            ),
        ]
        if self.own_token_logit:
            weight = "decides" if self._own > uniform - MARGIN else "is harmless"
            told.append(
                f"the readout is the table of embeddings: a token's own word has logit "
                f"{self._own:.3g}, which {weight} (log V = {uniform:.3g})"
            )
        return tuple(told)

    @property
    def _own(self) -> float:
        """The own word's mean logit under the cap."""
        cap, own = self.softcap, self.own_token_logit
        return own if cap is None else cap * math.tanh(own / cap)

    @property
    def _under_cap(self) -> str:
        if self.softcap is None:
            return ""
        return f", {self.capped_std:.3g} under their cap of {self.softcap:g}"

    def to_json(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "value": self.value,
            "error": self.error,
            "words": self.words,
            "logit_std": self.logit_std,
            "own_token_logit": self.own_token_logit,
            "softcap": self.softcap,
            "capped_std": self.capped_std,
            "gradient_norm": self.gradient_norm if self.curves else None,
            "curves": {name: curve.to_json() for name, curve in self.curves.items()},
        }


@dataclass(frozen=True)
class LossAtTop:
    """The loss, and what it sends to the top of the last layer.

    Attributes:
        value: of the loss.
        error: its standard deviation over networks.
        readout: what makes the logits.
        gradient: B [n, n]; zero for a last token without a word to come.
        readout_norm: of the gradient of the readout's matrix.
        tied_cross: what the squares of the two parts of a tied table leave out; None where
            embedding and readout are two matrices.
    """

    value: float
    error: float
    readout: Readout
    gradient: Float[np.ndarray, "n n"]
    readout_norm: float
    tied_cross: float | None


def loss_is_known(reading: StackReading, tokens: Tokens) -> bool:
    """Whether there is a readout, and words to come.

    Args:
        reading: of the architecture.
        tokens: that enter.
    """
    words = reading.vocabulary
    known = tokens.targets is not None and tokens.ids is not None
    return known and reading.readout_std is not None and words is not None and words >= 2


def loss_at_top(
    reading: StackReading, tokens: Tokens, cov: Float[np.ndarray, "n n"], key: Key
) -> LossAtTop | None:
    """The loss of tokens that passed all layers; None without a readout or words to come.

    Args:
        reading: of the architecture.
        tokens: that entered.
        cov: C after the last layer [n, n].
        key: of heads that are sampled for a post-LN stack.
    """
    std, words = reading.readout_std, reading.vocabulary
    if not loss_is_known(reading, tokens):
        return None
    assert tokens.targets is not None
    assert tokens.ids is not None
    assert std is not None
    assert words is not None
    stack, count = reading.stack, len(tokens.targets)
    seen, ids = cov[:count, :count], tokens.ids[:count]
    squares = np.diagonal(seen)
    scale = reading.logit_scale
    own = 0.0
    if reading.own_token:
        entering = SignalPropagation(stack=stack, initial=tokens.cov, top_gradient=None)
        kept = stream_kept(entering, key=named_key(key, "kept"))[:count]
        own = own_token_logit(stack, squares, logit_scale=scale, kept=kept)
    width = scale * std * math.sqrt(stack.dim)
    readout = Readout(words, stack.dim, width, own, reading.logit_softcap)
    norm = stack.norm_final
    read = seen
    if norm is not None:
        total = squares + norm.norm_eps
        s = norm.gain * np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
        read = s[:, None] * s[None, :] * seen
    loss = initial_loss(read, tokens.targets, readout, ids)
    gradient = np.zeros_like(cov)
    gradient[:count, :count] = top_gradient(seen, norm, tokens.targets, readout, ids)
    square = readout_square(read, tokens.targets, readout, ids)
    norm_of_matrix = math.sqrt(square) / std if std > 0 else 0.0
    cross = 0.0 if reading.tied else None
    if reading.own_token and isinstance(stack.embedding, Embedding) and stack.embedding.std > 0:
        table = stack.embedding.std
        cross = tied_cross(read, tokens.targets, readout, ids, table, normed=norm is not None)
    return LossAtTop(loss.value, loss.stderr, readout, gradient, norm_of_matrix, cross)


def _of_table(below: Curve, readout_norm: float, cross: float) -> Curve:
    """The norm of the gradient of a table that is embedding and readout, from its two parts."""
    norm = math.sqrt(max(below.value[0] ** 2 + readout_norm**2 + cross, 0.0))
    slope = below.value[0] / norm if norm > 0 else 0.0
    return Curve(
        "norm of the gradient of weights: the table that is embedding and readout",
        "stack",
        (norm,),
        (slope * below.sampling[0],),
        (slope * below.width[0],),
    )


def told_loss(top: LossAtTop, curves: Mapping[str, Curve]) -> Loss:
    """The loss with the curves of its gradients.

    Args:
        top: the loss.
        curves: of its gradients; none where none was sent back.
    """
    kept = dict(curves)
    layers = {name: one for name, one in kept.items() if one.by == "layer"}
    weights = [np.array(one.value) for name, one in layers.items() if name.startswith("gradient_")]
    norm = math.sqrt(sum(float(np.nansum(one**2)) for one in weights))
    if kept:
        says = "norm of the gradient of weights: readout"
        kept["gradient_readout"] = Curve(says, "stack", (top.readout_norm,), (0.0,), (0.0,))
    below = kept.get("gradient_embedding")
    if below is not None and top.tied_cross is not None:
        kept["gradient_tied_table"] = _of_table(below, top.readout_norm, top.tied_cross)
    readout = top.readout
    return Loss(
        value=top.value,
        error=top.error,
        words=readout.words,
        logit_std=float(readout.logit_std),
        own_token_logit=float(np.mean(readout.own_token_logit)),
        softcap=None if readout.softcap is None else float(readout.softcap),
        capped_std=readout.logits().deviation,
        gradient_norm=norm,
        curves=kept,
    )
