"""What a module does with what `apply` writes: norms behind projections, scales, stored gains.

Models of the structure of public packages, and small random ones of Hugging Face.
"""

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from translimit.core import ArgumentError  # noqa: E402
from translimit.scaling import (  # noqa: E402
    Role,
    ShapeMismatchError,
    Size,
    UnmatchedParameterError,
    UnsupportedModuleError,
    rules,
    rules_for,
)
from translimit.scaling.adapters import roles  # noqa: E402
from translimit.scaling.adapters import torch as adapter  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=8, heads=2, layers=1, mlp_ratio=2)
TARGET = Size(head_dim=16, heads=4, layers=4, mlp_ratio=2)
IDS = torch.arange(12).reshape(2, 6) % 11


class Attend(nn.Module):
    """The product of queries and keys apart, as x-transformers has it."""

    def __init__(self, scale, fixed):
        super().__init__()
        self.scale, self.fixed = scale, fixed

    def forward(self, q, k, v):
        scale = q.shape[-1] ** -0.5 if self.fixed else self.scale
        return torch.softmax(scale * q @ k.transpose(-2, -1), -1) @ v


class Attention(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d = size.width
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.heads, self.scale = size.heads, size.head_dim**-0.5
        if kind in ("inner", "unread"):
            self.attend = Attend(self.scale if kind == "inner" else 1.0, kind == "unread")
        else:
            self.attend = None

    def forward(self, x):
        q, k, v = (
            m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.q, self.k, self.v)
        )
        if self.attend is None:
            out = torch.softmax(self.scale * q @ k.transpose(-2, -1), -1) @ v
        else:
            out = self.attend(q, k, v)
        return self.o(out.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d, hidden = size.width, int(size.width * size.mlp_ratio)
        self.attention_norm, self.mlp_norm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.attn = Attention(size, kind)
        self.mlp = nn.ModuleDict(
            {
                "up": nn.Linear(d, hidden, bias=False),
                "down": nn.Linear(hidden, d, bias=False),
            }
        )
        self.kind = kind
        if kind == "peri":
            self.after_attention, self.after_mlp = nn.RMSNorm(d), nn.RMSNorm(d)

    def forward(self, x):
        one = self.attn(self.attention_norm(x))
        x = x + (self.after_attention(one) if self.kind == "peri" else one)
        other = self.mlp["down"](torch.tanh(self.mlp["up"](self.mlp_norm(x))))
        return x + (self.after_mlp(other) if self.kind == "peri" else other)


class Decoder(nn.Module):
    """Kinds: `plain`; `inner` and `unread`, whose scores have a module; `peri`, with end norms."""

    def __init__(self, size, kind="plain", ends=1.0):
        super().__init__()
        self.embed = nn.Embedding(11, size.width)
        self.blocks = nn.ModuleList(Block(size, kind) for _ in range(size.layers))
        self.norm, self.head = nn.RMSNorm(size.width), nn.Linear(size.width, 11, bias=False)
        for name, tensor in self.named_parameters():
            if tensor.ndim == 2:
                end = ends if name.endswith(("attn.o.weight", "mlp.down.weight")) else 1.0
                nn.init.normal_(tensor, std=0.1 * end)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def built(kind="plain", size=TARGET, ends=1.0):
    torch.manual_seed(0)
    return Decoder(size, kind, ends)


def asked(**options):
    return rules(BASE, TARGET, **{"optimizer": "adamw", "style": "folded", **options})


def test_a_scale_that_nothing_reads_is_refused_and_one_inside_is_set():
    inner = built("inner")
    adapter.apply(inner, asked(), lr=0.01, example=IDS)
    wanted = asked().score_scale
    assert {block.attn.attend.scale for block in inner.blocks} == {wanted}
    assert {block.attn.scale for block in inner.blocks} == {wanted}
    unread = built("unread")
    before = copy.deepcopy(unread.state_dict())
    with pytest.raises(UnsupportedModuleError, match=r"blocks.0.attn.scale: does not change the"):
        adapter.apply(unread, asked(), lr=0.01, example=IDS)
    assert all(torch.equal(before[name], one) for name, one in unread.state_dict().items())
    assert {block.attn.scale for block in unread.blocks} == {TARGET.head_dim**-0.5}
    # Without an example it is said that nobody looked.
    said = adapter.apply(unread, asked(), lr=0.01).report["warnings"]
    assert "was found by its name: pass example=" in said[-1]


def test_a_scale_that_the_constructor_has_set():
    model = built("unread")
    told = adapter.apply(model, asked(), lr=0.01, scores_set=True).report
    assert told["scales"] == {}
    assert "must have the scale 0.176777" in told["warnings"][-1]


def test_a_factor_in_front_of_a_norm_is_refused_and_belongs_into_its_gain():
    """The norm is seen by what it does, at a width where its epsilon hides nothing."""
    ends = {"blocks.*.{after_attention,after_mlp}.weight": "block_norm_gain"}
    with pytest.raises(UnsupportedModuleError) as refused:
        adapter.apply(built("peri"), asked(), lr=0.01, names=ends, example=IDS)
    assert "blocks.*.attn.o.weight: does not change the output with its size" in str(refused.value)
    gains = dict.fromkeys(ends, "branch_gain")
    with pytest.raises(UnsupportedModuleError, match="branch_gain: is False in the rules"):
        adapter.apply(built("peri"), asked(), lr=0.01, names=gains)
    right = asked(branch_gain=True)
    model = built("peri")
    groups = adapter.apply(model, right, lr=0.01, names=gains, example=IDS)
    told = groups.report["parameters"]
    assert told["blocks.2.after_mlp.weight"]["factor"] == 0.25
    assert told["blocks.2.mlp.down.weight"]["factor"] == 0.5  # of the width alone
    with pytest.raises(UnsupportedModuleError, match="no parameter is a branch_gain"):
        adapter.apply(built(), right, lr=0.01)


def test_the_ends_of_branches_are_seen_to_be_drawn_smaller():
    """As nanoGPT draws them, (2 L)^(-1/2): a quarter of the factor is there already."""
    ends = (2 * TARGET.layers) ** -0.5
    expected = asked().role("attention_out").init / (TARGET.layers / BASE.layers) ** -0.5
    for start in ("fixed", "auto"):
        told = adapter.apply(built(ends=ends), asked(), lr=0.01, start=start).report
        assert told["parameters"]["blocks.0.attn.o.weight"]["factor"] == expected
        assert told["parameters"]["blocks.0.attn.q.weight"]["factor"] == 0.5
    plain = adapter.apply(built(), asked(), lr=0.01, start="fixed").report
    assert plain["parameters"]["blocks.0.attn.o.weight"]["factor"] == 0.125


def test_decay_that_the_rate_does_not_multiply_is_not_torchs():
    independent = asked(decay="independent")
    with pytest.raises(ArgumentError, match="whose rate multiplies the decay"):
        adapter.apply(built(), independent, lr=0.01, optimizer=torch.optim.AdamW)
    adapter.apply(built(), asked(), lr=0.01, optimizer=torch.optim.AdamW)


def test_names_stop_at_blocks_and_at_the_root():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.ModuleDict({"head": nn.Linear(4, 4, bias=False)})])
            self.head = nn.Linear(4, 4, bias=False)

    with pytest.raises(UnmatchedParameterError, match=r"blocks\.0\.head\.weight"):
        roles(Odd())
    found = roles(Odd(), {"^head.weight": "readout", "head.weight": "mlp_in"})
    assert found == {"blocks.0.head.weight": Role.MLP_IN, "head.weight": Role.READOUT}


