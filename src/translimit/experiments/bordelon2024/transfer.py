r"""Does the best learning rate of a small transformer stay the best of a larger one?

Digits as patches, fresh minibatches, a fixed number of steps, a grid of rates in factors of two,
AdamW and SGD with momentum, along head dimension, heads and layers (see `rate_sweeps`).

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import translimit.experiments as ex
from translimit import core
from translimit.experiments.bordelon2024 import networks, rate_sweeps, sweep_results
from translimit.experiments.bordelon2024.networks import PAPER, AxisName
from translimit.experiments.bordelon2024.rate_sweeps import Optimizer

if TYPE_CHECKING:
    from translimit.data import AbstractSource
    from translimit.describe import Parameterization, TransformerShape


@dataclass(frozen=True)
class Config(rate_sweeps.Sweeps):
    """Images as patches; the fields are those of `Sweeps`."""

    @property
    def positions(self) -> int:
        """Tokens of one input."""
        return 8 if self.images == "digits" else 64

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return 10

    def shape(self) -> TransformerShape:
        """The base."""
        return networks.base_shape(self)

    def source(self) -> AbstractSource:
        """Where batches come from."""
        return networks.images(self.images)

    def ruled(
        self, shape: TransformerShape, optimizer: Optimizer, alpha_A: float
    ) -> Parameterization:
        """The numbers of a shape by the rules."""
        return networks.ruled(self, shape, optimizer, alpha_A=alpha_A)

    def standard(self, shape: TransformerShape) -> Parameterization:
        """The numbers of a shape in the standard parameterization."""
        return networks.standard(shape)

    def floor(self) -> float:
        """The loss of the linear model."""
        return networks.linear_floor(self)

    @property
    def floor_label(self) -> str:
        """What the floor is."""
        return "linear model"

    @property
    def samples(self) -> str:
        """What the loss is a mean over."""
        return f"{self.probe} training examples"

    def drift_tolerance(self, optimizer: Optimizer, axis: AxisName) -> float | None:
        """Of the drift under the rules, in decades; None where it separates nothing.

        Along depth SGD drifts alike in both parameterizations at these sizes: it is shown, and
        nothing is claimed.
        """
        if optimizer == "momentum" and axis == "layers":
            return None
        return 0.15 if (optimizer, axis) == ("adamw", "head_dim") else 0.2


EXPERIMENT = ex.Experiment(
    name="bordelon2024/transfer",
    title="Learning-rate transfer over head dimension, heads and layers",
    question="Does the best rate of a small vision transformer carry over to a larger one?",
    summary="Under the rules the best learning rate of a small transformer is the best of one "
    "with larger heads, more heads or more layers; in the standard parameterization it moves by "
    "the factors that the rules supply. Loss at the best rate is another matter: in short runs "
    "the standard parameterization, tuned at its own size, is often lower.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            base=(4, 4, 2),
            steps=40,
            seeds=4,
            axes=("head_dim",),
            optimizers=("adamw",),
            alphas=(1.0,),
            log2_rates=(-10, -3),
        ),
        "standard": Config(seeds=8),
        "paper": replace(
            Config(**PAPER),
            axes=("head_dim",),
            optimizers=("momentum",),
            steps=10_000,
            log2_momentum_rates=(-6, 3),
            probe=1024,
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
