r"""The branches of a block at initialisation: attention of every kind, feed-forward, experts.

Only what acts at initialisation is described: sizes, masks, positions, norms of queries and keys,
and standard deviations of the entries of weight matrices.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Record,
    at_least,
    brief,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe.activation import Activation
from translimit.describe.frequencies import Frequencies
from translimit.describe.norm import Norm

#: How a router's logits become the weights of experts.
Routing = Literal["softmax", "softmax_renormalised", "softmax_top", "sigmoid", "sigmoid_kept"]


@dataclass(frozen=True)
class QueryKeyNorm:
    """A norm of queries and keys before their product.

    Attributes:
        kind: of the norm.
        norm_eps: added to the mean square under the root.
        gain: of queries and keys alike.
        over: the entries of one head, or those of all heads at once.
        turned: whether it comes after rotary positions, not before.
        gains: whether heads share their gains, have their own (as all entries have that are
            normalised over all heads), or none are trained; it decides gradients and rates.
    """

    kind: Norm = Norm.RMS
    norm_eps: float = 0.0
    gain: float = 1.0
    over: Literal["head", "all"] = "head"
    turned: bool = False
    gains: Literal["shared", "own", "none"] = "shared"

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Norm):
            raise ArgumentTypeError("kind", f"got {brief(self.kind)}", "pass a member of Norm")
        require_real(self.norm_eps, "norm_eps", at_least(0.0))
        require_real(self.gain, "gain", POSITIVE)

    @property
    def is_shared(self) -> bool:
        """Whether all heads share one vector of trained gains."""
        return self.gains == "shared" and self.over == "head"

    @property
    def is_own(self) -> bool:
        """Whether every entry of every head has a trained gain of its own."""
        return self.gains != "none" and not self.is_shared


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How products of queries and keys become attention weights.

    Attributes:
        score_scale: the factor of q . k; head_dim^(-1/2) where None.
        softcap: c of c tanh(score / c), or None.
        window: a query sees so many keys, itself included, to each side that the mask allows.
        chunk: tokens see their own chunk of so many only, or None.
        slopes: of ALiBi, one a head; scores gain slope (j - i).
        bias_std: of a table of relative positions drawn for every head, or 0.
        bias_buckets: rows of that table.
        bias_reach: the distance from which on the last bucket holds.
        sink: whether one more key of score zero takes weight and gives nothing.
    """

    score_scale: float | None = None
    softcap: float | None = None
    window: int | None = None
    chunk: int | None = None
    slopes: tuple[float, ...] = ()
    bias_std: float = 0.0
    bias_buckets: int = 32
    bias_reach: int = 128
    sink: bool = False

    def __post_init__(self) -> None:
        for name in ("score_scale", "softcap"):
            if getattr(self, name) is not None:
                require_real(getattr(self, name), name, POSITIVE)
        for name in ("window", "chunk"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, 1)
        for slope in self.slopes:
            require_real(slope, "slopes")
        require_real(self.bias_std, "bias_std", NOT_NEGATIVE)
        require_count(self.bias_buckets, "bias_buckets", 4)
        require_count(self.bias_reach, "bias_reach", 2)
        require_flag(self.sink, "sink")


@dataclass(frozen=True)
class Attention(Record):
    """Attention whose queries, keys and values are read from the tokens.

    Attributes:
        heads: H, of queries.
        head_dim: entries of a query or key.
        query_std: of the entries of W_Q [dim, heads head_dim].
        key_std: of W_K.
        value_std: of W_V.
        out_std: of W_O [heads value_dim, dim].
        kv_heads: heads of keys and values, a divisor of `heads`; all by default.
        value_dim: entries of a value; those of a key by default.
        rotary: positions that turn queries and keys, or None.
        qk_norm: of queries and keys, or None.
        scores: scale, caps, masks and biases.
        value_scale: by which values are multiplied, a number beside W_V.
    """

    heads: int
    head_dim: int
    query_std: float
    key_std: float
    value_std: float
    out_std: float
    kv_heads: int | None = None
    value_dim: int | None = None
    rotary: Frequencies | None = None
    qk_norm: QueryKeyNorm | None = None
    scores: Scores = field(default_factory=Scores)
    value_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("heads", "head_dim"):
            require_count(getattr(self, name), name, 1)
        for name in ("kv_heads", "value_dim"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, 1)
        for name in ("query_std", "key_std", "value_std", "out_std"):
            require_real(getattr(self, name), name, NOT_NEGATIVE)
        require_real(self.value_scale, "value_scale", POSITIVE)
        if self.heads % self.key_heads:
            raise ArgumentError(
                "kv_heads",
                f"{self.kv_heads} does not divide {self.heads} heads",
                f"pass a divisor of {self.heads}",
            )
        turned = 0 if self.rotary is None else self.rotary.dims
        if turned > self.head_dim:
            raise ArgumentError(
                "rotary",
                f"turns {turned} entries of heads of {self.head_dim}",
                f"pass frequencies of at most {self.head_dim // 2} pairs",
            )
        _require_slopes(self.scores, self.heads)

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def values(self) -> int:
        """Entries of a value."""
        return self.value_dim or self.head_dim

    @property
    def score_scale(self) -> float:
        """The factor of q . k."""
        return self.scores.score_scale or 1.0 / math.sqrt(self.head_dim)


