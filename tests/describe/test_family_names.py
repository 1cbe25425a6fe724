"""Every parameter of the reference classes has one role by its family's table of names.

What a role says about the shape of a matrix is checked against the sizes that the configuration is
read with.
"""

from __future__ import annotations

import re

import pytest
from tests.describe.small_classes import small_config

from translimit.describe import (
    FAMILIES,
    Attention,
    LatentAttention,
    Role,
    StackReading,
    read_stack,
)
from translimit.scaling import rules_for
from translimit.scaling.adapters import torch as adapter
from translimit.scaling.adapters.matching import matches
from translimit.scaling.adapters.names import Match, match_names
from translimit.scaling.errors import UnmatchedParameterError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LATENT_PROJECTIONS = {Role.KEY_VALUE_DOWN, Role.KEY_VALUE_UP, Role.QUERY_DOWN, Role.QUERY_UP}
#: Classes that no automatic one builds from their configuration.
OWN_CLASSES = {
    "emu3_text_model": "Emu3ForCausalLM",
    "metaclip_2_vision_model": "MetaClip2VisionModel",
    "metaclip_2_text_model": "MetaClip2TextModel",
    "siglip_text_model": "SiglipTextModel",
    "siglip2_text_model": "Siglip2TextModel",
}
HEADS = ("ForCausalLM", "ForMaskedLM", "ForImageClassification", "")


def built(name: str):
    """A class with a head where there is one, and its configuration."""
    config = small_config(name)
    if name in OWN_CLASSES:
        return getattr(transformers, OWN_CLASSES[name])(config), config
    for head in HEADS:
        try:
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
        wanted = expected(parameter, match, reading)
        if wanted is not None and len(shapes[parameter]) >= 2:
            own = shapes[parameter][-2:]
            assert own == (wanted[::-1] if match.transposed else wanted), parameter
    of_blocks = {part for match in found.values() for part in match.parts}
    latent = any(isinstance(one, LatentAttention) for one in attention(reading))
    projections = LATENT_PROJECTIONS if latent else {Role.QUERY, Role.KEY, Role.VALUE}
    assert projections | {Role.ATTENTION_OUT, Role.MLP_OUT} <= of_blocks
    assert any(role in of_blocks for role in (Role.MLP_IN, Role.MLP_GATE))
    layers = sum(Role.ATTENTION_OUT in match.parts for match in found.values())
    assert layers == reading.layers


def attention(reading: StackReading) -> list[Attention | LatentAttention]:
    """The attention branches of a stack."""
    branches = (branch for block in reading.stack.sub_blocks for branch in block.branches)
    return [one for one in branches if isinstance(one, Attention | LatentAttention)]


def expected(parameter: str, match: Match, reading: StackReading) -> tuple[int, int] | None:
    """Rows and columns of a matrix of these roles, as torch.nn.Linear stores them."""
    number = re.search(r"\.(\d+)\.", parameter)
    layers = attention(reading)
    one = layers[int(number[1]) if number else 0]
    queries = one.heads * one.head_dim
    if isinstance(one, Attention):
        keys, values = one.key_heads * one.head_dim, one.key_heads * (one.value_dim or one.head_dim)
        rows = {Role.QUERY: queries, Role.KEY: keys, Role.VALUE: values}
        if all(part in rows for part in match.parts):
            return sum(rows[part] for part in match.parts), reading.dim
    if match.role is Role.ATTENTION_OUT:
        return reading.dim, one.heads * (one.value_dim or one.head_dim)
    if isinstance(one, LatentAttention):
        turned, values = one.rope_dim, one.nope_dim + one.value_dim
        latents = {Role.KEY_VALUE_DOWN: (one.kv_rank + turned, reading.dim)}
        latents[Role.KEY_VALUE_UP] = (reading.heads * values, one.kv_rank)
        if one.query_rank is not None:
            latents[Role.QUERY_DOWN] = (one.query_rank, reading.dim)
            latents[Role.QUERY_UP] = (queries, one.query_rank)
        if match.role in latents:
            return latents[match.role]
    if match.role is Role.ROUTER:
        return 1 if "shared" in match.pattern else 4, reading.dim
    return None


def test_a_family_has_a_table_or_says_why_not() -> None:
    assert [
        name for name, one in FAMILIES.items() if (one.names is None) != bool(one.unnamed)
    ] == []
    without = [name for name, one in FAMILIES.items() if one.unnamed]
    assert len(without) == 10


def test_a_module_without_a_table_is_told_why() -> None:
    config = small_config("falcon")
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnmatchedParameterError, match="no table of falcon: it packs queries"):
        matches(model)


#: Families whose blocks the rules are for, and whose tables are their own.
RULED = ["apertus", "granite_swa", "gpt_oss", "cohere2_moe", "aria_text", "granitemoe_swa"]
RULED += ["sarvam_mla", "deepseek_v32", "emu3_text_model"]


@pytest.mark.parametrize("name", RULED)
def test_rules_are_applied_by_the_table(name: str) -> None:
    model, config = built(name)
    base = config.to_dict()
    kinds = {key: base[key] * 2 for key in ("layer_types", "mlp_layer_types") if base.get(key)}
    target = {**base, "num_hidden_layers": 2 * base["num_hidden_layers"], **kinds}
    if "mlp_layer_types" in base:  # a dense layer first, as in the base
        target["mlp_layer_types"] = [*base["mlp_layer_types"], *base["mlp_layer_types"][-1:] * 2]
    deep = type(model)(type(config).from_dict(target))
    made = rules_for(base, target, optimizer="adamw")
    groups = adapter.apply(deep, made, lr=1e-3)
    grouped = [tensor for group in groups for tensor in group["params"]]
    assert {id(one) for one in grouped} == {id(one) for one in deep.parameters()}
    of_block = {group["lr"] for group in groups}
    assert len(of_block) > 1, "depth changes the rate of a block, and of nothing else"


def test_experts_stored_the_other_way_round_start_alike() -> None:
    """Of twice the width, an expert's entries are drawn with the same factor in both layouts."""
    found = {}
    for name in ("cohere2_moe", "aria_text"):
        torch.manual_seed(0)
        model, config = built(name)
        wide = {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4}
        base = config.to_dict()
        target = {**base, **wide, "intermediate_size": 2 * base["intermediate_size"]}
        made = type(model)(type(config).from_dict(target))
        adapter.apply(made, rules_for(base, target, optimizer="adamw"), lr=1e-3)
        ends = ("experts.gate_up_proj", "experts.down_proj")
        stds = {}
        for end in ends:
            one, two = (
                [tensor for each, tensor in of.named_parameters() if each.endswith(end)][-1]
                for of in (model, made)
            )
            stds[end] = float(two.detach().std() / one.detach().std())
        found[name] = stds
    for end, ratio in found["aria_text"].items():
        assert ratio == pytest.approx(found["cohere2_moe"][end], rel=0.02)
        assert abs(ratio - 1) > 0.1
