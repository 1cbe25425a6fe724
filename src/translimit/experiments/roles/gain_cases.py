"""Networks with gains of normalised queries and keys: the cases that are trained, and their sizes.

Reference: documentation, "Scaling rules", roles beyond the dense block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from translimit import data
from translimit.describe import Size
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    IncreasingSizes,
    Positive,
    Within,
)

Optimizer = Literal["sgd", "adam"]
Gain = Literal["shared", "channel"]
Row = Literal["qk_gain", "qk_gain_shared"]


@dataclass(frozen=True)
class Trained:
    """Networks along the heads.

    Attributes:
        optimizer: that trains them.
        gain: whether heads share their gains, or every channel has its own.
        row: of the rules, by which the gains move.
    """

    optimizer: Optimizer
    gain: Gain
    row: Row


#: By the name of a case; "wrong-row" gives shared gains the row of gains of channels.
CASES = {
    "shared": Trained("sgd", "shared", "qk_gain_shared"),
    "channel": Trained("sgd", "channel", "qk_gain"),
    "wrong-row": Trained("sgd", "shared", "qk_gain"),
    "adam": Trained("adam", "shared", "qk_gain_shared"),
}
SAID = {
    "shared": "gains that heads share, under SGD",
    "channel": "gains of every channel, under SGD",
    "wrong-row": "shared gains with the row of those of channels, under SGD",
    "adam": "gains that heads share, under Adam",
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        heads: H, along which networks are trained.
        head_dim: N of those.
        head_dims: N, along which scores are drawn.
        score_heads: H of those.
        steps: updates.
        rate: of gradient descent at the first size.
        adam_rate: of Adam at the first size.
        images: digits, all of them in every update.
        seeds: independent starts.
    """

    heads: Annotated[IncreasingSizes, Entries(3)] = (2, 4, 8, 16, 32)
    head_dim: Count = 8
    head_dims: Annotated[IncreasingSizes, Entries(3)] = (8, 16, 32, 64)
    score_heads: Count = 8
    steps: Count = 20
    rate: Positive = 0.3
    adam_rate: Positive = 0.003
    images: Annotated[int, Within(1, data.DIGITS)] = 64
    seeds: Annotated[int, Within(2, 100_000)] = 32

    def along_heads(self) -> list[Size]:
        """The networks that are trained."""
        return [
            Size(head_dim=self.head_dim, heads=heads, layers=1, mlp_ratio=1.0)
            for heads in self.heads
        ]

    def along_head_dims(self) -> list[Size]:
        """The networks whose scores are drawn."""
        return [
            Size(head_dim=head_dim, heads=self.score_heads, layers=1, mlp_ratio=1.0)
            for head_dim in self.head_dims
        ]
