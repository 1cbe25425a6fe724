"""What a diagnosis will cost, told before it starts: operations, seconds, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from translimit.core import format_duration, require_free
from translimit.diagnose.checkpoint import Checkpoint
from translimit.limits.signal import REDRAWN_BATCHES, REDRAWN_PAIRS

#: Multiply-adds that one core does in a second, in float64, and numbers that it draws.
RATE, DRAWS = 2e9, 5e7
#: Seconds that compiling takes for a length of sequences and for a kind of layer.
COMPILING = 1.5


@dataclass(frozen=True)
class DiagnosisCost:
    """The cost of a diagnosis.

    Attributes:
        operations: multiply-adds.
        seconds: on one core, about.
        memory_bytes: held at once.
    """

    operations: float
    seconds: float
    memory_bytes: float

    def __str__(self) -> str:
        return (
            f"{self.operations:.1e} multiply-adds, about {format_duration(self.seconds)} on one "
            f"core, {self.memory_bytes / 1e9:.2f} GB"
        )


def diagnosis_cost(
    checkpoint: Checkpoint,
    lengths: Sequence[int],
    draws: int,
    predicted: int,
    rotated: int = 0,
) -> DiagnosisCost:
    """What a diagnosis will cost.

    Args:
        checkpoint: the network.
        lengths: tokens of every sequence.
        draws: networks of the null.
        predicted: sequences that the recursion predicts.
        rotated: copies of sequences that are rotated and sent through every layer.
    """
    n = np.array(lengths, float)
    operations = memory = 0.0
    for layer in checkpoint.layers:
        of, numbers = layer.attention, sum(np.size(v) for v in layer.parameters.values())
        heads = of.heads * (n * layer.dim * (of.heads + of.values) + n**2 * 2 * of.head_dim)
        maps = of.heads**2 * n**2
        operations += float((n * numbers + heads + maps).sum())
        held = of.heads * (n.max() * layer.dim + 6 * n.max() ** 2) + 4 * n.max() * layer.dim
        memory = max(memory, 8.0 * (3 * numbers + held))
    whole = operations * (1 + draws + rotated / len(lengths))
    pairs = REDRAWN_PAIRS * REDRAWN_BATCHES * predicted * len(checkpoint.layers)
    most = float(n[:predicted].max()) if predicted else 0.0
    whole += pairs * (4 * most**3 + 2 * most**2 * checkpoint.layers[0].attention.head_dim)
    drawn = draws * checkpoint.weights / DRAWS
    kinds = len({layer.blocks for layer in checkpoint.layers}) * len(set(lengths))
    seconds = whole / RATE + drawn + COMPILING * kinds * (2 if predicted else 1)
    memory += 8.0 * float((n * checkpoint.dim).sum()) + 8.0 * checkpoint.weights / 2
    return DiagnosisCost(float(whole), float(seconds), float(memory))


def require_memory(cost: DiagnosisCost) -> None:
    """Refuse what does not fit.

    Args:
        cost: of the diagnosis.

    Raises:
        MemoryLimitError: it does not.
    """
    require_free(cost.memory_bytes, "inputs", "layers and tokens", "pass shorter sequences")
