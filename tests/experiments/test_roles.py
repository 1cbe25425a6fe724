"""Experiments on roles beyond the dense block at toy sizes."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import Verdict
from translimit.experiments import get_experiment
from translimit.experiments.roles import mixtures, routed_network

TOY = replace(mixtures.Config(), widths=(16, 32, 64), experts=(4, 8, 16), seeds=6)


def test_a_mixture_weighs_its_active_experts_by_the_softmax_of_their_logits() -> None:
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    x, router = draw(3, 4), draw(4, 5)
    into, out = draw(5, 4, 6), draw(5, 6, 4)
    found = np.asarray(routed_network.mixture(x, router, into, out, 2))
    for token, row in zip(np.asarray(x), found, strict=True):
        logits = token @ router
        first = np.argsort(logits)[-2:]
        gates = np.exp(logits[first]) / np.exp(logits[first]).sum()
        parts = []
        for e in first:
            hidden = token @ into[e]
            inner = (2 / np.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)
            gelu = hidden * 0.5 * (1 + np.tanh(inner))
            parts.append(gelu @ out[e])
        np.testing.assert_allclose(row, gates @ np.array(parts), rtol=2e-5, atol=1e-5)


@pytest.mark.slow
def test_the_rules_are_supported_and_the_controls_are_seen() -> None:
    experiment = get_experiment("roles/mixtures")
    results = compute(experiment, TOY)
    found = verdicts(experiment, TOY, results)
    assert set(found) == set(experiment.claim_names(TOY))
    assert Verdict.refuted not in found.values()
    assert found["router-without"] is Verdict.supported
    assert draw_all(experiment, TOY, results) == ["mixtures"]
