"""What a configuration was read as."""

from __future__ import annotations

from dataclasses import dataclass

from translimit.describe.stack import Stack


@dataclass(frozen=True)
class StackReading:
    """A stack, and what reading it took for granted.

    Attributes:
        family: what it was read as.
        stack: the stack.
        assumptions: what was not in the configuration and is assumed.
        ignored: what the configuration asks for and the stack leaves out, key by key.
        vocabulary: entries of the vocabulary, or None where it is not told.
        tied: whether token embedding and readout are one tensor.
        readout_std: of the entries of the matrix that makes logits, its own or the tied table's;
            None without such a matrix.
        own_token: whether logits see the embedding of the token itself: tied, and nothing but a
            norm between the stream and the readout.
        logit_scale: what logits are multiplied with.
        context: the largest number of tokens, or None where it is not told.
        image_tokens: the number of tokens of an image, or None.
    """

    family: str
    stack: Stack
    assumptions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    vocabulary: int | None = None
    tied: bool = False
    readout_std: float | None = None
    own_token: bool = False
    logit_scale: float = 1.0
    context: int | None = None
    image_tokens: int | None = None
