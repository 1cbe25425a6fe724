"""The rules in plain modules of PyTorch: roles, starts, scales, groups, and what is refused."""

import copy
import json
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from translimit.checks import find_places  # noqa: E402
from translimit.core import (  # noqa: E402
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    MissingExtraError,
)
from translimit.describe import NameTable  # noqa: E402
from translimit.scaling import (  # noqa: E402
    AlreadyAppliedError,
    AmbiguousRuleError,
    ConversionError,
    DegenerateInitError,
    Role,
    Rules,
    ShapeMismatchError,
    Size,
    UnmatchedParameterError,
    UnsupportedModuleError,
    rules,
)
from translimit.scaling.adapters import PLAIN, bare_name, match_names, matches, roles  # noqa: E402
from translimit.scaling.adapters import torch as adapter  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_user")
nn, functional = torch.nn, torch.nn.functional

BASE = Size(head_dim=8, heads=2, layers=1, mlp_ratio=2)
TARGET = Size(head_dim=16, heads=4, layers=4, mlp_ratio=2)
M_N, M_D, M_L = 2, 4, 4
VOCABULARY, TOKENS = 13, 5


class Attention(nn.Module):
    def __init__(self, size, scale):
        super().__init__()
        self.size = size
        self.q, self.k, self.v, self.o = (nn.Linear(size.width, size.width) for _ in range(4))
        if scale is not None:
            setattr(self, scale, size.head_dim**-0.5)

    def forward(self, h):
        q, k, v = (
            map_(h).unflatten(-1, (self.size.heads, -1)).transpose(1, 2)
            for map_ in (self.q, self.k, self.v)
        )
        scale = getattr(self, "scaling", None)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return self.o(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, size, scale):
        super().__init__()
        hidden = int(size.width * size.mlp_ratio)
        self.ln1, self.ln2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attn = Attention(size, scale)
        self.mlp = nn.ModuleDict(
            {"up": nn.Linear(size.width, hidden), "down": nn.Linear(hidden, size.width)}
        )

    def forward(self, h):
        h = h + self.attn(self.ln1(h))
        return h + self.mlp["down"](functional.gelu(self.mlp["up"](self.ln2(h))))


class Model(nn.Module):
    def __init__(self, size, scale="scaling"):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, size.width)
        self.blocks = nn.ModuleList([Block(size, scale) for _ in range(size.layers)])
        self.norm = nn.LayerNorm(size.width)
        self.readout = nn.Linear(size.width, VOCABULARY, bias=False)

    def forward(self, tokens):
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(h)
        return self.readout(self.norm(h))


def built(size=TARGET, scale="scaling", seed=0):
    torch.manual_seed(seed)
    return Model(size, scale)


def asked(**options):
    told = {"optimizer": "adamw", "style": "folded", **options}
    return rules(told.pop("base", BASE), told.pop("target", TARGET), **told)


def batch():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(VOCABULARY, (4, TOKENS + 1), generator=generator)


def train(model, optimizer, steps):
    found = []
    for _ in range(steps):
        tokens = batch()
        loss = functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


# Names.


def test_every_parameter_has_one_role():
    found = roles(built())
    assert found["blocks.3.attn.q.weight"] is Role.QUERY
    assert found["blocks.0.mlp.down.bias"] is Role.MLP_OUT_BIAS
    assert found["norm.weight"] is Role.FINAL_NORM_GAIN
    assert found["blocks.1.ln2.bias"] is Role.BLOCK_NORM_BIAS
    assert len(found) == len(dict(built().named_parameters()))


def test_places_are_found_in_the_order_of_the_layers():
    model = built()
    found = find_places(model, {name: one.parts for name, one in matches(model).items()})
    assert found.blocks == tuple(f"blocks.{i}" for i in range(4))
    assert found.attentions == tuple(f"blocks.{i}.attn" for i in range(4))
    assert found.maps[Role.QUERY][2] == "blocks.2.attn.q"
    assert found.readout == "readout"
    assert not found.packed


def test_names_lose_what_wrappers_put_into_them():
    assert bare_name("module._orig_mod.blocks.0._fsdp_wrapped_module.attn.q.weight") == (
        "blocks.0.attn.q.weight"
    )
    wrapped = torch.compile(built(), backend="eager")
    assert {bare_name(name) for name in roles(wrapped)} == set(roles(built()))


