"""Modules of families start as the rules say, however their class draws them.

A base and a target of one class are drawn, the rules are applied to the target, and its standard
deviations over those of the base are compared with the rules, role by role. The ratio of two root
mean squares of n and m Gaussian entries has the error (1 / 2n + 1 / 2m)^{1/2}.
"""

import math

import pytest
from tests.describe.small_classes import small_config
from tests.describe.test_family_names import built

from translimit.core import NoSuchLimitError
from translimit.describe import FAMILIES, Role, Size, resized_config
from translimit.scaling import read_size, rules_for
from translimit.scaling.adapters import roles
from translimit.scaling.adapters.torch import apply

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("as_user")

#: What must be said beside sizes to double a small model, and the reason.
MORE = {
    "opt": {"word_embed_proj_dim": 128},
    "granitemoeshared": {"shared_intermediate_size": 48},
    "granitemoe_swa": {"shared_intermediate_size": 48},
    "deit": {"pooler_output_size": 128},
    "dinov2": {"use_swiglu_ffn": False},
    "dinov2_with_registers": {"use_swiglu_ffn": False},
}
#: Families whose widths the rules do not double: the reason.
NOT_DOUBLED = {
    "esmc": "divides its branches by a number of layers",
    "minicpm3": "divides its branches by a number of layers",
    "mimo_v2_flash": "has layers with other numbers of key heads",
    "flint": "its first layers are dense, both of a small model's",
    "ultrabert": "its head has a fixed width",
}
QUICK = ("gpt2", "nanochat", "clip_vision_model", "dinov2", "bloom", "mixtral", "vit_mae")


def root_mean_squares(model):
    sums = {}
    told = roles(model)
    for name, tensor in model.named_parameters():
        squares, count = sums.get(told[name], (0.0, 0))
        squares += float(tensor.detach().double().pow(2).sum())
        sums[told[name]] = squares, count + tensor.numel()
    return {role: (math.sqrt(squares / count), count) for role, (squares, count) in sums.items()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, one in FAMILIES.items()
        if one.names and name not in NOT_DOUBLED
    ],
)
def test_every_role_starts_at_its_ratio(name):
    torch.manual_seed(0)
    base, config = built(name)
    if name in ("dinov2", "dinov2_with_registers"):
        config.use_swiglu_ffn = False
        base = type(base)(config)
    told = config.to_dict()
    try:
        size = read_size(told).size
    except NoSuchLimitError as refused:
        pytest.skip(str(refused))
    twice = Size(
        head_dim=size.head_dim,
        heads=2 * size.heads,
        layers=2 * size.layers,
        kv_heads=2 * (size.kv_heads or size.heads),
        mlp_ratio=size.mlp_ratio,
        experts=size.experts,
        active_experts=size.active_experts,
        dim=None if size.dim is None else 2 * size.dim,
        kv_rank=size.kv_rank,
        query_rank=size.query_rank,
        rope_dim=size.rope_dim,
        value_dim=size.value_dim,
    )
    large = {**resized_config(told, size, twice), **MORE.get(name, {})}
    kept = {k: v for k, v in large.items() if k not in ("model_type", "architectures")}
    target = type(base)(type(config)(**kept))
    rules = rules_for(told, target.config.to_dict(), optimizer="adamw")
    apply(target, rules, lr=1e-3)
    first, last = root_mean_squares(base), root_mean_squares(target)
    gains = FAMILIES[name].names
    assert gains is not None
    for role, (now, m) in last.items():
        then, n = first[role]
        if then == now == 0 or (gains.gain_offset and role.is_gain):
            continue
        error = 4.5 * math.sqrt(0.5 / n + 0.5 / m) + 0.01
        assert math.log(now / then) == pytest.approx(math.log(rules.role(role).init), abs=error), (
            role
        )


def test_attention_alone_is_drawn_smaller_with_depth_in_nanochat():
    """One factor for both ends of branches, as from GPT-2, starts one of them wrong."""
    torch.manual_seed(0)
    told = small_config("nanochat").to_dict()
    size = read_size(told).size
    deep = resized_config(told, size, Size(**{**vars(size), "layers": 8}))
    deep = {k: v for k, v in deep.items() if k not in ("model_type", "architectures")}
    target = transformers.NanoChatForCausalLM(transformers.NanoChatConfig(**deep))
    groups = apply(target, rules_for(told, target.config.to_dict(), optimizer="adamw"), lr=1e-3)
    factors = {name: one["factor"] for name, one in groups.report["parameters"].items()}
    ratio = 8 / size.layers
    assert factors["model.layers.0.self_attn.o_proj.weight"] == pytest.approx(ratio**-0.5)
    assert factors["model.layers.0.mlp.fc2.weight"] == pytest.approx(1 / ratio)


def test_scales_of_layers_take_the_factor_of_the_branch():
    """DINOv2: what a branch ends in is a gain of its own, read from the configuration."""

    def config(layers):
        return transformers.Dinov2Config(
            hidden_size=16,
            num_attention_heads=2,
            num_hidden_layers=layers,
            image_size=16,
            patch_size=4,
        )

    rules = rules_for(config(2), config(8), optimizer="adamw")
    assert rules.question.branch_gain
    for kind in (transformers.Dinov2Model, transformers.Dinov2ForImageClassification):
        for example in (None, {"pixel_values": torch.randn(2, 3, 16, 16)}):
            target = kind(config(8))
            groups = apply(target, rules, lr=1e-3, example=example)
            for name, one in groups.report["parameters"].items():
                if one["role"] == Role.BRANCH_GAIN.value:
                    assert (one["factor"], name.rpartition(".")[2]) == (0.25, "lambda1")
                if one["role"] == Role.MLP_OUT.value:
                    assert one["factor"] == 1
