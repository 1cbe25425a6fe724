"""What backpropagation keeps of a transformer, counted from sizes alone: no JAX is loaded.

Reference: documentation, "Training transformers".
"""

from __future__ import annotations

#: Arrays [tokens, dim] that backpropagation keeps of a block: the stream and products with weights.
_STREAMS_KEPT = 7
#: Arrays [tokens, hidden] that it keeps of an MLP.
_HIDDEN_KEPT = 2
#: Arrays [tokens, dim], [tokens, hidden] and [heads, tokens, tokens] of one block in full: norms,
#: projections, activations and rows of attention, which are computed again for their gradients.
_STREAMS, _HIDDEN, _SCORES = 14, 3, 3
#: Arrays of the size of the weights besides the optimiser's: weights, gradient, new weights, start.
WEIGHT_COPIES = 4


def numbers_kept(
    *,
    dim: int,
    hidden: float | int,
    heads: int,
    layers: int,
    tokens: int,
    outputs: int,
    recorded: bool = False,
) -> float:
    """Numbers that the gradient of one example keeps; an estimate of what XLA keeps.

    Args:
        dim: width of the stream.
        hidden: units of an MLP; 0 where there is none.
        heads: heads of a block.
        layers: blocks.
        tokens: of the example.
        outputs: of the readout.
        recorded: count what is left where all fields of all blocks are recorded instead.
    """
    block = _STREAMS * dim + _HIDDEN * hidden + _SCORES * heads * tokens
    if recorded:
        return float(tokens * (layers * block + 3 * outputs))
    kept = layers * (_STREAMS_KEPT * dim + _HIDDEN_KEPT * hidden)
    # The block whose gradient is computed, and the gradient of all that is in it.
    return float(tokens * (kept + 2 * block + 3 * outputs))