def test_users_extend_the_table():
    model = built()
    model.extra = nn.Linear(4, 4)
    with pytest.raises(UnmatchedParameterError) as refused:
        roles(model)
    assert "extra.weight, extra.bias" in str(refused.value)
    assert "pass names={pattern: role}" in str(refused.value)
    found = roles(model, {"extra.weight": "mlp_in", "extra.bias": Role.MLP_IN_BIAS})
    assert found["extra.weight"] is Role.MLP_IN
    # What the user says stands above the table of the family.
    assert (
        roles(model, {"extra.{weight,bias}": "readout", "norm.weight": "block_norm_gain"})[
            "norm.weight"
        ]
        is Role.BLOCK_NORM_GAIN
    )


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (
            {"nothing.weight": "query"},
            UnmatchedParameterError,
            "no parameter matches: nothing.weight",
        ),
        ({"q.weight": "qeury"}, ArgumentError, "did you mean 'query'"),
        ({"": "query"}, ArgumentError, "empty pattern"),
        ({3: "query"}, ArgumentTypeError, "has the key 3"),
        ("gpt3", ArgumentError, "did you mean 'gpt"),
        ("bert", UnsupportedModuleError, "post-LN"),
        (3, ArgumentTypeError, "got 3"),
        ({"attn.q.weight": "query", "q.weight": "key"}, AmbiguousRuleError, "has two roles"),
        (
            NameTable("own", {"q.weight": Role.QUERY}),
            UnmatchedParameterError,
            "has no role for 64 of 68 parameters",
        ),
        (NameTable("own", {"q.weight": Role.QUERY}), UnmatchedParameterError, "table 'own'"),
    ],
)
def test_tables_that_do_not_fit(names, kind, message):
    with pytest.raises(kind) as refused:
        roles(built(), names)
    assert message in str(refused.value)
    assert isinstance(refused.value, ValueError)


def test_modules_that_do_not_fit_are_named(monkeypatch):
    own = NameTable("own", {"q.weight": Role.QUERY})
    with pytest.raises(UnmatchedParameterError, match="flattened the parameters; use FSDP"):
        match_names(own, ["_fsdp_wrapped_module._flat_param"])
    model = built()
    model.blocks[1].attn.head_dim = 5
    with pytest.raises(ShapeMismatchError, match=r"1.attn: has heads of 5, and the target of 16"):
        adapter.apply(model, asked(), lr=1e-2)
    table = replace(PLAIN, attention=("blocks.0.attn",))
    with pytest.raises(UnsupportedModuleError, match="found modules of attention in 1 of 4 layer"):
        adapter.apply(built(), asked(), lr=1e-2, names=table)
    model = built()
    nn.init.zeros_(model.readout.weight)
    with pytest.raises(
        ShapeMismatchError, match=r"readout.weight: starts at zero, and in the base"
    ):
        adapter.apply(model, asked(), lr=1e-2, base=built(BASE))
    with pytest.raises(ArgumentError, match="groups that `apply` did not make; build it with thos"):
        adapter.require_ratios(torch.optim.SGD(model.parameters(), lr=0.1))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"torch is not installed; .*translimit\[torch\]"):
        adapter.apply(model, asked(), lr=1e-2)


def test_one_tensor_with_two_roles_is_refused():
    model = built()
    model.blocks[0].attn.k.weight = model.blocks[0].attn.q.weight
    with pytest.raises(AmbiguousRuleError, match="are one tensor"):
        roles(model)


# What is applied: against the tables of docs/scaling.md, written out by hand.


