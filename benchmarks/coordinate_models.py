"""Small models of Hugging Face as their configurations draw them, under the rules: factories.

Every family has the standard deviation of its own configuration, its own random readout and the
batch of a user, 16 windows of 16 bytes (ViT: 16 images of digits as 16 patches and a class token).
The rules are asked of two configurations, and applied with the default options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from translimit import data
from translimit.checks import TorchModel, Trial
from translimit.describe import Role, Size
from translimit.scaling import rules_for
from translimit.scaling.adapters import roles
from translimit.scaling.adapters.torch import apply

TOKENS, WINDOWS, VOCABULARY = 16, 16, 256


def gpt2(size: Size) -> Any:
    """Packed projections, learned positions, tied embeddings, ends of branches drawn smaller."""
    return transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=TOKENS,
        n_embd=size.width,
        n_head=size.heads,
        n_layer=size.layers,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def decoder(kind: str, **more: Any) -> Callable[[Size], Any]:
    """A configuration with rotary positions, half as many key/value heads as heads."""

    def config(size: Size) -> Any:
        told: dict[str, Any] = {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": TOKENS,
            "hidden_size": size.width,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads // 2,
            "num_hidden_layers": size.layers,
            "intermediate_size": 4 * size.width,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "attention_dropout": 0.0,
        }
        if kind != "Olmo2":
            told["head_dim"] = size.head_dim
        if kind == "Gemma2":
            told["query_pre_attn_scalar"] = size.head_dim
        return getattr(transformers, f"{kind}Config")(**told, **more)

    return config


def vit(size: Size) -> Any:
    """Images of digits, a class token and learned positions."""
    told: dict[str, Any] = dict(
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_labels=10,
        hidden_size=size.width,
        num_attention_heads=size.heads,
        num_hidden_layers=size.layers,
        intermediate_size=4 * size.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.ViTConfig(**told)


CONFIGS: dict[str, Callable[[Size], Any]] = {
    "GPT2": gpt2,
    "Llama": decoder("Llama", tie_word_embeddings=False),
    "Qwen3": decoder("Qwen3", tie_word_embeddings=False),
    "Gemma2": decoder("Gemma2"),
    "Olmo2": decoder("Olmo2", tie_word_embeddings=False, initializer_range=32**-0.5),
    "Mixtral": decoder(
        "Mixtral", num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False
    ),
    "ViT": vit,
}


@cache
def _text() -> np.ndarray:
    return np.asarray(data.byte_text(TOKENS).ids)


def windows(step: int) -> dict[str, Tensor]:
    """Windows of English prose, the same for the same step and at every size."""
    starts = np.random.default_rng(step).integers(0, len(_text()) - TOKENS, WINDOWS)
    ids = torch.tensor(np.stack([_text()[s : s + TOKENS] for s in starts]).astype(np.int64))
    return {"input_ids": ids, "labels": ids}


def images(step: int) -> dict[str, Tensor]:
    """Images of digits and their labels."""
    digits = data.load_digits()
    chosen = np.random.default_rng(step).integers(0, len(digits.labels), WINDOWS)
    pixels = (digits.images[chosen].reshape(-1, 1, 8, 8) - 4.9) / 6.0
    labels = torch.tensor(digits.labels[chosen].astype(np.int64))
    return {"pixel_values": torch.tensor(pixels, dtype=torch.float32), "labels": labels}


def model_of(kind: str, config: Any) -> nn.Module:
    """The module of a family, drawn."""
    head = "ImageClassification" if kind == "ViT" else "LMHeadModel" if kind == "GPT2" else None
    return getattr(
        transformers, f"{kind}For{head or 'CausalLM'}" if kind != "GPT2" else f"{kind}{head}"
    )(config)


def factory(kind: str, first: int = 0) -> Callable[[Trial], TorchModel]:
    """A factory of one family.

    Args:
        kind: a key of `CONFIGS`.
        first: added to the seeds of trials.
    """

    def make(trial: Trial) -> TorchModel:
        torch.manual_seed(1000 * first + trial.seed)
        base, target = CONFIGS[kind](trial.base), CONFIGS[kind](trial.size)
        made = rules_for(base, target, optimizer="adamw")
        model = model_of(kind, target)
        groups = apply(model, made, lr=trial.rate)
        if kind == "Olmo2":  # its maps read the stream without a norm: tokens of unit size
            nn.init.normal_(model.get_parameter("model.embed_tokens.weight"))
        return TorchModel(
            model=model,
            optimizer=torch.optim.AdamW(groups, lr=trial.rate, betas=(0.9, 0.95)),
            batch=images if kind == "ViT" else windows,
            rules=made,
        )

    return make


def _base(kind: str) -> Size:
    grouped = None if kind in ("GPT2", "ViT") else 2
    experts = {"experts": 4, "active_experts": 2} if kind == "Mixtral" else {}
    return Size(head_dim=8, heads=4, layers=2, kv_heads=grouped, **experts)


#: The size at which a family is tuned, and its rate there.
BASES = {kind: _base(kind) for kind in CONFIGS}
RATES = {kind: 0.01 if kind == "Olmo2" else 0.003 for kind in CONFIGS}


def with_factor_in_front_of_norm(trial: Trial, first: int = 0) -> TorchModel:
    """OLMo 2 with the factor of the branches in the maps in front of norms: it does nothing."""
    torch.manual_seed(1000 * first + trial.seed)
    base, target = CONFIGS["Olmo2"](trial.base), CONFIGS["Olmo2"](trial.size)
    made = rules_for(base, target, optimizer="adamw", branch_gain=False)
    model, groups = model_of("Olmo2", target), []
    for name, role in roles(model).items():
        tensor, rule = model.get_parameter(name), made.role(role)
        if not role.is_gain:
            tensor.data.mul_(rule.init)
        groups.append(
            {"params": [tensor], "lr": trial.rate * rule.lr, "eps": 1e-8 * (rule.eps or 1)}
        )
    nn.init.normal_(model.get_parameter("model.embed_tokens.weight"))
    adam = torch.optim.AdamW(groups, lr=trial.rate, betas=(0.9, 0.95), weight_decay=0.0)
    return TorchModel(model=model, optimizer=adam, batch=windows, rules=made)


def with_router_at_base_rate(first: int) -> Callable[[Trial], TorchModel]:
    """Mixtral with its routers among the parameters that keep the rate of the base."""

    def make(trial: Trial) -> TorchModel:
        made = factory("Mixtral", first)(trial)
        (adam,) = made.optimizers
        routers = {
            id(made.model.get_parameter(n))
            for n, r in roles(made.model).items()
            if r is Role.ROUTER
        }
        for group in list(adam.param_groups):
            ours = [p for p in group["params"] if id(p) in routers]
            if ours:
                group["params"] = [p for p in group["params"] if id(p) not in routers]
                told = {k: v for k, v in group.items() if k != "params"}
                adam.add_param_group({**told, "params": ours, "lr": trial.rate})
        return made

    return make
