"""The stream at the start along depth: against the causal pass, loops, and the closed form."""

import math
from itertools import pairwise

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import ring4
from tests.limits.dmft.network import RING4 as KX

from translimit.core import ArgumentError, solve
from translimit.limits import dmft


def test_the_recursion_is_that_of_the_causal_pass() -> None:
    """Which samples other heads, in another order."""
    options = {"layers": 3, "alpha_L": 0.5, "beta0": 1.3, "alpha_A": 0.75}
    problem = ring4(steps=1, eta0=0.1, head_dim=2, **options)
    method = dmft.CausalSampling(heads=8000, populations=4)
    solution = solve(problem, method, key=jax.random.key(0))
    kernel, stderr = dmft.initial_stream_kernel(KX, 2, head_dim=2, heads=16_000, **options)
    floor = np.hypot(stderr, solution.kernel_stderr(3)[0, :, :, 0].reshape(4, 4))
    gap = solution.kernel(3)[0, :, :, 0].reshape(4, 4) - kernel
    assert np.abs(gap / floor).max() < 4.5
    assert floor.max() < 0.05 * np.diag(kernel).min()
    # Without the attention of sampled heads it would be that of uniform weights.
    uniform = (
        np.trace(KX)
        + 2 * dmft.uniform_attention_motion(KX, 2, layers=3, beta0=1.3, alpha_L=0.5).sum()
    )
    assert np.trace(kernel) - uniform > 20 * math.hypot(*np.diag(floor))


def test_layers_are_the_euler_scheme_of_infinite_depth() -> None:
    options = {"head_dim": 4, "alpha_A": 0.5, "alpha_L": 0.5, "heads": 800}
    whole, _ = dmft.initial_stream_kernel(4 * KX, 2, layers=math.inf, **options)
    some = [dmft.initial_stream_kernel(4 * KX, 2, layers=n, **options)[0] for n in (16, 32, 64)]
    once = [2 * b - a for a, b in pairwise(some)]
    twice = (4 * once[1] - once[0]) / 3
    np.testing.assert_allclose(twice, whole, rtol=1e-4)
    assert np.abs(some[-1] / whole - 1).max() > 1e-3


def test_scores_that_vanish_and_what_has_no_limit() -> None:
    small, _ = dmft.initial_stream_kernel(1e-6 * KX, 2, head_dim=3, layers=2, heads=80)
    motion = dmft.uniform_attention_motion(1e-6 * KX, 2, layers=2, beta0=1.0)
    np.testing.assert_allclose(np.diag(small) - 1e-6 * np.diag(KX), np.repeat(motion, 2), rtol=1e-4)
    for change, message in (
        ({"layers": math.inf}, "layers: is infinite at alpha_L = 1"),
        ({"inputs": 3}, "inputs: got 3 for 4 fields"),
        ({"heads": 4}, "heads"),
    ):
        arguments = {"inputs": 2, "layers": 2, "head_dim": 3} | change
        with pytest.raises(ArgumentError, match=message):
            dmft.initial_stream_kernel(KX, **arguments)
