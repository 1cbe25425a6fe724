"""Readers against the model classes, files against other readers, and what is refused."""

import json

import numpy as np
import pytest
from tests.diagnose.small_models import FAMILIES, MORE, module_of

from translimit.core import ConfigError, NoSuchLimitError
from translimit.diagnose import (
    check_reader,
    open_tensors,
    packaged_folder,
    patches_of,
    read_checkpoint,
    stream_of,
    write_byte_model,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reader_is_the_class(name):
    module = module_of(name)
    check = check_reader(read_checkpoint(module), module)
    assert check.largest < check.tolerance
    assert len(check.errors) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_the_reader_of_every_family_is_the_class(name):
    module = module_of(name)
    assert check_reader(read_checkpoint(module), module).largest < 1e-6


def test_the_byte_model_is_gpt2_as_transformers_reads_it(byte_model):
    told = transformers.GPT2Model.from_pretrained(packaged_folder(), attn_implementation="eager")
    check = check_reader(byte_model, told)
    assert check.largest < 1e-12
    assert byte_model.weights + sum(
        np.size(byte_model.tensors[name])
        for name in ("token", "position", "final.gain", "final.bias")
    ) == sum(value.numel() for value in told.parameters())


def test_a_wrong_reader_is_refused(byte_model):
    told = transformers.GPT2Model.from_pretrained(packaged_folder(), attn_implementation="eager")
    layers = list(byte_model.layers)
    layers[1] = layers[1].with_parameters(W_Q=layers[1].parameters["W_K"])
    with pytest.raises(ConfigError, match="hidden state after layer 2 differs"):
        check_reader(byte_model.with_layers(layers), told)


def test_safetensors_as_its_own_package_reads_them():
    theirs = pytest.importorskip("safetensors.numpy").load_file(
        packaged_folder() / "model.safetensors"
    )
    ours = open_tensors(packaged_folder())
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


def test_half_precision_and_shards(tmp_path):
    from safetensors.torch import save_file

    tensors = {
        name: torch.randn(3, 4).to(kind)
        for name, kind in {"a": torch.bfloat16, "b": torch.float16, "c": torch.float64}.items()
    }
    save_file({k: tensors[k] for k in "ab"}, tmp_path / "one.safetensors")
    save_file({"c": tensors["c"]}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = open_tensors(tmp_path)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value.double().numpy())


def test_nanogpt_s_file_is_read_without_its_pickle(byte_model, tmp_path):
    names = open_tensors(packaged_folder())
    state = {}
    for name in names:
        value = np.array(names[name])
        plain = name.replace("c_attn.weight", "").replace("c_proj.weight", "")
        plain = plain.replace("c_fc.weight", "")
        state[f"_orig_mod.{name}"] = torch.tensor(value.T if plain != name else value)
    args = {"n_layer": 4, "n_head": 4, "n_embd": 64, "block_size": 64, "vocab_size": 256}
    torch.save({"model": state, "model_args": args, "iter_num": 3}, tmp_path / "ckpt.pt")
    found = read_checkpoint(tmp_path / "ckpt.pt")
    for ours, theirs in zip(found.layers, byte_model.layers, strict=True):
        for name, value in theirs.parameters.items():
            np.testing.assert_array_equal(ours.parameters[name], value)
    # It runs with another activation: nanoGPT's GELU is the exact one.
    assert found.layers[0].units.activation.value == "gelu"

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": state, "model_args": args, "evil": Evil()}, tmp_path / "bad.pt")
    with pytest.raises(ConfigError, match="weights-only load refuses it"):
        read_checkpoint(tmp_path / "bad.pt")


def test_written_and_read_again(byte_model, tmp_path):
    write_byte_model(tmp_path / "copy", byte_model)
    again = read_checkpoint(tmp_path / "copy")
    ids = np.arange(10)
    for ours, theirs in zip(stream_of(again, ids), stream_of(byte_model, ids), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_timm_s_names_are_those_of_its_vision_transformer(tmp_path):
    """The packed tensors of timm and open_clip give the same network as separate ones."""
    from translimit.describe import read_stack
    from translimit.diagnose.reading import _Reader
    from translimit.diagnose.tensor_files import TensorFile

    module = module_of("vit")
    told = read_stack({**module.config.to_dict()})
    state = {k: v.detach().numpy() for k, v in module.state_dict().items()}
    renamed = {}
    for name, value in state.items():
        plain = name.replace("layers.", "blocks.").replace("layernorm_before", "norm1")
        plain = plain.replace("layernorm_after", "norm2").replace("attention.o_proj", "attn.proj")
        plain = plain.replace("embeddings.cls_token", "cls_token")
        plain = plain.replace("embeddings.position_embeddings", "pos_embed")
        plain = plain.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        plain = plain.replace("layernorm.", "norm.")
        renamed[plain] = value
    for layer in range(2):
        for end in ("weight", "bias"):
            parts = [renamed.pop(f"blocks.{layer}.attention.{n}_proj.{end}") for n in "qkv"]
            renamed[f"blocks.{layer}.attn.qkv.{end}"] = np.concatenate(parts)
    ours = _Reader("timm", told, TensorFile("timm", renamed), "timm").checkpoint()
    pixels = np.random.default_rng(0).normal(size=(3, 8, 8))
    theirs = stream_of(read_checkpoint(module), patches_of(pixels, 4))
    for one, other in zip(stream_of(ours, patches_of(pixels, 4)), theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_open_clip_s_names_are_those_of_clip_s_image_tower():
    """Residual blocks with packed projections, as open_clip writes them, give the same network."""
    from translimit.describe import read_stack
    from translimit.diagnose.reading import _Reader
    from translimit.diagnose.tensor_files import TensorFile

    module = module_of("clip")
    told = read_stack({**module.config.to_dict()})
    renamed = {}
    for name, tensor in module.state_dict().items():
        plain = name.replace("vision_model.", "").replace(
            "encoder.layers.", "transformer.resblocks."
        )
        for old, new in {
            "layer_norm": "ln_",
            "mlp.fc1": "mlp.c_fc",
            "mlp.fc2": "mlp.c_proj",
            "self_attn.out_proj": "attn.out_proj",
            "embeddings.class_embedding": "class_embedding",
            "embeddings.patch_embedding": "conv1",
            "embeddings.position_embedding.weight": "positional_embedding",
            "pre_layrnorm": "ln_pre",
            "post_layernorm": "ln_post",
        }.items():
            plain = plain.replace(old, new)
        if not plain.endswith("position_ids"):
            renamed[f"visual.{plain}"] = tensor.detach().numpy()
    for layer in range(2):
        for end in ("weight", "bias"):
            block = f"visual.transformer.resblocks.{layer}"
            parts = [renamed.pop(f"{block}.self_attn.{n}_proj.{end}") for n in "qkv"]
            renamed[f"{block}.attn.in_proj_{end}"] = np.concatenate(parts)
    ours = _Reader("open_clip", told, TensorFile("open_clip", renamed), "open_clip").checkpoint()
    patches = patches_of(np.random.default_rng(0).normal(size=(3, 8, 8)), 4)
    theirs = stream_of(read_checkpoint(module), patches)
    for one, other in zip(stream_of(ours, patches), theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_bin_goes_through_a_weights_only_load(tmp_path):
    """A folder of BERT whose weights are PyTorch's, and the refusal of a pickle that runs."""
    module = module_of("bert")
    (tmp_path / "config.json").write_text(module.config.to_json_string())
    torch.save(module.float().state_dict(), tmp_path / "pytorch_model.bin")
    found, told = read_checkpoint(tmp_path), read_checkpoint(module)
    for ours, theirs in zip(found.layers, told.layers, strict=True):
        for name, value in theirs.parameters.items():
            np.testing.assert_array_equal(ours.parameters[name], value)

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="weights-only load refuses it"):
        read_checkpoint(tmp_path)


def write_folder(path, config, tensors):
    from safetensors.numpy import save_file

    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    save_file(tensors, path / "model.safetensors")
    return path


def packaged_parts():
    names = open_tensors(packaged_folder())
    config = json.loads((packaged_folder() / "config.json").read_text())
    return config, {name: np.array(names[name]) for name in names}


def test_what_is_refused(tmp_path):
    config, tensors = packaged_parts()
    with pytest.raises(ConfigError, match=r"holds no file of weights"):
        read_checkpoint(tmp_path)
    broken = {k: v for k, v in tensors.items() if "h.2.mlp.c_fc.weight" not in k}
    with pytest.raises(ConfigError, match=r"has no tensor h.2.mlp.c_fc.weight"):
        read_checkpoint(write_folder(tmp_path / "a", config, broken))
    poisoned = {**tensors, "transformer.h.1.attn.c_proj.weight": np.full((64, 64), np.nan, "f4")}
    with pytest.raises(ConfigError, match=r"h.1.attn.c_proj.weight has 4096 entries"):
        read_checkpoint(write_folder(tmp_path / "b", config, poisoned))
    bloom = {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 9}
    with pytest.raises(ConfigError, match="bloom has no reader of weights"):
        read_checkpoint(write_folder(tmp_path / "c", bloom, tensors))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "model.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "d" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="header longer than the file"):
        read_checkpoint(tmp_path / "d")
    (tmp_path / "d" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{]")
    with pytest.raises(ConfigError, match="is no safetensors file"):
        read_checkpoint(tmp_path / "d")
    with pytest.raises(TypeError, match="others go through hooks"):
        read_checkpoint(torch.nn.Linear(2, 2))


def test_scores_with_biases_go_through_hooks():
    settings = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "vocab_size": 30}
    module = transformers.T5EncoderModel(transformers.T5Config(**settings))
    with pytest.raises((NoSuchLimitError, ConfigError)):
        read_checkpoint(module)
