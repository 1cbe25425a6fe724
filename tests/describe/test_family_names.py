"""Every parameter of the reference classes has one role by its family's table of names.

The classes are built of small configurations without memory for their weights. What a role says
about the shape of a matrix is checked against the sizes that the configuration is read with.
"""

from __future__ import annotations

import pytest

from translimit.describe import FAMILIES, Role, StackReading, read_stack
from translimit.scaling.adapters.names import Match, match_names

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "hidden_dim"), 96),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 32),
    **dict.fromkeys(("num_key_value_heads",), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("vocab_size", "num_experts_per_tok", "moe_intermediate_size"), 2),
    "head_dim": 16,
    "embedding_size": 64,
    "word_embed_proj_dim": 64,
    "attention_types": [[["global", "local"], 1]],
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "rotary_dim": 8,
    "image_size": 32,
    "patch_size": 16,
    "pad_token_id": 0,
}
#: Switches that add parameters.
MORE = {
    "stablelm": {"qk_layernorm": False},
    "cohere": {"use_qk_norm": True},
    "glm4_moe": {"use_qk_norm": True},
}
HEADS = ("ForCausalLM", "ForMaskedLM", "ForImageClassification", "")


def built(name: str):
    kind = transformers.CONFIG_MAPPING[name]
    mapped = getattr(kind, "attribute_map", {})
    known = {*kind().to_dict(), *mapped.values()} if name != "ministral" else {*SIZES}
    told = {key: value for key, value in SIZES.items() if key in known and key not in mapped}
    config = kind(**{**told, **MORE.get(name, {})})
    for head in HEADS:
        try:
            with torch.device("meta"):
                return getattr(transformers, f"AutoModel{head}").from_config(config), config
        except (ValueError, TypeError):  # no such class, or one that transformers cannot build
            continue
    raise AssertionError(name)


@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if one.names])
def test_every_parameter_has_a_role_whose_shape_it_has(name: str) -> None:
    model, config = built(name)
    reading, table = read_stack(config.to_dict()), FAMILIES[name].names
    assert table is not None
    shapes = {one: tuple(p.shape) for one, p in model.named_parameters(remove_duplicate=False)}
    found = match_names(table, shapes)
    for parameter, match in found.items():
        wanted = expected(match, reading)
        if wanted is not None and len(shapes[parameter]) >= 2:
            own = shapes[parameter][-2:]
            assert own == (wanted[::-1] if match.transposed else wanted), parameter
    of_blocks = {part for match in found.values() for part in match.parts}
    assert {Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUT, Role.MLP_OUT} <= of_blocks
    assert any(role in of_blocks for role in (Role.MLP_IN, Role.MLP_GATE))
    layers = sum(Role.ATTENTION_OUT in match.parts for match in found.values())
    assert layers == reading.layers


def expected(match: Match, reading: StackReading) -> tuple[int, int] | None:
    """Rows and columns of a matrix of these roles, as torch.nn.Linear stores them."""
    queries = reading.heads * reading.head_dim
    keys = reading.kv_heads * reading.head_dim
    rows = {Role.QUERY: queries, Role.KEY: keys, Role.VALUE: keys}
    if all(part in rows for part in match.parts):
        return sum(rows[part] for part in match.parts), reading.dim
    if match.role is Role.ATTENTION_OUT:
        return reading.dim, queries
    if match.role is Role.ROUTER:
        return 4, reading.dim
    if match.role is Role.READOUT_DENSE:
        return reading.dim, reading.dim
    return None
