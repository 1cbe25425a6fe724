"""What backpropagation keeps of a transformer, counted from sizes alone: no JAX is loaded.

Reference: documentation, "Training transformers".
"""

from __future__ import annotations

#: Arrays [tokens, dim] that backpropagation keeps of a block: norms, projections, sums.
_STREAMS = 14
#: Arrays [tokens, hidden] that it keeps of an MLP.
_HIDDEN = 3
#: Arrays [heads, tokens, tokens] that it keeps of attention.
_SCORES = 3
#: Arrays of the size of the weights besides the optimiser's: weights, gradient, new weights, start.
WEIGHT_COPIES = 4


def numbers_kept(
    *, dim: int, hidden: float | int, heads: int, layers: int, tokens: int, outputs: int
) -> float:
    """Numbers that the gradient of one example keeps; an estimate from above of what XLA keeps.

    Args:
        dim: width of the stream.
        hidden: units of an MLP; 0 where there is none.
        heads: heads of a block.
        layers: blocks.
        tokens: of the example.
        outputs: of the readout.
    """
    per_token = _STREAMS * dim + _HIDDEN * hidden + _SCORES * heads * tokens
    return float(tokens * (layers * per_token + 3 * outputs))
