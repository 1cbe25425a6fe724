r"""A chain of layers of random attention heads on the unit sphere, resampled at every layer.

    x_i^{l+1} = N(x_i^l + (step / heads) sum_h V_h m_h(x_i^l)),      N(y) = y / |y|,
    m_h(x_i) = sum_k softmax_k(beta <A_h x_i, x_k>) x_k,

all tokens updated at once, the heads (V_h, A_h) of every layer drawn afresh from a law. Two
simulations with one law of the results:

- `simulate` draws the weights. It takes any law, and costs heads dim^2 normals a layer. The head of
  replica r, layer l, number h comes from a key of (r, l, h) alone, so that runs with different
  numbers of tokens share their heads.
- `simulate_overlaps` integrates the weights out. It takes laws that do not change under rotations,
  follows the tokens up to rotation, and costs heads tokens^3 a layer, whatever the dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.attention import require_gram, require_isotropic
from translimit.core import (
    POSITIVE,
    SPHERE,
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Key,
    Module,
    Number,
    Outcome,
    Retraction,
    SolveError,
    brief,
    following_inputs,
    is_traced,
    require_count,
    require_flag,
    require_kept,
    require_number,
    require_retraction,
)
from translimit.describe import AbstractHeads, Clocks, require_cosine
from translimit.models.chain_paths import ChainPaths
from translimit.models.head_layers import (
    HeadLayer,
    Run,
    first_crossings,
    tokens_by_overlaps,
    tokens_by_weights,
)

#: Largest number of floats that the weights of the replicas running together may take.
BATCH = 2**24


class RandomHeadChain(Module):
    """A network of random heads.

    Args:
        law: of the heads, drawn afresh for every head of every layer.
        step: residual step, positive.
        heads: heads of a layer, at least 1.
        layers: number of layers, not negative.
        retraction: how an update brings a token back to the sphere; AMBIENT, as printed, by
            default.
        causal: whether a token sees only itself and the tokens before it.

    Raises:
        ArgumentError: sizes below their bounds, a step that is not positive.
        ArgumentTypeError: a law, a retraction or a size of another type.

    Examples:
        Two orthogonal tokens draw together, layer by layer:

        >>> import jax, numpy as np
        >>> from translimit.describe import GaussianHeads
        >>> law = GaussianHeads(dim=64, beta=0.0, sigma_a=1.0)
        >>> chain = RandomHeadChain(law=law, step=0.5, heads=1, layers=40)
        >>> paths = chain.simulate_overlaps(np.eye(2), replicas=8, key=jax.random.key(0))
        >>> bool(paths.overlaps[:, -1, 0, 1].mean() > 0.9)
        True

    Reference: arXiv 2604.01978.
    """

    law: AbstractHeads
    step: Number
    heads: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    retraction: Retraction = eqx.field(static=True)
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractHeads,
        step: ArrayInput,
        heads: int,
        layers: int,
        retraction: Retraction = Retraction.AMBIENT,
        causal: bool = False,
    ):
        if not isinstance(law, AbstractHeads):
            raise ArgumentTypeError("law", f"got {brief(law)}", "pass a law of heads")
        self.law = law
        self.step = require_number(step, "step", POSITIVE)
        self.heads = require_count(heads, "heads", 1)
        self.layers = require_count(layers, "layers", 0)
        self.retraction = require_retraction(retraction)
        self.causal = require_flag(causal, "causal")

    def simulate(
        self,
        initial: ArrayInput,
        *,
        replicas: int = 1,
        key: Key,
        save_every: int | None = None,
        normalize: bool = False,
    ) -> ChainPaths:
        """Run tokens through layers with explicit weights.

        Args:
            initial: unit tokens [tokens, dim], the same for every replica; decides the precision.
            replicas: independent draws of all weights.
            key: of the weights.
            save_every: keep every so many layers, a divisor of `layers`; by default only the input
                and the output are kept.
            normalize: scale the tokens to norm one instead of refusing other norms.

        Raises:
            ArgumentError: shapes that do not match, norms that are not one, a `save_every` that
                does not divide `layers`.
            MemoryLimitError: the tokens that are kept do not fit into memory.
            SolveError: an update cancelled a token: the step is too large.
        """
        tokens = SPHERE.require(initial, "initial", self.law.dim, normalize=normalize)
        every = self._save_every(save_every)
        weights = 3 * self.law.dim**2 + tokens.shape[0] ** 2
        run = Run(self.layer, self.layers, every, _batch(replicas, weights))
        return self._run(tokens_by_weights, tokens, run, replicas, key)

    def simulate_overlaps(
        self,
        initial: ArrayInput,
        *,
        replicas: int = 1,
        key: Key,
        save_every: int | None = None,
    ) -> ChainPaths:
        """The same chain in law, from its overlaps alone.

        Args:
            initial: overlaps of unit tokens [tokens, tokens]; decides the precision.
            replicas: independent draws.
            key: of the draws.
            save_every: as in `simulate`.

        Raises:
            ArgumentError: overlaps that are no correlation matrix or have a rank beyond the
                dimension, a `save_every` that does not divide `layers`.
            ArgumentTypeError: a law that is not invariant under rotations.
            MemoryLimitError: what is kept does not fit into memory.
            SolveError: an update cancelled a token: the step is too large.
        """
        require_isotropic(self.law)
        overlaps = require_gram(initial, "initial", self.law.dim)
        every = self._save_every(save_every)
        batch = _batch(replicas, 4 * self.heads * overlaps.shape[0] ** 2)
        run = Run(self.layer, self.layers, every, batch)
        return self._run(tokens_by_overlaps, overlaps, run, replicas, key)

    def first_crossing(
        self,
        initial: ArrayInput,
        threshold: float,
        *,
        replicas: int = 1,
        key: Key,
    ) -> Float[np.ndarray, " replicas"]:
        """The first layer after which the mean overlap of two tokens exceeds a threshold.

        The chain of `simulate_overlaps` with the same key, stopped when every replica has crossed.

        Args:
            initial: overlaps of unit tokens [tokens, tokens], at least two; decides the precision.
            threshold: of the mean off-diagonal overlap, in (-1, 1).
            replicas: independent draws.
            key: of the draws.

        Returns:
            Numbers of layers [replicas]; NaN where none of `layers` crosses.

        Raises:
            ArgumentError: as `simulate_overlaps`, one token, or a threshold outside its range.
            ArgumentTypeError: a law that is not invariant under rotations, or traced overlaps.
            SolveError: an update cancelled a token: the step is too large.
        """
        require_isotropic(self.law)
        overlaps = require_gram(initial, "initial", self.law.dim)
        if is_traced(overlaps):
            raise ArgumentTypeError("initial", "is traced", "pass concrete overlaps")
        if overlaps.shape[0] < 2:
            raise ArgumentError("initial", "holds one token", "pass overlaps of at least two")
        level = require_cosine(threshold, "threshold", ends=False)
        count = require_count(replicas, "replicas", 1)
        batch = _batch(count, 4 * self.heads * overlaps.shape[0] ** 2)
        # The number of layers as data: chains of several depths share one compilation.
        run = Run(self.layer, 0, 1, batch)
        found = []
        for start in range(0, count, batch):
            indices = np.arange(start, start + batch)
            parameters = (run, level, np.int32(self.layers), indices, key)
            layers = np.asarray(following_inputs(first_crossings, overlaps, parameters))
            found.append(layers[: count - start])
        layers = np.concatenate(found)
        if (layers < 0).any():
            raise SolveError(f"RandomHeadChain: {Outcome[Outcome.degenerate_update]}")
        return np.where(layers > self.layers, np.nan, layers)

    def _save_every(self, save_every: int | None) -> int:
        if save_every is None:
            return max(self.layers, 1)
        every = require_count(save_every, "save_every", 1)
        if self.layers % every:
            raise ArgumentError(
                "save_every",
                f"{every} does not divide {self.layers} layers",
                f"pass a divisor of {self.layers}",
            )
        return every

    @property
    def layer(self) -> HeadLayer:
        """One layer."""
        return HeadLayer(self.law, self.step, self.heads, self.retraction, self.causal)

    def _run(
        self,
        simulate: Callable[..., AnyArray],
        start: Float[AnyArray, "tokens columns"],
        run: Run,
        replicas: int,
        key: Key,
    ) -> ChainPaths:
        indices = np.arange(require_count(replicas, "replicas", 1))
        each = 2.0 * replicas * start.size * start.dtype.itemsize  # in batches, and joined
        what = f"tokens of {replicas} replicas"
        require_kept(each, self.layers // run.every + 1, "replicas", what)
        tokens = following_inputs(simulate, start, (run, indices, key))
        finite = jnp.isfinite(tokens).all() if is_traced(tokens) else np.isfinite(tokens).all()
        message = f"RandomHeadChain: {Outcome[Outcome.degenerate_update]}"
        if is_traced(tokens):
            tokens = eqx.error_if(tokens, ~finite, message)
        elif not bool(finite):
            raise SolveError(message)
        kept = np.arange(tokens.shape[1]) * run.every
        clocks = Clocks.of_layers(kept, self.law, step=self.step, heads=self.heads)
        return ChainPaths(
            ts=kept.astype(np.float64), tokens=tokens, clocks=clocks, samples=replicas
        )


def _batch(replicas: int, floats: int) -> int:
    return int(np.clip(BATCH // floats, 1, max(replicas, 1)))
