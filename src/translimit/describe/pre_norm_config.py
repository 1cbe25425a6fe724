"""Our own format of a pre-LN stack: one flat table, read without anything numerical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from translimit.core import ConfigError

#: The tag of the format.
KIND = "pre-norm"

#: Activations of hidden units, as the format names them.
ActivationName = Literal["gelu", "gelu_new", "relu", "silu"]


@dataclass(frozen=True)
class PreNormConfig:
    """Our own format: a pre-LN stack with every size and standard deviation in one flat table.

    Attributes:
        kind: the tag of the format.
        layers: blocks.
        dim: width of the residual stream.
        heads: query heads.
        kv_heads: key/value heads; as many as query heads by default.
        head_dim: dim / heads by default.
        init_std: standard deviation of every weight that has none of its own below.
        qk_std: of W_Q and W_K.
        v_std: of W_V.
        out_std: of W_O.
        token_std: of the entries of the tokens that enter the first block.
        first_token_std: the same of token 0 where it is of another kind (a class token).
        norm: layer norm (the mean is removed) or root mean square norm.
        norm_eps: of the norm.
        causal: whether attention is masked.
        mlp_dim: hidden units of the feed-forward block; without them there is none.
        mlp_in_std: of W_1 and the gate.
        mlp_out_std: of W_2.
        activation: of the hidden units.
        gated: whether a gate multiplies them.
        parallel: whether attention and feed-forward block read the same tokens.
        rotary_dims: entries of a head that rotary positions turn; none by default.
        rotary_base: of their frequencies.
        context: largest number of tokens.
        image_tokens: the number of tokens of an image.
    """

    kind: Literal["pre-norm"]
    layers: int
    dim: int
    heads: int
    kv_heads: int | None = None
    head_dim: int | None = None
    init_std: float = 0.02
    qk_std: float | None = None
    v_std: float | None = None
    out_std: float | None = None
    token_std: float | None = None
    first_token_std: float | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 0.0
    causal: bool = True
    mlp_dim: int | None = None
    mlp_in_std: float | None = None
    mlp_out_std: float | None = None
    activation: ActivationName = "gelu"
    gated: bool = False
    parallel: bool = False
    rotary_dims: int | None = None
    rotary_base: float = 10_000.0
    context: int | None = None
    image_tokens: int | None = None

    @property
    def dim_of_head(self) -> int:
        """The dimension of a head, dim / heads where it is not told.

        Raises:
            ConfigError: it is not told and the heads do not divide the width.
        """
        if self.head_dim is not None:
            return self.head_dim
        if self.dim % max(self.heads, 1):
            raise ConfigError(
                "head_dim",
                f"is absent, and {self.heads} heads do not divide {self.dim}",
                "give head_dim",
            )
        return self.dim // max(self.heads, 1)
