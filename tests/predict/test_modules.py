"""Modules of PyTorch: their own weights are read, and networks like them do what is predicted."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from tests.describe.small_classes import small_config
from tests.describe.test_family_names import built as class_with_head

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    NoSuchLimitError,
    solve,
)
from translimit.describe import (
    FAMILIES,
    Attention,
    Embedding,
    FeedForward,
    PatchEmbedding,
    Stack,
    read_stack,
)
from translimit.limits.signal import Recursion, SignalPropagation
from translimit.predict import Curve, predict, read_module
from translimit.predict.words import warnings

torch = pytest.importorskip("torch", reason="torch is not installed: there are no modules")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: there are no classes to read"
)

DIM, LAYERS, HEADS, WORDS = 128, 3, 4, 400
IDS = 10 + np.arange(12) ** 2 % 5
NETWORKS = 8
#: Standard errors, beside n / D for the width.
ERRORS = 4.5
SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "dim"), DIM),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), HEADS),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    "intermediate_size": 192,
    "moe_intermediate_size": 64,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": WORDS,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "image_size": 32,
    "patch_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def config_of(name: str, **more: Any) -> Any:
    """A small configuration of a family."""
    kind = transformers.CONFIG_MAPPING[name]
    mapped = getattr(kind, "attribute_map", {})
    known = {*kind().to_dict(), *mapped.values()}
    told = {key: value for key, value in SIZES.items() if key in known and key not in mapped}
    return kind(**{**told, **more})


def built(name: str, head: str = "ForCausalLM", seed: int = 0, **more: Any) -> Any:
    """A small network of a family."""
    torch.manual_seed(seed)
    return getattr(transformers, f"AutoModel{head}").from_config(config_of(name, **more)).eval()


def plain(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a stack, one after the other."""
    if dataclasses.is_dataclass(record):
        for one in dataclasses.fields(record):
            yield from plain(getattr(record, one.name), f"{path}.{one.name}")
    elif isinstance(record, tuple):
        for index, one in enumerate(record):
            yield from plain(one, f"{path}.{index}")
    else:
        yield path, record


