"""Factories of small Hugging Face models for `translimit coord-check` and `translimit transfer`.

    translimit coord-check small_models:gpt2 --axis head_dim

A factory takes one `Trial` and returns the model of its size, from its seed, at its base rate.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.optim.optimizer import ParamsT
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from translimit import data
from translimit.checks import TorchModel, Trial
from translimit.scaling import rules
from translimit.scaling.adapters.torch import apply

TOKENS = 16
TEXT = np.asarray(data.byte_text(TOKENS).ids)


def batch(step: int, windows: int = 16, seed: int = 0) -> dict[str, torch.Tensor]:
    """Windows of English prose, the same for the same step and seed, at every size and rate."""
    draw = np.random.default_rng(step + 1_000_003 * seed)
    starts = draw.integers(0, len(TEXT) - TOKENS, windows)
    ids = torch.tensor(np.stack([TEXT[start : start + TOKENS] for start in starts]).astype(int))
    return {"input_ids": ids, "labels": ids}


def optimizer_of(groups: ParamsT, rate: float) -> torch.optim.Optimizer:
    """AdamW; groups by the rules have rates of their own."""
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)


def finished(
    model: PreTrainedModel,
    trial: Trial,
    tables: tuple[torch.Tensor, torch.Tensor],
    packed: bool = False,
) -> TorchModel:
    """A model with its optimiser: by the rules, or all at one rate.

    Args:
        model: fresh, of the size of the trial.
        trial: what to build.
        tables: the weights of its embedding of tokens and of its readout.
        packed: whether queries, keys and values are one matrix.
    """
    embedding, readout = tables
    made = rules(trial.base, trial.size, optimizer="adamw", style="folded", packed_qkv=packed)
    if trial.standard:
        groups: ParamsT = model.parameters()
    else:
        groups = apply(model, made, lr=trial.rate, start="fixed")
    with torch.no_grad():
        embedding.normal_()  # tokens of unit size: the branches do not drown them
        readout.zero_()  # so that the output's first change is the readout's
    optimizer = optimizer_of(groups, trial.rate)
    return TorchModel(
        model=model,
        optimizer=optimizer,
        batch=functools.partial(batch, seed=trial.seed),  # a seed has its own order of batches
        probe=[batch(step) for step in range(4)],
        repeated=batch(0, 2),  # a coordinate check repeats few tokens, fewer than a model is wide
        rules=made,
    )


def gpt2(trial: Trial) -> TorchModel:
    """GPT-2 with packed queries, keys and values, and a readout of its own."""
    torch.manual_seed(trial.seed)
    size, width = trial.size, trial.size.width if trial.standard else trial.base.width
    config = GPT2Config(
        vocab_size=256,
        n_positions=TOKENS,
        n_embd=size.width,
        n_head=size.heads,
        n_layer=size.layers,
        n_inner=int(size.mlp_ratio * size.width),
        initializer_range=width**-0.5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config)
    return finished(model, trial, (model.transformer.wte.weight, model.lm_head.weight), packed=True)


def llama(trial: Trial) -> TorchModel:
    """Llama with rotary positions, RMS norms and gated MLPs."""
    torch.manual_seed(trial.seed)
    size, width = trial.size, trial.size.width if trial.standard else trial.base.width
    config = LlamaConfig(
        vocab_size=256,
        max_position_embeddings=TOKENS,
        hidden_size=size.width,
        head_dim=size.head_dim,
        num_attention_heads=size.heads,
        num_key_value_heads=size.groups,
        num_hidden_layers=size.layers,
        intermediate_size=int(size.mlp_ratio * size.width),
        initializer_range=width**-0.5,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    return finished(model, trial, (model.model.embed_tokens.weight, model.lm_head.weight))
