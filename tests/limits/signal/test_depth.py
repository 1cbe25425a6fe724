"""Depth: closed recursions, figures of the theory, and networks with all weights drawn."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import translimit
from translimit.core import named_key, solve
from translimit.describe import Attention, Stack, SubBlock, pre_norm_stack, read_stack
from translimit.limits.homogenized.high_temperature import layer_step
from translimit.limits.signal import Chain, Recursion, SignalPropagation
from translimit.models import RandomStack

#: Gamma = D^3 sigma^2 sigma_O^2, and the squared norm of tokens that enter a stack of width 128.
GAIN, SQUARE = 6.79477248, 11.52
#: The mean overlap, diagonal included, of 16 tokens after some layers, without scores.
UNIFORM = {1: 0.0958313, 2: 0.1425730, 5: 0.3584942, 10: 0.6825922, 25: 0.9087766, 50: 0.9611837}
#: The same in networks whose scores have deviation 0.46.
DRAWN = {1: 0.090, 2: 0.135, 5: 0.347, 10: 0.660, 25: 0.907, 50: 0.9615}


def narrow(std: float) -> Stack:
    """Attention alone, width 128, 50 layers; `std` of queries and keys."""
    value = std or 1.0
    out = (GAIN / 128**3) ** 0.5 / value
    return pre_norm_stack(128, 50, Attention(4, 32, std, std, value, out), causal=False)


def wide(causal: bool) -> Stack:
    """Attention alone at the sizes and weights of GPT-2."""
    attention = Attention(12, 64, 0.02, 0.02, 0.02, 0.02 / 24**0.5)
    return pre_norm_stack(768, 12, attention, causal=causal)


def test_without_scores_it_is_the_closed_recursion() -> None:
    initial = SQUARE / 128 * np.eye(16)
    problem = SignalPropagation(stack=narrow(0.0), initial=initial, top_gradient=None)
    solution = solve(problem, Recursion(1, 2), key=named_key(0))
    m, square = 1 / 16, SQUARE
    for layer in range(1, 51):
        m, square = layer_step(m, square, GAIN)
        assert solution.overlap_all[layer] == pytest.approx(m, abs=1e-6)
        assert 128 * solution.mean_square[layer] == pytest.approx(square, rel=1e-6)
        if layer in UNIFORM:
            assert m == pytest.approx(UNIFORM[layer], abs=1e-6)
    # The wrong theory, with branches that add a tenth more, is told apart.
    assert layer_step(1 / 16, SQUARE, 1.1 * GAIN)[0] - UNIFORM[1] > 1e-3


def test_networks_of_width_128() -> None:
    # 200 networks: one of them varies by 0.05 at layer 5.
    stack = RandomStack(narrow(0.06))
    tokens = stack.draw_tokens(0.3**2 * np.eye(16), replicas=200, key=named_key(0, "tokens"))
    m = stack.simulate(tokens, replicas=200, key=named_key(1, "narrow")).overlaps.mean(axis=(2, 3))
    for layer, value in DRAWN.items():
        assert m.mean(axis=0)[layer] == pytest.approx(value, abs=0.015)


#: Mean overlap, diagonal included, of 48 tokens after 4, 8 and 12 layers; how far two networks may
#: lie from it.
WIDE = {
    False: ([0.862, 0.960, 0.978], [0.015, 0.015, 0.015]),
    True: ([0.768, 0.872, 0.906], [0.04, 0.03, 0.025]),
}


@pytest.mark.parametrize("causal", [False, True])
def test_attention_alone_at_the_sizes_of_gpt2(causal: bool) -> None:
    expected, bound = WIDE[causal]
    initial = 2 * 0.02**2 * np.eye(48)
    problem = SignalPropagation(stack=wide(causal), initial=initial, top_gradient=None)
    m = solve(problem, Recursion(16, 2), key=named_key(0)).overlap_all[[4, 8, 12]]
    assert np.all(np.abs(m - expected) < bound)
    if not causal:
        np.testing.assert_allclose(m, [0.8616, 0.9604, 0.9774], atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_drawn_attention_at_the_sizes_of_gpt2(causal: bool) -> None:
    expected, bound = WIDE[causal]
    stack = RandomStack(wide(causal))
    initial = 2 * 0.02**2 * np.eye(48)
    tokens = stack.draw_tokens(initial, replicas=2, key=named_key(0, "tokens"))
    paths = stack.simulate(tokens, replicas=2, key=named_key(1, "wide"))
    m = paths.overlaps.mean(axis=(2, 3)).mean(axis=0)[[4, 8, 12]]
    assert np.all(np.abs(m - expected) < bound)


@pytest.mark.slow
def test_gpt2_small_has_its_figures() -> None:
    config = Path(translimit.__file__).parent / "examples" / "gpt2.json"
    stack = read_stack(config).stack
    initial = stack.initial_cov(np.arange(48))
    problem = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
    solution = solve(problem, Recursion(64, 8), key=jax.random.key(0))
    expected = [0.2058, 0.3233, 0.3936, 0.4412, 0.4763, 0.5035]
    expected += [0.5256, 0.5440, 0.5597, 0.5733, 0.5852, 0.5958]
    m = solution.overlaps.mean(axis=(2, 3))
    error = np.sqrt(solution.error(m)[1:] ** 2 + 1e-4**2)
    assert np.all(np.abs(m.mean(axis=0)[1:] - expected) < 4.5 * error)


def test_the_first_token_of_a_causal_stack_attends_to_itself() -> None:
    stack = wide(causal=True)
    problem = SignalPropagation(stack=stack, initial=np.eye(4), top_gradient=None)
    solution = solve(problem, Recursion(2, 2), key=named_key(0))
    gained = np.diff(solution.covs[:, :, 0, 0], axis=1)
    one = stack.layers[0][0].branches[0]
    assert isinstance(one, Attention)
    gain = 768**2 * one.value_std**2 * one.out_std**2
    np.testing.assert_allclose(gained, gain, rtol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_sharing_keys_and_values_changes_fluctuations_only(kv_heads: int) -> None:
    # One token and no skip: |u|^2 / D has mean gamma_A; given the values it is chi-square over D,
    # and the values' own square is chi-square over kv_heads head_dim.
    dim, networks, freedom = 400, 20_000, 3 * kv_heads
    attention = Attention(4, 3, 0.1, 0.1, 0.1, 0.1, kv_heads)
    stack = Stack(dim, ((SubBlock((attention,), residual=0.0),),))
    problem = SignalPropagation(stack=stack, initial=np.eye(1), top_gradient=None)
    solution = solve(problem, Chain(networks, drawn=False), key=named_key(0))
    squares = solution.covs[:, 1, 0, 0] / (12 * 0.1**2 * dim * 0.1**2)
    assert abs(squares.mean() - 1) < 4.5 * squares.std() / networks**0.5
    variance = (1 + 2 / freedom) * (1 + 2 / dim) - 1
    # The kurtosis of a chi-square with f degrees of freedom: 3 + 12 / f.
    stderr = variance * ((2 + 12 / freedom) / networks) ** 0.5
    assert abs(squares.var() - variance) < 4.5 * stderr
    # Values of every head of its own would have a quarter of the variance with one shared head.
    if kv_heads == 1:
        assert abs(variance - 2 / 12) > 10 * stderr
