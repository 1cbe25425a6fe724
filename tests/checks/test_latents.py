"""Coordinate checks of attention with latents: DeepSeek-V3 of Hugging Face, along the heads."""

import pytest

from translimit.checks import coordinate_check
from translimit.core import Verdict
from translimit.describe import Size

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from translimit.examples import small_models  # noqa: E402

BASE = Size(
    head_dim=12,
    heads=2,
    layers=2,
    dim=16,
    mlp_ratio=2,
    kv_rank=8,
    query_rank=12,
    rope_dim=4,
    value_dim=8,
)


def deepseek(trial, wrong: float = 0.0):
    """Dense layers; with `wrong` the rate of the maps up is off by m_d to a power."""
    torch.manual_seed(trial.seed)
    size = trial.size
    config = transformers.DeepseekV3Config(
        vocab_size=256,
        hidden_size=size.width,
        intermediate_size=int(size.mlp_ratio * size.width),
        num_hidden_layers=size.layers,
        first_k_dense_replace=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        kv_lora_rank=size.kv_rank,
        q_lora_rank=size.query_rank,
        qk_rope_head_dim=size.rope_dim,
        qk_nope_head_dim=size.head_dim - size.rope_dim,
        v_head_dim=size.values,
        max_position_embeddings=small_models.TOKENS,
        initializer_range=trial.base.width**-0.5,
        rope_scaling=None,
        tie_word_embeddings=False,
    )
    model = transformers.DeepseekV3ForCausalLM(config)
    tables = (model.model.embed_tokens.weight, model.lm_head.weight)
    made = small_models.finished(model, trial, tables)
    for group in made.optimizer.param_groups:
        if set(group["roles"]) & {"query_up", "key_value_up"}:
            group["lr"] *= (size.width / trial.base.width) ** wrong
    return made


def checked(wrong: float = 0.0):
    return coordinate_check(
        lambda trial: deepseek(trial, wrong),
        "heads",
        (2, 4, 8, 16),
        base=BASE,
        rate=0.01,
        seeds=3,
        steps=(0, 1, 2, 5),
        larger=False,
    )


@pytest.mark.slow
def test_maps_of_latents_are_judged_and_a_wrong_rate_is_named() -> None:
    right, wrong = checked(), checked(-1.0)
    assert right.overall() is not Verdict.refuted
    for role in ("query_up", "key_value_up", "query_down", "key_value_down"):
        assert right.verdict(f"start of {role}", 0, 0.25) is Verdict.supported
        assert abs(right.exponent(f"update of {role}", 2).value) < 0.25
    assert wrong.overall() is Verdict.refuted
    assert wrong.exponent("update of key_value_up", 2).value < -0.75
    assert any("key_value_up" in place for place in wrong.refuted())
