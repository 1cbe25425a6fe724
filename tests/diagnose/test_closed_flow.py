"""The closed law through all layers: beside the closed forms of a block, and what is refused."""

import numpy as np
import pytest

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import Activation, Attention, FeedForward, Norm, Normalisation, SubBlock
from translimit.diagnose import (
    Checkpoint,
    Layer,
    closed_flow,
    measure,
    mlp_of_gaussian,
    norm_of_gaussian,
)
from translimit.diagnose.layers import shapes

DIM, N = 16, 60


def network(layers=2, scale=0.3, seed=0):
    rng = np.random.default_rng(seed)
    norm = Normalisation(Norm.LAYER, 1e-6)
    blocks = (
        SubBlock((Attention(2, 8, 0.1, 0.1, 0.1, 0.1),), norm_post=norm),
        SubBlock((FeedForward(32, Activation.GELU, 0.1, 0.1),), norm_post=norm),
    )

    def one():
        drawn = {
            n: scale * rng.normal(size=s) / s[0] ** 0.5 for n, s in shapes(blocks, DIM).items()
        }
        norms = {f"{p}_post.gain": np.ones(DIM) for p in ("attention", "mlp")}
        return Layer(blocks, False, {**drawn, **norms})

    return Checkpoint("test", tuple(one() for _ in range(layers)), {})


def tokens(seed=1):
    rng = np.random.default_rng(seed)
    return 0.4 * rng.normal(size=DIM) + rng.normal(size=(N, DIM))


def test_one_layer_without_scores_is_norms_and_an_mlp_of_a_gaussian():
    """Uniform attention adds a constant: the layer is then norm, MLP, norm, in closed form.

    The closed forms take the law after the first norm as Gaussian, the flow its particles as they
    are: the two share nothing but the entry, and differ by that and by 1 / P^(1/2).
    """
    one, x = network(1, scale=2.0), tokens()
    layer = one.layers[0]
    of = layer.parameters
    mean, cov = x.mean(axis=0), np.cov(x.T, bias=True)

    def overlap(shift, mlp=1.0):
        y = norm_of_gaussian(mean + shift, cov, Norm.LAYER, 1e-6)
        f = mlp_of_gaussian(y.mean, y.cov, Activation.GELU, of["W_1"], of["W_2"])
        total = y.cov + mlp * (f.cov + f.cross + f.cross.T)
        end = norm_of_gaussian(y.mean + mlp * f.mean, total, Norm.LAYER, 1e-6)
        return np.sum(end.mean**2) / DIM

    constant = (mean @ of["W_V"]) @ of["W_O"]
    found = closed_flow(one, x, key=0, closure="uniform", particles=20_000).overlap[1]
    assert found == pytest.approx(overlap(constant), rel=0.015)
    assert found != pytest.approx(overlap(0 * constant), rel=0.06)  # attention left out
    assert found != pytest.approx(overlap(constant, 0.0), rel=0.06)  # the MLP left out


def test_gaussian_tokens_stay_with_their_law():
    """Drawn Gaussian tokens: the closed law is as near to them as their own sampling."""
    one = network(3)
    x = np.random.default_rng(5).normal(size=(400, DIM)) + 0.3
    found = closed_flow(one, x, key=0)
    floor = 4 * (DIM / 400) ** 0.5
    assert found.cov_error[0] < 1e-12
    assert found.cov_error.max() < floor
    measured = measure(one, [x]).values["overlap"][0]
    np.testing.assert_allclose(found.overlap, measured, atol=0.03)
    again = closed_flow(one, x, key=0)
    np.testing.assert_array_equal(found.overlap, again.overlap)


def test_infinitely_many_keys_are_the_finite_closure_of_many():
    one, x = network(2, 0.1), tokens()
    finite = closed_flow(one, np.tile(x, (40, 1)), key=0)
    infinite = closed_flow(one, x, key=0, closure="gaussian")
    np.testing.assert_allclose(finite.overlap, infinite.overlap, rtol=2e-3)


def test_what_is_refused(byte_model):
    x = tokens()
    with pytest.raises(ArgumentError, match="particles: got 20, for 16 directions; pass 34"):
        closed_flow(network(), x, key=0, particles=20)
    with pytest.raises(NoSuchLimitError, match="overshoots"):
        closed_flow(network(scale=6.0), x, key=0, closure="gaussian")
    with pytest.raises(NoSuchLimitError, match="prefix"):
        closed_flow(byte_model, byte_model.embed(np.arange(9)), key=0)
