r"""Problems whose limit needs particles: Adam, sign descent, an activation on the stream.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from translimit import describe, limits, train
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.growing_networks import Config
from translimit.experiments.bordelon2024.learning_problem import MLPS
from translimit.experiments.checked import OneOf, Positive, Within
from translimit.experiments.ensembles import PROCESS_BYTES


@dataclass(frozen=True)
class ParticleProblem(Config):
    """A problem, and what its updates are.

    Attributes:
        optimizer: "sgd", "adam", "adamw" or "sign"; all but the first are solved by particles.
        b1, b2: decays of the moments of Adam.
        eps: of Adam, in units of the gradient of the limit.
        weight_decay: of "adamw" and "sign".
        activation_on_stream: of what sub-blocks read, by the names of `mlp`.
        units: coordinates, head coordinates and neurons of particles; 0 for the solver's default.
    """

    optimizer: Literal["sgd", "adam", "adamw", "sign"] = "sgd"
    b1: Annotated[float, Within(0, 1, below=True)] = 0.9
    b2: Annotated[float, Within(0, 1, below=True)] = 0.999
    eps: Positive = 1e-3
    weight_decay: Annotated[float, Within(0, 1e12)] = 0.0
    activation_on_stream: Annotated[str, OneOf(MLPS)] = "none"
    units: Annotated[int, Within(0)] = 0

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.weight_decay and self.optimizer not in ("adamw", "sign"):
            raise ConfigError(
                "weight_decay",
                f"got {self.weight_decay:g} with optimizer {self.optimizer!r}",
                "pass adamw or sign",
            )
        if self.optimizer != "sgd" and self.momentum:
            raise ConfigError(
                "momentum", f"got {self.momentum:g} with {self.optimizer}", "pass b1 instead"
            )

    @property
    def particles(self) -> bool:
        """Whether coordinates of the stream have to be sampled."""
        return self.optimizer != "sgd" or self.activation_on_stream != "none"

    @property
    def update(self) -> limits.dmft.AbstractOptimizer:
        """What an update makes of a gradient."""
        match self.optimizer:
            case "adam":
                return limits.dmft.Adam(self.b1, self.b2, self.eps)
            case "adamw":
                return limits.dmft.AdamW(self.b1, self.b2, self.eps, self.weight_decay)
            case "sign":
                return limits.dmft.Sign(self.weight_decay)
            case _:
                return limits.dmft.SGD()

    @property
    def network_optimizer(self) -> train.Optimizer:
        """How networks are trained: as the limit is."""
        match self.optimizer:
            case "adam":
                return train.Optimizer("adam", b1=self.b1, b2=self.b2, eps=self.eps)
            case "adamw":
                decay = self.weight_decay
                return train.Optimizer(
                    "adamw", b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=decay
                )
            case "sign":
                return train.Optimizer("sign", weight_decay=self.weight_decay)
            case _:
                return super().network_optimizer

    def method(
        self,
        problem: limits.dmft.TrainingDynamics,
        *,
        omit: str | None = None,
        heads_kept: int = 2000,
    ) -> limits.dmft.LinearAlgebra | limits.dmft.CausalSampling | limits.dmft.PopulationSampling:
        """Particles where nothing else solves the problem."""
        if not self.particles:
            return super().method(problem, omit=omit, heads_kept=heads_kept)
        return limits.dmft.PopulationSampling(
            units=self.units or None,
            populations=self.populations,
            heads_kept=heads_kept,
            omit=(omit,) if omit else (),
        )

    def particle_units(self) -> int:
        """M, as `PopulationSampling` takes it, without JAX."""
        inner = 4 * self.attention + 2 * (self.mlp != "none")
        history = self.steps * self.fields()
        most = self.columns() + self.layers * inner * history
        return self.units or max(256, 2 * most)

    def limit_seconds(self, *, cells: int | None = None) -> float:
        """Roughly what the limit needs on one core."""
        if not self.particles:
            return super().limit_seconds(cells=cells)
        matrices = self.layers * (4 * self.attention + 2 * (self.mlp != "none"))
        entry = 6 * self.fields() + 25 + 24 * self.fields() * matrices / self.layers
        square = 5 * self.particle_units() ** 2
        return 10 + self.populations * self.steps * matrices * square * entry / 2e9

    def limit_bytes(self, *, cells: int | None = None) -> float:
        """The process of a cell that solves the limit."""
        if not self.particles:
            return super().limit_bytes(cells=cells)
        matrices = self.layers * (4 * self.attention + 2 * (self.mlp != "none"))
        arrays = (
            3 * matrices + 4 + matrices * 4 * self.steps * self.fields() / self.particle_units()
        )
        return PROCESS_BYTES + 1.3 * 8 * (2 * self.particle_units()) ** 2 * arrays

    def columns(self) -> int:
        """Of the embedding, with one output."""
        return self.dim + 1

    def more_of_architecture(self) -> dict[str, Any]:
        """The activation on the stream."""
        name = self.activation_on_stream
        activation = None if name == "none" else describe.Activation(name)
        return super().more_of_architecture() | {"activation_on_stream": activation}
