"""Rotated surrogates: exact moments, a calibrated test, and what it sees."""

from dataclasses import replace

import numpy as np
import pytest

from translimit.core import ArgumentError, NoSuchLimitError, named_key
from translimit.describe import Activation, Attention, FeedForward, Norm, Normalisation, SubBlock
from translimit.diagnose import (
    Checkpoint,
    Layer,
    Surrogates,
    diagnose,
    measure,
    surrogate_figures,
    surrogate_flow,
    surrogate_test,
)
from translimit.diagnose.layers import shapes
from translimit.diagnose.surrogates import rotation, surrogate_of

RNG = np.random.default_rng(0)
DIM, N = 12, 40


def layer(causal=False):
    norm = Normalisation(Norm.LAYER, 1e-6)
    attention = Attention(3, 4, 0.1, 0.1, 0.1, 0.1)
    units = FeedForward(24, Activation.RELU, 0.1, 0.1)
    blocks = (SubBlock((attention,), norm_post=norm), SubBlock((units,), norm_post=norm))
    drawn = {n: RNG.normal(size=s) / s[0] ** 0.5 for n, s in shapes(blocks, DIM).items()}
    norms = {f"{p}_post.gain": np.ones(DIM) for p in ("attention", "mlp")}
    return Layer(blocks, causal, {**drawn, **norms})


def test_surrogates_have_the_same_mean_and_covariance():
    Q = rotation(RNG, 7)
    np.testing.assert_allclose(Q @ Q.T, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(Q.sum(axis=1), 1, atol=1e-12)
    x = RNG.normal(size=(N, DIM)) ** 3
    y = surrogate_of(x, RNG, atoms=(0, -1))
    np.testing.assert_array_equal(y[[0, -1]], x[[0, -1]])
    np.testing.assert_allclose(y[1:-1].mean(axis=0), x[1:-1].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(np.cov(y[1:-1].T), np.cov(x[1:-1].T), atol=1e-10)
    assert np.abs(y[1:-1] - x[1:-1]).max() > 0.5


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_gaussian_clouds_are_their_own_surrogates(part):
    one, root = layer(), RNG.normal(size=(DIM, DIM)) / 3
    found = [
        surrogate_test(one, 0.3 + RNG.normal(size=(N, DIM)) @ root, part, key=k) for k in range(16)
    ]
    z, p = (np.array([getattr(each, name) for each in found]) for name in "zp")
    assert abs(z.mean()) < 4.5 * z.std(ddof=1) / 16**0.5 + 0.1
    assert abs(p.mean() - 0.5) < 4.5 * (1 / 12 / 16) ** 0.5 + 1 / 26
    assert np.mean(z > 4) <= 0.15


def test_tokens_in_two_far_groups_are_seen_by_the_mlp():
    one = layer()
    x = 0.1 * RNG.normal(size=(N, DIM))
    x[:6] += 4 * RNG.normal(size=DIM)
    found = surrogate_test(one, x, "mlp", key=0)
    assert found.z > 4
    assert found.p == pytest.approx(1 / 13)
    assert found.share < 0.95
    assert "explain" in str(found)


def test_a_linear_map_reads_two_moments():
    from dataclasses import replace

    one = layer()
    units = replace(one.units, activation=Activation.LINEAR)
    linear = replace(one, blocks=(one.blocks[0], replace(one.blocks[1], branches=(units,))))
    found = surrogate_test(linear, RNG.normal(size=(N, DIM)) ** 3, "mlp", key=0)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.share == pytest.approx(1.0)


def test_what_is_refused():
    x = RNG.normal(size=(N, DIM))
    with pytest.raises(NoSuchLimitError, match="positions are not exchangeable"):
        surrogate_test(layer(causal=True), x, "attention", key=0)
    with pytest.raises(ArgumentError, match="three at least"):
        surrogate_test(layer(), x[:4], "mlp", key=0, atoms=(0, 1))
    with pytest.raises(ArgumentError, match="draws"):
        surrogate_test(layer(), x, "mlp", key=0, draws=2)


def checkpoint(layers=2):
    """Post-LN layers whose MLPs have a threshold that single tokens pass."""
    made = []
    for _ in range(layers):
        one = layer()
        made.append(one.with_parameters(b_1=-2.0 * np.ones(24), W_1=2 * one.parameters["W_1"]))
    return Checkpoint("bert", tuple(made), {})


def clouds(far):
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = 0.3 + rng.normal(size=(N, DIM))
        x[:3] += far * rng.normal(size=(3, DIM))
        found.append(x)
    return found


def test_every_layer_is_asked_and_told_in_words():
    found = surrogate_figures(checkpoint(), clouds(5.0), key=0)
    assert set(found) == {"attention", "mlp"}
    assert found["mlp"].z.shape == (8, 2)
    model, x = checkpoint(), clouds(5.0)[3]
    asked = surrogate_figures(model, [x], key=0)["attention"].z[0, 0]
    key = named_key(0, "surrogates", 0, 0)
    assert asked == surrogate_test(model.layers[0], x, "attention", key=key, atoms=(0, -1)).z
    assert asked != surrogate_test(model.layers[0], x, "attention", key=key).z  # no atoms
    words = Surrogates(
        z=np.array([[0.5, 9.0, 0.1, 12.0]] * 3),
        p=np.zeros((3, 4)),
        share=np.zeros((3, 4)),
        resolved=np.array([[1.0, 1.0, 0.0, 1.0]] * 3),
    ).sentence("the MLP")
    assert words == (
        "the MLP reads no more than two moments of its tokens in layer 1 (median z 0.5), reads "
        "more than two moments of its tokens in layers 2, 4 (median z 9.0 to 12.0), moves the "
        "covariance by less than two floors in layer 3 (median z 0.1)"
    )


def test_a_diagnosis_says_what_is_read_of_tokens():
    table = np.random.default_rng(0).normal(size=(50, DIM))
    model = replace(checkpoint(), tensors={"token": table})
    rows = np.random.default_rng(1).integers(0, 50, (8, 20))
    found = diagnose(model, rows, key=0, null=None)
    assert [one.kind for one in found.verdicts if one.kind == "closure"] == ["closure"] * 2
    assert np.isfinite(found.observables["surrogate_mlp_z"].values[1:]).all()
    assert not diagnose(model, rows, key=0, null=None, surrogates=0).surrogates
    assert found.to_json()["verdicts"][-1]["numbers"]["z_1"] == pytest.approx(
        found.surrogates["mlp"].median_z[0]
    )


def test_rotated_tokens_through_a_whole_network(byte_model):
    model, x = checkpoint(), clouds(0.0)[0]
    found = surrogate_flow(model, x, key=0, draws=6)
    assert found.shape == (6, 3)
    own = measure(model, [x]).values["overlap"][0]
    # Gaussian tokens are as good as their rotated ones: no further apart than these scatter.
    assert np.abs(found.mean(axis=0) - own).max() < 5 * found.std(axis=0, ddof=1).max()
    np.testing.assert_allclose(surrogate_flow(model, x, key=0, draws=6), found, rtol=0)
    with pytest.raises(NoSuchLimitError, match="exchangeable"):
        surrogate_flow(byte_model, byte_model.embed(np.arange(9)), key=0)
    with pytest.raises(ArgumentError, match="draws"):
        surrogate_figures(model, [x], key=0, draws=2)
