r"""For how many updates does a best rate transfer? Language models on bytes, cell by cell.

The ledger of `horizons/ledger` on bytes of English prose: causal decoders with a readout of zeros.
A thousand updates see about as many bytes as there are, so that nothing is interpolated.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar

import translimit.experiments as ex
from translimit import describe
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.checked import Count, Distinct, Within
from translimit.experiments.horizons import cells, results

if TYPE_CHECKING:
    from translimit.data import TokenStream
    from translimit.describe import Parameterization, TransformerShape

#: Ids there are.
VOCABULARY = 256


@dataclass(frozen=True)
class Config(cells.Ledger):
    """Causal decoders of bytes.

    Attributes: those of `cells.Ledger`, and
        tokens: length of a window.
    """

    data: ClassVar[str] = "bytes"

    batch: Count = 8
    probe: Count = 128
    optimizers: Annotated[tuple[cells.Optimizer, ...], Distinct()] = ("adamw",)
    adamw_rates: cells.Grid = (-9, -2)
    tokens: Annotated[int, Within(2, 1024)] = 32

    def shape(self, size: tuple[int, int, int]) -> TransformerShape:
        """The networks of a size."""
        head_dim, heads, layers = size
        return describe.TransformerShape(
            head_dim=head_dim,
            heads=heads,
            layers=layers,
            tokens=self.tokens,
            outputs=VOCABULARY,
            vocabulary=VOCABULARY,
            causal=True,
            pooled=False,
            mlp_ratio=self.mlp_ratio,
        )

    def source(self) -> TokenStream:
        """Windows of the shipped text."""
        return networks.windows("bytes", self.tokens)

    def ruled(self, shape: TransformerShape, optimizer: cells.Optimizer) -> Parameterization:
        """The numbers of a shape by the rules, with a readout of zeros."""
        made = networks.carried(self.shape(self.base).size, shape, optimizer)
        return made.changed(describe.Role.READOUT, init=0.0)

    @property
    def positions(self) -> int:
        """Tokens of one input."""
        return self.tokens

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return VOCABULARY

    def epochs(self, steps: int) -> float:
        """How often a run sees its data."""
        return steps * self.batch * self.tokens / _length()


@lru_cache
def _length() -> int:
    """Bytes of the shipped text."""
    return len(networks.windows("bytes", 2).ids)


EXPERIMENT = ex.Experiment(
    name="horizons/ledger-text",
    title="For how many updates the best rate of a small language model transfers",
    question="For how many updates does the best rate of a small language model transfer?",
    summary="The ledger of horizons on bytes of English prose, which a thousand updates see about "
    "once: drift and price of the base's best rate along depth and head dimension, at a constant "
    "rate and under cosine decay.",
    citations=("bordelon2024", "jax"),
    reference='documentation, "Horizons"',
    presets={
        "demo": Config(
            axes=("layers",),
            multiples=(1, 2),
            horizons=(15, 60),
            adamw_rates=(-7, -2),
            seeds=6,
            decay_seeds=6,
            tokens=16,
            probe=32,
        ),
        "standard": Config(),
        "paper": replace(Config(), base=(8, 8, 4), horizons=(60, 240, 1000, 4000), tokens=64),
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
