"""The curves of a prediction alone: what enters by default, and what depth does to it.

These are the numbers of `predict`, drawn by the same keys, without its loss and its other answers.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Mapping

from translimit.core import Key, named_key
from translimit.describe import Stack, StackReading
from translimit.limits.signal import AT_ONCE
from translimit.predict.curves import Curve
from translimit.predict.inputs import Tokens, read_tokens
from translimit.predict.signals import INDEPENDENT, Effort, signals


def sampled_tokens(
    reading: StackReading, tokens: int | None = None, *, seed: Key | int = 0
) -> Tokens:
    """The tokens that `predict` takes where no text is given.

    Args:
        reading: of the model's configuration, with an embedding.
        tokens: how many; `default_tokens(reading)` by default.
        seed: of the sample.

    Raises:
        ArgumentError: tokens below 2 or beyond the context; a stack without an embedding.
    """
    return read_tokens(reading, tokens=tokens, key=named_key(named_key(seed, "predict"), "tokens"))


def along_depth(stack: Stack, entering: Tokens, *, seed: Key | int = 0) -> Mapping[str, Curve]:
    """Curves along depth by name, with the errors of a single network.

    Args:
        stack: the stack.
        entering: the tokens that enter; of more than 256 no spread over networks is told.
        seed: of the Monte Carlo.

    Returns:
        What `predict(...).curves` holds: `overlap`, `rms`, `gradient` and others.
    """
    return signals(
        stack,
        entering.cov,
        entering.groups,
        Effort.of(stack, 0, entering.count),
        named_key(named_key(seed, "predict"), "own"),
        tops=INDEPENDENT,
        adjoint=entering.count <= AT_ONCE,
    ).curves
