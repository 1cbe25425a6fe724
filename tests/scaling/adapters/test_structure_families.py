"""Names and one forward pass agree: small random models of Hugging Face, and public layouts."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from translimit.describe import Size  # noqa: E402
from translimit.examples import clients  # noqa: E402
from translimit.scaling.adapters import placed, roles, structure_of  # noqa: E402

IDS = torch.arange(12).reshape(2, 6) % 11
WIDE = {"vocab_size": 32, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
WIDE |= {"intermediate_size": 64, "max_position_embeddings": 16}
LATENTS = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
#: Class of the configuration and the model, what it is told, and what the branches are.
FAMILIES = {
    "GPT2LMHead": ("GPT2", {}, {"tied"}),
    "LlamaForCausal": ("Llama", {}, set()),
    "Qwen3ForCausal": ("Qwen3", {"head_dim": 8, "num_key_value_heads": 2}, {"qk_norm"}),
    "Gemma2ForCausal": ("Gemma2", {"head_dim": 8}, {"tied", "branch_gain"}),
    "Olmo2ForCausal": ("Olmo2", {}, {"branch_gain", "qk_norm"}),
    "MixtralForCausal": ("Mixtral", {"num_local_experts": 4, "num_key_value_heads": 2}, set()),
    "GPTNeoXForCausal": ("GPTNeoX", {}, set()),
    "DeepseekV3ForCausal": (
        "DeepseekV3",
        {
            **LATENTS,
            **ROUTED,
            "v_head_dim": 8,
            "head_dim": 4,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
        },
        set(),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_the_pass_agree(name):
    family, told, facts = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**WIDE, **told})
    model = getattr(transformers, f"{name}{'Model' if name == 'GPT2LMHead' else 'LM'}")(config)
    both = placed(model, None, IDS)
    assert both.contradictions == ()
    assert both.filled == {}
    assert {key for key, value in both.facts.items() if value and key != "packed_qkv"} == facts
    # One branch with two ends where attention and MLP are added together, else one end each.
    parallel = family == "GPTNeoX"
    assert len(both.structure.branches) == (2 if parallel else 4)
    assert all(one.parallel is parallel for one in both.structure.branches)
    assert set(both.structure.places) == set(roles(model))


def test_images_as_well():
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=8, patch_size=4, num_labels=5,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    both = placed(model, None, images)
    assert both.contradictions == ()
    assert [one.attention for one in both.structure.branches] == [True, False] * 2


@pytest.mark.parametrize("layout", ["NANOGPT", "LITGPT", "TIMM", "TORCHTITAN", "X_TRANSFORMERS"])
def test_layouts_of_public_packages_have_the_same_branches(layout):
    made = getattr(clients, layout)
    model = clients.Decoder(made, Size(head_dim=8, heads=2, layers=2))
    seen = structure_of(model, IDS)
    assert [one.ends[0] for one in seen.branches] == [
        f"{made.at(end, block)}.weight" for block in (0, 1) for end in (made.out, made.down)
    ]
    assert [one.attention for one in seen.branches] == [True, False] * 2
    assert set(seen.places) == {name for name, _ in model.named_parameters()}