#: One of each way to store weights: a packed tensor turned, head by head, cut with grouped keys,
#: gate and input in one, experts in one; norms of queries and keys, a gain that begins at zero.
CLASSES = {
    "gpt2": "ForCausalLM",
    "gpt_neox": "ForCausalLM",
    "phi3": "ForCausalLM",
    "qwen3": "ForCausalLM",
    "gemma2": "ForCausalLM",
    "glm4_moe": "ForCausalLM",
    "bert": "ForMaskedLM",
    "roberta": "ForMaskedLM",
    "vit": "ForImageClassification",
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_s_own_start_is_that_of_its_configuration(name: str) -> None:
    check_class(built(name, CLASSES[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if one.names])
def test_every_class_s_own_start_is_that_of_its_configuration(name: str) -> None:
    torch.manual_seed(0)
    if "kv_lora_rank" in small_config(name).to_dict():
        pytest.skip("weights of latents are not read")
    check_class(class_with_head(name)[0])


def check_class(model: Any) -> None:
    """Deviations within five errors of their fewest entries; everything else is equal."""
    described, read = read_stack(model.config.to_dict()), read_module(model)
    stack = described.stack
    if isinstance(embedding := stack.embedding, PatchEmbedding) and embedding.sinusoids is not None:
        # Without its decoder the class of ViT-MAE leaves its positions and class row at zero.
        fixed = model.embeddings.position_embeddings
        assert not fixed.requires_grad
        assert not fixed.any()
        zeros = (0.0,) * len(embedding.class_stds)
        embedding = dataclasses.replace(embedding, sinusoids=None, class_stds=zeros)
        stack = dataclasses.replace(stack, embedding=embedding)
    here, there = dict(plain(read.stack)), dict(plain(stack))
    assert here.keys() == there.keys()
    for path, value in here.items():
        wanted = there[path]
        if path.endswith(".up_std") and wanted is None and value is not None:
            wanted = there[path.removesuffix("up_std") + "in_std"]
        if value is not None and wanted is not None and "std" in path:
            # Rows of types and classes stand alone; a router has four or more.
            rows = 1 if any(one in path for one in ("type_std", "class_stds")) else 4
            assert abs(value - wanted) <= 5 * wanted / math.sqrt(2 * rows * read.dim), path
        else:
            assert value == wanted, path
    assert set(described.ignored) <= set(read.ignored)
    # Biases that a class draws, as the router's of gpt-oss, are told from the module alone.
    assert all("_bias: up to" in one for one in set(read.ignored) - set(described.ignored))
    if read.readout_std is not None:
        assert (read.tied, read.own_token) == (described.tied, described.own_token)
    assert any("standard deviations of weights are the module's" in a for a in read.assumptions)
    assert not any(one.startswith(("initializer", "init_")) for one in read.assumptions)


def each(model: Any, ending: str) -> Iterator[tuple[int, Any]]:
    """Parameters of layers by the end of their names, with the number of the layer."""
    for name, tensor in model.named_parameters():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        if numbers and name.endswith(f"{ending}.weight"):
            yield numbers[0], tensor


def everything_wide(model: Any) -> None:
    """N(0, 0.05^2) for every matrix, the row of the padding id among them."""
    for tensor in model.parameters():
        if tensor.ndim > 1:
            torch.nn.init.normal_(tensor, std=0.05)


def xavier(model: Any) -> None:
    """Xavier's uniform entries in linear layers, N(0, 1) in the embedding."""
    for name, tensor in model.named_parameters():
        if tensor.ndim > 1 and "embed" in name:
            torch.nn.init.normal_(tensor)
        elif tensor.ndim > 1:
            torch.nn.init.xavier_uniform_(tensor)


def by_depth(model: Any) -> None:
    """N(0, 0.09^2), the ends of branches divided by (2 l)^(1/2) in layer l."""
    everything_wide(model)
    for ending in ("o_proj", "down_proj"):
        for layer, tensor in each(model, ending):
            torch.nn.init.normal_(tensor, std=0.09 / math.sqrt(2 * (layer + 1)))


def head_by_head(model: Any) -> None:
    """Queries and keys five times as large as values, in the layout of the class."""
    everything_wide(model)
    for _, tensor in each(model, "query_key_value"):
        apart = tensor.view(HEADS, 3, DIM // HEADS, DIM)
        for index, std in enumerate((0.2, 0.2, 0.04)):
            torch.nn.init.normal_(apart[:, index], std=std)


def post_norm(model: Any) -> None:
    """Gains of norms 0.5 and branches of their own sizes in a post-LN encoder."""
    everything_wide(model)
    for name, tensor in model.named_parameters():
        if "layer" in name and name.endswith("output.LayerNorm.weight"):
            torch.nn.init.constant_(tensor, 0.5)


STARTS: dict[str, tuple[str, str, Callable[[Any], None]]] = {
    "wide": ("gpt2", "", everything_wide),
    "xavier": ("llama", "ForCausalLM", xavier),
    "depth": ("qwen3", "", by_depth),
    "packed": ("gpt_neox", "ForCausalLM", head_by_head),
    "post": ("bert", "", post_norm),
}


def started(name: str, seed: int) -> Any:
    family, head, start = STARTS[name]
    model = built(family, head, seed)
    with torch.no_grad():
        start(model)
    return model


def blocks_of(model: Any) -> list[Any]:
    """The modules after which the stream is looked at."""
    lists = [one for one in model.modules() if isinstance(one, torch.nn.ModuleList)]
    return list(next(one for one in lists if len(one) == LAYERS))


def summary(covs: np.ndarray) -> np.ndarray:
    """Mean overlap of all pairs, and log root mean square, by level [2, levels]."""
    squares = np.diagonal(covs, axis1=-2, axis2=-1)
    s = 1 / np.sqrt(squares)
    overlaps = (covs * s[..., :, None] * s[..., None, :]).mean(axis=(-2, -1))
    return np.stack([overlaps, 0.5 * np.log(squares.mean(axis=-1))])


def measured(model: Any, stack: Stack) -> np.ndarray:
    """What enters the blocks of a network and leaves them, by forward hooks."""
    levels: list[Any] = []
    blocks = blocks_of(model)

    def keep(_module: Any, _inputs: Any, out: Any) -> None:
        levels.append((out[0] if isinstance(out, tuple) else out).reshape(len(IDS), -1))

    hooks = [block.register_forward_hook(keep) for block in blocks]
    with torch.no_grad():
        model(input_ids=torch.tensor(IDS)[None])
    for hook in hooks:
        hook.remove()
    rows = np.stack([one.double().numpy() for one in levels])
    if stack.centred:
        rows -= rows.mean(axis=2, keepdims=True)
    return summary(rows @ rows.transpose(0, 2, 1) / rows.shape[2])


def limit_of(stack: Stack) -> np.ndarray:
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    found = solve(problem, Recursion(pairs=16, copies=3), key=jax.random.key(0))
    return summary(np.asarray(found.cov))[:, 1:]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "post")) for name in STARTS],
)
def test_networks_of_a_user_s_own_start_do_what_is_predicted(name: str) -> None:
    """Overlap and rms after every layer within 4.5 errors and n / D; the class's start is refuted.

    Every network is read by itself; the first one's stack is what is predicted.
    """
    models = [started(name, seed) for seed in range(NETWORKS)]
    stack = read_module(models[0]).stack
    found = np.stack([measured(model, stack) for model in models])
    error = found.std(axis=0, ddof=1) / math.sqrt(NETWORKS)
    allowed = ERRORS * error + len(IDS) / DIM
    off = np.abs(found.mean(axis=0) - limit_of(stack))
    assert np.all(off < allowed), (off / allowed).round(2)
    default = read_stack(models[0].config.to_dict()).stack
    assert np.any(np.abs(found.mean(axis=0) - limit_of(default)) > allowed)