def test_starts_and_groups_are_those_of_the_tables():
    fresh, model = built(), built()
    groups = adapter.apply(model, asked(), lr=1e-2, eps=1e-6, weight_decay=0.1)
    assert groups.report["start"] == "fan_in"
    # torch.nn.Linear has its n_in^{-1/2} already; the ends of branches lack m_L^{-1}, the readout
    # m_d^{-1/2}; biases were drawn by fan-in and shall not shrink with it.
    wanted = {
        "embed.weight": (1, 1, 1 / M_D, 1),
        "attn.q.weight": (1, 1 / M_D, 1 / (M_D * M_L), M_D),
        "attn.v.weight": (1, 1 / M_D, 1 / (M_D * M_L), M_D),
        "attn.q.bias": (M_D**0.5, 1, 1 / (M_D * M_L), None),
        "attn.o.weight": (1 / M_L, 1 / (M_D * M_L), 1 / M_D, M_D * M_L),
        "attn.o.bias": (M_D**0.5 / M_L, 1 / M_L, 1 / M_D, None),
        "mlp.up.weight": (1, 1 / M_D, 1 / (M_D * M_L), M_D),
        "mlp.down.weight": (1 / M_L, 1 / (M_D * M_L), 1 / M_D, M_D * M_L),
        "ln1.weight": (1, 1, 1 / (M_D * M_L), None),
        "norm.weight": (1, 1, 1 / M_D, None),
        "readout.weight": (M_D**-0.5, 1 / M_D, 1, M_D),
    }
    before = dict(fresh.named_parameters())
    told = {name: group for group in groups for name in group["names"]}
    for name, tensor in model.named_parameters():
        ending = next((key for key in wanted if name.endswith(key)), None)
        if ending is None:
            continue
        factor, lr, eps, decay = wanted[ending]
        torch.testing.assert_close(tensor, factor * before[name], rtol=1e-6, atol=0)
        assert told[name]["lr"] == pytest.approx(1e-2 * lr)
        assert told[name]["eps"] == pytest.approx(1e-6 * eps)
        assert told[name]["weight_decay"] == pytest.approx(0.1 * decay if decay else 0)
    for block in model.blocks:
        assert block.attn.scaling == pytest.approx(8**-0.5 / M_N)
    listed = [tensor for group in groups for tensor in group["params"]]
    assert len({id(tensor) for tensor in listed}) == len(before) == len(listed)


def test_at_the_base_nothing_changes():
    fresh, model = built(), built()
    groups = adapter.apply(model, asked(base=TARGET), lr=3e-4, weight_decay=0.1, decay_vectors=True)
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, dict(fresh.named_parameters())[name])
    assert {group["lr"] for group in groups} == {3e-4}
    assert len(groups) == 1
    assert model.blocks[0].attn.scaling == 16**-0.5


def test_nothing_is_attached_and_copies_train_alike():
    model = built()
    before = {name: set(vars(tensor)) for name, tensor in model.named_parameters()}
    modules = {name: set(vars(module)) for name, module in model.named_modules()}
    rules_ = asked()
    groups = adapter.apply(model, rules_, lr=1e-2)
    assert {name: set(vars(tensor)) for name, tensor in model.named_parameters()} == before
    assert {name: set(vars(module)) for name, module in model.named_modules()} == modules
    other = copy.deepcopy(model)
    again = adapter.apply(other, rules_, lr=1e-2, report=groups.report)
    one = train(model, torch.optim.AdamW(groups), 3)
    assert one == train(other, torch.optim.AdamW(again), 3)


def test_training_resumes_from_state_dicts_and_the_report(tmp_path):
    model, rules_ = built(), asked()
    groups = adapter.apply(model, rules_, lr=1e-2, weight_decay=0.1)
    groups.save(tmp_path / "report.json")
    optimizer = torch.optim.AdamW(groups)
    train(model, optimizer, 2)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")
    whole = train(model, optimizer, 2)

    fresh = built(seed=7)
    saved = torch.load(tmp_path / "c", weights_only=True)
    fresh.load_state_dict(saved["model"])
    report = json.loads((tmp_path / "report.json").read_text())
    read = Rules.from_json(report["rules"])
    again = adapter.apply(fresh, read, lr=1e-2, weight_decay=0.1, report=tmp_path / "report.json")
    resumed = torch.optim.AdamW(again)
    resumed.load_state_dict(saved["optimizer"])
    assert train(fresh, resumed, 2) == whole
    adapter.require_ratios(resumed)


def test_a_compiled_module_trains_as_the_plain_one():
    plain, inner = built(), built()
    wrapped = torch.compile(inner, backend="eager")
    one = train(plain, torch.optim.AdamW(adapter.apply(plain, asked(), lr=1e-2)), 2)
    other = train(wrapped, torch.optim.AdamW(adapter.apply(wrapped, asked(), lr=1e-2)), 2)
    assert one == pytest.approx(other, rel=1e-6)
    with pytest.raises(AlreadyAppliedError):
        adapter.apply(inner, asked(), lr=1e-2)


def test_schedulers_multiply_and_what_sets_rates_is_found():
    groups = adapter.apply(built(), asked(), lr=1e-2)
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    schedule.step()
    adapter.require_ratios(optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * groups[0]["lr_ratio"] * 1e-2)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    with pytest.raises(ArgumentError, match="multiplies the rates of all groups"):
        adapter.require_ratios(optimizer)


