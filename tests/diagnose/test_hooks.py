"""Any module by hooks: seven families, a module of one's own, a training loop."""

import numpy as np
import pytest
from tests.diagnose.small_models import module_of

from translimit import observe
from translimit.core import ArgumentError
from translimit.diagnose import (
    diagnose_module,
    measure,
    measure_module,
    patches_of,
    read_checkpoint,
)
from translimit.diagnose.hooks import SEEN

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

HOOKED = ("bert", "albert", "distilbert", "llama", "gpt_neox", "opt", "vit")
RNG = np.random.default_rng(0)


def given(name):
    return RNG.normal(size=(3, 8, 8)) if name == "vit" else RNG.integers(3, 30, 5)


@pytest.mark.parametrize("name", HOOKED)
def test_seven_families_are_seen(name):
    module, inputs = module_of(name), given(name)
    found = measure_module(module, [inputs])
    for one in SEEN:
        assert np.isfinite(found.values[one][0, 1:]).all(), one
    told = {"output_hidden_states": True}
    tensor = torch.tensor(inputs)[None]
    told |= {"pixel_values": tensor} if name == "vit" else {"input_ids": tensor}
    with torch.no_grad():
        hidden = module(**told).hidden_states
    for place, state in enumerate(hidden[:-1]):  # the last one may be after a norm
        overlap = observe.token_overlap(state[0].numpy())
        assert found.values["overlap"][0, place] == pytest.approx(float(overlap), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOOKED)
def test_hooks_and_readers_agree(name):
    module, inputs = module_of(name), given(name)
    hooks, checkpoint = measure_module(module, [inputs]), read_checkpoint(module)
    read = patches_of(inputs, 4) if name == "vit" else inputs
    reader = measure(checkpoint, [checkpoint.embed(read)])
    for one in set(SEEN) - {"act_median"}:
        np.testing.assert_allclose(hooks.values[one], reader.values[one], rtol=1e-5, err_msg=one)


@pytest.mark.parametrize("parallel", [True, False])
def test_what_an_mlp_reads_is_as_the_configuration_says(parallel):
    module, inputs = module_of("gpt_neox", use_parallel_residual=parallel), given("gpt_neox")
    found = measure_module(module, [inputs]).values["ratio_f"][0]
    streams, attention, mlps = [], [], []
    for layer in module.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        layer.attention.register_forward_hook(lambda _, args, out: attention.append(out[0]))
        layer.mlp.register_forward_hook(lambda _, args, out: mlps.append(out))
    with torch.no_grad():
        module(input_ids=torch.tensor(inputs)[None])
    below = [x if parallel else x + a for x, a in zip(streams, attention, strict=True)]
    expected = [
        float(((f**2).sum(-1).mean() / (x**2).sum(-1).mean()).sqrt())
        for f, x in zip(mlps, below, strict=True)
    ]
    np.testing.assert_allclose(found[1:], expected, rtol=1e-5)
    other = [x + a if parallel else x for x, a in zip(streams, attention, strict=True)]
    assert all(not torch.allclose(x, y, rtol=1e-2) for x, y in zip(below, other, strict=True))


class Own(torch.nn.Module):
    """A module of one's own: the second branch is called mlp, the first attn."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 8)
        self.layers = torch.nn.ModuleList(Block() for _ in range(3))

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return x


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x):
        x = x + self.attn(x.mean(dim=1, keepdim=True).expand_as(x))
        return x + self.mlp(x)


def test_a_module_of_ones_own_and_its_null():
    torch.manual_seed(0)
    module, inputs = Own(), [RNG.integers(0, 20, 5) for _ in range(8)]
    before = [value.clone() for value in module.parameters()]
    found = diagnose_module(module, inputs, key=0, draws=3)
    for value, kept in zip(module.parameters(), before, strict=True):
        assert torch.equal(value, kept)  # the module is as it was
    assert np.isfinite(found.compared["overlap"].z[1:]).all()
    assert np.isnan(found.compared["entropy"].value).all()  # it returns no attention weights
    assert "by hooks" in str(found)
    assert not module.layers[0]._forward_hooks
    with pytest.raises(ArgumentError, match="no list of blocks"):
        measure_module(torch.nn.Linear(3, 3), inputs)


def test_a_training_loop_is_watched():
    module = module_of("llama").train()
    watch = observe.watch(module, [RNG.integers(3, 30, 5) for _ in range(2)], every=10)
    assert watch(3) == {}
    found = watch(20)
    assert {"overlap/layer_0", "ratio_a/layer_1", "entropy/layer_2", "sink/layer_2"} <= set(found)
    assert all(isinstance(value, float) for value in found.values())
    assert module.training
    with pytest.raises(ArgumentError, match="every"):
        observe.watch(module, [[1, 2]], every=0)
