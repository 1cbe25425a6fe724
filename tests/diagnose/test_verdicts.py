"""Planted faults, each named at its layer, and nothing named in a clean network."""

from dataclasses import replace

import numpy as np
import pytest

from translimit.diagnose import diagnose, measure, spectra
from translimit.diagnose.depth import best_order, depth_cosines, neighbour_sum
from translimit.diagnose.nulls import Null, redrawn
from translimit.diagnose.statistics import compare_between


def faults(checkpoint, windows):
    found = diagnose(checkpoint, windows, key=0, draws=4, predict=False)
    return {(one.kind, one.layer) for one in found.faults}, found


def planted(checkpoint, place, **changed):
    layers = list(checkpoint.layers)
    layers[place] = layers[place].with_parameters(**changed)
    return checkpoint.with_layers(layers)


def copied(layer, names, axis_of_out=True):
    """Head 1 as head 0, in the matrices that are named."""
    changed = {}
    for name in names:
        value = np.array(layer.parameters[name])
        axis = 0 if name == "W_O" or value.ndim == 1 else 1
        parts = np.split(value, 4, axis=axis)
        parts[1] = parts[0]
        changed[name] = np.concatenate(parts, axis=axis)
    return changed


def test_a_clean_network_has_no_fault(diagnosis):
    assert diagnosis.faults == ()
    assert all(not one.fault for one in diagnosis.verdicts)
    assert "fault" not in {one.kind for one in diagnosis.verdicts}


def test_a_dead_layer_is_named_even_with_a_bias(byte_model, windows):
    dead = planted(byte_model, 2, W_O=np.zeros((64, 64)))
    found, _ = faults(dead, windows)
    assert found == {("idle", 3)}


def test_equal_heads_are_named_with_their_numbers(byte_model, windows):
    layer = byte_model.layers[1]
    names = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
    found, told = faults(planted(byte_model, 1, **copied(layer, names)), windows)
    assert {kind for kind, _ in found} == {"redundant heads", "same map"}
    assert {place for _, place in found} == {2}
    assert all(one.heads == (0, 1) for one in told.faults)


def test_equal_maps_are_named_where_outputs_differ(byte_model, windows):
    layer = byte_model.layers[1]
    changed = copied(layer, ("W_Q", "W_K", "b_Q", "b_K"))
    assert faults(planted(byte_model, 1, **changed), windows)[0] == {("same map", 2)}


def test_large_scores_are_named(byte_model, windows):
    layer = byte_model.layers[3]
    changed = {n: 8 * layer.parameters[n] for n in ("W_Q", "W_K", "b_Q", "b_K")}
    assert faults(planted(byte_model, 3, **changed), windows)[0] == {("one-hot", 4)}


def test_collapsed_embeddings_are_named(byte_model, windows):
    table = byte_model.tensors["token"]
    common = table.mean(axis=0) + 0.2
    flat = {**byte_model.tensors, "token": common + 0.02 * (table - table.mean(axis=0))}
    flat["position"] = 0.02 * byte_model.tensors["position"]
    found, _ = faults(replace(byte_model, tensors=flat), windows)
    assert ("entry collapsed", 0) in found


def test_drawn_weights_of_the_same_scale_are_no_fault(byte_model, windows):
    null = Null.named("matched")
    drawn = byte_model.with_layers(
        [redrawn(one, null, 10 + place) for place, one in enumerate(byte_model.layers)]
    )
    assert faults(drawn, windows)[0] == set()