def test_a_base_module_or_its_spread_may_tell_the_start():
    def unusual(size):
        model = built(size)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if name.endswith("attn.o.weight"):
                    tensor.mul_(0.37 * size.width)  # a scale that no table knows
        return model

    model = unusual(TARGET)
    with pytest.raises(ArgumentError, match="cannot tell how the weights were drawn"):
        adapter.apply(model, asked(), lr=1e-2)
    base = unusual(BASE)
    adapter.apply(model, asked(), lr=1e-2, base=base)

    def spread(module, ending):
        found = [w for name, w in module.named_parameters() if name.endswith(ending)]
        return torch.cat([w.flatten() for w in found]).std().item()

    for ending, ratio in (("attn.o.weight", M_D**-0.5 / M_L), ("attn.q.weight", M_D**-0.5)):
        # Matrices of the base have 256 entries: 5 standard errors of their standard deviation.
        assert spread(model, ending) / spread(base, ending) == pytest.approx(ratio, rel=0.22)


def test_a_seed_draws_again():
    made = []
    for construction in (0, 1):
        model = built(seed=construction)
        adapter.apply(model, asked(), lr=1e-2, seed=5)
        made.append(model.blocks[1].attn.q.weight)
    # The same noise; the spread is that of the weights that were there.
    assert torch.corrcoef(torch.stack([one.flatten() for one in made]))[0, 1] > 0.9999
    assert made[0].std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.05)


def test_muon_takes_matrices_and_adam_the_rest():
    groups = adapter.apply(built(), asked(optimizer="muon"), lr=0.02, adam_lr=1e-3)
    matrices = [name for group in groups.of("orthogonal") for name in group["names"]]
    assert len(matrices) == 6 * TARGET.layers
    for group in groups.of("orthogonal"):  # no width factor; the ends of branches have theta
        ends = group["roles"] == ["attention_out", "mlp_out"]
        assert group["lr"] == pytest.approx(0.02 / M_L if ends else 0.02)
    muon = torch.optim.Muon(groups.of("orthogonal"), adjust_lr_fn="original")
    adam = torch.optim.AdamW(groups.of("adam"))
    adapter.require_ratios(muon)
    adapter.require_ratios(adam)


def test_sgd_rates():
    groups = adapter.apply(built(), asked(optimizer="momentum"), lr=0.1, optimizer=torch.optim.SGD)
    rates = {role: group["lr"] for group in groups for role in group["roles"]}
    assert rates["query"] == pytest.approx(0.1 * M_L)
    assert rates["attention_out"] == pytest.approx(0.1 / M_L)
    assert rates["token_embedding"] == pytest.approx(0.1 * M_D)
    assert rates["readout"] == pytest.approx(0.1 / M_D)
    assert all("eps" not in group for group in groups)


def test_scores_are_folded_where_the_module_has_no_scale():
    fixed = built(scale=None)
    with pytest.raises(UnsupportedModuleError, match="pass fold_scores=True"):
        adapter.apply(fixed, asked(), lr=1e-2)
    before = fixed.blocks[0].attn.q.weight.detach().clone()
    groups = adapter.apply(fixed, asked(fold_scores=True), lr=1e-2)
    kappa = 8**-0.5 / M_N * 16**0.5
    torch.testing.assert_close(fixed.blocks[0].attn.q.weight, kappa * before)
    rates = {role: group["lr"] for group in groups for role in group["roles"]}
    assert rates["query"] == pytest.approx(1e-2 * kappa / M_D)
    # The same network as with the attribute.
    other = built()
    adapter.apply(other, asked(), lr=1e-2)
    tokens = batch()
    torch.testing.assert_close(fixed(tokens), other(tokens), rtol=1e-4, atol=1e-6)


class Encoder(nn.Module):
    """Patches, learned positions, and a readout with a bias."""

    def __init__(self, size):
        super().__init__()
        self.patch_embedding = nn.Linear(6, size.width)
        self.positions = nn.Parameter(0.5 * torch.randn(TOKENS, size.width))
        self.blocks = nn.ModuleList([Block(size, "scaling") for _ in range(size.layers)])
        self.final_norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, 3)


