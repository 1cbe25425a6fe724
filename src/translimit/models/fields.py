"""What a sequence leaves behind in the transformer that trains.

Reference: documentation, "Training transformers".
"""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float


class Fields(eqx.Module):
    """What one sequence leaves behind on its way through the network.

    Attributes:
        stream: h before every block and after the last [layers + 1, tokens, dim].
        attention_input: u of the attention branch, behind any activation [layers, tokens, dim].
        query: queries, as their norm leaves them and before any rotation [layers, heads, tokens,
            head_dim].
        key: keys, likewise [layers, kv_heads, tokens, head_dim].
        scores: A, a row for each query; what a mask hides is 0 [layers, heads, tokens, tokens].
        attention: rows that sum to one, or shaped rows [layers, heads, tokens, tokens].
        hidden: pre-activations of the MLP [layers, tokens, hidden]; no units without one.
        output: what the call returns.
    """

    stream: Float[Array, "levels tokens dim"]
    attention_input: Float[Array, "layers tokens dim"]
    query: Float[Array, "layers heads tokens head_dim"]
    key: Float[Array, "layers kv_heads tokens head_dim"]
    scores: Float[Array, "layers heads tokens tokens"]
    attention: Float[Array, "layers heads tokens tokens"]
    hidden: Float[Array, "layers tokens hidden"]
    output: Float[Array, "*tokens outputs"]
