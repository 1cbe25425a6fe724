"""Rotated surrogates: exact moments, a calibrated test, and what it sees."""

import numpy as np
import pytest

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import Activation, Attention, FeedForward, Norm, Normalisation, SubBlock
from translimit.diagnose import Layer, surrogate_test
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
