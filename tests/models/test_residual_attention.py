"""The finite-depth network against a NumPy loop, and its refusals."""

import numpy as np
import pytest

from translimit.attention import Softmax
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.models import ResidualAttention

GENERATOR = np.random.default_rng(0)
Q, K, V = GENERATOR.standard_normal((3, 2, 2))


def numpy_layers(tokens, layers, t1, *, causal=False):
    """The network as a loop over layers, in the plainest NumPy."""
    kept = [tokens]
    for _ in range(layers):
        scores = 0.5 * (tokens @ Q.T) @ (tokens @ K.T).T
        if causal:
            scores = np.where(np.tril(np.ones_like(scores)) == 1, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        tokens = tokens + t1 / layers * weights @ (tokens @ V.T)
        kept.append(tokens)
    return np.stack(kept)


@pytest.mark.parametrize("causal", [False, True])
def test_against_numpy(causal):
    tokens = GENERATOR.standard_normal((9, 2))
    attention = Softmax(Q=Q, K=K, V=V, score_scale=0.5, causal=causal)
    model = ResidualAttention(attention, 12, t1=0.7)
    positions = np.arange(9.0) if causal else None
    got = model.simulate(tokens, positions=positions, save_every=1)
    right = numpy_layers(tokens, 12, 0.7, causal=causal)
    np.testing.assert_allclose(got.tokens, right, rtol=1e-11)
    np.testing.assert_allclose(got.ts, np.linspace(0.0, 0.7, 13), rtol=1e-15)
    thinned = model.simulate(tokens, positions=positions, save_every=4)
    np.testing.assert_array_equal(thinned.tokens, got.tokens[::4])
    np.testing.assert_array_equal(thinned.ts, got.ts[::4])
    ends = model.simulate(tokens, positions=positions)
    assert ends.tokens.shape == (2, 9, 2)
    assert ends.to_xarray()["tokens"].sizes == {"time": 2, "token": 9, "component": 2}
    assert len(ends.plot().collections) > 0


@pytest.mark.usefixtures("as_user")
def test_refusals():
    attention = Softmax(Q=Q, K=K, V=V)
    with pytest.raises(ArgumentError, match="layers"):
        ResidualAttention(attention, 0)
    with pytest.raises(ArgumentTypeError, match=r"layers: got 1.5; pass an integer"):
        ResidualAttention(attention, 1.5)
    with pytest.raises(ArgumentError, match="t1"):
        ResidualAttention(attention, 2, t1=-1.0)
    model = ResidualAttention(attention, 4)
    with pytest.raises(ArgumentError, match="save_every: 3 does not divide 4"):
        model.simulate(np.zeros((2, 2)), save_every=3)
    with pytest.raises(ArgumentError, match="initial: has shape"):
        model.simulate(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="initial: has NaN or infinity in 1 of 2"):
        model.simulate([[np.inf, 0.0]])
    with pytest.raises(ArgumentTypeError, match="positions"):
        model.simulate(np.zeros((2, 2)), positions=[0.0, 1.0])
