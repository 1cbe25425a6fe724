"""The rules in small random models of Hugging Face, built from configurations without network.

The strongest check is two-sided: the folded module, started and grouped by the adapter, trains as
the same network in canonical form, whose multipliers, rates, epsilons and decays are written here
by hand from the printed table and put in by `torch.func.functional_call`.
"""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from translimit.checks import find_places  # noqa: E402
from translimit.core import ArgumentError, ConfigError  # noqa: E402
from translimit.scaling import (  # noqa: E402
    Role,
    ShapeMismatchError,
    UnsupportedModuleError,
    read_size,
    rules_for,
)
from translimit.scaling.adapters import bare_name, matches, roles  # noqa: E402
from translimit.scaling.adapters import torch as adapter  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_user")

TOKENS = {"bos_token_id": 0, "eos_token_id": 0}
#: Of every family: its class and a configuration by heads of (dimension, number) and layers.
FAMILIES = {
    "gpt2": (
        "GPT2LMHeadModel",
        lambda n, h, l: transformers.GPT2Config(
            n_embd=n * h, n_head=h, n_layer=l, vocab_size=11, n_positions=8, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, **TOKENS,
        ),
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        lambda n, h, l: transformers.GPTNeoXConfig(
            hidden_size=n * h, num_attention_heads=h, num_hidden_layers=l,
            intermediate_size=2 * n * h, vocab_size=11, max_position_embeddings=8, **TOKENS,
        ),
    ),
    "vit": (
        "ViTForImageClassification",
        lambda n, h, l: transformers.ViTConfig(
            hidden_size=n * h, num_attention_heads=h, num_hidden_layers=l,
            intermediate_size=2 * n * h, image_size=8, patch_size=4, num_channels=1,
        ),
    ),
}  # fmt: skip
for _name, _prefix in {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}.items():
    FAMILIES[_name] = (
        f"{_prefix}ForCausalLM",
        lambda n, h, l, prefix=_prefix: getattr(transformers, f"{prefix}Config")(
            hidden_size=n * h, num_attention_heads=h, num_key_value_heads=h // 2,
            num_hidden_layers=l, intermediate_size=2 * n * h, vocab_size=11,
            max_position_embeddings=8, **TOKENS,
        ),
    )  # fmt: skip

#: N, H, L of base and target.
BASE, TARGET = (4, 2, 1), (8, 4, 2)
M_N, M_D, M_L = 2, 4, 2


def places(model):
    """Where a check would look, from the roles that the names give."""
    return find_places(model, {name: one.parts for name, one in matches(model).items()})


def config_of(family, sizes):
    return FAMILIES[family][1](*sizes)


def built(family, sizes=TARGET, attention="sdpa", seed=0):
    torch.manual_seed(seed)
    config = config_of(family, sizes)
    config._attn_implementation = attention
    return getattr(transformers, FAMILIES[family][0])(config).train()


def asked(family, **options):
    told = {"optimizer": "adamw", **options}
    return rules_for(config_of(family, BASE), config_of(family, TARGET), **told)


