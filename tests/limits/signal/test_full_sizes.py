"""Transformers at their full sizes: figures of the theory for the defaults of seven classes.

Weights of deviation 0.02, 32 different tokens, identity at the top of the gradient. The figures are
those of the documentation, "Signal propagation", printed to the digits that stand here and known
to 3 percent: heads are sampled, 16 pairs of them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import solve
from translimit.describe import Attention, Stack, SubBlock, read_stack
from translimit.limits.signal import Recursion, SignalPropagation

transformers = pytest.importorskip("transformers")

#: Sizes that are not the defaults of the class.
SIZES: dict[str, dict[str, Any]] = {
    "qwen3": {
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "deepseek_v3": {"num_hidden_layers": 20},
}
#: Mean squares q_0, q_1, q_L; mean overlaps of all pairs m_1, m_L; tr B / n at levels 0, 1, L / 2.
FIGURES = {
    "gpt2": "8e-4 .0067 .0928 .245 .624 121 9.2 1.78",
    "llama": "4e-4 5.40 182 .104 .153 5.3e7 657 3.9",
    "qwen3": "4e-4 5.64 218 .180 .167 3.4e7 520 3.6",
    "olmo2": "4e-4 1.93 63.9 .259 .615 1.4e6 89 2.25",
    "gemma2": ".92 2.92 52.9 .172 .530 373 54 2.3",
    "bert": "1 1 1 .378 .634 .685 .697 .79",
    "deepseek_v3": "4e-4 25.8 170 .221 .107 7.4e6 28 2.1",
}
QUICK = ("gpt2", "bert")


def stack_of(name: str) -> Stack:
    config = transformers.CONFIG_MAPPING[name](**SIZES.get(name, {}))
    return read_stack(config.to_dict()).stack


def off(stack: Stack, name: str) -> np.ndarray:
    """How far the figures lie, in what their digits, 3 percent and the own heads allow."""
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(np.arange(10, 42)))
    found = solve(problem, Recursion(pairs=16, copies=4), key=jax.random.key(0))
    last = len(stack.layers)
    squares = np.diagonal(found.covs, axis1=-2, axis2=-1).mean(axis=-1)
    overlaps = found.overlaps.mean(axis=(-2, -1))
    grads = np.diagonal(found.grad_grams, axis1=-2, axis2=-1).mean(axis=-1)
    own = np.concatenate(
        [squares[:, [0, 1, last]], overlaps[:, [1, last]], grads[:, [0, 1, last // 2]]], axis=1
    )
    printed = FIGURES[name].split()
    expected, digits = np.array([float(one) for one in printed]), [half(one) for one in printed]
    allowed = np.array(digits) + 0.03 * expected + 4 * found.error(own)
    return np.abs(own.mean(axis=0) - expected) / allowed


def half(printed: str) -> float:
    """Half a unit of the last digit of a number."""
    digits, _, power = printed.partition("e")
    places = len(digits.partition(".")[2])
    return 0.5 * 10.0 ** (int(power or 0) - places)


@pytest.mark.parametrize(
    "name",
    [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in FIGURES],
)
def test_the_defaults_of_a_class_have_their_figures(name: str) -> None:
    assert off(stack_of(name), name).max() < 1


def with_attention(stack: Stack, **fields: Any) -> Stack:
    return stack.with_branches(
        lambda one: dataclasses.replace(one, **fields) if isinstance(one, Attention) else one
    )


def with_blocks(stack: Stack, **fields: Any) -> Stack:
    def change(block: SubBlock) -> SubBlock:
        return dataclasses.replace(block, **fields)

    layers = tuple(tuple(map(change, layer)) for layer in stack.layers)
    return dataclasses.replace(stack, layers=layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "bert", "qwen3", "gemma2"])
def test_neighbours_do_not_have_the_figures(name: str) -> None:
    stack = stack_of(name)
    other = {
        "gpt2": lambda: with_attention(stack, out_std=0.02),  # no scale of the depth
        "bert": lambda: dataclasses.replace(stack, causal=True),
        "qwen3": lambda: with_attention(stack, qk_norm=None),
        "gemma2": lambda: with_blocks(stack, norm_out=None),
    }[name]()
    assert other != stack
    assert off(other, name).max() > 2
    assert math.isclose(off(other, name)[0], off(stack, name)[0])  # what enters is the same