def test_what_maps_from_pixels_keeps_its_start():
    torch.manual_seed(0)
    fresh = Encoder(TARGET)
    model = copy.deepcopy(fresh)
    adapter.apply(model, asked(), lr=1e-2)
    for name in ("patch_embedding.weight", "patch_embedding.bias", "positions"):
        assert torch.equal(model.get_parameter(name), fresh.get_parameter(name))
    for name, factor in (("head.weight", M_D**-0.5), ("head.bias", M_D**0.5)):
        torch.testing.assert_close(model.get_parameter(name), factor * fresh.get_parameter(name))


def test_half_precision_is_remarked_upon():
    report = adapter.apply(built().bfloat16(), asked(), lr=1e-2).report
    assert "need float32 weights" in report["warnings"][-1]


class Packed(nn.Module):
    """torch.nn.MultiheadAttention in pre-LN blocks."""

    def __init__(self, size, norm_first=True):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, size.width)
        hidden = int(size.width * size.mlp_ratio)
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(
                    size.width, size.heads, hidden, batch_first=True, norm_first=norm_first
                )
                for _ in range(size.layers)
            ]
        )
        self.final_norm = nn.LayerNorm(size.width)
        self.readout = nn.Linear(size.width, VOCABULARY)


def test_multihead_attention_only_at_the_head_dimension_of_the_base():
    with pytest.raises(UnsupportedModuleError, match=r"split it into three torch\.nn\.Linear"):
        adapter.apply(Packed(TARGET), asked(), lr=1e-2)
    heads = Size(head_dim=8, heads=8, layers=2, mlp_ratio=2)
    groups = adapter.apply(Packed(heads), asked(target=heads), lr=1e-2)
    assert groups.report["parameters"]["layers.1.self_attn.in_proj_weight"]["packed"]
    assert groups.report["start"] == "fan_in"
    with pytest.raises(UnsupportedModuleError, match="normalises after the residual sum"):
        adapter.apply(Packed(heads, norm_first=False), asked(target=heads), lr=1e-2)


class Wider(Model):
    def __init__(self):
        super().__init__(TARGET)
        self.blocks[0].mlp["up"] = nn.Linear(64, 96)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"style": "canonical"}, UnsupportedModuleError, 'use style="folded"'),
        ({"style": "single_lr"}, UnsupportedModuleError, 'use style="folded"'),
        ({"target": Size(head_dim=16, heads=4, layers=3, mlp_ratio=2)}, ShapeMismatchError, "4"),
        (
            {"target": Size(head_dim=32, heads=4, layers=4, mlp_ratio=2)},
            ShapeMismatchError,
            "embed.weight: has shape (13, 64)",
        ),
        (
            {
                "target": Size(head_dim=16, heads=4, layers=4, mlp_ratio=3),
                "change_mlp_ratio": True,
            },
            ShapeMismatchError,
            "mlp.up.weight",
        ),
        (
            {"target": Size(head_dim=16, heads=4, layers=4, kv_heads=2, mlp_ratio=2)},
            ShapeMismatchError,
            "attn.k.weight",
        ),
        ({"tied": True}, UnsupportedModuleError, "pass tied=False"),
    ],
)
def test_rules_that_do_not_fit_the_module(options, kind, message):
    model = built()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind) as refused:
        adapter.apply(model, asked(**options), lr=1e-2)
    assert message in str(refused.value)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    adapter.apply(model, asked(), lr=1e-2)  # nothing was remembered either


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"lr": "fast"}, ArgumentTypeError, "lr: got 'fast'"),
        ({"lr": -1.0}, ArgumentError, "lr: got -1.0"),
        ({"eps": float("nan")}, ArgumentError, "eps: got nan"),
        ({"optimizer": torch.optim.SGD}, ArgumentError, "is SGD, and the rules are for 'adamw'"),
        ({"optimizer": torch.optim.Adam}, ArgumentError, "is Adam"),
        ({"clip_tuned_in": "canonical"}, ConversionError, "acts differently in 'folded'"),
        ({"clip_tuned_in": "plain"}, ArgumentError, "known: canonical"),
        ({"start": "xavier"}, ArgumentError, "unknown start 'xavier'"),
        ({"start": 3}, ArgumentTypeError, "start: got 3"),
        ({"start": {"query": 0.1}}, ArgumentError, "says nothing about"),
        ({"report": {"kind": "other"}}, ConfigError, "kind is 'other'"),
        ({"report": "/nowhere/report.json"}, ConfigError, "cannot be read"),
    ],
)
def test_arguments(options, kind, message):
    with pytest.raises(kind) as refused:
        adapter.apply(built(), asked(), **{"lr": 1e-2, **options})
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "3", "[]", "[" * 100_000])
def test_a_file_that_holds_no_report(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=r"report.json: .*; pass the report that `apply` gave"):
        adapter.apply(built(), asked(), lr=1e-2, report=tmp_path / "report.json")