@dataclass(frozen=True)
class LatentAttention(Record):
    """Attention whose queries, keys and values are read from normalised latents (MLA).

    Attributes:
        heads: H.
        nope_dim: entries of a query or key that do not turn; keys read them from the latent.
        rope_dim: entries that turn; keys read them from the token, one for all heads.
        value_dim: entries of a value.
        kv_rank: entries of the latent of keys and values.
        std: of the entries of all matrices that read tokens or latents.
        out_std: of W_O [heads value_dim, dim].
        query_rank: entries of the latent of queries; None where they are read from the tokens.
        rotary: positions of the turning entries.
        scores: scale, caps, masks and biases.
    """

    heads: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    kv_rank: int
    std: float
    out_std: float
    query_rank: int | None = None
    rotary: Frequencies | None = None
    scores: Scores = field(default_factory=Scores)

    def __post_init__(self) -> None:
        for name in ("heads", "nope_dim", "rope_dim", "value_dim", "kv_rank"):
            require_count(getattr(self, name), name, 1)
        if self.query_rank is not None:
            require_count(self.query_rank, "query_rank", 1)
        require_real(self.std, "std", NOT_NEGATIVE)
        require_real(self.out_std, "out_std", NOT_NEGATIVE)
        if self.rotary is not None and self.rotary.dims != self.rope_dim:
            raise ArgumentError(
                "rotary",
                f"turns {self.rotary.dims} entries, and rope_dim is {self.rope_dim}",
                f"pass frequencies of {self.rope_dim // 2} pairs",
            )
        _require_slopes(self.scores, self.heads)

    @property
    def head_dim(self) -> int:
        """Entries of a query or key."""
        return self.nope_dim + self.rope_dim

    @property
    def score_scale(self) -> float:
        """The factor of q . k."""
        return self.scores.score_scale or 1.0 / math.sqrt(self.head_dim)


@dataclass(frozen=True)
class FeedForward(Record):
    """A feed-forward block: W_2 phi(W_1 x), or W_2 (phi(W_1 x) * (W_up x + shift)) where gated.

    Attributes:
        width: d_m, hidden units.
        activation: phi.
        in_std: of the entries of W_1 [dim, width], and of W_up where it is not told.
        out_std: of W_2 [width, dim].
        gated: whether there is a W_up.
        up_std: of the entries of W_up; `in_std` by default.
        shift: added to W_up x.
    """

    width: int
    activation: Activation
    in_std: float
    out_std: float
    gated: bool = False
    up_std: float | None = None
    shift: float = 0.0

    def __post_init__(self) -> None:
        require_count(self.width, "width", 1)
        if not isinstance(self.activation, Activation):
            raise ArgumentTypeError(
                "activation", f"got {brief(self.activation)}", "pass a member of Activation"
            )
        for name in ("in_std", "out_std"):
            require_real(getattr(self, name), name, NOT_NEGATIVE)
        if self.up_std is not None:
            require_real(self.up_std, "up_std", NOT_NEGATIVE)
        require_flag(self.gated, "gated")
        require_real(self.shift, "shift")


@dataclass(frozen=True)
class Experts(Record):
    """A mixture of feed-forward blocks, of which a router chooses some for every token.

    Attributes:
        count: E, experts.
        active: k, those that a token is sent to.
        expert: each of them.
        router_std: of the entries of the router [dim, count].
        routing: how logits become weights: softmax of all, then the largest k, as they are or
            renormalised; softmax of the largest k; sigmoid, the largest k renormalised, or kept as
            they are.
        shared: a block that every token is sent to, or None.
        shared_gate_std: of the entries of a vector that reads the token; the sigmoid of the product
            weighs the shared block. None without such a gate.
        groups: of experts, of which the best few are open to a token.
        open_groups: how many of them.
        factor: what the weights are multiplied with.
        bias_std: of a bias of the router's logits, common to the tokens.
    """

    count: int
    active: int
    expert: FeedForward
    router_std: float
    routing: Routing = "softmax_renormalised"
    shared: FeedForward | None = None
    groups: int = 1
    open_groups: int = 1
    factor: float = 1.0
    bias_std: float = 0.0
    shared_gate_std: float | None = None

    def __post_init__(self) -> None:
        for name in ("count", "active", "groups", "open_groups"):
            require_count(getattr(self, name), name, 1)
        if self.count % self.groups:
            raise ArgumentError(
                "groups", f"{self.groups} does not divide {self.count}", "pass a divisor"
            )
        if self.open_groups > self.groups:
            raise ArgumentError(
                "open_groups", f"got {self.open_groups}", f"pass at most {self.groups}"
            )
        most = self.count // self.groups * self.open_groups
        if self.active > most:
            raise ArgumentError("active", f"got {self.active}", f"pass at most {most}")
        require_real(self.router_std, "router_std", NOT_NEGATIVE)
        require_real(self.factor, "factor", POSITIVE)
        require_real(self.bias_std, "bias_std", NOT_NEGATIVE)
        if self.shared_gate_std is not None:
            require_real(self.shared_gate_std, "shared_gate_std", NOT_NEGATIVE)
            if self.shared is None:
                raise ArgumentError(
                    "shared_gate_std", "is given without a shared block", "give `shared` too"
                )

    @property
    def shared_gate(self) -> FeedForward | None:
        """What weighs the shared block, one number a token: a hidden unit of its own."""
        if self.shared_gate_std is None:
            return None
        return FeedForward(1, Activation.SIGMOID, self.shared_gate_std, 1.0)


def _require_slopes(scores: Scores, heads: int) -> None:
    if scores.slopes and len(scores.slopes) != heads:
        raise ArgumentError(
            "slopes", f"are {len(scores.slopes)} for {heads} heads", "pass one for each head"
        )
