"""What a training problem costs, for its limit and for its networks.

What each side needs is told here without JAX: seconds and bytes follow from the sizes alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import translimit.experiments as ex
from translimit.experiments.bordelon2024.learning_problem import LearningProblem
from translimit.experiments.checked import (
    Count,
)
from translimit.experiments.ensembles import PROCESS_BYTES, ensemble_bytes


@dataclass(frozen=True)
class Problem(LearningProblem):
    """A training problem with the cost of its limit and networks; fields of `LearningProblem`."""

    def rank(self) -> int:
        """Directions of a field that compressed histories are expected to keep."""
        return self.fields() * min(self.steps, 16)

    def limit_seconds(self, *, cells: int | None = None) -> float:
        """Roughly what the limit needs on one core."""
        layers, history, rank = cells or self.layers, self.steps * self.fields(), self.rank()
        if self.exact():
            blocks = layers * (int(self.attention) + int(self.mlp != "none"))
            return 6 + 8e-9 * blocks**2 * history**3
        wide = 45 * self.attention * self.head_dim * (self.samples or max(1000, 8 * rank))
        narrow = 18 * (self.mlp != "none") * (self.neurons or max(4000, 8 * rank))
        step = layers * rank / 2 * (wide + narrow) * (1e-9 + 0.25e-9 * self.fields())
        return 25 + (self.populations + 1) * self.steps * step

    def limit_bytes(self, *, cells: int | None = None) -> float:
        """The process of a cell that solves the limit: leading terms of `TrainingDynamics.memory`.

        The method itself needs JAX, which a plan does not load.
        """
        fields, history, rank = self.fields(), self.steps * self.fields(), self.rank()
        layers = cells or self.layers
        blocks = layers * (int(self.attention) + int(self.mlp != "none"))
        if self.exact():
            doubles = history**2 * (2 * blocks * (4 * blocks + 2) + 6 * blocks)
            return PROCESS_BYTES + 1.4 * 8 * doubles
        doubles = 4 * (layers + 1) * min(history, 2048) ** 2 + 5 * blocks**2 * rank**2
        doubles += 2 * (layers + 1) * history * 1.6 * blocks * rank
        if self.attention:
            samples = self.samples or max(1000, 8 * rank)
            wide = samples * self.head_dim
            weights = fields**2 / self.inputs * samples
            doubles += layers * (13 * rank * wide + 5 * fields * wide + 3 * weights)
            doubles += 36 * fields * wide + 12 * weights
        if self.mlp != "none":
            neurons = self.neurons or max(4000, 8 * rank)
            doubles += 7 * layers * rank * neurons + 20 * fields * neurons
        each = self.steps * layers * fields**2 // self.inputs * int(self.attention)
        kept = 2 * (layers + 1) * min(history, 2048) ** 2
        kept += each * min(2000, max(100, 10_000_000 // max(each, 1)))  # scores of heads
        return PROCESS_BYTES + 8 * (1.5 * doubles + 2 * (self.populations + 1) * kept)

    def exact(self) -> bool:
        """Whether nothing is sampled."""
        finite = self.attention and not math.isinf(self.head_dim)
        return not finite and self.mlp in ("none", "linear")

    def networks_bytes(
        self, heads: int, seeds: int, *, head_dim: int | None = None, layers: int | None = None
    ) -> float:
        """The process of a cell that trains networks of one size."""
        return ensemble_bytes(
            (head_dim or self.head_dim, heads, layers or self.layers),
            members=seeds,
            batch=self.inputs,
            tokens=self.fields() // self.inputs,
            outputs=1,
            features={"digits": 16, "ring": 4}.get(self.task, self.dim),
            mlp_ratio=float(self.mlp != "none"),
            slots=int(self.momentum > 0),
        )

    def networks_seconds(
        self, heads: int, seeds: int, *, head_dim: int | None = None, layers: int | None = None
    ) -> float:
        """Roughly what networks of one size need on one core."""
        width = heads * (head_dim or self.head_dim)
        blocks = (layers or self.layers) * (1 + 0.5 * (self.mlp != "none"))
        each = 7.5e-5 + 1.5e-6 * width + 9e-9 * width**2
        return 8 + blocks * seeds * self.steps * self.fields() * each

    def limit_cost(self, *, cells: int | None = None) -> ex.Cost:
        """What the limit needs."""
        return ex.Cost(self.limit_seconds(cells=cells), self.limit_bytes(cells=cells))

    def networks_cost(
        self,
        heads: int,
        seeds: int,
        *,
        head_dim: int | None = None,
        layers: int | None = None,
        at_once: int | None = None,
    ) -> ex.Cost:
        """What networks of one size need, all at once by default."""
        held = seeds if at_once is None else min(at_once, seeds)
        return ex.Cost(
            self.networks_seconds(heads, seeds, head_dim=head_dim, layers=layers),
            self.networks_bytes(heads, held, head_dim=head_dim, layers=layers),
        )


@dataclass(frozen=True)
class RingProblem(Problem):
    """The smallest problem on which all terms of the limit show: two inputs of two tokens."""

    task: str = "ring"
    inputs: Count = 2
    tokens: Count = 2
    dim: Count = 4
