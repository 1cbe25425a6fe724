r"""A pre-LN transformer stack at initialisation, as data: sizes, block types, standard deviations.

    x <- x + W_O concat_h(P_h LN(x) W_V),   x <- x + W_2 phi(W_1 LN(x)),   LN(x) = D^{1/2} x / |x|

or, with `parallel`, both increments from the same x. All weights are independent centred
Gaussians, biases are zero and the gains of the norms one, as they are in the reference
implementations before training.

| symbol | name here |
|---|---|
| D, L, H, d_h | `dim`, `layers`, `heads`, `head_dim` |
| key/value heads | `kv_heads`: query head h reads pair h kv_heads // heads |
| sigma_0 (query, key, value) | `qk_std`, `v_std` |
| sigma_O | `out_std` |
| epsilon of the norm | `norm_eps`: LN(x) = x / (|x|^2 / D + epsilon)^{1/2} |
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Json,
    at_least,
    brief,
    require_count,
    require_number,
    require_real,
)
from translimit.describe.activation import Activation
from translimit.describe.norm import Norm


@dataclass(frozen=True)
class FeedForwardBlock:
    """A feed-forward block with weights of the given standard deviations.

    Attributes:
        width: hidden units, at least 1.
        activation: of the hidden units.
        in_std: of the entries of W_1 [width, dim], and of the gate's where there is one.
        out_std: of the entries of W_2 [dim, width].
        gated: phi(W_gate x) * (W_up x) instead of phi(W_1 x).
    """

    width: int
    activation: Activation
    in_std: float
    out_std: float
    gated: bool = False

    def __post_init__(self) -> None:
        require_count(self.width, "width", 1)
        _require_kind(self.activation, "activation", Activation)
        for name in ("in_std", "out_std"):
            require_number(getattr(self, name), name)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: entries p and p + dims / 2 of queries and keys turn by i base^{-2p/dims}.

    Attributes:
        dims: how many entries of a head turn, even, at least 2; the others stay.
        base: of the geometric series of frequencies, at least 1.
    """

    dims: int
    base: float = 10_000.0

    def __post_init__(self) -> None:
        if require_count(self.dims, "dims", 2) % 2:
            raise ArgumentError(
                "dims", f"got {self.dims}, which is odd", "pass an even number: pairs turn"
            )
        require_real(self.base, "base", at_least(1.0))


@dataclass(frozen=True)
class PreNormArchitecture:
    """A random pre-LN stack; see the module's docstring.

    Attributes:
        family: what it was read as.
        layers: blocks of attention and feed-forward, at least 1.
        dim: width of the residual stream, at least 2.
        heads: query heads.
        kv_heads: key/value heads, a divisor of `heads`.
        head_dim: key and value dimension of a head.
        qk_std: standard deviation of the entries of W_Q and W_K.
        v_std: of W_V.
        out_std: of W_O.
        token_std: of the entries of the tokens that enter the first block.
        first_token_std: the same of token 0 where it is of another kind (a class token).
        norm: what normalises a token before a block.
        norm_eps: added to the mean square under the root.
        causal: whether a token sees only itself and the tokens before it.
        feed_forward: the feed-forward block, or None.
        parallel: whether both blocks read the same tokens.
        rotary: rotary positions, or None.
        context: the largest number of tokens, or None where it is not bounded.
        image_tokens: the number of tokens of an image, or None.
        assumptions: sentences: what was not in the configuration and is assumed.
        ignored: what the configuration asks for and this description leaves out.

    Raises:
        ArgumentError: sizes below their bounds or not dividing, negative numbers.
        ArgumentTypeError: a size that is no integer, a field of the wrong type.
    """

    family: str
    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    qk_std: float
    v_std: float
    out_std: float
    token_std: float
    first_token_std: float | None = None
    norm: Norm = Norm.LAYER
    norm_eps: float = 0.0
    causal: bool = True
    feed_forward: FeedForwardBlock | None = None
    parallel: bool = False
    rotary: Rotary | None = None
    context: int | None = None
    image_tokens: int | None = None
    assumptions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "kv_heads", "head_dim"):
            require_count(getattr(self, name), name, 1)
        require_count(self.dim, "dim", 2)
        for name in ("context", "image_tokens"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, 1)
        for name in ("qk_std", "v_std", "out_std", "norm_eps"):
            require_number(getattr(self, name), name)
        require_number(self.token_std, "token_std", POSITIVE)
        if self.first_token_std is not None:
            require_number(self.first_token_std, "first_token_std", POSITIVE)
        _require_squares(self)
        _require_kind(self.norm, "norm", Norm)
        if self.heads % self.kv_heads:
            raise ArgumentError(
                "kv_heads",
                f"{self.kv_heads} does not divide {self.heads} heads",
                f"pass a divisor of {self.heads}",
            )
        if self.rotary is not None and self.rotary.dims > self.head_dim:
            raise ArgumentError(
                "rotary",
                f"turns {self.rotary.dims} entries of heads of {self.head_dim}",
                f"pass Rotary of at most {self.head_dim} entries",
            )
        if self.parallel and self.feed_forward is None:
            raise ArgumentError(
                "parallel",
                "is given without a feed-forward block",
                "give one, or leave parallel out",
            )

    @property
    def free_dim(self) -> int:
        """Dimension of the tokens that a norm sees: a layer norm removes their mean."""
        return self.dim - 1 if self.norm is Norm.LAYER else self.dim

    @property
    def score_std(self) -> float:
        """beta_s = D sigma_0^2: standard deviation of the score of two normalised tokens."""
        return self.dim * self.qk_std**2

    @property
    def branch_square(self) -> float:
        """Gamma: attention adds Gamma s_ij to <x_i, x_j>; D^3 sigma_0^2 sigma_O^2 for d_h = D / H.

        A layer norm removes the mean, which takes the part 1 / D of every increment away.
        """
        values = self.heads * self.head_dim * self.dim * self.v_std**2
        return self.free_dim * self.out_std**2 * values

    @property
    def initial_squares(self) -> tuple[float, float]:
        """r_0^2 of token 0 and of the others, expected."""
        first = self.token_std if self.first_token_std is None else self.first_token_std
        return self.free_dim * first**2, self.free_dim * self.token_std**2

    def to_json(self) -> dict[str, Json]:
        """The description as plain data."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _require_squares(architecture: PreNormArchitecture) -> None:
    """Refuse numbers whose squares are lost: too large, or of tokens and too small."""
    tokens = ("token_std", "first_token_std")
    for name in ("qk_std", "v_std", "out_std", "norm_eps", *tokens):
        value = getattr(architecture, name)
        least = 1e-100 if name in tokens else 0.0
        if value is not None and not least <= value <= 1e100:
            raise ArgumentError(
                name, f"got {float(value):g}", f"pass a number between {least:g} and 1e+100"
            )


def _plain(value: Json | enum.Enum | FeedForwardBlock | Rotary) -> Json:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, FeedForwardBlock | Rotary):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def _require_kind(value: object, name: str, kind: type[enum.Enum]) -> None:
    if not isinstance(value, kind):
        members: Mapping[str, enum.Enum] = kind.__members__
        raise ArgumentTypeError(
            name, f"got {brief(value)}", f"pass one of {', '.join(map(str, members.values()))}"
        )
