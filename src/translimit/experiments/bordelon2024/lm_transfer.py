r"""Does the best learning rate of a small language model stay the best of a larger one?

The study of `bordelon2024/transfer` on bytes of English prose: causal decoders under AdamW, fresh
minibatches, head dimension, heads and layers, the rules beside the standard parameterization. The
readout starts at zero in both, so that they differ in rates, hidden starts, the scale of scores and
the factor of the branches.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, data, describe
from translimit.experiments.bordelon2024 import networks, rate_sweeps, sweep_results
from translimit.experiments.bordelon2024.networks import AxisName
from translimit.experiments.bordelon2024.rate_sweeps import Optimizer
from translimit.experiments.checked import Count, Distinct, Exponent, Increasing, Within

if TYPE_CHECKING:
    from translimit.data import TokenStream
    from translimit.describe import Parameterization, TransformerShape

#: Ids from which the floor is computed.
_SAMPLE = 10_000_000


@dataclass(frozen=True)
class TextConfig(rate_sweeps.Sweeps):
    """Sizes of the study.

    Attributes: those of `rate_sweeps.Sweeps`, and
        text: "bytes", the shipped ones, or a binary file of uint16 ids.
        tokens: length of a window.
        vocabulary: number of ids.
    """

    negligible = 0.02

    optimizers: Annotated[tuple[Optimizer, ...], Distinct()] = ("adamw",)
    alphas: Annotated[tuple[Exponent, ...], Distinct()] = (1.0,)
    steps: Count = 100
    log2_rates: Annotated[tuple[int, int], Within(-60, 60), Increasing()] = (-12, -2)
    batch: Count = 8
    probe: Count = 64
    text: str = "bytes"
    tokens: Annotated[int, Within(2)] = 32
    vocabulary: Annotated[int, Within(2, networks.LARGEST_VOCABULARY)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        networks.require_vocabulary(self.text, self.vocabulary)

    @property
    def positions(self) -> int:
        """Tokens of one input."""
        return self.tokens

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return self.vocabulary

    def shape(self) -> TransformerShape:
        """The base."""
        head_dim, heads, layers = self.base
        return describe.TransformerShape(
            head_dim=head_dim,
            heads=heads,
            layers=layers,
            tokens=self.tokens,
            outputs=self.vocabulary,
            vocabulary=self.vocabulary,
            causal=True,
            pooled=False,
            mlp_ratio=self.mlp_ratio,
        )

    def source(self) -> TokenStream:
        """Windows of text."""
        return networks.windows(self.text, self.tokens)

    def ruled(
        self, shape: TransformerShape, optimizer: Optimizer, alpha_A: float
    ) -> Parameterization:
        """The numbers of a shape by the rules, with a readout of zeros."""
        if self.start == "paper":
            made = networks.ruled(self, shape, optimizer, alpha_A=alpha_A)
        else:
            made = networks.carried(self.shape().size, shape, optimizer, alpha_A)
        return made.changed(describe.Role.READOUT, init=0.0)

    def standard(self, shape: TransformerShape) -> Parameterization:
        """The numbers of a shape in the standard parameterization, with a readout of zeros."""
        return networks.standard(shape).changed(describe.Role.READOUT, init=0.0)

    def floor(self) -> float:
        """The entropy of a token alone."""
        return data.unigram_entropy(np.asarray(self.source().ids[:_SAMPLE], dtype=np.int64))

    @property
    def floor_label(self) -> str:
        """What the floor is."""
        return "entropy of a token alone"

    @property
    def samples(self) -> str:
        """What the loss is a mean over."""
        return f"{self.probe} training windows of {self.tokens} tokens"

    def drift_tolerance(self, optimizer: Optimizer, axis: AxisName) -> float | None:
        """Of the drift under the rules, in decades."""
        return 0.2


EXPERIMENT = ex.Experiment(
    name="bordelon2024/lm-transfer",
    title="Learning-rate transfer of language models over head dimension, heads and layers",
    question="Does the best rate of a small language model carry over to a larger one?",
    summary="Byte-level causal language models under AdamW: under the rules the best learning rate "
    "of a small one is the best of one with larger heads, more heads or more layers; in the "
    "standard parameterization it moves. The loss at each optimum stands beside it.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": TextConfig(
            base=(4, 4, 2), steps=40, seeds=4, axes=("head_dim",), tokens=16, probe=32
        ),
        "standard": TextConfig(seeds=6),
        "paper": TextConfig(
            base=(8, 8, 4),
            mlp_ratio=1.0,
            start="paper",
            beta0=4.0,
            gamma0=0.25,
            batch=256,
            steps=10_000,
            text="",
            tokens=256,
            vocabulary=50_257,
            probe=256,
        ),
    },
    parts=rate_sweeps.PARTS,
    claims=sweep_results.CLAIMS,
    figures=sweep_results.FIGURES,
    finding=ex.Finding(
        "From the base to the largest head dimension the best rate moves by {0} decades under the "
        "rules, where the loss at the base's best rate is larger by {1} (log of the ratio)",
        ("*-head_dim-*-rules-drift", "*-head_dim-*-regret"),
    ),
)
