r"""How a network of finite width spreads around the recursion, by an adjoint pass.

Let f be a scalar of the last covariance and Lambda = df / dC at every place, by reverse mode with
sampled heads held fixed (`adjoint`). The noises of a network are independent, so that

    Var f = sum over sub-blocks of
                4 a^2 b^2 / D tr(Lambda_Z C Lambda_Z N_out(U))    what is added, against the stream
              + 2 / D tr(Lambda_U U Lambda_U U)                   the last matrix of the branches
              + Var tr(Lambda_U U)                                their random roots (`roots`)
            + 2 / D tr(Lambda_0 C_0 Lambda_0 C_0)                 the tokens of a random embedding

to first order in 1 / D, which holds while the deviation is small against the values between which
f moves. A curve takes at most eight levels; between them the variance of every source is linear in
the logarithm of 1 + level.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Key,
    NoSuchLimitError,
    Progress,
    brief,
    in_float64,
    kept_jit,
    nearest,
    one_blas_thread,
    part_of,
    require_count,
    require_flag,
)
from translimit.describe import (
    Attention,
    Embedding,
    FeedForward,
    LatentAttention,
    Stack,
    SubBlock,
)
from translimit.limits.signal.adjoint import Adjoint, adjoint
from translimit.limits.signal.chain import TINY, before_norm, fixed_part
from translimit.limits.signal.norms import pull_norm, scaled, scales
from translimit.limits.signal.passes import (
    LARGEST_RUN,
    SOON,
    compile_programs,
    pass_forward,
    together,
)
from translimit.limits.signal.propagation import Recursion, SignalPropagation, pairs_by_layer
from translimit.limits.signal.roots import (
    attention_variance,
    experts_variance,
    feed_forward_variance,
)
from translimit.limits.signal.scalars import SCALARS, Observable
from translimit.limits.signal.seeds import copy_seeds, key_of, words_of
from translimit.limits.signal.slopes import accumulate
from translimit.limits.signal.sub_blocks import Passed

#: Where the variance comes from.
SOURCES = ("tokens", "attention", "feed_forward", "experts")
#: Levels that are computed at most.
LEVELS = 8
#: What the way forward takes of the work.
FORWARD = 0.2


@dataclass(frozen=True)
class Spread:
    """The deviation of one network of the stack's own sizes, by level and source.

    Attributes:
        levels: at which it is told; 0 is what enters the first layer [k].
        computed: at which of them; the others are interpolated [k].
        std: standard deviation over networks, by observable [k].
        shares: of its square by source; rows sum to 1, or are 0 where nothing spreads [k, sources].
        layer_shares: of its square by layer; what the tokens leave [k, layers].
        sources: their names.
    """

    levels: Int[np.ndarray, " k"]
    computed: Bool[np.ndarray, " k"]
    std: dict[str, Float[np.ndarray, " k"]]
    shares: dict[str, Float[np.ndarray, "k sources"]]
    layer_shares: dict[str, Float[np.ndarray, "k layers"]]
    sources: tuple[str, ...] = SOURCES


def spread(
    problem: SignalPropagation,
    *,
    key: Key,
    observables: Sequence[Observable] = ("overlap", "mean_square"),
    levels: ArrayInput | None = None,
    pairs: int = 32,
    drawn: bool = True,
    progress: Progress | None = None,
) -> Spread:
    """The deviation over networks of scalars of the tokens' covariance.

    Of the mean square the deviation is that of its logarithm times the mean square. At most eight
    levels are computed, all on one way down; what it costs grows with their sum.

    Args:
        problem: the stack and its tokens.
        key: of the sampled heads, units and routers.
        observables: "overlap" of two different tokens, "overlap_all" of all pairs, "mean_square",
            "effective_rank" of the overlaps, whose deviation is of second order, and not told,
            where all of them vanish.
        levels: whole numbers of layers, rising; all by default.
        pairs: antithetic pairs of heads in the first layer, as in `Recursion`.
        drawn: whether the tokens that enter are drawn, as those of a random embedding are.
        progress: called with the share that is done.

    Raises:
        ArgumentError: an unknown observable, levels that the stack does not have.
        ArgumentTypeError: no problem.
        NoSuchLimitError: attention of latents, whose noise has no known term.

    Examples:
        >>> import jax
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> stack = describe.pre_norm_stack(64, 3, attention)
        >>> problem = SignalPropagation(stack=stack, initial=np.eye(5))
        >>> found = spread(problem, key=jax.random.key(0), pairs=4)
        >>> found.std["overlap"].shape
        (4,)
    """
    if not isinstance(problem, SignalPropagation):
        raise ArgumentTypeError(
            "problem", f"got {brief(problem)}", "pass a SignalPropagation of a stack"
        )
    for name in observables:
        if name not in SCALARS:
            raise ArgumentError("observables", f"unknown {name!r}", nearest(name, SCALARS))
    if problem.score_factor != 1.0:
        raise ArgumentError(
            "problem", "has scores times a factor", "describe them in the stack itself"
        )
    stack = problem.stack
    branches = [branch for block in stack.sub_blocks for branch in block.branches]
    if any(isinstance(branch, LatentAttention) for branch in branches):
        raise NoSuchLimitError(
            "problem",
            "has attention of latents, for the noise of whose ranks no term is derived",
            "use Chain, and take the deviation over its networks",
        )
    wanted = _levels(levels, len(stack.layers))
    pairs, drawn = require_count(pairs, "pairs", 1), require_flag(drawn, "drawn")
    at = _computed(wanted)
    told = functools.partial(
        _spread, observables=tuple(observables), at=at, pairs=pairs, drawn=drawn, progress=progress
    )
    with one_blas_thread():
        squares, variances = in_float64(told, problem, key)
    return _interpolated(wanted, at, squares, variances, tuple(observables))


def _spread(
    problem: SignalPropagation,
    key: Key,
    *,
    observables: tuple[str, ...],
    at: np.ndarray,
    pairs: int,
    drawn: bool,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares at all levels, and variances [at, m, 1 + layers, sources]."""
    stack = problem.stack
    count = len(stack.layers)
    every = np.arange(count + 1)
    by_layer = pairs_by_layer(stack, Recursion(pairs=pairs))
    initial = np.asarray(problem.initial)
    compile_programs(stack, len(initial), single=False, back=0)
    _compile(stack, len(initial), len(observables) * len(at))
    first = part_of(progress, 0.0, FORWARD)
    passed = pass_forward(stack, [initial], None, key, by_layer, every, keep=True, progress=first)
    # Those of the highest level first: they are all that there is at the top.
    levels = at[::-1]
    told = [SCALARS[name](passed.covs[0, level]) for level in levels for name in observables]
    slopes: Any = np.stack([slope for _, slope in told])
    variances = np.zeros((len(slopes), 1 + count, len(SOURCES)))
    down, words = passed.steps[::-1], words_of(key)
    joined = [len(observables) * int(np.sum(levels > step.layer)) for step in down]
    costs = np.cumsum([step.pairs * (1 + many) for step, many in zip(down, joined, strict=True)])
    for step, many, cost in zip(down, joined, costs, strict=True):
        slopes, found = _sub_block(
            step.block,
            stack.dim,
            stack.free_dim,
            stack.causal,
            step.passed[0],
            slopes,
            copy_seeds(words, 1, 0, step.layer, step.place)[0],
            copy_seeds(words, 1, 3, step.layer, step.place)[0],
            step.pairs,
            max(1, pairs // (step.layer + 1)),
            many,
        )
        variances[:many, 1 + step.layer] += np.asarray(found)[:many]
        if progress is not None:
            progress(FORWARD + (1 - FORWARD) * float(cost / costs[-1]))
    if drawn:
        variances[:, 0, 0] = _tokens(stack, initial, np.asarray(slopes))
    squares = np.trace(passed.covs[0], axis1=1, axis2=2) / len(initial)
    by_level = variances.reshape(len(at), len(observables), *variances.shape[1:])
    return squares, by_level[::-1]


@kept_jit(static=4, compiler_options=SOON, tuples=(Passed,))
def _sub_block(
    block: SubBlock,
    dim: int,
    free: int,
    causal: bool,
    passed: Passed,
    slopes: Float[Array, "m n n"],
    heads: Array,
    roots: Array,
    pairs: Array,
    groups: Array,
    joined: Array,
) -> tuple[Float[Array, "m n n"], Float[Array, "m sources"]]:
    share = free / dim
    down = adjoint(block, dim, causal, share, passed, slopes, key_of(heads), pairs, joined)
    read = scaled(passed.before, scales(block.norm_in, passed.before))
    s = scales(block.norm_out, passed.out)
    by_source = dict.fromkeys(SOURCES, jnp.zeros(len(slopes)))
    for number, branch in enumerate(block.branches):
        own = jax.random.fold_in(key_of(roots), number)
        part = passed.parts[number]
        cross = (block.residual * block.branch) ** 2 * _cross(
            down, passed.before, scaled(part, s), joined
        )
        last = _last_matrix(down, passed.out, part, joined)
        if isinstance(branch, Attention):
            name = "attention"
            root = attention_variance(branch, dim, causal, read, down.out, own, groups, joined)
        elif isinstance(branch, FeedForward):
            name, root = (
                "feed_forward",
                feed_forward_variance(branch, dim, read, down.out, own, joined),
            )
        else:
            assert not isinstance(branch, LatentAttention)
            name, root = "experts", experts_variance(branch, dim, read, down.out, own, joined)
        by_source[name] = by_source[name] + (cross + last) / free + share**2 * root
    below = jnp.where(jnp.arange(len(slopes))[:, None, None] < joined, down.below, slopes)
    return below, jnp.stack([by_source[name] for name in SOURCES], axis=1)


def _compile(stack: Stack, n: int, count: int) -> None:
    """Compile the programs of all kinds of sub-blocks at the same time, by small runs of them."""
    if n > LARGEST_RUN:
        return
    cov, row, seed = np.eye(n), np.zeros(n), np.zeros(2, np.uint32)

    def small(block: SubBlock) -> Callable[[], object]:
        parts = (cov,) * len(block.branches)
        passed = Passed(cov, cov, cov, cov, row, np.zeros(()), row, parts)  # pyright: ignore[reportArgumentType]
        given: Any = (passed, np.zeros((count, n, n)), seed, seed, 1, 1, 1)
        return lambda: _sub_block(block, stack.dim, stack.free_dim, stack.causal, *given)

    together(map(small, dict.fromkeys(stack.sub_blocks)))


def _cross(down: Adjoint, stream: Array, added: Array, joined: Array) -> Array:
    """What is added, against the stream: 4 tr(Lambda_Z C Lambda_Z N_out(U))."""
    return 4 * _twice(down.sum, stream, added, joined)


def _last_matrix(down: Adjoint, out: Array, part: Array, joined: Array) -> Array:
    """The last matrices: 2 tr(Lambda_U U Lambda_U U), of which a branch has its part of U."""
    return 2 * _twice(down.out, out, part, joined)


def _twice(slopes: Array, first: Array, second: Array, joined: Array) -> Float[Array, " m"]:
    """Tr(Lambda F Lambda G) of the first slopes."""

    def one(slope: Array) -> Array:
        return jnp.sum((slope @ first @ slope) * second)

    return accumulate(jnp.zeros(len(slopes)), slopes, joined, one)


def _tokens(stack: Stack, cov: np.ndarray, slopes: np.ndarray) -> Float[np.ndarray, " m"]:
    """The variance of Gaussian tokens, which are drawn before a norm of the embedding.

    Around fixed positions F, tr(Lambda C Lambda C) loses tr(Lambda F Lambda F). A matrix of the
    embedding and the rows that it reads are two draws, one after the other.
    """
    of, dim, before = stack.embedding, stack.free_dim, 0.0
    if isinstance(of, Embedding) and of.inner is not None:
        before = 2 / dim * _squared(slopes, cov)
        size, dim = of.inner * max(of.inner_std, TINY) ** 2, of.inner
        cov, slopes = cov / size, slopes * size
    if of is not None and of.norm is not None:
        cov = np.asarray(before_norm(of.norm, jnp.asarray(cov)))
        slopes = np.asarray(pull_norm(of.norm, cov, slopes))
    fixed = fixed_part(stack, cov)
    drawn = _squared(slopes, cov) - (0.0 if fixed is None else _squared(slopes, fixed))
    return before + 2 / dim * drawn


def _squared(slopes: np.ndarray, cov: np.ndarray) -> Float[np.ndarray, " m"]:
    """tr(Lambda C Lambda C)."""
    turned = slopes @ cov
    return np.sum(turned * np.swapaxes(turned, 1, 2), axis=(1, 2))


def _levels(levels: ArrayInput | None, layers: int) -> np.ndarray:
    if levels is None:
        return np.arange(layers + 1)
    wanted = np.asarray(levels)
    bounds = wanted.ndim == 1 and wanted.size > 0 and np.issubdtype(wanted.dtype, np.integer)
    if not bounds or wanted.min() < 0 or wanted.max() > layers or np.any(np.diff(wanted) <= 0):
        raise ArgumentError(
            "levels", f"got {brief(levels)}", f"pass rising whole numbers between 0 and {layers}"
        )
    return wanted


def _computed(wanted: np.ndarray) -> np.ndarray:
    """The levels that are computed: all, or eight that are evenly spaced in log(1 + level)."""
    if len(wanted) <= LEVELS:
        return wanted
    marks = np.log1p(wanted)
    even = np.linspace(marks[0], marks[-1], LEVELS)
    chosen = {0, len(wanted) - 1, *(int(np.argmin(np.abs(marks - one))) for one in even)}
    return wanted[sorted(chosen)]


def _interpolated(
    wanted: np.ndarray,
    at: np.ndarray,
    squares: np.ndarray,
    variances: np.ndarray,
    observables: tuple[str, ...],
) -> Spread:
    flat = variances.reshape(len(at), -1)
    marks = np.log1p(at), np.log1p(wanted)
    every = np.stack([np.interp(marks[1], marks[0], column) for column in flat.T], axis=1)
    every = np.maximum(every.reshape(len(wanted), *variances.shape[1:]), 0.0)
    std, shares, layers = {}, {}, {}
    for place, name in enumerate(observables):
        own = every[:, place]
        total = own.sum(axis=(1, 2))
        over = np.where(total > 0, total, 1.0)[:, None]
        size = squares[wanted] if name == "mean_square" else 1.0
        std[name] = size * np.sqrt(total)
        shares[name] = own.sum(axis=1) / over
        layers[name] = own[:, 1:].sum(axis=2) / over
    return Spread(wanted, np.isin(wanted, at), std, shares, layers)
