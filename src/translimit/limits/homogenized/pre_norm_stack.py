r"""The Gram matrix of a pre-LN stack at initialisation, layer by layer.

For infinite width the unnormalised Gram matrix of the tokens obeys a deterministic recursion,

    G_{l+1} = G_l + Gamma S(R_l) + M(R_l),      R_ij = G_ij / (G_ii G_jj)^{1/2},

S the average overlap of attention outputs, M the kernel of the feed-forward block (absent, or read
after attention, or read beside it in parallel blocks). It needs the Gram matrix only, never the
width: `GramRecursion` solves it, with S by Monte Carlo. At finite width D the Gram matrix is a
Markov chain with relative fluctuations O(D^{-1/2}), and weights can be integrated out exactly:
`GramChain` draws it, at a cost of tokens^2 (dim + hidden units) a layer, so that a prediction can
say how far one network lies from the limit.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978 (for the chain on the sphere);
documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import functools
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import gram_factor, narrow, noise_update, require_gram
from translimit.core import (
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
    available_memory,
    brief,
    calls_at_once,
    in_float64,
    part_of,
    require_count,
    require_covariance,
    require_free,
    side_by_side,
)
from translimit.describe import PreNormArchitecture
from translimit.limits.homogenized.pre_norm_solution import PreNormSolution
from translimit.limits.homogenized.pre_norm_terms import (
    AbstractTerm,
    AttentionTerm,
    FeedForwardTerm,
)


@final
class GramRecursion(AbstractMethod):
    """The recursion of infinite width, S by Monte Carlo over scores drawn from the Gram matrix.

    Args:
        samples: antithetic pairs of scores a layer; 32 give the mean overlap to about 1e-3.
        batches: independent recursions, at least 2, from which the standard error is taken.

    Raises:
        ArgumentError: a count below its bound.
        ArgumentTypeError: a count that is no integer.
    """

    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    samples: int = eqx.field(static=True)
    batches: int = eqx.field(static=True)

    def __init__(self, samples: int = 32, batches: int = 8):
        self.samples = require_count(samples, "samples", 1)
        self.batches = require_count(batches, "batches", 2)

    @property
    def copies(self) -> int:
        """Independent recursions."""
        return self.batches


@final
class GramChain(AbstractMethod):
    """Random networks of the architecture's own sizes, seen from their Gram matrices only.

    Equal in law to networks whose weights are drawn: there is no step and no error but sampling.

    Args:
        networks: independent networks, at least 2.

    Raises:
        ArgumentError: a count below its bound.
        ArgumentTypeError: a count that is no integer.
    """

    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    networks: int = eqx.field(static=True)

    def __init__(self, networks: int = 16):
        self.networks = require_count(networks, "networks", 2)

    @property
    def copies(self) -> int:
        """Independent networks."""
        return self.networks


@final
class PreNormRecursion(AbstractProblem[PreNormSolution]):
    """How the tokens of a random pre-LN stack align from layer to layer.

    Args:
        architecture: sizes, block types and standard deviations.
        tokens: number of independent Gaussian tokens that enter; or give `initial`.
        initial: their inner products [tokens, tokens] as the norm sees them, kept exactly.

    Raises:
        ArgumentError: no tokens or both kinds, an initial matrix that is no Gram matrix or has a
            token of norm zero, more tokens than the architecture's context.
        ArgumentTypeError: no description of an architecture.
        MemoryLimitError: the pairs of so many tokens do not fit into memory.

    Examples:
        >>> import jax
        >>> from translimit import solve
        >>> from translimit.describe import read_architecture
        >>> small = {"kind": "pre-norm", "layers": 3, "dim": 64, "heads": 4, "init_std": 0.2}
        >>> problem = PreNormRecursion(read_architecture(small), tokens=5)
        >>> solution = solve(problem, key=jax.random.key(0))
        >>> bool((np.diff(solution.mean_overlaps.mean(axis=0)) > 0).all())
        True
    """

    t1: Number = eqx.field(static=True)
    stages: tuple[tuple[AbstractTerm, ...], ...]
    initial: Float[np.ndarray, "tokens tokens"]
    drawn: bool = eqx.field(static=True)
    free_dim: int = eqx.field(static=True)
    epsilon: Number

    def __init__(
        self,
        architecture: PreNormArchitecture,
        *,
        tokens: int | None = None,
        initial: ArrayInput | None = None,
    ):
        if not isinstance(architecture, PreNormArchitecture):
            raise ArgumentTypeError(
                "architecture", f"got {brief(architecture)}", "pass what read_architecture returns"
            )
        if (tokens is None) == (initial is None):
            both = "is missing, and so is initial" if tokens is None else "is given with initial"
            raise ArgumentError("tokens", both, "pass either tokens or initial")
        self.drawn = initial is None
        if initial is None:
            count = require_count(tokens, "tokens", 1)
            what, depths = f"pairs of {count} tokens in all layers", architecture.layers + 3
            require_free(8.0 * depths * count**2, "tokens", what, "pass fewer tokens or layers")
            first, others = architecture.initial_squares
            self.initial = np.diag([first, *[others] * (count - 1)])
        else:
            self.initial = require_covariance(as_float64(initial, "initial"), "initial")
            if not bool(np.all(np.diagonal(self.initial) > 0)):
                raise ArgumentError("initial", "has a token of norm zero", "leave that token out")
            norms = np.sqrt(np.diagonal(self.initial))
            require_gram(self.initial / np.outer(norms, norms), "initial", architecture.free_dim)
        count = len(self.initial)
        if architecture.context is not None and count > architecture.context:
            raise ArgumentError(
                "tokens", f"got {count}", f"pass at most the context, {architecture.context}"
            )
        attention = AttentionTerm(architecture)
        self.stages = ((attention,),)
        if architecture.feed_forward is not None:
            beside = FeedForwardTerm(architecture)
            self.stages = (
                ((attention, beside),)
                if architecture.parallel
                else (
                    (attention,),
                    (beside,),
                )
            )
        self.t1 = architecture.layers
        self.free_dim = architecture.free_dim
        self.epsilon = np.float64(architecture.dim * architecture.norm_eps)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """The recursion of infinite width, or networks of the architecture's width."""
        return (GramRecursion, GramChain)

    def default_method(self) -> AbstractMethod:
        """The recursion of infinite width."""
        return GramRecursion()

    def default_times(self) -> Times:
        """Every layer."""
        return np.arange(float(self.t1) + 1.0)

    def memory(
        self, method: GramRecursion | GramChain | None = None, times: int | None = None
    ) -> float:
        """Bytes of the random matrices and pairs of tokens in a layer, and of all layers' pairs."""
        method = GramRecursion() if method is None else method
        samples = method.samples if isinstance(method, GramRecursion) else None
        columns = max(term.columns(samples) for stage in self.stages for term in stage)
        numbers = 3 * self._heads(method) + method.copies * (int(self.t1) + 1)
        return 8.0 * len(self.initial) * (numbers * len(self.initial) + columns)

    def _heads(self, method: GramRecursion | GramChain) -> int:
        """Heads of a layer that are drawn at once."""
        attention = self.stages[0][0]
        assert isinstance(attention, AttentionTerm)
        return 2 * method.samples if isinstance(method, GramRecursion) else attention.heads

    def run(
        self,
        method: GramRecursion | GramChain,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> PreNormSolution:
        """All layers, the copies one after the other."""
        assert key is not None  # `solve` requires it
        layers = np.asarray(ts)
        if np.any(layers != np.round(layers)):
            raise ArgumentError(
                "save", "has times between two layers", "pass whole numbers of layers"
            )
        count = len(self.initial)
        what = f"pairs of {count} tokens, and random matrices of the widths,"
        require_free(self.memory(method), "tokens", what, "pass fewer tokens or smaller widths")
        samples = method.samples if isinstance(method, GramRecursion) else None
        terms = [term for stage in self.stages for term in stage]
        error = max(term.increment_error() for term in terms) if samples is not None else 0.0

        def compute(copy: int, report: Progress) -> Float[np.ndarray, "layers tokens tokens"]:
            grams = in_float64(_copy, self, samples, key, np.uint32(copy))
            report(1.0)
            return grams

        calls = [functools.partial(compute, copy) for copy in range(method.copies)]
        first = side_by_side(calls[:1], 1, part_of(progress, 0.0, 1 / method.copies))
        need = 8 * 3 * self._heads(method) * count**2
        at_once = calls_at_once(method.copies - 1, need, available_memory())
        others = side_by_side(calls[1:], at_once, part_of(progress, 1 / method.copies, 1.0))
        kept = np.stack([*first, *others])[:, layers.astype(int)]
        return PreNormSolution(
            ts=layers,
            grams=kept,
            discretisation=error,
            outcome=Outcome.successful,
            samples=method.copies,
        )


def overlaps_of(gram: Array) -> Array:
    """R_ij = G_ij / (G_ii G_jj)^{1/2}."""
    norms = jnp.sqrt(jnp.diagonal(gram))
    return gram / (norms[:, None] * norms[None, :])


def normalised_factor(gram: Array, epsilon: Number) -> Array:
    """F with (F F^T)_ij = G_ij / ((G_ii + D eps) (G_jj + D eps))^{1/2}, as the norm leaves it."""
    squares = jnp.diagonal(gram)
    factor = gram_factor(overlaps_of(gram), 2 * len(gram))
    return factor * jnp.sqrt(squares / (squares + epsilon))[:, None]


@eqx.filter_jit
def _copy(problem: PreNormRecursion, samples: int | None, key: Array, copy: Array) -> Array:
    """Gram matrices of one recursion, or of one network [layers + 1, tokens, tokens].

    The copies are counted outside, so that one compiled program serves any number of them.
    """
    own = jax.random.fold_in(key, copy)
    return _chain(problem, own) if samples is None else _recursion(problem, samples, own)


def _recursion(problem: PreNormRecursion, samples: int, key: Array) -> Array:
    initial = jnp.asarray(problem.initial)

    def layer(gram: Array, index: Array) -> tuple[Array, Array]:
        here = jax.random.fold_in(key, index)
        for number, stage in enumerate(problem.stages):
            factor = normalised_factor(gram, problem.epsilon)
            stage_key = jax.random.fold_in(here, number)
            for term in stage:
                gram = gram + term.increment(factor, samples, stage_key)
        return gram, gram

    _, grams = jax.lax.scan(layer, initial, jnp.arange(problem.t1))
    return jnp.concatenate([initial[None], grams])


def _chain(problem: PreNormRecursion, key: Array) -> Array:
    dim, tokens = problem.free_dim, len(problem.initial)
    width = tokens if dim >= 2 * tokens else dim
    gram = jnp.asarray(problem.initial)
    norms = jnp.sqrt(jnp.diagonal(gram))[:, None]
    if problem.drawn:
        # Independent Gaussian tokens: their Gram matrix is Wishart with `dim` degrees of freedom.
        root = norms * jnp.eye(tokens) / dim**0.5
        _, drawn = noise_update(jnp.zeros((tokens, width)), root, dim, key)
        factor = narrow(drawn, width) if drawn.shape[1] > width else drawn
    else:
        factor = norms * gram_factor(overlaps_of(gram), dim)

    def layer(x: Array, index: Array) -> tuple[Array, Array]:
        here = jax.random.fold_in(key, index)
        for number, stage in enumerate(problem.stages):
            squares = jnp.sum(x**2, axis=-1, keepdims=True)
            seen = x / jnp.sqrt(squares + problem.epsilon)
            stage_key = jax.random.fold_in(here, number)
            root = jnp.concatenate([term.root(seen, stage_key) for term in stage], axis=1)
            root = narrow(root, min(root.shape))
            padded, update = noise_update(x, root, dim, stage_key)
            x = padded + update
            x = narrow(x, width) if x.shape[1] > width else x
        return x, x @ x.T

    _, grams = jax.lax.scan(layer, factor, jnp.arange(problem.t1))
    return jnp.concatenate([(factor @ factor.T)[None], grams])