def test_depth_scaling_is_read_layer_by_layer() -> None:
    """0.09 (2 l)^(-1/2), each within five errors of so many entries; other roles agree, as one."""
    stack = read_module(started("depth", 0)).stack
    for number, layer in enumerate(stack.layers, 1):
        attention, units = layer[0].branches[0], layer[1].branches[0]
        assert isinstance(attention, Attention)
        assert isinstance(units, FeedForward)
        wanted = 0.09 / math.sqrt(2 * number)
        assert abs(attention.out_std / wanted - 1) < 5 / math.sqrt(2 * DIM**2)
        assert abs(units.out_std / wanted - 1) < 5 / math.sqrt(2 * DIM * 192)
    queries = {getattr(layer[0].branches[0], "query_std", None) for layer in stack.layers}
    assert len(queries) == 1


def test_gains_scales_biases_and_the_row_of_the_padding_id_are_read() -> None:
    model = built("llama", attention_bias=True)
    with torch.no_grad():
        model.model.norm.weight.fill_(3.0)
        for layer, block in enumerate(model.model.layers):
            block.input_layernorm.weight.fill_(0.5)
            block.post_attention_layernorm.weight.fill_(2.0 + layer)
            block.self_attn.scaling = 0.25
            block.self_attn.k_proj.bias.fill_(0.125)
    assert built("llama").model.embed_tokens.weight[0].any().item() is False
    reading = read_module(model)
    assert isinstance(reading.stack.embedding, Embedding)
    assert reading.stack.embedding.padding == 0
    assert reading.stack.norm_final is not None
    assert reading.stack.norm_final.gain == 3.0
    for number, layer in enumerate(reading.stack.layers):
        first, second = layer
        assert first.norm_in is not None
        assert second.norm_in is not None
        assert (first.norm_in.gain, second.norm_in.gain) == (0.5, 2.0 + number)
        assert [getattr(one, "score_scale", None) for one in first.branches] == [0.25]
    assert "score scales are the module's, 0.25" in reading.assumptions
    assert reading.ignored == ("key_bias: up to 0.125 (root mean square), not zero",)
    curves = {"overlap": Curve("", "level", *[(0.0,) * 4] * 3)}
    assert f"ignored: {reading.ignored[0]}" in warnings(reading, 4, curves, 0)
    with torch.no_grad():
        everything_wide(model)
    filled = read_module(model).stack.embedding
    assert isinstance(filled, Embedding)
    assert filled.padding is None