def inputs(family, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    if family == "vit":
        images = torch.randn(3, 1, 8, 8, generator=generator, dtype=torch.float64)
        return {"pixel_values": images.to(dtype), "labels": torch.tensor([0, 1, 1])}
    ids = torch.randint(11, (3, 8), generator=generator)
    return {"input_ids": ids, "labels": ids}


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_read_from_configurations(family, tmp_path):
    config = config_of(family, TARGET)
    config.to_json_file(tmp_path / "config.json", use_diff=False)
    read = read_size(tmp_path / "config.json")
    assert (read.size.head_dim, read.size.heads, read.size.layers) == TARGET
    assert read.packed_qkv == (family in ("gpt2", "gpt_neox"))
    assert read.tied == (family == "gpt2")
    config_of(family, BASE).to_json_file(tmp_path / "base.json", use_diff=False)
    made = rules_for(tmp_path / "base.json", tmp_path / "config.json", optimizer="adamw")
    assert made == asked(family)
    assert made.question.style == "folded"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_one_role_and_the_parts_are_found(family):
    model = built(family)
    found = roles(model)
    assert set(found) == {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert {Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_OUT, Role.READOUT} <= set(found.values())
    parts = places(model)
    assert len(parts.blocks) == len(parts.attentions) == len(parts.maps[Role.MLP_IN]) == 2
    assert len(parts.packed) + len(parts.maps.get(Role.QUERY, ())) == 2
    modules = dict(model.named_modules())
    seen = []
    hook = modules[parts.blocks[1]].register_forward_hook(lambda *told: seen.append(told[2]))
    model(**inputs(family))
    hook.remove()
    stream = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert stream.shape[-1] == TARGET[0] * TARGET[1]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_attribute_is_the_scale_that_the_forward_pass_reads(family, attention):
    # Twice the scale is twice the query map, in exact arithmetic.
    one, other = built(family, attention=attention), built(family, attention=attention)
    with torch.no_grad():
        for model in (one, other):  # biases of queries must be seen
            for tensor in model.parameters():
                tensor.add_(0.05 * torch.cos(torch.arange(tensor.numel())).reshape(tensor.shape))
        for name, tensor in one.named_parameters():
            match = matches(one)[name]
            if match.role in (Role.QUERY, Role.QUERY_BIAS):
                if not match.packed:
                    tensor.mul_(2)
                elif family == "gpt2":  # q | k | v along the last axis
                    tensor[..., : tensor.shape[-1] // 3].mul_(2)
                else:  # head by head: q, k, v of N rows each
                    tensor.view(4, 3, 8, -1)[:, 0].mul_(2)
    modules = dict(other.named_modules())
    for name in places(other).attentions:
        assert modules[name].scaling == 8**-0.5
        modules[name].scaling *= 2
    told = inputs(family)
    unscaled = built(family, attention=attention)(**told).logits
    assert (one(**told).logits - unscaled).abs().max() > 1e-3
    torch.testing.assert_close(one(**told).logits, other(**told).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_base_nothing_changes(family):
    fresh, model = built(family), built(family)
    config = config_of(family, TARGET)
    groups = adapter.apply(
        model, rules_for(config, config, optimizer="adamw"), lr=1e-3, decay_vectors=True
    )
    for name, tensor in fresh.named_parameters():
        assert torch.equal(tensor, dict(model.named_parameters())[name])
    assert len(groups) == 1
    assert groups[0]["lr"] == 1e-3


# The printed table of AdamW, canonical style: start, rate, epsilon, decay of every kind.


def canonical(role, m_N, m_d, m_L, alpha_A, alpha_L):
    """(multiplier, start, rate, epsilon, decay), ratios target / base, by the table."""
    logits = role in (Role.QUERY, Role.KEY, Role.QUERY_BIAS, Role.KEY_BIAS)
    turn = m_N ** (alpha_A - 1) if logits else 1.0
    if role in (Role.READOUT,):
        return 1 / m_d, 1.0, 1.0, 1 / m_d
    if role in (Role.READOUT_BIAS,):
        return 1.0, 1.0, 1.0, 1.0
    if not role.in_block:
        return 1.0, 1.0, 1.0, 1 / m_d
    rate = turn * m_L ** (alpha_L - 1)
    epsilon = m_L**-alpha_L / (turn * m_d)
    matrix = not (role.is_bias or role.is_gain)
    b = m_L**-alpha_L if role.value.startswith(("attention_out", "mlp_out")) else 1.0
    return b, m_d**-0.5 if matrix else 1.0, rate / m_d if matrix else rate, epsilon


def role_of(name):
    """By hand and in order, for GPT-2 and Llama."""
    table = {
        "c_attn.weight": Role.QUERY, "c_attn.bias": Role.QUERY_BIAS,
        "attn.c_proj.weight": Role.ATTENTION_OUT, "attn.c_proj.bias": Role.ATTENTION_OUT_BIAS,
        "c_fc.weight": Role.MLP_IN, "c_fc.bias": Role.MLP_IN_BIAS,
        "mlp.c_proj.weight": Role.MLP_OUT, "mlp.c_proj.bias": Role.MLP_OUT_BIAS,
        "q_proj.weight": Role.QUERY, "k_proj.weight": Role.KEY, "v_proj.weight": Role.VALUE,
        "o_proj.weight": Role.ATTENTION_OUT, "down_proj.weight": Role.MLP_OUT,
        "gate_proj.weight": Role.MLP_IN, "up_proj.weight": Role.MLP_IN,
        "lm_head.weight": Role.READOUT, "wte.weight": Role.TOKEN_EMBEDDING,
        "wpe.weight": Role.TOKEN_EMBEDDING, "embed_tokens.weight": Role.TOKEN_EMBEDDING,
        "ln_f.weight": Role.FINAL_NORM_GAIN, "ln_f.bias": Role.FINAL_NORM_BIAS,
        "model.norm.weight": Role.FINAL_NORM_GAIN,
    }  # fmt: skip
    for ending, role in table.items():
        if name.endswith(ending):
            return role
    return Role.BLOCK_NORM_GAIN if name.endswith("weight") else Role.BLOCK_NORM_BIAS


@pytest.mark.parametrize(
    ("family", "alphas", "tolerance"),
    # Llama's norms and rotations compute in float32 whatever the weights are.
    [("gpt2", (1.0, 1.0), 1e-11), ("gpt2", (1.0, 0.6), 1e-11), ("llama", (0.75, 0.6), 2e-6)],
)
def test_three_updates_are_those_of_the_canonical_network(family, alphas, tolerance):
    lr, eps, decay = 0.01, 1e-4, 0.1
    fresh = built(family).double()
    folded = built(family).double()
    groups = adapter.apply(
        folded,
        asked(family, alpha_A=alphas[0], alpha_L=alphas[1]),
        lr=lr,
        eps=eps,
        weight_decay=decay,
        decay_vectors=True,
    )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))

    body = built(family).double()  # gives the forward pass only
    scale = 4**-0.5 * M_N ** -alphas[0]
    for name in places(body).attentions:
        dict(body.named_modules())[name].scaling = scale
    weights, groups_by_hand, mults = {}, [], {}
    for name, tensor in fresh.named_parameters():
        role = role_of(name)
        mult, start, rate, epsilon = canonical(role, M_N, M_D, M_L, *alphas)
        if family == "gpt2" and role in (Role.ATTENTION_OUT, Role.MLP_OUT):
            start *= M_L**0.5  # undoes what GPT-2's own start takes from depth
        weights[name] = (start * tensor.detach()).requires_grad_()
        mults[name] = mult
        groups_by_hand.append(
            {
                "params": [weights[name]],
                "lr": lr * rate,
                "eps": eps * epsilon,
                "weight_decay": decay / rate,
            }
        )
    reference = torch.optim.AdamW(groups_by_hand, betas=(0.9, 0.95))

    def forward():
        put = {name: mults[name] * w for name, w in weights.items()}
        if family == "gpt2":  # the readout is the embedding, times 1 / m_d
            put["lm_head.weight"] = weights["transformer.wte.weight"] / M_D
        told = inputs(family)
        return torch.func.functional_call(body, put, kwargs=told, tie_weights=False).loss

    found = []
    for _ in range(4):
        one, other = folded(**inputs(family)).loss, forward()
        found.append(one.item())
        assert one.item() == pytest.approx(other.item(), rel=tolerance)
        for loss, stepping in ((one, optimizer), (other, reference)):
            stepping.zero_grad()
            loss.backward()
            stepping.step()
    assert found[-1] < found[0] - 0.01
    # A wrong factor in one group is seen.
    optimizer.param_groups[2]["lr"] *= 1.2
    for loss, stepping in ((folded(**inputs(family)).loss, optimizer), (forward(), reference)):
        stepping.zero_grad()
        loss.backward()
        stepping.step()
    gap = abs(folded(**inputs(family)).loss.item() - forward().item())
    assert gap > 10 * tolerance


def test_gpt2_starts_as_the_tables_say():
    fresh, model = built("gpt2"), built("gpt2")
    groups = adapter.apply(model, asked("gpt2"), lr=1e-3)
    wanted = {
        "wte.weight": 1.0,
        "attn.c_attn.weight": M_D**-0.5,
        # m_d^{-1/2} / m_L, and GPT-2's own L^{-1/2} has taken m_L^{-1/2} of it.
        "attn.c_proj.weight": M_D**-0.5 / M_L**0.5,
        "mlp.c_proj.weight": M_D**-0.5 / M_L**0.5,
        "mlp.c_fc.weight": M_D**-0.5,
        "ln_f.weight": 1 / M_D,  # tied: the factor of the readout
    }
    before = dict(fresh.named_parameters())
    for name, tensor in model.named_parameters():
        for ending, factor in wanted.items():
            if name.endswith(ending):
                torch.testing.assert_close(tensor, factor * before[name], rtol=1e-6, atol=0)
    assert groups.report["start"] == "fixed"
    assert groups.report["scales"]["transformer.h.0.attn"] == {
        "attribute": "scaling",
        "before": 8**-0.5,
        "now": 4**-0.5 / M_N,
    }
    json.dumps(groups.report)


def test_heads_other_than_the_targets_are_refused():
    model = built("llama", (16, 2, 2))  # as wide, with other heads
    with pytest.raises(ShapeMismatchError, match="2"):
        adapter.apply(model, asked("llama"), lr=1e-3)


def test_bert_is_refused_as_post_norm():
    config = transformers.BertConfig(
        hidden_size=32, num_attention_heads=4, num_hidden_layers=1, intermediate_size=64,
        vocab_size=11,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config)
    with pytest.raises(UnsupportedModuleError, match="post-LN"):
        roles(model)
    with pytest.raises(ArgumentError, match="post-LN"):
        rules_for(config, config, optimizer="adamw")


def test_packed_projections_need_equal_rates():
    with pytest.raises(UnsupportedModuleError, match="split the projection"):
        asked("gpt2", alpha_A=0.5)
    made = asked("gpt2", alpha_A=0.5, packed_qkv=False)  # says too little: the module is asked
    with pytest.raises(UnsupportedModuleError, match="split the projection"):
        adapter.apply(built("gpt2"), made, lr=1e-3)


def test_configurations_that_differ_in_what_is_not_scaled_are_refused():
    other = config_of("llama", TARGET)
    other.vocab_size = 12
    with pytest.raises(ShapeMismatchError, match="vocabulary"):
        rules_for(config_of("llama", BASE), other, optimizer="adamw")
    other = config_of("llama", TARGET)
    other.intermediate_size = 96
    with pytest.raises(ShapeMismatchError, match="mlp_ratio"):
        rules_for(config_of("llama", BASE), other, optimizer="adamw")
    with pytest.raises(ConfigError, match="30"):
        rules_for({"model_type": "gpt2", "n_embd": 30, "n_head": 4, "n_layer": 1},
                  config_of("gpt2", TARGET), optimizer="adamw")  # fmt: skip


def test_a_scale_that_differs_by_layer_is_refused():
    config = config_of("gpt2", TARGET)
    config.scale_attn_by_inverse_layer_idx = True
    model = transformers.GPT2LMHeadModel(config)
    with pytest.raises(UnsupportedModuleError, match="scale_attn_by_inverse_layer_idx"):
        adapter.apply(model, asked("gpt2"), lr=1e-3)


def test_another_head_and_an_extended_table():
    config = config_of("vit", TARGET)
    model = transformers.ViTModel(config, add_pooling_layer=True)
    names = {"pooler.dense.weight": "readout", "pooler.dense.bias": "readout_bias"}
    assert roles(model, names)["pooler.dense.weight"] is Role.READOUT
    config = config_of("gpt2", TARGET)
    config.num_labels = 3
    classifier = transformers.GPT2ForSequenceClassification(config)
    groups = adapter.apply(classifier, asked("gpt2", tied=False), lr=1e-3)
    assert "readout" in [role for group in groups for role in group["roles"]]


@pytest.fixture
def one_process():
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed
    distributed.destroy_process_group()


def test_names_of_ddp_and_fsdp(one_process):
    plain = built("llama")
    groups = adapter.apply(plain, asked("llama"), lr=1e-3)
    wanted = [(group["lr"], group["names"]) for group in groups]
    wrapped = torch.nn.parallel.DistributedDataParallel(built("llama"))
    assert all(name.startswith("module.") for name in roles(wrapped))
    found = adapter.apply(wrapped, asked("llama"), lr=1e-3)
    assert [(group["lr"], group["names"]) for group in found] == wanted
    assert [one.split(".", 1)[1] for one in places(wrapped).blocks] == list(places(plain).blocks)
    loss = wrapped(**inputs("llama")).loss
    loss.backward()
    torch.optim.AdamW(found).step()

    sharded = built("llama")
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    for block in sharded.model.layers:
        torch.distributed.fsdp.fully_shard(block, mesh=mesh)
    torch.distributed.fsdp.fully_shard(sharded, mesh=mesh)
    found = adapter.apply(sharded, asked("llama"), lr=1e-3)
    assert [(group["lr"], group["names"]) for group in found] == wanted
    sharded(**inputs("llama")).loss.backward()
    torch.optim.AdamW(found).step()
    # FSDP with original parameters puts a module in between.
    old = {name.replace("layers.0.", "layers.0._fsdp_wrapped_module.") for name in roles(plain)}
    assert {bare_name(name) for name in old} == set(roles(plain))


def test_the_trainer_trains_with_the_groups_and_resumes(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    ids = inputs("gpt2")["input_ids"]
    rows = [{"input_ids": ids[i % 3], "labels": ids[i % 3]} for i in range(12)]

    def trained(out, report=None, resume=None):
        model = built("gpt2")
        groups = adapter.apply(model, asked("gpt2"), lr=1e-2, weight_decay=0.1, report=report)
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=str(out), max_steps=4, per_device_train_batch_size=3,
                max_grad_norm=0.0, report_to=[], use_cpu=True, logging_strategy="no",
                save_steps=2, disable_tqdm=True, lr_scheduler_type="linear",
            ),
            train_dataset=rows,
            optimizers=(torch.optim.AdamW(groups), None),
        )  # fmt: skip
        before = model(**inputs("gpt2")).loss.item()
        trainer.train(resume_from_checkpoint=resume)
        optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        names = [group["names"] for group in optimizer.param_groups]
        assert names == [group["names"] for group in groups]
        return model, groups.report, before

    model, report, before = trained(tmp_path / "whole")
    assert model(**inputs("gpt2")).loss.item() < before - 0.05
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed, _, _ = trained(tmp_path / "rest", report, checkpoint)
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert resumed.transformer.h[0].attn.scaling == 4**-0.5 / M_N
