r"""Rules for initialising deep stacks, as what they do to a stack, in closed form.

| rule | stack | what it does |
|---|---|---|
| branch multiplier | pre-LN | b^2 = (f^2 - 1) q_0 / (v L): the stream grows f times at most |
| Admin | post-LN | a^2 = q of the pre-LN stack: the tokens that branches read are the same |
| DeepScaleLM | any | a^2 = 1 - c / N, b^2 = c / N: unit branches keep q, angles shrink to e^{-c} |
| DeepNorm | post-LN | a = (2 N)^{1/4}, weights times (8 N)^{-1/4}: nearly the identity |
| T-Fixup | no norm | weights times N^{-1/4}: relative gains of order 1 / N |
| score deviation | any | so that softmax looks at so many keys, F_n inverted |

N counts layers of two sub-blocks. What each does to angles and gradients is told by
`stack_factors`, and exactly by `SignalPropagation`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from translimit.core import POSITIVE, ArgumentError, Bounds, require_count, require_real
from translimit.describe import Attention, Branch, Experts, FeedForward, Stack, SubBlock
from translimit.limits.signal.concentration import LARGEST, concentration


def branch_multiplier(
    growth: float | int, mean_square: float | int, layers: int, factor: float | int = 2.0
) -> float:
    """The branch multiplier b with which a pre-LN stream grows in rms by a factor at most.

    Reached where tokens are equal; gradients then vary by at most factor^(p_g).

    Args:
        growth: v, what a layer adds to the mean square at b = 1, at most (`exponents`).
        mean_square: q_0, mean square at the embedding.
        layers: L.
        factor: of the rms, above 1.

    Raises:
        ArgumentError: a number that is not positive, a factor of at most 1.
    """
    v = require_real(growth, "growth", POSITIVE)
    q = require_real(mean_square, "mean_square", POSITIVE)
    times = require_real(factor, "factor", Bounds(1.0, math.inf, "()"))
    return math.sqrt((times**2 - 1) * q / (v * require_count(layers, "layers", 1)))


def admin(stack: Stack, squares: Sequence[float]) -> Stack:
    """A post-LN stack whose branches read what those of the pre-LN stack read.

    Exact where all tokens have one mean square; under a causal mask it falls with the position, and
    one multiplier a sub-block holds it on average.

    Args:
        stack: a post-LN stack.
        squares: q, the mean square that enters each sub-block of the pre-LN stack.

    Raises:
        ArgumentError: no post-LN stack, squares of another number or that are not positive.
    """
    _require_post(stack)
    if len(squares) != len(stack.sub_blocks):
        raise ArgumentError(
            "squares", f"are {len(squares)}", f"pass one for each of {len(stack.sub_blocks)}"
        )
    roots = [math.sqrt(require_real(one, "squares", POSITIVE)) for one in squares]
    left = iter(roots)
    return _blockwise(stack, lambda block: replace(block, residual=next(left)))


def deep_scale(stack: Stack, share: float | int = 2.0) -> Stack:
    """Multipliers a^2 = 1 - c / N and b^2 = c / N of every sub-block (DeepScaleLM).

    The mean square stays where branches return unit tokens.

    Args:
        stack: the stack of N layers.
        share: c, below N.

    Raises:
        ArgumentError: a share outside (0, N).
    """
    layers = len(stack.layers)
    part = require_real(share, "share", Bounds(0.0, layers, "()")) / layers
    a, b = math.sqrt(1 - part), math.sqrt(part)
    return _blockwise(stack, lambda block: replace(block, residual=a, branch=b))


def deep_norm(stack: Stack) -> Stack:
    """DeepNorm: a = (2 N)^(1/4), and values, outputs and feed-forward weights times (8 N)^(-1/4).

    Args:
        stack: a post-LN stack of N layers.

    Raises:
        ArgumentError: no post-LN stack; latent attention, whose values share their scale with keys.
    """
    _require_post(stack)
    layers = len(stack.layers)
    factor, residual = (8 * layers) ** -0.25, (2 * layers) ** 0.25
    scaled_stack = _branchwise(stack, lambda branch: _thinned(branch, factor))
    return _blockwise(scaled_stack, lambda block: replace(block, residual=residual))


def t_fixup(stack: Stack) -> Stack:
    """T-Fixup: values, outputs and feed-forward weights times N^(-1/4).

    Args:
        stack: a stack of N layers.

    Raises:
        ArgumentError: latent attention, whose values share their scale with keys.
    """
    factor = len(stack.layers) ** -0.25
    return _branchwise(stack, lambda branch: _thinned(branch, factor))


def score_std_for(n: int, keys: float | int) -> float:
    """The deviation of scores at which softmax over n keys looks at so many: F_n = 1 / keys.

    To 10 % in the keys it is (log n / keys)^(1/2) while its square is below log(n) / 4. For tokens
    of overlap rho it is beta_s (1 - rho)^(1/2).

    Args:
        n: keys that are there, at least 2.
        keys: keys that are looked at, in (1, n].

    Raises:
        ArgumentError: keys outside (1, n], or so few that no deviation below 25 gives them.

    Examples:
        >>> round(score_std_for(512, 512 / 2.718281828 ** 0.5), 2)
        0.71
    """
    n = require_count(n, "n", 2)
    wanted = require_real(keys, "keys", Bounds(1.0, n, "(]"))
    if wanted == n:
        return 0.0
    fewest = 1 / concentration(n, LARGEST)
    if wanted < fewest:
        raise ArgumentError("keys", f"got {wanted:g}", f"pass at least {fewest:.4g}")
    from scipy.optimize import brentq  # scipy is not loaded until it is needed

    found = brentq(lambda s: concentration(n, s) - 1 / wanted, 0.0, LARGEST, xtol=1e-6)
    return float(found)  # pyright: ignore[reportArgumentType]


def _thinned(branch: Branch, factor: float) -> Branch:
    """Values, outputs and feed-forward weights times a factor."""
    if isinstance(branch, Attention):
        out, value = branch.out_std * factor, branch.value_std * factor
        return replace(branch, out_std=out, value_std=value)
    if isinstance(branch, FeedForward):
        up = None if branch.up_std is None else branch.up_std * factor
        out, into = branch.out_std * factor, branch.in_std * factor
        return replace(branch, out_std=out, in_std=into, up_std=up)
    if isinstance(branch, Experts):
        shared = None if branch.shared is None else _thinned(branch.shared, factor)
        expert = _thinned(branch.expert, factor)
        return replace(branch, expert=expert, shared=shared)  # pyright: ignore[reportArgumentType]
    raise ArgumentError(
        "stack", "has latent attention, whose values and keys share one scale", "use deep_scale"
    )


def _blockwise(stack: Stack, change: Callable[[SubBlock], SubBlock]) -> Stack:
    layers = tuple(tuple(change(block) for block in layer) for layer in stack.layers)
    return replace(stack, layers=layers)


def _branchwise(stack: Stack, change: Callable[[Branch], Branch]) -> Stack:
    def each(block: SubBlock) -> SubBlock:
        return replace(block, branches=tuple(change(one) for one in block.branches))

    return _blockwise(stack, each)


def _require_post(stack: Stack) -> None:
    if not all(block.norm_post for block in stack.sub_blocks):
        raise ArgumentError(
            "stack", "has sub-blocks without a norm after the sum", "use deep_scale"
        )
