"""Decoders of text: one description of what they have in common, and where families differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from translimit.describe.blocks import Branch, SubBlock
from translimit.describe.embedding import Embedding
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import (
    CHUNKED,
    FULL,
    SLIDING,
    frequencies,
    layer_kinds,
    yarn_scale,
)
from translimit.describe.families.reading import StackReading
from translimit.describe.frequencies import Frequencies
from translimit.describe.mixers import (
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    QueryKeyNorm,
    Routing,
    Scores,
)
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack import Stack

#: Where the norms of a block stand.
Placement: TypeAlias = Literal["pre", "post", "peri", "reordered"]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What the decoders of a family have in common, as far as a configuration does not tell.

    Attributes:
        norm: of the stream.
        norm_eps: of the norms where the configuration has none.
        gain: of the norms at the start.
        placement: of the norms.
        causal: whether a token sees only itself and the tokens before it.
        dense_head: whether a dense layer stands between the stream and the readout.
        parallel: whether attention and feed-forward read the same tokens.
        kv_heads: of keys and values where not told; as many as heads by default.
        head_dim: entries of a head where not told; dim / heads by default.
        theta: base of the rotary positions.
        rotary: share of a head that turns; 0 without rotary positions.
        learned: whether positions are learned.
        qk_norm: of queries and keys: of a head, of all heads, or none.
        kinds: attention of a layer by its number, from 0.
        rotary_kinds: kinds of layers whose heads turn.
        window: where the configuration has none.
        activation: of hidden units.
        gated: whether a gate multiplies them.
        mlp_ratio: hidden units over the width where not told.
        std: of weights where not told.
        depth_scaled: whether the last matrix of a branch is divided by (2 layers)^(1/2).
        tied: whether embedding and readout are one tensor.
        padded: whether the row of the padding id is zero.
        pad: the padding id where not told.
        logit_softcap: c of a cap c tanh(u / c) of the logits where not told; infinity for a class
            that caps them only where told, None for one that never does.
        adjust: changes of heads or blocks that only this family has.
    """

    norm: Norm = Norm.RMS
    norm_eps: float = 1e-6
    gain: float = 1.0
    placement: Placement = "pre"
    causal: bool = True
    dense_head: bool = False
    parallel: bool = False
    kv_heads: int | None = None
    head_dim: int | None = None
    theta: float = 1e4
    rotary: float = 1.0
    learned: bool = False
    qk_norm: Literal["", "head", "all"] = ""
    kinds: Callable[[Keys], Callable[[int], str]] = lambda k: lambda index: FULL
    rotary_kinds: tuple[str, ...] = (FULL, SLIDING, CHUNKED)
    window: int | None = None
    activation: str = "silu"
    gated: bool = True
    mlp_ratio: float | None = None
    std: float = 0.02
    depth_scaled: bool = False
    tied: bool = False
    padded: bool = True
    pad: int | None = None
    logit_softcap: float | None = None
    adjust: Callable[[Keys, Parts], Parts] = lambda k, parts: parts

    def read(self, k: Keys, family: str) -> StackReading:
        """The stack of a configuration.

        Args:
            k: the configuration.
            family: its name.

        Raises:
            ConfigError: a missing or unusable value.
        """
        layers, dim, heads = (k.count(name) for name in ("layers", "dim", "heads"))
        if k.given("head_dim"):
            head_dim = k.count("head_dim")
        elif self.head_dim is not None:
            head_dim = self.head_dim
        elif dim % heads:
            raise k.refuse("heads", f"write a divisor of the width {dim}, or give head_dim")
        else:
            head_dim = dim // heads
        std = k.number("std", self.std)
        out_std = std / math.sqrt(2 * layers) if self.depth_scaled else std
        kv_heads = k.count("kv_heads") if k.given("kv_heads") else self.kv_heads or heads
        norm_eps = k.number("norm_eps", self.norm_eps)
        norm = Normalisation(self.norm, norm_eps, self.gain)
        kinds = layer_kinds(k, layers, self.kinds(k))
        attention = Attention(heads, head_dim, std, std, std, out_std, kv_heads, scores=Scores())
        if self.qk_norm:
            own = QueryKeyNorm(self.norm, norm_eps, over=self.qk_norm)
            attention = replace(attention, qk_norm=own)
        width = self._width(k, dim)
        units = FeedForward(width, k.activation(self.activation), std, out_std, gated=self.gated)
        pad = k.padding(self.pad) if self.padded else None
        embedding = Embedding(std, position_std=std if self.learned else 0.0, padding=pad)
        turned = {kind: self._rotary(k, head_dim, kind) for kind in dict.fromkeys(kinds)}
        parts = Parts(
            dim=dim,
            layers=layers,
            kinds=kinds,
            attention=[replace(attention, rotary=turned[kind]) for kind in kinds],
            units=[units] * layers,
            norm=norm,
            embedding=embedding,
            placement=self.placement,
            causal=self.causal,
            parallel=self.parallel,
            std=std,
        )
        if SLIDING in kinds:
            window = k.count("window", self.window)
            parts.see(SLIDING, Scores(window=window))
        if CHUNKED in kinds:
            parts.see(CHUNKED, Scores(chunk=k.count("attention_chunk_size", 8192)))
        k.inert("window", "layer_types")
        parts = self.adjust(k, parts)
        tied = k.flag("tie_word_embeddings", self.tied)
        return StackReading(
            family=family,
            stack=parts.stack(),
            vocabulary=k.count("vocabulary") if k.given("vocabulary") else None,
            tied=tied,
            readout_std=std,
            own_token=tied and not self.dense_head,
            logit_scale=parts.logit_scale,
            logit_softcap=self._softcap(k),
            context=k.count("context") if k.given("context") else None,
        )

    def _softcap(self, k: Keys) -> float | None:
        """The cap c tanh(u / c) of the logits, where the class has one."""
        name, cap = "final_logit_softcapping", self.logit_softcap
        told = k.positive(name) if k.given(name) else None
        if cap is None and told is not None:
            k.ignored.append(f"{name}: the class of this family caps no logits")
        if cap is None or name in k.values:
            return None if cap is None else told
        return cap if math.isfinite(cap) else None

    def _width(self, k: Keys, dim: int) -> int:
        ratio = None if self.mlp_ratio is None else int(self.mlp_ratio * dim)
        return k.count("mlp_dim") if k.given("mlp_dim") or ratio is None else ratio

    def _rotary(self, k: Keys, head_dim: int, kind: str) -> Frequencies | None:
        if self.rotary == 0 or kind not in self.rotary_kinds:
            return None
        return frequencies(k, head_dim, theta=self.theta, partial=self.rotary, kind=kind)


