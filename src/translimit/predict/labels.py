"""What to look out for, and what depth does, in words with the numbers behind them.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from translimit.core import NoSuchLimitError
from translimit.describe import Stack
from translimit.limits.signal import (
    Exponents,
    Label,
    entropy_collapse,
    exponents,
    gradient_label,
    lost_in_bf16,
    overflow,
    rank_collapse,
)
from translimit.predict.curves import Curve

#: A sampling error of a share of attention above which the worst of all layers is chance.
LARGE_ERROR = 0.02


def labels_of(stack: Stack, tokens: int, curves: Mapping[str, Curve]) -> tuple[Label, ...]:
    """All labels, those that hold first.

    Args:
        stack: the stack.
        tokens: how many entered.
        curves: of these tokens.
    """
    found = []
    if "overlap_distinct" in curves:
        law = law_of(stack, tokens)
        whole = None
        if law is not None and law.exponents is not None:
            whole = law.exponents.angle * len(stack.layers)
        found.append(rank_collapse(curves["overlap_distinct"].value[-1], whole))
    if any(share < 1 for share in curves["entropy"].value):
        # Extrapolated in the number of heads, a sum of squares may pass 1 by its error.
        squares = np.minimum(_surely(curves["concentration"], -1.0), 1.0)
        found.append(entropy_collapse(squares, np.minimum(_surely(curves["entropy"], 1.0), 1.0)))
    if "gradient" in curves:
        found.append(gradient_label(np.array(curves["gradient"].value) ** 2))
    squares = np.array(curves["rms"].value) ** 2
    found.append(overflow(squares, tokens, stack.dim))
    shares = np.array(curves["attention_share"].value + curves["units_share"].value)
    added = shares[shares > 0]
    if added.size:
        found.append(lost_in_bf16(added, np.ones_like(added)))
    return tuple(sorted(found, key=lambda one: not one.holds))


def _surely(curve: Curve, sign: float) -> np.ndarray:
    """Values, less two errors where so few heads were sampled that the worst layer is chance."""
    value, error = np.array(curve.value), np.array(curve.sampling)
    return np.maximum(value + np.where(error > LARGE_ERROR, 2 * sign * error, 0.0), value / 4)


def law_of(stack: Stack, tokens: int) -> Exponents | None:
    """The laws in depth of a stack of equal layers; None for others and for experts.

    Args:
        stack: the stack.
        tokens: how many enter.
    """
    if any(layer != stack.layers[0] for layer in stack.layers):
        return None
    try:
        return exponents(stack, tokens)
    except NoSuchLimitError:
        return None


def depth_in_words(stack: Stack, tokens: int) -> tuple[str, ...]:
    """Exponents where norms hold the stream, powers where it grows; nothing for other stacks.

    Args:
        stack: the stack.
        tokens: how many enter.
    """
    law = law_of(stack, tokens)
    if law is None:
        return ()
    found = []
    if law.exponents is not None:
        rates = law.exponents
        found.append(
            f"nearly equal tokens: 1 - R changes by the factor {math.exp(rates.angle):.3g} a "
            f"layer ({law.phase} phase)"
        )
        found.append(
            f"squared gradients change by {math.exp(rates.gradient):.3g} in one layer on their way "
            "down where tokens' gradients are independent, and by "
            f"{math.exp(rates.coherent):.3g} a layer where they are shared; over many layers what "
            "is shared remains"
        )
    elif law.powers is not None and law.growth is not None:
        powers = law.powers
        found.append(
            f"the mean square q grows by {law.growth:.3g} a layer; nearly equal tokens: 1 - R "
            f"goes like q^{powers.angle:.3g} ({law.phase} phase)"
        )
        found.append(
            f"squared gradients go like q^{powers.gradient:.3g} where tokens' gradients are "
            f"independent, like q^{powers.coherent:.3g} where they are shared"
        )
    return tuple(found)
