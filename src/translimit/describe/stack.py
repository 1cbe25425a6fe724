r"""A stack of blocks at initialisation, as data: its tokens at the start, and its layers.

The layers are lists of sub-blocks (`blocks`). All weights are centred and independent; only the
standard deviations of their entries are told.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Json,
    JsonObject,
    Record,
    brief,
    require_count,
    require_flag,
)
from translimit.describe.blocks import Branch, Layer, SubBlock
from translimit.describe.embedding import Embedding, PatchEmbedding
from translimit.describe.mixers import Attention, FeedForward, LatentAttention
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack_format import StackFields, fields_to_json

#: Where configurations are read. Readers make stacks, so it is loaded by name when one is read.
READER = "translimit.describe.families.reader"


@dataclass(frozen=True)
class Stack(Record):
    """A stack of blocks with random weights.

    Attributes:
        dim: D, width of the residual stream, at least 2.
        layers: its layers, from the first to the last.
        embedding: of its tokens; None for a stack that is given their covariance.
        causal: whether a token sees only itself and the tokens before it.
        norm_final: before the readout, or None.

    Raises:
        ArgumentError: no layers, a width below 2, layers without sub-blocks, fixed positions of
            another width, a table of relative positions whose reach is not beyond its near buckets.
        ArgumentTypeError: a field of the wrong type.
    """

    dim: int
    layers: tuple[Layer, ...]
    embedding: Embedding | PatchEmbedding | None = None
    causal: bool = True
    norm_final: Normalisation | None = None

    def __post_init__(self) -> None:
        require_count(self.dim, "dim", 2)
        require_flag(self.causal, "causal")
        if not self.layers:
            raise ArgumentError("layers", "is empty", "pass at least one layer")
        for layer in self.layers:
            if not layer or not all(isinstance(one, SubBlock) for one in layer):
                raise ArgumentTypeError(
                    "layers", f"got {brief(layer)}", "pass tuples of SubBlock, none empty"
                )

        of = self.embedding
        if of is not None and of.sinusoids is not None and of.sinusoids.entries != self.dim:
            raise ArgumentError(
                "sinusoids",
                f"have {of.sinusoids.entries} entries, and tokens have {self.dim}",
                "pass a frequency for every pair of entries",
            )
        self._require_reach()

    def _require_reach(self) -> None:
        """Refuse tables of relative positions whose far buckets begin beyond their reach."""
        for branch in (one for block in self.sub_blocks for one in block.branches):
            if not isinstance(branch, (Attention, LatentAttention)) or branch.scores.bias_std == 0:
                continue
            of = branch.scores
            near = of.bias_buckets // (2 if self.causal else 4)
            if of.bias_reach <= near:
                raise ArgumentError(
                    "bias_reach",
                    f"is {of.bias_reach}, and the first {near} distances have buckets of their own",
                    f"pass more than {near}",
                )

    @classmethod
    def from_config(cls, source: str | Path | JsonObject) -> Stack:
        """The stack of a model's `config.json`; `describe.read_stack` tells what was assumed.

        Args:
            source: a file, the folder of a checkpoint, or the content of a file as a mapping.

        Raises:
            ConfigError: see `read_stack`.
            NoSuchLimitError: a family whose layers are known to have no such limit.

        Examples:
            >>> sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
            >>> Stack.from_config({"model_type": "qwen3", "intermediate_size": 96, **sizes}).dim
            64
        """
        return import_module(READER).read_stack(source).stack

    def to_json(self) -> dict[str, Json]:
        """The stack as plain data of our own format, which `from_config` reads as an equal one."""
        own = StackFields(self.dim, self.layers, self.embedding, self.causal, self.norm_final)
        return fields_to_json(own)

    @property
    def centred(self) -> bool:
        """Whether the norms that tokens meet remove their mean."""
        kinds = [one.kind for layer in self.layers for block in layer for one in block.norms]
        return bool(kinds) and all(kind is Norm.LAYER for kind in kinds)

    @property
    def free_dim(self) -> int:
        """Dimension of the tokens that the norms see: a layer norm removes their mean."""
        return self.dim - 1 if self.centred else self.dim

    @property
    def sub_blocks(self) -> tuple[SubBlock, ...]:
        """All sub-blocks, from the first to the last."""
        return tuple(block for layer in self.layers for block in layer)

    def initial_cov(self, ids: ArrayLike) -> Float[np.ndarray, "n n"]:
        """C of the tokens that enter the first layer, <x_i, x_j> / D in infinite width.

        Where norms remove the mean of tokens, they are centred: the share 1 - 1 / D is left.

        Args:
            ids: of the tokens [n].

        Raises:
            ArgumentError: a stack whose embedding is not of ids; ids that are no row of whole
                numbers.
        """
        if self.embedding is None:
            raise ArgumentError("ids", "are given to a stack without an embedding", "give it one")
        if isinstance(self.embedding, PatchEmbedding):
            raise ArgumentError("ids", "are given to a stack of image patches", "call image_cov")
        ids = np.asarray(ids)
        if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise ArgumentError(
                "ids", f"have shape {ids.shape}, {ids.dtype}", "pass one row of whole numbers"
            )
        return self.free_dim / self.dim * self.embedding.cov(ids, self.dim / self.free_dim)

    def image_cov(self, pixels: ArrayLike | None = None) -> Float[np.ndarray, "n n"]:
        """C of the tokens of an image, as `initial_cov` is of ids.

        Args:
            pixels: of every patch [patches, channels patch^2], in any order of their entries;
                independent pixels of variance one by default.

        Raises:
            ArgumentError: a stack whose embedding is not of patches; pixels of another shape.
        """
        if not isinstance(self.embedding, PatchEmbedding):
            raise ArgumentError(
                "pixels",
                "are given to a stack whose embedding is not of patches",
                "call initial_cov",
            )
        raw = None if pixels is None else np.asarray(pixels, float)
        return self.free_dim / self.dim * self.embedding.cov(raw, self.dim / self.free_dim)

    def fixed_cov(self, n: int) -> Float[np.ndarray, "n n"] | None:
        """The part of C that is the same in every network: of fixed positions, before any norm.

        Args:
            n: tokens.

        Returns:
            The part, centred as `initial_cov` is; None where everything is drawn.
        """
        return None if self.embedding is None else self.embedding.fixed(n, centred=self.centred)

    def with_layers(self, count: int) -> Stack:
        """The stack with its layers repeated in their order.

        Args:
            count: how many layers.
        """
        require_count(count, "count", 1)
        layers = tuple(self.layers[i % len(self.layers)] for i in range(count))
        return replace(self, layers=layers)

    def with_blocks(self, change: Callable[[SubBlock], SubBlock]) -> Stack:
        """The stack with every sub-block changed.

        Args:
            change: of a sub-block.
        """
        layers = tuple(tuple(change(block) for block in layer) for layer in self.layers)
        return replace(self, layers=layers)

    def with_branches(self, change: Callable[[Branch], Branch]) -> Stack:
        """The stack with every branch changed.

        Args:
            change: of a branch.
        """
        return self.with_blocks(
            lambda block: replace(block, branches=tuple(change(one) for one in block.branches))
        )


def pre_norm_stack(
    dim: int,
    layers: int,
    attention: Attention,
    feed_forward: FeedForward | None = None,
    *,
    norm: Normalisation | None = None,
    embedding: Embedding | PatchEmbedding | None = None,
    causal: bool = True,
) -> Stack:
    """A pre-LN stack of equal layers: attention, then a feed-forward block where there is one.

    Args:
        dim: width of the residual stream.
        layers: how many.
        attention: of every layer.
        feed_forward: of every layer.
        norm: before every branch; a root mean square norm by default.
        embedding: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
    """
    norm = norm or Normalisation()
    branches = (attention,) if feed_forward is None else (attention, feed_forward)
    layer = tuple(SubBlock((branch,), norm_in=norm) for branch in branches)
    return Stack(dim, (layer,) * require_count(layers, "layers", 1), embedding, causal)
