r"""What a training run will need, told before it starts.

    weights      members x parameters x (weights, gradient, new weights, start, optimiser's slots)
    activations  members x examples of one gradient x what backpropagation keeps: of every block its
                 stream and its products with weights, of the block it is at everything
    batches      what is read ahead
    observables  members x what is recorded, and the fields of the probe for one member

Reference: documentation, "Training transformers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from translimit.core import MemoryLimitError, available_memory
from translimit.describe import TransformerShape
from translimit.train.kept import WEIGHT_COPIES, numbers_kept
from translimit.train.training import Training


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes by purpose.

    Attributes:
        weights: of all members.
        activations: of one gradient of all members.
        batches: read ahead.
        observables: recorded, and the fields of the probe.
    """

    weights: float
    activations: float
    batches: float
    observables: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.activations + self.batches + self.observables

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / 1e6:,.0f} MB" for name, value in self.__dict__.items())
        return f"{self.total / 1e6:,.0f} MB ({parts})"


def memory_need(
    shape: TransformerShape,
    training: Training,
    *,
    batches: float = 0.0,
    recorded: float = 0.0,
    probe: int = 0,
) -> MemoryNeed:
    """The bytes of a training run; an estimate of what XLA keeps.

    Compiled programs, and what XLA needs while it compiles, are not in it.

    Args:
        shape: of the network.
        training: of the ensemble.
        batches: bytes of the batches read ahead.
        recorded: bytes of all observations.
        probe: samples of the probe.
    """
    size = 8 if training.precision == "float64" else 4
    active = {"bfloat16": 2, "float32": 4, "float64": 8}[training.precision]
    members = training.seeds * len(training.rates)
    sizes: dict[str, Any] = {
        "dim": shape.dim,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "layers": shape.layers,
        "tokens": shape.tokens,
        "outputs": shape.outputs,
    }
    examples = members * training.batch // training.accumulate
    slots = WEIGHT_COPIES + training.optimizer.kind.slots
    return MemoryNeed(
        weights=float(members * shape.parameter_count * slots * size),
        activations=float(examples * numbers_kept(**sizes) * active),
        batches=batches,
        observables=recorded + 2.0 * probe * numbers_kept(**sizes, recorded=True) * size,
    )


def require_memory(need: MemoryNeed, limit: float | None = None) -> None:
    """Refuse a run that does not fit.

    Args:
        need: what it needs.
        limit: bytes that it may use; what `core.available_memory` says by default.

    Raises:
        MemoryLimitError: it does not fit; the message names what to change.
    """
    limit = available_memory() if limit is None else limit
    if need.total <= limit:
        return
    remedies = {
        "weights": "fewer seeds or rates at once",
        "activations": "a smaller batch, or accumulate more parts of it",
        "batches": "a smaller batch",
        "observables": "fewer observables or observations, or a smaller probe",
    }
    largest = max(remedies, key=lambda name: getattr(need, name))
    raise MemoryLimitError(
        "training", f"needs {need}, and {limit / 1e6:,.0f} MB are there", f"try {remedies[largest]}"
    )
