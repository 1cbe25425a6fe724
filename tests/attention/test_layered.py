"""Parameters that vary along depth: which attention governs where, and refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.meanfield.canonical import K, Q, V

from translimit.attention import (
    L2,
    Layered,
    Softmax,
    attention_at,
    attentions_of_layers,
    jump_times,
)
from translimit.core import ArgumentError, ArgumentTypeError

FIRST, SECOND = Softmax(Q=Q, K=K, V=V), Softmax(Q=K, K=Q, V=-V, score_scale=2.0)


def test_identity_parameters_are_right_continuous():
    layered = Layered([FIRST, SECOND, FIRST], [0.0, 0.4, 0.7])
    for t, expected in [(0.0, FIRST), (0.39, FIRST), (0.4, SECOND), (0.69, SECOND), (0.7, FIRST)]:
        for function in (attention_at, eqx.filter_jit(attention_at)):
            here = function(layered, t)
            np.testing.assert_allclose(here.V, expected.V, rtol=1e-6)
            np.testing.assert_allclose(here.score_scale, expected.score_scale)
    assert (layered.dim, layered.causal) == (2, False)
    np.testing.assert_allclose(jump_times(layered), [0.4, 0.7], rtol=1e-6)
    assert attention_at(FIRST, 0.3) is FIRST
    assert jump_times(FIRST) is None
    assert jump_times(Layered([FIRST], [0.0])) is None


@pytest.mark.parametrize("layers", [3, 7, 10, 30, 210])
def test_identity_layers_take_the_attention_of_their_depth_whatever_the_rounding(layers):
    """Starts at 1/10, ..., 9/10 of t1: layer l has number floor(10 l / L), in integers."""
    t1 = 0.7
    layered = Layered([FIRST] * 10, np.arange(10) / 10 * t1)
    expected = 10 * np.arange(layers) // layers
    np.testing.assert_array_equal(attentions_of_layers(layered, layers, t1), expected)
    traced = jax.jit(lambda t: attentions_of_layers(layered, layers, t))(t1)
    np.testing.assert_array_equal(traced, expected)
    np.testing.assert_array_equal(attentions_of_layers(FIRST, layers, t1), np.zeros(layers))


@pytest.mark.parametrize(
    ("attentions", "start_times", "error", "message"),
    [
        ([], [], ArgumentError, "attentions: is empty"),
        ([FIRST, Q], [0.0, 1.0], ArgumentTypeError, "attentions: entry 1 is ndarray"),
        ([FIRST, L2(Q=Q, K=K, V=V)], [0, 1], ArgumentError, "entry 1 differs from entry 0"),
        ([FIRST, Softmax(Q=Q[:1], K=K[:1], V=V)], [0, 1], ArgumentError, "entry 1 differs"),
        ([FIRST, Softmax(Q=Q, K=K, V=V, causal=True)], [0, 1], ArgumentError, "entry 1 differs"),
        ([FIRST, SECOND], [0.0], ArgumentError, "start_times: has shape"),
        ([FIRST, SECOND], [0.1, 1.0], ArgumentError, "start_times: got .*increase from 0"),
        ([FIRST, SECOND], [0.0, 0.0], ArgumentError, "start_times: got .*increase from 0"),
    ],
)
def test_refusals(attentions, start_times, error, message, as_user):
    with pytest.raises(error, match=message):
        Layered(attentions, start_times)


def test_refusals_of_traced_start_times(as_user):
    at = jax.jit(lambda starts: attention_at(Layered([FIRST, SECOND], starts), 0.5).V)
    np.testing.assert_allclose(at(jnp.array([0.0, 0.4])), -V, rtol=1e-6)
    with pytest.raises(Exception, match="start_times: pass times that increase from 0"):
        at(jnp.array([0.0, -0.4])).block_until_ready()