def test_the_order_of_layers_is_recovered_where_weights_move_slowly(byte_model):
    """Layers that drift: A of neighbours agrees, and a swap is undone."""
    rng = np.random.default_rng(0)
    layer, layers = byte_model.layers[1], []
    for _ in range(5):
        layers.append(layer)
        moved = {
            n: 0.8 * layer.parameters[n]
            + 0.6 * np.std(layer.parameters[n]) * rng.normal(size=layer.parameters[n].shape)
            for n in ("W_Q", "W_K")
        }
        layer = layer.with_parameters(**moved)
    cosines, _ = depth_cosines(byte_model.with_layers(layers))
    assert best_order(cosines) == (0, 1, 2, 3, 4)
    swapped = [layers[i] for i in (0, 3, 2, 1, 4)]
    cosines, _ = depth_cosines(byte_model.with_layers(swapped))
    assert best_order(cosines) == (0, 3, 2, 1, 4)
    assert neighbour_sum(cosines, (0, 3, 2, 1, 4)) > 1.1 * neighbour_sum(cosines, range(5))


def test_the_product_never_needs_the_matrix(byte_model):
    a, v = [], []
    for layer in byte_model.layers:
        p = {n: np.asarray(x, float) for n, x in layer.parameters.items()}
        gain = p["attention_in.gain"][:, None]
        q, k, val = (gain * p[f"W_{n}"] for n in "QKV")
        a.append(q @ k.T)  # the sum over heads is one product
        v.append(val @ p["W_O"])
    for found, whole in zip(depth_cosines(byte_model), (a, v), strict=True):
        flat = np.array([one.reshape(-1) / np.linalg.norm(one) for one in whole])
        np.testing.assert_allclose(found, flat @ flat.T, atol=1e-10)


def test_drawn_weights_end_at_the_edge(byte_model):
    null = Null.named("matched")
    drawn = byte_model.with_layers([redrawn(one, null, 5) for one in byte_model.layers])
    for name, rows in spectra(drawn).items():
        assert (rows[:, 0] < 1.05).all(), name
    assert spectra(byte_model)["W_1"][:, 0].max() > 1.3


@pytest.mark.parametrize("kind", ["json", "html"])
def test_every_form_says_the_same(diagnosis, kind):
    if kind == "json":
        told = diagnosis.to_json()
        assert told["verdicts"] == [one.to_json() for one in diagnosis.verdicts]
        assert told["observables"]["overlap"][0] == pytest.approx(
            float(diagnosis.observables["overlap"][0])
        )
        assert told["observables"]["entropy"][0] is None
    else:
        text = diagnosis._repr_html_()
        for one in diagnosis.verdicts:
            assert one.sentence.split(":")[0] in text
        assert "overlap" in text


def test_inputs_that_give_one_vector_are_named_with_the_null(byte_model, windows, diagnosis):
    """An MLP that ends in its bias alone: every token is that vector, whatever entered."""
    assert "one vector" not in {one.kind for one in diagnosis.verdicts}
    between = diagnosis.between["mean"]
    assert (between.value[1:] < between.null[1:]).all()  # training holds inputs apart
    assert np.isfinite(between.error).all()
    data = diagnosis.observables
    assert np.isfinite(data["overlap_between_last_z"].values[1:]).all()
    bias = 100 * np.random.default_rng(0).standard_normal(64)
    found = diagnose(planted(byte_model, 2, b_2=bias), windows, key=0, draws=3, predict=False)
    (told,) = [one for one in found.verdicts if one.kind == "one vector"]
    assert told.layer == 3
    assert told.numbers["overlap_between"] > 0.99
    assert "all inputs give one vector from layer 3 on" in told.sentence


def test_the_error_between_inputs_leaves_one_out(byte_model, windows):
    entries = [byte_model.embed(row) for row in windows[:5]]
    found = compare_between(measure(byte_model, entries), [])["mean"]
    left = [measure(byte_model, entries[:i] + entries[i + 1 :]).between()["mean"] for i in range(5)]
    told = np.sqrt(4 / 5 * np.sum((np.array(left) - np.mean(left, axis=0)) ** 2, axis=0))
    np.testing.assert_allclose(found.error, told)
    assert np.isnan(found.null).all()
    two = compare_between(measure(byte_model, entries[:2]), [])["mean"]
    assert np.isnan(two.error).all()
