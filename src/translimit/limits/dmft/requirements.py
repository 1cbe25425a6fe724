"""What of a training problem has a limit, and what of its arrays has one meaning."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError, brief
from translimit.limits.dmft.architecture import Architecture


def require_readout(
    readout: str | None, targets: Float[np.ndarray, "inputs ..."], tokens: int
) -> None:
    """Let a shape that can be read in two ways be told apart."""
    if readout == "token":
        raise NoSuchLimitError(
            "readout",
            "got 'token', and outputs of single tokens are not solved yet",
            'pass "pooled" with targets [inputs] or [inputs, outputs]',
        )
    if readout not in (None, "pooled"):
        raise ArgumentError("readout", f"got {brief(readout)}", 'pass "pooled"')
    # One token is its own mean.
    if readout is None and targets.ndim == 2 and targets.shape[1] == tokens > 1:
        raise ArgumentTypeError(
            "readout",
            f"is missing, and targets of shape {targets.shape} may be {tokens} outputs of the "
            f"mean over tokens, or one of each of the {tokens} tokens",
            'pass readout="pooled" for the first; the second is not solved yet',
        )


def require_limit(a: Architecture, optimizer: str) -> None:
    """Refuse what has no limit."""
    if a.attention and math.isinf(a.head_dim) and a.alpha_A < 1:
        raise NoSuchLimitError(
            "alpha_A",
            f"is {a.alpha_A:g} with infinite head_dim: gradients of keys and queries diverge "
            "after two updates, there is no limit beyond initialisation",
            "take alpha_A=1, a finite head_dim, or initial_score_cov for the initialisation",
        )
    if math.isinf(a.layers) and a.alpha_L < 1:
        raise NoSuchLimitError(
            "alpha_L",
            f"is {a.alpha_L:g} with infinite layers: only alpha_L = 1 has the depth ODE",
            "take alpha_L=1, or extrapolate finite layers in 1 / layers",
        )
    if optimizer != "sgd":
        raise NoSuchLimitError(
            "optimizer",
            f"got {optimizer!r}: an update that is no outer product leaves this theory",
            "take optimizer='sgd', with or without momentum",
        )
