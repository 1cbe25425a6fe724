"""Figures of a network: identities, symmetries, hooks against the reader."""

from functools import partial

import numpy as np
import pytest

from translimit import observe
from translimit.core import ArgumentError, in_float64
from translimit.describe import (
    Activation,
    Attention,
    FeedForward,
    Frequencies,
    Norm,
    Normalisation,
    SubBlock,
)
from translimit.diagnose import (
    Checkpoint,
    Layer,
    changes,
    diagnose,
    measure,
    measure_module,
    series,
    skip,
    stream_of,
)
from translimit.diagnose.hooks import SEEN
from translimit.diagnose.layers import shapes
from translimit.diagnose.measuring import compiled
from translimit.diagnose.nulls import haar

RNG = np.random.default_rng(0)


def rms_network(dim=16, depth=2):
    norm = Normalisation(Norm.RMS, 1e-6)
    rotary = Frequencies.geometric(4)
    attention = Attention(4, 4, 0.1, 0.1, 0.1, 0.1, kv_heads=2, rotary=rotary)
    units = FeedForward(24, Activation.SILU, 0.1, 0.1, gated=True)
    blocks = (SubBlock((attention,), norm), SubBlock((units,), norm))
    layers = tuple(
        Layer(
            blocks,
            True,
            {n: 0.3 * RNG.normal(size=s) for n, s in shapes(blocks, dim).items()},
        )
        for _ in range(depth)
    )
    return Checkpoint("llama", layers, {"token": RNG.normal(size=(20, dim))})


