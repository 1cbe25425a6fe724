r"""A random stack at initialisation: what its layers do to tokens, and to a gradient.

In infinite width the covariance C of the tokens and the Gram matrix B of a gradient obey
deterministic recursions, sub-block by sub-block (`sub_blocks`). `Recursion` solves them; averages
over heads and routers are sampled, so that independent copies tell the error. Sampled heads act
like a network with so many heads: the bias falls like the inverse of `pairs`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar, Literal, final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    NOT_NEGATIVE,
    AbstractMethod,
    AbstractProblem,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    as_float64,
    brief,
    in_float64,
    part_of,
    require_count,
    require_covariance,
    require_flag,
    require_free,
    require_real,
)
from translimit.describe import Branch, Experts, FeedForward, Stack
from translimit.limits.signal.chain import fixed_part, start
from translimit.limits.signal.kernels import LARGEST_ERROR, kernel_error
from translimit.limits.signal.norms import root as gram_root
from translimit.limits.signal.passes import (
    SOON,
    compile_programs,
    pass_backward,
    pass_forward,
)
from translimit.limits.signal.seeds import copy_seeds, key_of, words_of
from translimit.limits.signal.solution import SignalSolution
from translimit.limits.signal.sub_blocks import GROUPS


@final
class Recursion(AbstractMethod):
    """The recursion of infinite width.

    Args:
        pairs: antithetic pairs of heads in the first layer. Where layers add to the stream their
            errors count less and less, and layer l draws pairs / l; post-LN stacks draw all.
        copies: independent recursions, at least 2, from which standard errors are taken.
        float32: whether heads are computed in float32, their averages in float64: twice as fast
            from some hundred tokens on, and right to 1e-6, so not for tokens that are closer
            together than 1 - R = 1e-4.

    Raises:
        ArgumentError: a count below its bound.
        ArgumentTypeError: a count that is no integer, no flag.
    """

    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    pairs: int = eqx.field(static=True)
    copies: int = eqx.field(static=True)
    float32: bool = eqx.field(static=True)

    def __init__(self, pairs: int = 32, copies: int = 8, float32: bool = False):
        self.pairs = require_count(pairs, "pairs", 1)
        self.copies = require_count(copies, "copies", 2)
        self.float32 = require_flag(float32, "float32")


@final
class Chain(AbstractMethod):
    """Networks of the stack's own sizes, seen from their tokens' inner products: exact in law.

    Gradients pass backward by the recursion on what was drawn forward.

    Args:
        networks: independent networks, at least 2.
        pairs: antithetic pairs of heads of the way back.
        drawn: whether the tokens that enter are drawn with the initial covariance, as those of a
            random embedding are, or have it exactly.

    Raises:
        ArgumentError: a count below its bound.
        ArgumentTypeError: a count that is no integer, no flag.
    """

    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    networks: int = eqx.field(static=True)
    pairs: int = eqx.field(static=True)
    drawn: bool = eqx.field(static=True)

    def __init__(self, networks: int = 16, pairs: int = 8, drawn: bool = True):
        self.networks = require_count(networks, "networks", 2)
        self.pairs = require_count(pairs, "pairs", 1)
        self.drawn = require_flag(drawn, "drawn")

    @property
    def copies(self) -> int:
        """Independent networks."""
        return self.networks


@final
class SignalPropagation(AbstractProblem[SignalSolution]):
    """Covariances forward and gradients backward through a random stack.

    Args:
        stack: its blocks.
        initial: C of the tokens that enter the first layer, <x_i, x_j> / D [n, n]; centred where
            the norms of the stack remove the mean.
        top_gradient: B at the top of the last layer, <g_i, g_j> [n, n]; "identity" for independent
            unit gradients of the tokens; None for the way forward alone, which takes half the time
            and memory: the solution's gradients then have no levels.
        score_factor: what all scores are multiplied with; 0 for attention weights that do not
            depend on tokens.

    Raises:
        ArgumentError: a matrix that is no covariance, a token of norm zero before a norm without
            norm_eps, an activation whose kernel is not known for its inputs.
        ArgumentTypeError: no stack.

    Examples:
        >>> import jax
        >>> from translimit import describe, solve
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> stack = describe.pre_norm_stack(64, 3, attention)
        >>> problem = SignalPropagation(stack=stack, initial=np.eye(5))
        >>> solution = solve(problem, key=jax.random.key(0))
        >>> bool((np.diff(solution.overlap) > 0).all())
        True
    """

    stack: Stack = eqx.field(static=True)
    initial: Float[np.ndarray, "n n"]
    top: Float[np.ndarray, "n n"] | None
    score_factor: float = eqx.field(static=True)
    t1: Number = eqx.field(static=True)

    def __init__(
        self,
        *,
        stack: Stack,
        initial: ArrayInput,
        top_gradient: ArrayInput | Literal["identity"] | None = "identity",
        score_factor: float | int = 1.0,
    ):
        if not isinstance(stack, Stack):
            raise ArgumentTypeError("stack", f"got {brief(stack)}", "pass a describe.Stack")
        self.stack = stack
        self.initial = require_covariance(as_float64(initial, "initial"), "initial")
        n = len(self.initial)
        if top_gradient is None:
            self.top = None
        elif isinstance(top_gradient, str):
            if top_gradient != "identity":
                given = f"got {top_gradient!r}"
                remedy = 'pass "identity", a matrix [n, n] or None'
                raise ArgumentError("top_gradient", given, remedy)
            self.top = np.eye(n)
        else:
            top = require_covariance(as_float64(top_gradient, "top_gradient"), "top_gradient")
            if len(top) != n:
                given = f"has shape {top.shape} for {n} tokens"
                raise ArgumentError("top_gradient", given, f"pass [{n}, {n}]")
            self.top = top
        self.score_factor = require_real(score_factor, "score_factor", NOT_NEGATIVE)
        self.t1 = len(stack.layers)
        _require_norms(stack, self.initial)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """The recursion of infinite width, or networks of the stack's width."""
        return (Recursion, Chain)

    def default_method(self) -> AbstractMethod:
        """The recursion of infinite width."""
        return Recursion()

    def default_times(self) -> Times:
        """Every level."""
        return np.arange(float(self.t1) + 1.0)

    def memory(self, method: Recursion | Chain | None = None, times: int | None = None) -> float:
        """Bytes of the covariances of all sub-blocks, and of a layer's heads and hidden units."""
        method = Recursion() if method is None else method
        kept = len(self.stack.layers) + 40
        if self.top is not None:
            kept += 5 * len(self.stack.sub_blocks) + len(self.stack.layers)
        widest = 0
        if isinstance(method, Chain):
            widest = max(_columns(branch) for b in self.stack.sub_blocks for branch in b.branches)
        n = len(self.initial)
        return 8.0 * method.copies * n * (n * kept + 3 * widest)

    def run(
        self,
        method: Recursion | Chain,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> SignalSolution:
        """All layers forward, then all backward."""
        assert key is not None  # `solve` requires it
        levels = np.asarray(ts)
        if np.any(levels != np.round(levels)):
            raise ArgumentError(
                "save", "has levels between two layers", "pass whole numbers of layers"
            )
        what = f"pairs of {len(self.initial)} tokens in {method.copies} copies of all layers"
        require_free(self.memory(method), "initial", what, "pass fewer tokens or copies")
        error = _kernel_errors(self.stack, self.initial)
        told = functools.partial(_solved, levels=levels.astype(int), error=error, progress=progress)
        return in_float64(told, self, method, key)


def _solved(
    problem: SignalPropagation,
    method: Recursion | Chain,
    key: Key,
    *,
    levels: np.ndarray,
    error: float,
    progress: Progress | None,
) -> SignalSolution:
    stack, copies, n = problem.stack, method.copies, len(problem.initial)
    covs, x = entering(problem, method, key)
    single = isinstance(method, Recursion) and method.float32
    if x is None:
        compile_programs(stack, n, single, back=int(problem.top is not None))
    forward = pass_forward(
        stack,
        covs,
        x,
        key,
        pairs_by_layer(stack, method),
        levels,
        keep=problem.top is not None,
        score_factor=problem.score_factor,
        single=single,
        progress=part_of(progress, 0.0, 1.0 if problem.top is None else 0.5),
    )
    grads = np.zeros((copies, 0, n, n))
    squares = np.zeros((copies, 0, len(GROUPS)))
    if problem.top is not None:
        top, half = [problem.top[None]] * copies, part_of(progress, 0.5, 1.0)
        back = pass_backward(
            stack,
            forward.steps,
            top,
            key,
            levels,
            score_factor=problem.score_factor,
            single=single,
            progress=half,
        )
        grads, squares = back.grams[:, :, 0], back.weights[:, :, 0]
    told = forward.summary
    return SignalSolution(
        ts=levels.astype(float),
        covs=forward.covs,
        grad_grams=grads,
        attention_entropies=told.attention_entropies,
        entropies=told.entropies,
        attention_entropy_stds=told.attention_entropy_stds,
        participations=told.participations,
        added=np.stack([told.attention_added, told.units_added], axis=-1),
        weight_squares=squares,
        groups=GROUPS,
        outcome=Outcome.successful,
        discretisation=error,
        samples=copies,
    )


def entering(
    problem: SignalPropagation, method: Recursion | Chain, key: Key, copies: range | None = None
) -> tuple[list[np.ndarray], list[Array] | None]:
    """What enters the first layer of every copy: C, and the tokens of drawn networks.

    Args:
        problem: the stack and its tokens.
        method: how it is solved.
        key: of the drawn tokens.
        copies: which copies; all by default.
    """
    which, cov = range(method.copies) if copies is None else copies, np.asarray(problem.initial)
    if isinstance(method, Recursion):
        return [cov] * len(which), None
    stack = problem.stack
    fixed, seeds = fixed_part(stack, cov), copy_seeds(words_of(key), which.stop, 2)
    x = [_tokens(stack, method.drawn, cov, fixed, seeds[one]) for one in which]
    return [np.asarray(one @ one.T) / stack.dim for one in map(np.asarray, x)], x


def pairs_by_layer(stack: Stack, method: Recursion | Chain) -> list[int]:
    """Antithetic pairs of heads of every layer."""
    falling = isinstance(method, Recursion) and not any(b.norm_post for b in stack.sub_blocks)
    layers = range(len(stack.layers))
    return [max(1, method.pairs // (layer + 1)) if falling else method.pairs for layer in layers]


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=SOON)
def _tokens(stack: Stack, drawn: bool, cov: Array, fixed: Array | None, seed: Array) -> Array:
    """The tokens of a network in coordinates [n, width]."""
    n, dim = len(cov), stack.free_dim
    if not drawn:
        return stack.dim**0.5 * gram_root(cov, n if dim >= 2 * n else dim)
    return start(cov, dim, stack.dim, stack.embedding, fixed, key_of(seed))


def _columns(branch: Branch) -> int:
    """Numbers a token that a drawn branch holds at once."""
    if isinstance(branch, FeedForward):
        return 2 * branch.width
    if isinstance(branch, Experts):
        return 2 * branch.expert.width + branch.count
    return 2 * branch.heads * branch.head_dim


def _require_norms(stack: Stack, initial: np.ndarray) -> None:
    """Refuse tokens of norm zero that a norm without norm_eps would divide by."""
    zero = bool(np.any(np.diagonal(initial) == 0))
    bare = [one for block in stack.sub_blocks for one in block.norms if one.norm_eps == 0]
    if zero and bare:
        raise ArgumentError(
            "initial", "has a token of norm zero", "leave it out, or give every norm a norm_eps"
        )


def _kernel_errors(stack: Stack, initial: np.ndarray) -> float:
    """The relative error of the activations' kernels for normalised tokens, if it is small."""
    worst = 0.0
    for block in stack.sub_blocks:
        norm = block.norm_in or block.norm_post
        size = norm.gain if norm else math.sqrt(float(np.diagonal(initial).max()))
        for branch in block.branches:
            inner = branch.expert if isinstance(branch, Experts) else branch
            if not isinstance(inner, FeedForward):
                continue
            std = size * math.sqrt(stack.dim) * inner.in_std
            error = kernel_error(inner.activation, std)
            if not error <= LARGEST_ERROR:
                raise ArgumentError(
                    "in_std",
                    f"gives inputs of deviation {std:.3g} to {inner.activation.value}, whose "
                    f"kernel is known to {error:.0%} there",
                    "pass a smaller in_std",
                )
            worst = max(worst, error)
    return worst
