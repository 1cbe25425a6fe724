r"""Sub-blocks of a stack, as data: every modern placement, mixer and multiplier.

A *layer* is a list of *sub-blocks*; a sub-block is

    x <- post(a x + b out(sum_r branch_r(in(x)))),

with three norms, any of which may be absent, a residual multiplier a and a branch multiplier b.
Several branches in one sub-block are a parallel block.

| placement | in | out | post |
|---|---|---|---|
| pre-LN | norm | - | - |
| post-LN | - | - | norm |
| peri-LN, sandwich | norm | norm | - |
| reordered | - | norm | - |

A branch is attention, attention of latents, a feed-forward block, or a mixture of such blocks.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from translimit.core import ArgumentTypeError, Record, at_least, brief, require_real
from translimit.describe.mixers import Attention, Experts, FeedForward, LatentAttention
from translimit.describe.norm import Normalisation

#: What a sub-block adds to the residual stream.
Branch: TypeAlias = Attention | LatentAttention | FeedForward | Experts


@dataclass(frozen=True)
class SubBlock(Record):
    """One addition to the residual stream; see the module's docstring.

    Attributes:
        branches: what is added, each with weights of its own.
        norm_in: of what the branches read.
        norm_out: of their sum.
        norm_post: of the new stream.
        residual: a, the multiplier of the stream.
        branch: b, the multiplier of what is added.

    Raises:
        ArgumentError: a multiplier below 0.
        ArgumentTypeError: no branches, or something else among them.
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