def test_norms_of_glm4_are_in_the_order_of_its_stream() -> None:
    """Its module lists the two inner norms first."""
    model = built("glm4")
    gains = {
        "input_layernorm": 1.5,
        "post_self_attn_layernorm": 2.5,
        "post_attention_layernorm": 3.5,
        "post_mlp_layernorm": 4.5,
    }
    with torch.no_grad():
        for block in model.model.layers:
            for name, gain in gains.items():
                getattr(block, name).weight.fill_(gain)
    layer = read_module(model).stack.layers[0]
    norms = [norm for block in layer for norm in (block.norm_in, block.norm_out)]
    assert [norm and norm.gain for norm in norms] == list(gains.values())


def test_heads_ties_and_wrappers() -> None:
    """Tied or not by storage; without words to read, or without a readout, no loss is told."""
    tied, apart = built("gpt2"), built("gpt2", tie_word_embeddings=False)
    with torch.no_grad():
        torch.nn.init.normal_(apart.lm_head.weight, std=0.1)
    one, other = read_module(tied), read_module(apart)
    assert one.tied
    assert one.own_token
    assert not other.tied
    assert not other.own_token
    # A config that says otherwise does not matter.
    assert not read_module(apart, {**apart.config.to_dict(), "tie_word_embeddings": True}).tied
    assert other.readout_std == pytest.approx(0.1, rel=5 / math.sqrt(2 * WORDS * DIM))
    assert isinstance(one.stack.embedding, Embedding)
    assert one.readout_std == one.stack.embedding.std
    bare, labels = read_module(tied.transformer), built("gpt2", "ForSequenceClassification")
    assert bare.stack == one.stack
    assert bare.readout_std is read_module(labels).readout_std is None
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(tied)
        assert read_module(parallel) == one
    finally:
        torch.distributed.destroy_process_group()
    assert read_module(torch.nn.DataParallel(tied)) == one
    assert read_module(torch.compile(tied, backend="eager")) == one
    assert read_module(tied.to(torch.bfloat16)).stack.layers[0][0].norm_in == (
        one.stack.layers[0][0].norm_in
    )


def trained(model: Any, steps: int = 50, rate: float = 1e-3) -> Any:
    """After some steps of Adam on random words."""
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        ids = torch.randint(10, WORDS, (2, 16), generator=generator)
        adam.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        adam.step()
    return model


def spiked(model: Any) -> Any:
    """A rank-one part in one matrix, three times the edge of the bulk."""
    tensor = model.model.layers[1].mlp.up_proj.weight
    u, v = (torch.randn(size) for size in tensor.shape)
    edge = 0.02 * sum(math.sqrt(size) for size in tensor.shape)
    tensor += 3 * edge * torch.outer(u / u.norm(), v / v.norm())
    return model


def copied_layers(model: Any) -> Any:
    """Every layer begins as the first one, as in torch.nn.TransformerEncoder."""
    for block in model.model.layers[1:]:
        block.load_state_dict(copy.deepcopy(model.model.layers[0].state_dict()))
    return model


def orthogonal(model: Any) -> Any:
    for block in model.model.layers:
        torch.nn.init.orthogonal_(block.self_attn.q_proj.weight, gain=0.3)
    return model


def varied_gains(model: Any) -> Any:
    model.model.layers[0].input_layernorm.weight += 0.05 * torch.randn(DIM)
    return model


NOT_FRESH: dict[str, tuple[Callable[[Any], Any], str]] = {
    "spike": (spiked, r"1 of 23 matrices are no fresh draw \(model.layers.1.mlp.up_proj.weight"),
    "copies": (copied_layers, "14 of 23 matrices are no fresh draw .*correlation 1 "),
    "orthogonal": (orthogonal, "q_proj.weight: its largest singular value is 0.5"),
    "gains": (varied_gains, "the gains model.layers.0.input_layernorm.weight vary from"),
}


