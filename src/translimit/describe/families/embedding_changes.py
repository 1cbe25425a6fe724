"""What single families change of a decoder's embedding, as in the reference implementations."""

from __future__ import annotations

import math
from dataclasses import replace

from translimit.describe.families.decoders import Parts
from translimit.describe.families.keys import Keys
from translimit.describe.sinusoids import Sinusoids


def biogpt(k: Keys, parts: Parts) -> Parts:
    """Embeddings times the root of the width; norms whose epsilon is fixed."""
    parts.norm = replace(parts.norm, norm_eps=1e-5)
    if k.flag("scale_embedding", True):
        parts.embedding = replace(parts.embedding, multiplier=math.sqrt(parts.dim))
    return parts


def xglm(k: Keys, parts: Parts) -> Parts:
    """Embeddings times the root of the width, and fixed positions from the third on."""
    parts = biogpt(k, parts)
    fixed = Sinusoids.spread_evenly(parts.dim, first=2)
    parts.embedding = replace(parts.embedding, sinusoids=fixed)
    return parts


def ctrl(k: Keys, parts: Parts) -> Parts:
    """Embeddings times the root of the width, and fixed positions."""
    multiplier, fixed = math.sqrt(parts.dim), Sinusoids.geometric(parts.dim)
    parts.embedding = replace(parts.embedding, multiplier=multiplier, sinusoids=fixed)
    return parts


def esm(k: Keys, parts: Parts) -> Parts:
    """Embeddings made smaller by what masks leave in training; rotary positions only."""
    k.require("position_embedding_type", "rotary")
    k.require("emb_layer_norm_before", False)
    k.require("is_folding_model", False)
    k.inert("esmfold_config", "vocab_list", "mask_token_id")
    if k.flag("token_dropout", False):
        parts.embedding = replace(parts.embedding, multiplier=1 - 0.15 * 0.8)
    return parts


def typed(k: Keys, parts: Parts) -> Parts:
    """One row of token types for all tokens, and a norm of the embedding."""
    row = parts.std if k.count("type_vocab_size", 2) else 0.0
    parts.embedding = replace(parts.embedding, type_std=row, norm=parts.norm)
    k.inert("lora_adaptations", "lora_alpha", "lora_rank", "task_instructions", "emb_pooler")
    return parts
