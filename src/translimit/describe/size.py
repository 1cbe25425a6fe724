"""The sizes of a transformer that the rules scale: head dimension, heads, layers.

| symbol | name here |
|---|---|
| N | `head_dim` |
| H, G | `heads`, `kv_heads` |
| d | `width`, N H unless `dim` says otherwise |
| L | `layers` |
| r | `mlp_ratio`, hidden width over d |
| E, k | `experts`, `active_experts` |
| r of queries, of keys and values | `query_rank`, `kv_rank`, entries of latents |

Tokens, patch dimension, vocabulary and classes are never scaled and do not appear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from translimit.core import (
    POSITIVE,
    ArgumentError,
    Record,
    require_count,
    require_real,
)


@dataclass(frozen=True, kw_only=True)
class Size(Record):
    """The sizes of one transformer.

    Attributes:
        head_dim: key, query and value dimension N of a head.
        heads: query heads H.
        layers: blocks L of attention and MLP.
        kv_heads: key/value heads G, a divisor of H; as many as query heads by default.
        mlp_ratio: hidden units of the MLP, or of one expert, over the width; 4 by default as in
            GPT-2.
        experts: experts E of a mixture, shared ones not counted; None where there are none.
        active_experts: experts k that a token is sent to, at most E; 1 by default.
        dim: width d of the stream where heads together are wider or narrower, as in Qwen3-0.6B;
            None where it is N H.
        kv_rank: entries of the latent from which keys and values are read; None without latents.
        query_rank: the same of queries; None where they are read from the stream.
        rope_dim: of N, entries of a key that are read from the stream, one set for all heads, as
            those that turn in DeepSeek's attention; 0 by default.
        value_dim: entries of a value, where they are not N.

    Raises:
        ArgumentTypeError: a size that is no integer.
        ArgumentError: a size below 1, a ratio that is not positive, heads that do not divide.

    >>> Size(head_dim=16, heads=4, layers=2).width
    64
    >>> Size(head_dim=128, heads=16, layers=28, dim=1024).attention_ratio
    2.0
    """

    head_dim: int
    heads: int
    layers: int
    kv_heads: int | None = None
    mlp_ratio: float | int = 4.0
    experts: int | None = None
    active_experts: int | None = None
    dim: int | None = None
    kv_rank: int | None = None
    query_rank: int | None = None
    rope_dim: int | None = None
    value_dim: int | None = None

    def __post_init__(self) -> None:
        for name in ("head_dim", "heads", "layers"):
            object.__setattr__(self, name, require_count(getattr(self, name), name))
        kv_heads = self.heads if self.kv_heads is None else require_count(self.kv_heads, "kv_heads")
        object.__setattr__(self, "kv_heads", kv_heads)
        if self.heads % kv_heads:
            raise ArgumentError(
                "kv_heads",
                f"{kv_heads} does not divide {self.heads} heads",
                f"pass a divisor of {self.heads}",
            )
        object.__setattr__(self, "mlp_ratio", require_real(self.mlp_ratio, "mlp_ratio", POSITIVE))
        self._require_experts()
        if self.dim is not None and require_count(self.dim, "dim") == self.head_dim * self.heads:
            object.__setattr__(self, "dim", None)
        self._require_latents()

    def _require_latents(self) -> None:
        given = {name: getattr(self, name) for name in ("query_rank", "rope_dim", "value_dim")}
        if self.kv_rank is None:
            if (first := next((n for n, v in given.items() if v is not None), None)) is not None:
                raise ArgumentError(first, f"got {given[first]} without latents", "pass kv_rank")
            return
        require_count(self.kv_rank, "kv_rank")
        for name in ("query_rank", "value_dim"):
            if given[name] is not None:
                require_count(given[name], name)
        rope = 0 if self.rope_dim is None else require_count(self.rope_dim, "rope_dim", 0)
        if rope >= self.head_dim:
            remedy = f"pass less than the head dimension, {self.head_dim}"
            raise ArgumentError("rope_dim", f"got {rope}", remedy)
        if self.kv_heads != self.heads:
            raise ArgumentError(
                "kv_heads", f"got {self.kv_heads} with latents", "leave it out: all heads have keys"
            )

    def _require_experts(self) -> None:
        if self.experts is None:
            if self.active_experts is not None:
                raise ArgumentError(
                    "active_experts",
                    f"got {self.active_experts} without experts",
                    "pass experts as well",
                )
            return
        experts = require_count(self.experts, "experts")
        active = 1 if self.active_experts is None else self.active_experts
        if require_count(active, "active_experts") > experts:
            raise ArgumentError(
                "active_experts",
                f"{active} of {experts} experts",
                f"pass at most {experts}",
            )
        object.__setattr__(self, "experts", experts)
        object.__setattr__(self, "active_experts", active)

    @classmethod
    def of_width(cls, width: int, *, heads: int, **sizes: Any) -> Size:
        """The sizes by the width d = N H instead of the head dimension.

        Raises:
            ArgumentError: the heads do not divide the width.
        """
        if require_count(width, "width") % require_count(heads, "heads"):
            raise ArgumentError(
                "width", f"{heads} heads do not divide {width}", f"pass a multiple of {heads}"
            )
        return cls(head_dim=width // heads, heads=heads, **sizes)

    @property
    def width(self) -> int:
        """The width d of the residual stream."""
        return self.head_dim * self.heads if self.dim is None else self.dim

    @property
    def attention_ratio(self) -> float:
        """Entries N H of all queries over the width; 1 unless `dim` is given."""
        return self.head_dim * self.heads / self.width

    @property
    def values(self) -> int:
        """Entries of a value: `value_dim`, or N."""
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def groups(self) -> int:
        """The number G of key/value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads
