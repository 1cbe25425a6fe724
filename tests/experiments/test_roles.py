"""Experiments on roles beyond the dense block at toy sizes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import Verdict, named_key
from translimit.experiments import get_experiment
from translimit.experiments.roles import (
    adapted_layer,
    lora,
    mixtures,
    normed_attention,
    qk_norm,
    routed_network,
)

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


@pytest.mark.parametrize("shared", [False, True])
def test_scores_are_cosines_of_queries_and_keys_that_gains_weigh(shared) -> None:
    rng = np.random.default_rng(1)
    queries, keys = rng.normal(size=(2, 5, 3, 4))
    gains = rng.normal(size=(2, 4) if shared else (2, 3, 4))
    found = normed_attention.normed_scores(
        *(jnp.asarray(one, jnp.float32) for one in (queries, keys, *gains))
    )
    for head in range(3):
        weights = gains[0] * gains[1] if shared else gains[0, head] * gains[1, head]
        for s in range(5):
            for t in range(5):
                q, k = queries[s, head], keys[t, head]
                wanted = 4 * (weights * q * k).sum() / np.linalg.norm(q) / np.linalg.norm(k)
                assert float(found[head, s, t]) == pytest.approx(wanted, rel=2e-5, abs=1e-5)


def test_a_step_of_an_adapter_is_the_one_by_hand() -> None:
    keys, factor, rate = jax.random.split(jax.random.key(3), 2), 0.5, 0.1
    program = adapted_layer.adapting_program("sgd", 16, 4, 3, 1)
    found = program(keys, jnp.float32(factor), jnp.float32(0.2), jnp.float32(rate))

    def drawn(name, *shape):
        return np.asarray(jax.random.normal(named_key(keys[0], name), shape), np.float64)

    x, y = drawn("inputs", 3, 16), drawn("targets", 3, 16)
    frozen, a = drawn("frozen", 16, 16) / 4, drawn("a", 4, 16) / 4
    before = np.tanh(x @ frozen.T)
    back = (before - y) * (1 - before**2) / 3
    b = -rate * factor * back.T @ (x @ a.T)
    change = np.tanh(x @ (frozen + factor * b @ a).T) - before
    assert float(found["output"][0]) == pytest.approx((change**2).mean() ** 0.5, rel=1e-4)
    assert float(found["down"][0]) == pytest.approx(0.0, abs=1e-6)  # B starts at zero


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_adapter_without_a_rate_changes_nothing(optimizer) -> None:
    """Products with constant operands were wrong where a compiler fused them: see the program."""
    program = adapted_layer.adapting_program(optimizer, 128, 64, 32, 1)
    keys = jax.random.split(jax.random.key(1), 3)
    found = program(keys, jnp.float32(1.0), jnp.float32(0.0), jnp.float32(0.0))
    assert float(np.abs(found["output"]).max()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "told"),
    [(qk_norm, ["wrong-row", "motion-shared"]), (lora, ["adam-root", "sgd-linear", "adam-output"])],
)
def test_rows_of_gains_and_adapters_hold_and_wrong_ones_are_seen(module, told) -> None:
    experiment = module.EXPERIMENT
    config = experiment.presets["demo"]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    assert Verdict.refuted not in found.values()
    assert all(found[name] is Verdict.supported for name in told)
    assert draw_all(experiment, config, results) == [one.name for one in experiment.figures]
