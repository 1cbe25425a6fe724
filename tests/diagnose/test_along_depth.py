"""Branches and weights along depth: noise, a flow, and what drawn networks scatter by."""

import numpy as np
import pytest

from translimit import observe
from translimit.diagnose import DrawnNetwork, Null, along_depth, depth_cosines, measure

RNG = np.random.default_rng(0)


def test_straightness_is_one_of_orthogonal_branches_and_their_number_of_equal_ones():
    apart = np.linalg.qr(RNG.normal(size=(12, 3)))[0].T.reshape(3, 4, 3)
    alike = np.repeat(RNG.normal(size=(1, 4, 3)), 3, axis=0)
    for rows, told in ((apart, 1.0), (alike, 3.0)):
        sums = observe.Straightness()
        for row in rows:
            sums.add(row)
        assert sums.ratio() == pytest.approx(told)
    constant = np.ones((3, 4, 3))  # the mean over tokens alone
    sums = observe.Straightness(centred=True)
    for row in constant:
        sums.add(row)
    assert np.isnan(sums.ratio())
    assert np.isnan(observe.Straightness().ratio())


def drawn(byte_model, key):
    network = DrawnNetwork(byte_model, Null.named("matched"), key)
    return byte_model.with_layers([network.layer(i) for i in range(len(byte_model.layers))])


def test_cosines_of_drawn_layers_scatter_by_one_over_the_width(byte_model):
    """18 networks of six pairs: the standard error of a deviation is 1 / (2 x 108)^(1/2) = 7 %."""
    pairs = np.triu_indices(len(byte_model.layers), 1)
    found = np.concatenate([depth_cosines(drawn(byte_model, k))[0][pairs] for k in range(18)])
    scaled = np.sqrt(np.mean(found**2)) * byte_model.dim
    assert abs(scaled - 1) < 4.5 * 0.07
    assert abs(scaled / byte_model.dim**0.5 - 1) > 4.5 * 0.07  # by the root of the width: refuted


def test_drawn_layers_are_noise_and_equal_ones_a_flow(byte_model, windows):
    entries = [byte_model.embed(row) for row in windows]
    network = drawn(byte_model, 7)
    nulls = [measure(drawn(byte_model, k), entries) for k in range(3)]
    one = along_depth(network, measure(network, entries), nulls)
    assert one.regime == "noise"
    assert one.straightness["attention"] == pytest.approx(1, abs=0.4)
    assert "independent noise" in str(one)
    # One layer that reads a stream which it hardly moves, eight times: the same branch again.
    layer = network.layers[0].with_parameters(
        W_O=1e-3 * network.layers[0].parameters["W_O"],
        W_2=1e-3 * network.layers[0].parameters["W_2"],
    )
    same = byte_model.with_layers([layer] * 8)
    other = along_depth(same, measure(same, entries))
    assert other.regime == "drift"
    assert other.straightness["attention"] > 7
    assert "a flow" in str(other)


def test_a_trained_network_stands_between(byte_model, diagnosis):
    found = diagnosis.along_depth
    assert found.regime == "neither"
    assert found.neighbours > 10 * found.deviation
    assert found.largest_gain >= 0
    kinds = {one.kind for one in diagnosis.verdicts}
    assert "depth" in kinds
    assert not any(one.fault for one in diagnosis.verdicts if one.kind == "depth")
    assert diagnosis.to_json()["along_depth"]["regime"] == "neither"


def test_without_weights_or_with_one_sequence_no_regime_is_told(byte_model, windows):
    measured = measure(byte_model, [byte_model.embed(windows[0])])
    assert along_depth(byte_model, measured).regime is None
    several = measure(byte_model, [byte_model.embed(row) for row in windows])
    assert along_depth(None, several).regime is None
    assert str(along_depth(None, several)).startswith("along depth: attention's branches")