@dataclass
class Parts:
    """A decoder on its way: what families change before it becomes a stack.

    Attributes:
        dim: width of the stream.
        layers: how many.
        kinds: of attention, layer by layer.
        attention: of every layer.
        units: feed-forward block or experts of every layer.
        norm: of the stream.
        embedding: of the tokens.
        placement: of the norms.
        causal: whether a token sees only itself and the tokens before it.
        parallel: whether both read the same tokens.
        std: of the weights.
        residual: multiplier of what is added.
        logit_scale: of the logits.
        normed_units: layers whose feed-forward block or experts have a norm of their output too.
    """

    dim: int
    layers: int
    kinds: list[str]
    attention: list[Attention | LatentAttention]
    units: list[FeedForward | Experts]
    norm: Normalisation
    embedding: Embedding
    placement: Placement
    causal: bool
    parallel: bool
    std: float
    residual: float = 1.0
    logit_scale: float = 1.0
    normed_units: list[bool] = field(default_factory=list)

    def see(self, kind: str, scores: Scores) -> None:
        """Masks of one kind of layers.

        Args:
            kind: of the layers.
            scores: whose window and chunk they get.
        """
        self.score(
            lambda index, old: (
                replace(old, window=scores.window, chunk=scores.chunk)
                if self.kinds[index] == kind
                else old
            )
        )

    def score(self, change: Callable[[int, Scores], Scores]) -> None:
        """Change how scores become weights.

        Args:
            change: of a layer's number and what it has.
        """
        self.attention = [
            replace(one, scores=change(index, one.scores))
            for index, one in enumerate(self.attention)
        ]

    def stack(self) -> Stack:
        """The stack, with a norm before the readout unless the stream itself is normalised."""
        post = self.placement == "post"
        inner = self.norm if self.placement in ("pre", "peri") else None
        outer = self.norm if self.placement in ("peri", "reordered") else None
        last = self.norm if post else None

        def block(*branches: Branch, normed: bool = False) -> SubBlock:
            own = self.norm if normed else outer
            return SubBlock(branches, inner, own, last, branch=self.residual)

        normed = self.normed_units or [False] * self.layers
        layers = tuple(
            (block(mixer, units),) if self.parallel else (block(mixer), block(units, normed=more))
            for mixer, units, more in zip(self.attention, self.units, normed, strict=True)
        )
        final = None if post else self.norm
        return Stack(self.dim, layers, self.embedding, self.causal, final)


def experts(
    k: Keys,
    std: float,
    unit: FeedForward,
    *,
    routing: Routing,
    count: int | None = None,
    active: int | None = None,
) -> Experts:
    """A mixture of equal blocks.

    Args:
        k: the configuration.
        std: of the router.
        unit: each expert.
        routing: of the family.
        count: experts where not told.
        active: chosen ones where not told.

    Raises:
        ConfigError: more are chosen than there are.
    """
    number, chosen = k.count("experts", count), k.count("active", active)
    if chosen > number:
        raise k.refuse("active", f"write at most {number}")
    return Experts(number, chosen, unit, std, routing)


def latent_attention(k: Keys, heads: int, std: float) -> LatentAttention:
    """Attention of latents (DeepSeek).

    Args:
        k: the configuration.
        heads: of queries.
        std: of the weights.

    Raises:
        ConfigError: a missing or unusable value.
    """
    rope = k.count("qk_rope_head_dim", 64)
    nope = k.count("qk_nope_head_dim", 128)
    scale = 1 / math.sqrt(rope + nope)
    table = k.table("rope_parameters") or k.table("rope_scaling")
    if table is not None and table.given("mscale_all_dim"):
        factor = table.number("factor", 1.0)
        scale *= yarn_scale(factor, table.number("mscale_all_dim")) ** 2
    return LatentAttention(
        heads,
        nope,
        rope,
        k.count("v_head_dim", 128),
        k.count("kv_lora_rank", 512),
        std,
        std,
        query_rank=k.count("q_lora_rank") if k.given("q_lora_rank") else None,
        rotary=frequencies(k, rope),
        scores=Scores(score_scale=scale),
    )