def test_a_rotation_of_the_stream_changes_nothing():
    network = rms_network()
    O = haar(RNG, 16, 16)
    turned = []
    for layer in network.layers:
        p = dict(layer.parameters)
        readers = {n: O @ p[n] for n in ("W_Q", "W_K", "W_V", "W_1", "W_up")}
        writers = {n: p[n] @ O.T for n in ("W_O", "W_2")}
        turned.append(layer.with_parameters(**readers, **writers))
    entry = network.embed(np.arange(8))
    before = measure(network, [entry])
    after = measure(network.with_layers(turned), [entry @ O.T])
    for name, rows in before.values.items():
        np.testing.assert_allclose(after.values[name], rows, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("family", ["rotary", "byte"])
def test_compiled_is_what_numpy_computes(family, byte_model, windows):
    """An accelerator runs the same formulas through XLA."""
    network, ids = (rms_network(), np.arange(8)) if family == "rotary" else (byte_model, windows[0])
    entry, layer = network.embed(ids), network.layers[0]
    found = measure(network, [entry])
    run = partial(compiled, layer.blocks, layer.causal)
    kept = np.arange(len(entry)) > 0
    exit, figures, places, _ = in_float64(run, dict(layer.parameters), kept, entry)
    np.testing.assert_allclose(exit, stream_of(network, ids)[1], rtol=1e-12, atol=1e-13)
    for name, value in figures.items():
        np.testing.assert_allclose(value, found.values[name][0, 1], rtol=1e-9, err_msg=name)
    np.testing.assert_array_equal(places["pairs"], found.pairs[0, 0])
    np.testing.assert_array_equal(places["sink_keys"], found.sink_keys[0, 0])


def test_the_figures_are_those_of_the_stream(byte_model, windows, diagnosis):
    streams = stream_of(byte_model, windows[3])
    for place, x in enumerate(streams):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        overlap = observe.mean_overlap(unit)
        measured = diagnosis.measured
        assert measured.values["overlap"][3, place] == pytest.approx(float(overlap))
        rank = observe.effective_rank(x)
        assert measured.values["effective_rank"][3, place] == pytest.approx(float(rank))
        np.testing.assert_allclose(measured.ends[3, place, 1], x[0])
    loss = byte_model.loss(windows[3], streams[-1])
    assert measured.losses[3] == pytest.approx(loss)


def test_sequences_of_several_lengths_stand_in_their_order(byte_model, windows):
    rows = [windows[0], windows[1][:12], windows[2]]
    together = measure(byte_model, [byte_model.embed(row) for row in rows], ids=rows)
    alone = measure(byte_model, [byte_model.embed(rows[1])], ids=[rows[1]])
    for name, values in together.values.items():
        np.testing.assert_allclose(values[1], alone.values[name][0], rtol=1e-9, err_msg=name)
    assert together.tokens.tolist() == [24, 12, 24]


def test_between_inputs_one_vector_for_all_is_one():
    network = rms_network()
    entries = [np.tile(RNG.normal(size=16), (8, 1)) for _ in range(3)]
    found = measure(network, entries).between()
    assert all(rows[0] < 0.9 for rows in found.values())
    same = measure(network, [entries[0]] * 3).between()
    np.testing.assert_allclose(same["mean"], 1.0)


def test_one_token_and_a_blow_up_are_refused():
    network = rms_network()
    with pytest.raises(ArgumentError, match="two tokens at least"):
        measure(network, [np.ones((1, 16))])
    huge = [one.with_parameters(W_2=np.full((24, 16), 1e308)) for one in network.layers]
    with pytest.raises(ArgumentError, match="not finite after layer 1"):
        measure(network.with_layers(huge), [network.embed(np.arange(8))])


def test_hooks_see_what_the_reader_computes(byte_model, windows):
    transformers = pytest.importorskip("transformers")
    from translimit.diagnose import packaged_folder

    module = transformers.GPT2Model.from_pretrained(packaged_folder(), attn_implementation="eager")
    module = module.double().eval()
    hooks = measure_module(module, windows[:2])
    reader = measure(byte_model, [byte_model.embed(row) for row in windows[:2]])
    for name in set(SEEN) - {"act_median"}:
        np.testing.assert_allclose(
            hooks.values[name], reader.values[name], rtol=1e-9, atol=1e-12, err_msg=name
        )
    assert np.isnan(hooks.values["score_spread"]).all()
    np.testing.assert_array_equal(hooks.sink_keys, reader.sink_keys)
    np.testing.assert_allclose(hooks.ends, reader.ends, atol=1e-12)
    np.testing.assert_allclose(hooks.straight, reader.straight, rtol=1e-9)


def test_skipping_ranks_by_the_loss(byte_model, windows):
    found = skip(byte_model, list(windows[:3]))
    assert [one.rise for one in found] == sorted(one.rise for one in found)
    assert found[-1].layer == 1  # the first layer is worth most
    assert found[-1].rise - 2 * found[-1].rise_error > 0
    dead = list(byte_model.layers)
    zero = {n: np.zeros_like(dead[2].parameters[n]) for n in ("W_O", "W_2", "b_O", "b_2")}
    dead[2] = dead[2].with_parameters(**zero)
    useless = next(o for o in skip(byte_model.with_layers(dead), list(windows[:2])) if o.layer == 3)
    assert useless.rise == pytest.approx(0, abs=1e-12)
    assert useless.influence == pytest.approx(0, abs=1e-12)


def test_against_oneself_nothing_moved(byte_model, windows):
    same = changes(byte_model, byte_model, list(windows))
    assert all((rows == 0).all() for rows in same.moved.values())
    assert np.nanmax(np.abs(same.differences["overlap"])) == 0
    tuned = list(byte_model.layers)
    tuned[1] = tuned[1].with_parameters(W_2=1.5 * tuned[1].parameters["W_2"])
    found = changes(byte_model, byte_model.with_layers(tuned), list(windows))
    np.testing.assert_allclose(found.moved["W_2"], [0, 0.5, 0, 0], atol=1e-6)
    assert np.abs(found.differences["overlap"][:2]).max() == 0
    assert abs(found.z("ratio_f")[2]) > 5
    along = series({0: byte_model, 10: byte_model.with_layers(tuned)}, list(windows))
    level = along.mean("ratio_f")[:, 2].mean()
    step, error = along.crossing("ratio_f", 2, float(level), upward=True)
    assert step == pytest.approx(np.sqrt(11) - 1)  # half way in log(step + 1)
    assert np.isfinite(error)


def test_one_sequence_gives_figures_and_no_verdicts(byte_model, windows):
    found = diagnose(byte_model, windows[0][:12], key=0, null=None)
    assert np.isfinite(found.observables["overlap"]).all()
    assert np.isnan(found.observables["overlap_error"]).all()
    assert not found.verdicts
    assert "need 8 sequences" in str(found)
