"""Small models of which inputs are asked."""

from __future__ import annotations

from typing import Any

from translimit.describe import PatchEmbedding, StackReading, read_stack

SIZES: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**more: Any) -> StackReading:
    """A decoder without positions in its embedding."""
    return read_stack({"model_type": "llama", "intermediate_size": 96, **SIZES, **more})


def bert(**more: Any) -> StackReading:
    return read_stack({"model_type": "bert", "vocab_size": 1000, **SIZES, **more})


def vit(**more: Any) -> StackReading:
    """Images of 32 x 32 in 16 patches."""
    values = {"model_type": "vit", "image_size": 32, "patch_size": 8, **SIZES, **more}
    return read_stack(values)


def patches(**more: Any) -> PatchEmbedding:
    embedding = vit(**more).stack.embedding
    assert isinstance(embedding, PatchEmbedding)
    return embedding
