"""What a head makes of its fields, by itself: gradients by differentiation, groups of queries.

Outputs of networks hardly tell groups from single heads: with two heads in a group, as in
`test_language`, single heads are within a standard error of them. Here both are told apart.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, ring4

from translimit.limits.dmft.compressed.heads import Heads
from translimit.limits.dmft.compressed.setup import numbers_of, shape_of
from translimit.limits.dmft.methods import CausalSampling

INPUTS, TOKENS, SAMPLES = 2, 3, 5


def heads(group: int, samples: int = SAMPLES, **options: Any) -> Heads:
    usual = {"head_dim": 4, "causal": True, "qk_norm": None, "rotary": None, "slow_keys": False}
    return Heads(
        inputs=INPUTS,
        tokens=TOKENS,
        samples=samples,
        matched=True,
        dtype="float64",
        group=group,
        **{**usual, **options},
    )


def numbers() -> Any:
    problem = ring4(**BASE, head_dim=4)
    method = CausalSampling(heads=100)
    return numbers_of(problem.equations, method, shape_of(problem.equations, method, 1))


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"qk_norm": "rms", "rotary": 3.0}, {"qk_norm": "layer"}])
def test_gradients_are_those_of_what_is_written(group: int, options: dict[str, Any]) -> None:
    site, rng = heads(group, **options), np.random.default_rng(0)
    fields = INPUTS * TOKENS
    with jax.enable_x64(True):
        constants, gain = numbers(), jnp.asarray(1.7)
        y = jnp.asarray(rng.standard_normal((fields, site.families * site.width)))
        r = jnp.asarray(rng.standard_normal((fields, site.written * site.width)))

        def paired(y: Any, gain: Any) -> Any:
            return jnp.sum(r * site.forward(y, constants, gain).x)

        out = site.forward(y, constants, gain)
        found = site.backward(r, out.saved, constants, gain)
        by_fields, by_gain = jax.grad(paired, argnums=(0, 1))(y, gain)
        assert out.scores.shape == (group * SAMPLES, INPUTS, TOKENS, TOKENS)
        np.testing.assert_allclose(found.p, by_fields, atol=1e-12)
        # The gradient of the gain is a mean over all heads and coordinates.
        np.testing.assert_allclose(jnp.sum(found.gain), site.scale * by_gain, atol=1e-12)
        square = np.asarray(by_fields)[:, : (group + 1) * site.width] ** 2
        own, shared = np.split(square, [group * site.width], axis=1)
        expected = (own.mean() + shared.mean()) / 2
        np.testing.assert_allclose(site.key_gradient(found.p), expected, rtol=1e-12)


def test_scores_of_a_group_share_their_keys() -> None:
    # Given the shared field scores are independent with variance |q|^2: over heads of a group
    # <A^2 A'^2> / <A^2>^2 = <|q|^4> / <|q|^2>^2 = (N + 2) / N, and 1 over heads of two groups.
    site = heads(2, samples=40_000, head_dim=2, causal=False)
    y = np.random.default_rng(1).standard_normal((INPUTS * TOKENS, site.families * site.width))
    with jax.enable_x64(True):
        scores = np.asarray(site.forward(jnp.asarray(y), numbers(), jnp.asarray(1.0)).scores)
    first, second = np.split(scores[:, 0, 0, 1] ** 2, 2)
    size = first.mean() * second.mean()
    together, apart = np.mean(first * second) / size, np.mean(first * np.roll(second, 1)) / size
    assert together == pytest.approx(2.0, abs=0.25)
    assert apart == pytest.approx(1.0, abs=0.1)
