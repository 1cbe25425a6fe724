r"""A stack of blocks at initialisation, as data: every modern placement, mixer and multiplier.

A *stack* is what its tokens are at the start, and a list of layers; a *layer* is a list of
*sub-blocks*; a sub-block is

    x <- post(a x + b out(sum_r branch_r(in(x)))),

with three norms, any of which may be absent, a residual multiplier a and a branch multiplier b.
Several branches in one sub-block are a parallel block.

| placement | in | out | post |
|---|---|---|---|
| pre-LN | norm | - | - |
| post-LN | - | - | norm |
| peri-LN, sandwich | norm | norm | - |
| reordered | - | norm | - |

A branch is attention, attention of latents, a feed-forward block, or a mixture of such blocks. All
weights are centred and independent; only the standard deviations of their entries are told.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    JsonObject,
    at_least,
    brief,
    require_count,
    require_flag,
    require_number,
    require_real,
)
from translimit.describe.mixers import Attention, Experts, FeedForward, LatentAttention
from translimit.describe.pre_norm import Norm

#: What a sub-block adds to the residual stream.
Branch: TypeAlias = Attention | LatentAttention | FeedForward | Experts


@dataclass(frozen=True)
class Normalisation:
    """A norm of every token, with a constant gain.

    Attributes:
        kind: of the norm.
        eps: added to the mean square under the root.
        gain: what the normalised token is multiplied with.
    """

    kind: Norm = Norm.RMS
    eps: float = 0.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Norm):
            raise ArgumentTypeError("kind", f"got {brief(self.kind)}", "pass a member of Norm")
        require_real(self.eps, "eps", at_least(0.0))
        require_real(self.gain, "gain", POSITIVE)


@dataclass(frozen=True)
class SubBlock:
    """One addition to the residual stream; see the module's docstring.

    Attributes:
        branches: what is added, each with weights of its own.
        norm_in: of what the branches read.
        norm_out: of their sum.
        norm_post: of the new stream.
        residual: a, the multiplier of the stream.
        branch: b, the multiplier of what is added.
    """

    branches: tuple[Branch, ...]
    norm_in: Normalisation | None = None
    norm_out: Normalisation | None = None
    norm_post: Normalisation | None = None
    residual: float = 1.0
    branch: float = 1.0

    def __post_init__(self) -> None:
        kinds = (Attention, LatentAttention, FeedForward, Experts)
        if not self.branches or not all(isinstance(one, kinds) for one in self.branches):
            raise ArgumentTypeError(
                "branches",
                f"got {brief(self.branches)}",
                "pass a tuple of Attention, LatentAttention, FeedForward or Experts",
            )
        require_real(self.residual, "residual", at_least(0.0))
        require_real(self.branch, "branch", at_least(0.0))

    @property
    def norms(self) -> tuple[Normalisation, ...]:
        """The norms that are there."""
        return tuple(one for one in (self.norm_in, self.norm_out, self.norm_post) if one)


#: Sub-blocks, one after the other.
Layer: TypeAlias = tuple[SubBlock, ...]


@dataclass(frozen=True)
class Embedding:
    """Tokens as they enter the first layer: C_ij = mu^2 s^2 1[t_i = t_j] + s_P^2 1[i = j] + s_T^2.

    Attributes:
        std: s, of the entries of the table.
        multiplier: mu.
        position_std: s_P, of learned positions.
        type_std: s_T, of one row that all tokens share.
        padding: the id whose row is zero, or None.
        norm: of the sum, or None.
    """

    std: float
    multiplier: float = 1.0
    position_std: float = 0.0
    type_std: float = 0.0
    padding: int | None = None
    norm: Normalisation | None = None

    def __post_init__(self) -> None:
        for name in ("std", "multiplier", "position_std", "type_std"):
            require_number(getattr(self, name), name)
        if self.padding is not None:
            require_count(self.padding, "padding", 0)

    def cov(self, ids: Int[np.ndarray, " n"], centring: float = 1.0) -> Float[np.ndarray, "n n"]:
        """<x_i, x_j> over the dimension, of tokens with these ids; see the class.

        Args:
            ids: of the tokens.
            centring: by which a norm that removes the mean divides less.
        """
        same = (ids[:, None] == ids[None, :]).astype(float)
        if self.padding is not None:
            same[ids == self.padding] = 0.0
        cov = (self.multiplier * self.std) ** 2 * same
        cov = cov + self.position_std**2 * np.eye(len(ids)) + self.type_std**2
        return _normalised(cov, self.norm, centring)


@dataclass(frozen=True)
class PatchEmbedding:
    """Patches of an image as they enter the first layer: C_ij = s^2 <p_i, p_j> + s_P^2 1[i = j].

    p_i are the pixels of patch i. Class tokens stand in front, C_ii = s_c^2 + s_P^2, without an
    overlap with the patches or with each other.

    Attributes:
        std: s, of the entries of the matrix that reads pixels.
        rows: of patches.
        columns: of patches.
        patch: pixels along a side of a patch.
        channels: numbers in a pixel.
        position_std: s_P, of learned positions.
        class_stds: s_c, one a class token.
        norm: of the sum, or None.
    """

    std: float
    rows: int
    columns: int
    patch: int
    channels: int = 3
    position_std: float = 0.0
    class_stds: tuple[float, ...] = ()
    norm: Normalisation | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "patch", "channels"):
            require_count(getattr(self, name), name, 1)
        require_number(self.std, "std")
        require_number(self.position_std, "position_std")
        for one in self.class_stds:
            require_number(one, "class_stds")

    @property
    def patches(self) -> int:
        """The number of patches."""
        return self.rows * self.columns

    @property
    def entries(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.patch**2

    @property
    def tokens(self) -> int:
        """The number of tokens: class tokens and patches."""
        return len(self.class_stds) + self.patches

    def cov(
        self, pixels: Float[np.ndarray, "patches entries"] | None = None, centring: float = 1.0
    ) -> Float[np.ndarray, "n n"]:
        """<x_i, x_j> over the dimension, of the tokens of an image; see the class.

        Args:
            pixels: of every patch; independent pixels of variance one by default.
            centring: by which a norm that removes the mean divides less.

        Raises:
            ArgumentError: pixels of another shape, or not finite.
        """
        if pixels is None:
            inner = self.entries * np.eye(self.patches)
        else:
            pixels = np.asarray(pixels, float)
            if pixels.shape != (self.patches, self.entries) or not np.isfinite(pixels).all():
                raise ArgumentError(
                    "pixels",
                    f"have shape {pixels.shape}, or are not finite",
                    f"pass finite numbers [{self.patches}, {self.entries}], a row for each patch",
                )
            inner = pixels @ pixels.T
        first = len(self.class_stds)
        cov = np.zeros((self.tokens, self.tokens))
        cov[:first, :first] = np.diag(np.square(self.class_stds))
        cov[first:, first:] = self.std**2 * inner
        return _normalised(cov + self.position_std**2 * np.eye(self.tokens), self.norm, centring)


@dataclass(frozen=True)
class Stack:
    """A stack of blocks with random weights.

    Attributes:
        dim: D, width of the residual stream, at least 2.
        layers: its layers, from the first to the last.
        embedding: of its tokens; None for a stack that is given their covariance.
        causal: whether a token sees only itself and the tokens before it.
        norm_final: before the readout, or None.

    Raises:
        ArgumentError: no layers, a width below 2, layers without sub-blocks.
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

    @classmethod
    def from_config(cls, source: str | Path | JsonObject) -> Stack:
        """The stack of a model's `config.json`; `describe.read_stack` tells what was assumed.

        Args:
            source: a file, or its content as a mapping.

        Raises:
            ConfigError: see `read_stack`.
            NoSuchLimitError: a family whose layers are known to have no such limit.
        """
        from translimit.describe.stacks import read_stack  # it makes stacks itself

        return read_stack(source).stack

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

    def initial_cov(self, ids: ArrayInput) -> Float[np.ndarray, "n n"]:
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

    def image_cov(self, pixels: ArrayInput | None = None) -> Float[np.ndarray, "n n"]:
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

    def with_layers(self, count: int) -> Stack:
        """The stack with its layers repeated in their order.

        Args:
            count: how many layers.
        """
        require_count(count, "count", 1)
        layers = tuple(self.layers[i % len(self.layers)] for i in range(count))
        return replace(self, layers=layers)


def _normalised(
    cov: Float[np.ndarray, "n n"], norm: Normalisation | None, centring: float
) -> Float[np.ndarray, "n n"]:
    """After a norm of every token; tokens that are zero stay so."""
    if norm is None:
        return cov
    total = np.diagonal(cov) / centring + norm.eps
    s = norm.gain * np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
    return s[:, None] * s[None, :] * cov


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
