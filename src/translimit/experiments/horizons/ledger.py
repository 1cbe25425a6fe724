r"""For how many updates does a best rate transfer? Encoders of digits, cell by cell.

Data, optimiser, axis, schedule and number of updates are one cell each: the best rate of larger
networks is compared with that of the base, and what taking the base's costs (see `cells`). Digits
are few, so that long runs interpolate them: the ledger says how often they are seen.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import translimit.experiments as ex
from translimit import describe
from translimit.core import ConfigError
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.horizons import cells, results

if TYPE_CHECKING:
    from translimit.data import AbstractSource
    from translimit.describe import Parameterization, TransformerShape

#: Images there are, tokens of each, and entries of a token.
IMAGES, TOKENS, PIXELS = 1797, 8, 8


@dataclass(frozen=True)
class Config(cells.Ledger):
    """Encoders of digits as patches; the fields are those of `cells.Ledger`."""

    data: ClassVar[str] = "digits"

    def __post_init__(self) -> None:
        """Check the fields, and that images are digits."""
        super().__post_init__()
        if self.images != "digits":
            raise ConfigError("images", f"got {self.images!r}", "this ledger learns digits")
        if self.start != "standard":
            raise ConfigError("start", f"got {self.start!r}", "this ledger starts at the ordinary")

    def shape(self, size: tuple[int, int, int]) -> TransformerShape:
        """The networks of a size."""
        head_dim, heads, layers = size
        return describe.TransformerShape(
            head_dim=head_dim,
            heads=heads,
            layers=layers,
            tokens=TOKENS,
            outputs=10,
            patch_dim=PIXELS,
            mlp_ratio=self.mlp_ratio,
        )

    def source(self) -> AbstractSource:
        """Digits."""
        return networks.images(self.images)

    def ruled(self, shape: TransformerShape, optimizer: cells.Optimizer) -> Parameterization:
        """The numbers of a shape by the rules, with a random readout."""
        return networks.carried(self.shape(self.base).size, shape, optimizer)

    @property
    def positions(self) -> int:
        """Tokens of one input."""
        return TOKENS

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return 10

    def epochs(self, steps: int) -> float:
        """How often a run sees its data."""
        return steps * self.batch / IMAGES


EXPERIMENT = ex.Experiment(
    name="horizons/ledger",
    title="For how many updates the best rate of a small encoder transfers",
    question="For how many updates does the best rate of a small encoder transfer?",
    summary="Under the rules the best rate of a small encoder of digits is compared with that of "
    "larger ones after 60, 240 and 1000 updates, at a constant rate and under cosine decay: how "
    "far it drifts, and what taking it costs. At a constant rate the best rate of one size falls "
    "with the number of updates; a decay takes most of that away.",
    citations=("bordelon2024", "digits", "jax"),
    reference='documentation, "Horizons"',
    presets={
        "demo": Config(
            axes=("layers",),
            optimizers=("adamw",),
            multiples=(1, 2),
            horizons=(15, 60),
            adamw_rates=(-9, -3),
            seeds=6,
            decay_seeds=6,
            probe=128,
        ),
        "standard": Config(),
        "paper": replace(Config(), base=(8, 4, 2), horizons=(60, 240, 1000, 4000)),
    },
    parts=(cells.NETWORKS,),
    claims=results.CLAIMS,
    figures=results.FIGURES,
    finding=ex.Finding(
        "At a constant rate the base's best rate changes with the number of updates to the power "
        "{0}; along depth the largest network pays {1} nats for it after the longest runs under "
        "cosine decay",
        ("adamw-falls-at-constant-rate", "adamw-layers-cosine-*-regret"),
    ),
)
