r"""The mean logit of a token's own word where the readout is the table of embeddings.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    as_float64,
    require_finite,
    require_real,
)
from translimit.describe import Embedding, Stack


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
