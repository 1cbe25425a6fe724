"""What a diagnosis refuses, leaves out, or warns of: each once."""

from dataclasses import replace

import numpy as np
import pytest

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.diagnose import (
    as_inputs,
    closure_figures,
    diagnose,
    fit_closures,
    read_checkpoint,
    surrogate_test,
)

transformers = pytest.importorskip("transformers")

from tests.diagnose.small_models import MORE, module_of  # noqa: E402

RNG = np.random.default_rng(0)


def rows(count=8, tokens=6):
    return RNG.integers(3, 30, (count, tokens))


@pytest.fixture(scope="module")
def qwen():
    return read_checkpoint(module_of("qwen3"))


def test_one_token_is_refused_and_one_sequence_has_no_errors(byte_model, windows):
    with pytest.raises(ArgumentError, match="no sequence of two tokens"):
        diagnose(byte_model, [[1]], key=0)
    one = diagnose(byte_model, windows[:1], key=0, draws=2, predict=False)
    assert np.isnan(one.observables["overlap_error"].values).all()
    assert one.verdicts == ()
    assert "no verdicts: they need 8 sequences" in str(one)


def test_a_single_head_has_no_figures_of_pairs(byte_model, windows):
    layers = []
    for layer in byte_model.layers:
        attention, mlp = layer.blocks
        of = attention.branches[0]
        whole = replace(of, heads=1, head_dim=64, kv_heads=None, value_dim=None)
        blocks = (replace(attention, branches=(whole,)), mlp)
        layers.append(replace(layer, blocks=blocks))
    found = diagnose(byte_model.with_layers(layers), windows, key=0, null=None)
    for name in ("head_var", "head_cos", "head_pair", "head_map"):
        assert np.isnan(found.observables[name].values).all(), name
    assert found.to_json()["observables"]["head_cos"][1] is None
    assert not {"redundant heads", "same map"} & {one.kind for one in found.verdicts}


def test_norms_of_queries_give_observables_and_no_closure(qwen):
    found = diagnose(qwen, rows(), key=0, draws=2)
    assert np.isfinite(found.observables["entropy"].values[1:]).all()
    assert not found.closures
    told = [one for one in found.notes if "not covered" in one]
    assert any("no closures: not covered: norms of queries and keys" in one for one in told)
    with pytest.raises(NoSuchLimitError, match="not covered"):
        closure_figures(qwen, [qwen.embed(rows()[0])])


def test_capped_scores_give_observables_and_no_closure():
    gemma = read_checkpoint(module_of("gemma2"))
    found = diagnose(gemma, rows(), key=0, draws=2)
    assert np.isfinite(found.observables["entropy"].values[1:]).all()
    assert any("no closures: not covered: capped scores" in one for one in found.notes)
    with pytest.raises(NoSuchLimitError, match="capped scores"):
        fit_closures(gemma.layers[0], gemma.embed(rows()[0]))


def test_shared_layers_are_warned_of():
    found = diagnose(read_checkpoint(module_of("albert")), rows(), key=0, draws=2)
    assert any("shared layers" in one for one in found.notes)
    assert found.along_depth.deviation == 0  # independent layers are no null of shared ones


def test_a_mask_and_surrogates(byte_model, windows):
    x = byte_model.embed(windows[0])
    with pytest.raises(NoSuchLimitError, match="positions are not exchangeable"):
        surrogate_test(byte_model.layers[0], x, "attention", key=0)
    assert not diagnose(byte_model, windows, key=0, null=None).surrogates


def test_what_lies_beyond_the_context_is_cut_and_told(byte_model):
    found = as_inputs(RNG.integers(0, 256, (2, byte_model.context + 5)), byte_model)
    assert {len(row) for row in found.rows} == {byte_model.context}
    assert found.notes == ("10 tokens beyond the context are dropped",)


def test_a_window_counts_visible_keys():
    kind, settings = MORE["mistral"]
    config = getattr(transformers, kind)(**{**settings, "sliding_window": 3})
    module = transformers.AutoModel.from_config(config, attn_implementation="eager")
    windowed = read_checkpoint(module.double().eval())
    ids = rows(1, 12)
    narrow = diagnose(windowed, ids, key=0, null=None)
    assert narrow.observables["ipr"].values[1] >= 1 / 3  # never more than three keys
    assert narrow.observables["entropy"].values[1] > 0.9  # near uniform over those
    fits = fit_closures(windowed.layers[0], windowed.embed(ids[0]))
    assert np.isfinite([one.r2 for one in fits.values()]).all()
