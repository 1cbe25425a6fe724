"""Rules for deep stacks: the documentation's numbers, from what the rules do to stacks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.describe import Activation, Attention, FeedForward, Normalisation, Stack, SubBlock
from translimit.limits.signal import (
    admin,
    branch_multiplier,
    concentration,
    deep_norm,
    deep_scale,
    exponents,
    score_std_for,
    stack_factors,
    t_fixup,
)

DIM = 64
NORM = Normalisation()


def unit_stack(layers: int, **placement: Normalisation) -> Stack:
    """gamma_A = 1, and ReLU blocks with mu = mu' = 1 on unit tokens."""
    one = DIM**-0.5
    attention = Attention(4, 16, one, one, one, one)
    units = FeedForward(DIM, Activation.RELU, (2 / DIM) ** 0.5, one)
    layer = tuple(SubBlock((b,), **placement) for b in (attention, units))  # pyright: ignore[reportArgumentType]
    return Stack(DIM, (layer,) * layers, causal=False)


def products(stack: Stack, square: float = 1.0, n: int = 64) -> tuple[float, float]:
    """What the stack makes of 1 - R, and the mean square that leaves it."""
    factors = stack_factors(stack, n, square)
    return math.prod(f.angle for f in factors), factors[-1].mean_square


@pytest.mark.parametrize(("layers", "expected"), [(6, 0.0878), (18, 0.12), (100, 0.1326)])
def test_deep_scale_keeps_the_square_and_shrinks_angles(layers: int, expected: float) -> None:
    """(1 - c / N)^N at c = 2, towards e^-2 = 0.1353: attention's half; ReLU blocks keep angles."""
    angle, square = products(deep_scale(unit_stack(layers, norm_in=NORM)))
    assert square == pytest.approx(1.0)
    assert angle == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("layers", "expected"), [(6, 0.9647), (18, 0.9794), (100, 0.9912)])
def test_deep_norm_is_nearly_the_identity(layers: int, expected: float) -> None:
    angle, _ = products(deep_norm(unit_stack(layers, norm_post=NORM)))
    assert angle == pytest.approx(expected, abs=6e-5)
    assert angle == pytest.approx(math.exp(-1 / (8 * math.sqrt(2 * layers))), abs=2e-4)
    if layers < 20:  # without it: 2^-N
        assert products(unit_stack(layers, norm_post=NORM))[0] == pytest.approx(2.0**-layers)


def test_t_fixup_gives_relative_gains_of_one_over_the_depth() -> None:
    stack = unit_stack(200)
    assert products(t_fixup(stack))[1] == pytest.approx((1 + 1 / 200) ** 400)
    assert products(t_fixup(stack))[1] == pytest.approx(math.e**2, rel=0.01)
    assert t_fixup(stack).layers[0][0].branches[0].out_std == pytest.approx(  # pyright: ignore[reportAttributeAccessIssue]
        DIM**-0.5 * 200**-0.25
    )


def test_a_branch_multiplier_bounds_the_stream() -> None:
    stack = unit_stack(48, norm_in=NORM)
    law = exponents(stack, 64)
    assert law.growth == pytest.approx(2.0)
    b = branch_multiplier(2.0, 0.3, 48, factor=3.0)
    layer = tuple(dataclasses.replace(block, branch=b) for block in stack.layers[0])
    bounded = dataclasses.replace(stack, layers=(layer,) * 48)
    assert products(bounded, 0.3)[1] == pytest.approx(9 * 0.3)
    # GPT-2's b^2 = 1 / 2 L gives factor^2 = 1 + v / 2 q_0.
    assert branch_multiplier(2.0, 8e-4, 12, (1 + 1 / 8e-4) ** 0.5) ** 2 == pytest.approx(1 / 24)


def test_admin_reads_what_the_pre_ln_stack_reads() -> None:
    """All factors of 1 - R are those of the pre-LN stack."""
    pre = stack_factors(unit_stack(6, norm_in=NORM), 64, 0.2)
    squares = [0.2, *(f.mean_square for f in pre[:-1])]
    post = stack_factors(admin(unit_stack(6, norm_post=NORM), squares), 64, 1.0)
    assert [f.angle for f in post] == pytest.approx([f.angle for f in pre])
    # Wrong: the same multiplier everywhere.
    flat = stack_factors(admin(unit_stack(6, norm_post=NORM), [1.0] * 12), 64, 1.0)
    assert not np.allclose([f.angle for f in flat], [f.angle for f in pre], rtol=0.05)


@pytest.mark.parametrize("n", [64, 512, 4096])
def test_the_score_deviation_inverts_the_concentration(n: int) -> None:
    for share in (0.1, 0.25, 0.5):
        rule = math.sqrt(share * math.log(n))
        keys = n / math.exp(rule**2)
        exact = score_std_for(n, keys)
        assert concentration(n, exact) == pytest.approx(1 / keys, rel=1e-4)
        true = 1 / concentration(n, rule) / keys
        # The simple rule: within 10 % to a quarter of log n, 1.4 to 1.6 times off at a half.
        assert true < 1.11 if share <= 0.25 else 1.4 < true < 1.6
    assert score_std_for(n, n) == 0.0


def test_bad_input_is_named() -> None:
    pre = unit_stack(2, norm_in=NORM)
    for rule in (deep_norm, lambda s: admin(s, [1.0] * 4)):
        with pytest.raises(ArgumentError, match="after the sum"):
            rule(pre)
    with pytest.raises(ArgumentError, match="squares"):
        admin(unit_stack(2, norm_post=NORM), [1.0])
    with pytest.raises(ArgumentError, match="keys"):
        score_std_for(16, 1.0)
    with pytest.raises(ArgumentError, match="keys"):
        score_std_for(16, 1.0001)
    with pytest.raises(ArgumentError, match="factor"):
        branch_multiplier(1.0, 1.0, 2, 1.0)
    with pytest.raises(ArgumentError, match="share"):
        deep_scale(pre, 2.0)