@pytest.mark.parametrize(
    ("name", "role"),
    [("gate.0.router", "router"), ("out_norm", "final_norm_gain"), ("lambda_attn", "branch_gain")],
)
def test_hints_name_a_role_that_fits(name, role):
    model = nn.Module()
    inner = model
    for part in name.split(".")[:-1]:
        inner.add_module(part, nn.Module())
        inner = getattr(inner, part)
    inner.add_module(name.rpartition(".")[2], nn.Linear(3, 3, bias=False))
    with pytest.raises(UnmatchedParameterError, match=f"{role!r}}}, with the role that it has"):
        roles(model)


def test_a_matrix_that_is_stored_the_other_way_round_is_told():
    model = built()
    for block in model.blocks:
        up = block.mlp["up"]
        up.weight = nn.Parameter(up.weight.T.clone())
    with pytest.raises(ShapeMismatchError, match="is stored the other way round"):
        adapter.apply(model, asked(), lr=0.01)


# Small random models of Hugging Face.


def config(kind, n, h, layers, **more):
    transformers = pytest.importorskip("transformers")
    told = {
        "hidden_size": n * h,
        "num_attention_heads": h,
        "num_key_value_heads": h // 2,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * n * h,
        "vocab_size": 11,
        "max_position_embeddings": 16,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    if kind in ("Gemma", "Gemma2", "Qwen3"):
        told["head_dim"] = n
    if kind == "Gemma2":
        told["query_pre_attn_scalar"] = n
    if kind == "Mixtral":
        told |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    return getattr(transformers, f"{kind}Config")(**told, **more)


def model_of(kind, made):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(made)


#: Factors at m_d = 4 and m_L = 3: of the ends of branches, their gains, the final gain, a token.
FACTORS = {
    "Gemma": (0.5 / 3, 1.0, 0.5, 0.5),
    "Gemma2": (0.5, 1 / 3, 0.5, 0.5),
    "Olmo2": (0.5, 1 / 3, 1.0, 1.0),
    "Mixtral": (0.5 / 3, 1.0, 1.0, 1.0),
    "Qwen3": (0.5 / 3, 1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("kind", FACTORS)
def test_families_with_norms_experts_and_stored_gains(kind):
    base, target = config(kind, 8, 2, 1), config(kind, 16, 4, 3)
    made = rules_for(base, target, optimizer="adamw")
    model = model_of(kind, target)
    report = adapter.apply(model, made, lr=0.01, example={"input_ids": IDS}).report
    end, gain, final, token = FACTORS[kind]
    told = {name: one["factor"] for name, one in report["parameters"].items()}
    assert told["model.layers.1.self_attn.o_proj.weight"] == pytest.approx(end)
    assert told["model.layers.1.post_attention_layernorm.weight"] == pytest.approx(gain)
    assert told["model.norm.weight"] == pytest.approx(final)
    assert told["model.embed_tokens.weight"] == pytest.approx(token)
    found = roles(model)
    if kind == "Mixtral":
        assert found["model.layers.0.mlp.gate.weight"] is Role.ROUTER
        assert found["model.layers.0.mlp.experts.gate_up_proj"] is Role.EXPERT_IN
        assert found["model.layers.0.mlp.experts.down_proj"] is Role.EXPERT_OUT
    if kind == "Qwen3":
        assert found["model.layers.0.self_attn.k_norm.weight"] is Role.QK_GAIN_SHARED
    if kind == "Olmo2":
        assert found["model.layers.0.self_attn.k_norm.weight"] is Role.KEY_NORM_GAIN
    if "Gemma" in kind:  # stored as w, used as 1 + w
        assert torch.all(1 + model.model.norm.weight == final)


def test_gemma_under_another_name_is_refused_by_its_gains():
    base, target = config("Gemma", 8, 2, 1), config("Gemma", 16, 4, 3)
    made = rules_for(base, target, optimizer="adamw")
    with pytest.raises(UnsupportedModuleError, match="is a gain of zeros"):
        adapter.apply(model_of("Gemma", target), made, lr=0.01, names="llama")


def test_rules_for_another_kind_of_module_are_refused():
    base, target = config("Olmo2", 8, 2, 1), config("Olmo2", 16, 4, 3)
    made = rules_for(base, target, optimizer="adamw", branch_gain=False)
    with pytest.raises(UnsupportedModuleError, match="ends its branches in gains"):
        adapter.apply(model_of("Olmo2", target), made, lr=0.01)
    base, target = config("Mixtral", 8, 2, 1), config("Mixtral", 16, 4, 3)
    sizes = [Size(head_dim=n, heads=h, layers=c, kv_heads=h // 2, mlp_ratio=2)
             for n, h, c in ((8, 2, 1), (16, 4, 3))]  # fmt: skip
    made = rules(*sizes, optimizer="adamw", style="folded")
    with pytest.raises(ShapeMismatchError, match="experts: are in the module and not in the sizes"):
        adapter.apply(model_of("Mixtral", target), made, lr=0.01)


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_a_published_module_has_the_scale_in_its_queries(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    if kind == "Llama":
        base, target = config(kind, 8, 2, 1), config(kind, 16, 4, 3)
        model = model_of(kind, target)
    else:
        base, target = (
            transformers.GPT2Config(n_embd=d, n_head=h, n_layer=2, vocab_size=11, n_positions=8,
                                    bos_token_id=0, eos_token_id=0)
            for d, h in ((16, 2), (64, 4))
        )  # fmt: skip
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(target)
    model.eval()
    groups = adapter.apply(model, rules_for(base, target, optimizer="adamw"), lr=0.01)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(1.5)  # so that the scores matter
    inputs = {"input_ids": IDS, "labels": IDS}
    trained = model(**inputs).loss.item()
    model.save_pretrained(tmp_path / "lost")
    adapter.bake_scores(model, groups)
    assert model(**inputs).loss.item() == pytest.approx(trained, abs=1e-6)
    model.save_pretrained(tmp_path / "kept")
    lost, kept = (type(model).from_pretrained(tmp_path / name).eval() for name in ("lost", "kept"))
    assert kept(**inputs).loss.item() == pytest.approx(trained, abs=1e-6)
    assert abs(lost(**inputs).loss.item() - trained) > 1e-5
