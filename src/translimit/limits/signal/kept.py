r"""What a stack leaves of its first tokens: under post-LN every norm after a sum takes a share.

A token of the last level is Pi times what entered, and what the branches added, with

    Pi_i = prod over sub-blocks of a s_i,     s_i = g / (Z_ii + norm_eps)^{1/2},

s of the norm after the sum Z, that of infinite width. Without such norms Pi is the product of the
multipliers a alone.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from translimit.core import Key, in_float64
from translimit.limits.signal.passes import pass_forward
from translimit.limits.signal.propagation import Recursion, SignalPropagation, pairs_by_layer


def stream_kept(problem: SignalPropagation, *, key: Key, pairs: int = 8) -> Float[np.ndarray, " n"]:
    """Pi, of every token.

    Args:
        problem: the stack and its tokens.
        key: of the sampled heads.
        pairs: antithetic pairs of heads, as in `Recursion`.

    Examples:
        >>> import jax
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> stack = describe.pre_norm_stack(64, 3, attention)
        >>> problem = SignalPropagation(stack=stack, initial=np.eye(2))
        >>> stream_kept(problem, key=jax.random.key(0)).tolist()
        [1.0, 1.0]
    """
    return in_float64(functools.partial(_kept, pairs=pairs), problem, key)


def _kept(problem: SignalPropagation, key: Key, *, pairs: int) -> Float[np.ndarray, " n"]:
    stack, initial = problem.stack, np.asarray(problem.initial)
    kept = np.full(len(initial), float(np.prod([block.residual for block in stack.sub_blocks])))
    if not any(block.norm_post for block in stack.sub_blocks):
        return kept
    passed = pass_forward(
        stack,
        [initial],
        None,
        key,
        pairs_by_layer(stack, Recursion(pairs=pairs)),
        np.arange(1),
        keep=True,
        progress=None,
    )
    for step in passed.steps:
        norm = step.block.norm_post
        if norm is not None:
            total = np.diagonal(np.asarray(step.passed[0].sum)) + norm.norm_eps
            scale = norm.gain / np.sqrt(np.where(total > 0, total, 1.0))
            kept = kept * np.where(total > 0, scale, 0.0)
    return kept
