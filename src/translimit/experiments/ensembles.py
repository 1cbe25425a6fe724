"""The memory of a process that trains an ensemble, told before anything loads JAX.

The count is that of `train.memory_need` (`train.numbers_kept`), with a network told by its sizes
alone (gains, biases and the embedding of positions are left out), and what every process with JAX
has.
"""

from __future__ import annotations

from collections.abc import Sequence

from translimit import train

#: What a process has that imported JAX and compiled the training of a small network.
PROCESS_BYTES = 7e8


def ensemble_bytes(
    size: Sequence[int],
    *,
    members: int,
    batch: int,
    tokens: int,
    outputs: int,
    vocabulary: int = 0,
    features: int = 0,
    mlp_ratio: float = 1.0,
    slots: int = 2,
) -> float:
    """Bytes of an ensemble in float32.

    Args:
        size: head dimension, heads, layers.
        members: networks trained at once, seeds times rates.
        batch: examples of an update.
        tokens: of an example.
        outputs: of the readout.
        vocabulary: ids of the embedding, or 0.
        features: numbers of a patch that an embedding reads, or 0.
        mlp_ratio: hidden units to width.
        slots: arrays that the optimiser keeps of every weight.
    """
    head_dim, heads, layers = size
    dim = head_dim * heads
    weights = layers * (4 + 2 * mlp_ratio) * dim**2 + (outputs + vocabulary + features) * dim
    kept = batch * train.numbers_kept(
        dim=dim, hidden=mlp_ratio * dim, heads=heads, layers=layers, tokens=tokens, outputs=outputs
    )
    return PROCESS_BYTES + 4.0 * members * ((train.WEIGHT_COPIES + slots) * weights + kept)