@pytest.mark.parametrize("name", NOT_FRESH)
def test_what_is_no_fresh_draw_is_refused_with_the_evidence(name: str) -> None:
    change, says = NOT_FRESH[name]
    with torch.no_grad():
        model = change(built("llama"))
    with pytest.raises(ArgumentError, match=says) as told:
        predict(model, ids=IDS)
    assert "a trained network is not what this predicts" in str(told.value)


@pytest.mark.parametrize("rate", [3e-4, 3e-3])
def test_a_trained_network_is_refused(rate: float) -> None:
    model = trained(built("gpt2").train(), rate=rate)
    with pytest.raises(ArgumentError, match="matrices are no fresh draw") as told:
        read_module(model)
    assert "largest singular value" in str(told.value)


def quantised(model: Any) -> Any:
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    return model


def not_finite(model: Any) -> Any:
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    return model


def adapted(model: Any) -> Any:
    model.model.layers[0].self_attn.adapter = torch.nn.Linear(2, 2)
    return model


def without_config(model: Any) -> Any:
    model = copy.copy(model)
    model.config = None
    return model


def on_meta(model: Any) -> Any:
    return model.to("meta")


BROKEN: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "meta": (on_meta, ArgumentError, "embed_tokens.weight has no numbers yet"),
    "quantised": (quantised, ArgumentError, "layers.0.mlp.up_proj.weight holds int8, as quantised"),
    "nan": (not_finite, ArgumentError, "layers.0.mlp.up_proj.weight is not finite"),
    "adapter": (adapted, ArgumentError, "no role for 2 of .*adapter.weight.*the model of llama"),
    "config": (without_config, ConfigError, "LlamaForCausalLM holds no configuration; pass config"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_modules_that_cannot_be_read_are_refused_by_name(name: str) -> None:
    change, kind, says = BROKEN[name]
    with pytest.raises(kind, match=says):
        predict(change(built("llama")), ids=IDS)


def test_configurations_that_do_not_fit_are_refused() -> None:
    model = built("llama")
    told = model.config.to_dict()
    with pytest.raises(ArgumentError, match=r"config: describes 5 layers, .* the module has 3"):
        predict(model, config={**told, "num_hidden_layers": 5})
    with pytest.raises(ArgumentError, match=r"describes a mlp_gate of 64 x 128.* has 192 x 128"):
        predict(model, config={**told, "intermediate_size": 64})
    with pytest.raises(ArgumentError, match=r"names of parameters of 'falcon' .* of gpt2, "):
        predict(model, config={"model_type": "falcon", **told_sizes()})
    with pytest.raises(ArgumentError, match="the weights of deepseek_v2's latents are not read"):
        predict(
            model,
            config={"model_type": "deepseek_v2", "intermediate_size": 64, **told_sizes()},
        )
    with pytest.raises(NoSuchLimitError, match="mixes tokens by a state space"):
        predict(model, config={"model_type": "mamba"})
    with pytest.raises(ArgumentTypeError, match="config: is given beside what is no torch"):
        predict(told, config=told)
    with pytest.raises(ConfigError, match="Linear holds no configuration"):
        predict(torch.nn.Linear(4, 4))
    assert read_module(without_config(model), told) == read_module(model)


def told_sizes() -> dict[str, Any]:
    return {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}


def test_predict_says_what_it_read() -> None:
    model = started("xavier", 0)
    answer = predict(model, ids=IDS, tokens=6)
    assert answer.reading == read_module(model)
    assert answer.loss is not None
    # Xavier's uniform entries have variance 2 / (rows + columns).
    wanted = math.sqrt(2 / (WORDS + DIM))
    assert answer.reading.readout_std == pytest.approx(wanted, rel=5 / math.sqrt(2 * WORDS * DIM))
    assert "standard deviations of weights are the module's: token embedding" in str(answer)