def test_tied_embeddings_must_be_known_to_the_rules():
    model = built()
    model.readout.weight = model.embed.weight
    with pytest.raises(UnsupportedModuleError, match="pass tied=True"):
        adapter.apply(model, asked(), lr=1e-2)
    groups = adapter.apply(model, asked(tied=True), lr=1e-2)
    assert torch.all(model.norm.weight == 1 / M_D)
    assert sum(name == "embed.weight" for group in groups for name in group["names"]) == 1
    plain = built()
    plain.readout.weight, plain.norm = plain.embed.weight, nn.Identity()
    with pytest.raises(UnsupportedModuleError, match="no gain in the final norm"):
        adapter.apply(plain, asked(tied=True), lr=1e-2)


def test_muon_needs_the_rate_beside_it():
    with pytest.raises(ArgumentTypeError, match="adam_lr: is missing"):
        adapter.apply(built(), asked(optimizer="muon"), lr=1e-2)


def test_saddles_and_weights_that_are_not_there():
    model = built()
    for block in model.blocks:
        nn.init.zeros_(block.attn.v.weight)
    adapter.apply(model, asked(), lr=1e-2)
    model = built()
    for block in model.blocks:
        nn.init.zeros_(block.attn.v.weight)
        nn.init.zeros_(block.attn.o.weight)
    with pytest.raises(DegenerateInitError, match="neither has a gradient"):
        adapter.apply(model, asked(), lr=1e-2)
    with torch.device("meta"):
        absent = Model(TARGET)
    with pytest.raises(ArgumentError, match="meta device"):
        adapter.apply(absent, asked(), lr=1e-2)


def test_a_second_application_is_noticed():
    model = built()
    groups = adapter.apply(model, asked(), lr=1e-2)
    with pytest.raises(AlreadyAppliedError, match="these rules were applied"):
        adapter.apply(model, asked(), lr=1e-2)
    with pytest.raises(AlreadyAppliedError, match="other rules were applied"):
        adapter.apply(model, asked(alpha_L=0.5), lr=1e-2)
    with pytest.raises(ConfigError, match="of other rules"):
        adapter.apply(model, asked(alpha_L=0.5), lr=1e-2, report=groups.report)
    before = model.blocks[0].attn.o.weight.detach().clone()
    adapter.apply(model, asked(), lr=1e-2, report=groups.report)
    assert torch.equal(model.blocks[0].attn.o.weight, before)
    adapter.apply(model, asked(), lr=1e-2, force=True, start="fan_in")
    torch.testing.assert_close(model.blocks[0].attn.o.weight, before / M_L)
    # In another process nothing is remembered: there the spread tells, and the report is asked for.
    elsewhere = built()
    elsewhere.load_state_dict(model.state_dict())
    with pytest.raises(ArgumentError, match="report of the first application as report="):
        adapter.apply(elsewhere, asked(), lr=1e-2)
    wrong = {**groups.report, "parameters": {}}
    with pytest.raises(ConfigError, match="of another module"):
        adapter.apply(elsewhere, asked(), lr=1e-2, report=wrong)


def test_a_preview_changes_nothing():
    model = built()
    before = copy.deepcopy(model.state_dict())
    rows = {row["name"]: row for row in adapter.preview(model, asked())}
    assert rows["blocks.2.attn.o.weight"] == {
        "name": "blocks.2.attn.o.weight",
        "role": "attention_out",
        "shape": [64, 64],
        "init": M_D**-0.5 / M_L,
        "lr": 1 / (M_D * M_L),
        "eps": 1 / M_D,
        "wd": M_D * M_L,
    }
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert model.blocks[0].attn.scaling == 16**-0.5
    adapter.apply(model, asked(), lr=1e-2)


def test_frozen_parameters_are_told_and_left_out():
    model = built()
    model.embed.weight.requires_grad_(False)
    groups = adapter.apply(model, asked(), lr=1e-2)
    assert not groups.report["parameters"]["embed.weight"]["trained"]
    assert "embed.weight" not in [name for group in groups for name in group["names"]]
