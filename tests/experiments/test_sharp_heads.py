"""What the experiments on chains of heads compute exactly, against independent computations."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.koubbi2026.orders import at_zero, order_of
from translimit.experiments.koubbi2026.pair_chain import chain_expectation
from translimit.experiments.koubbi2026.sharp_cells import kernel, settling_rate
from translimit.experiments.koubbi2026.two_heads import MEAN, OTHER, ROWS, TURN, exact_mean
from translimit.limits.homogenized.low_temperature import mean_cosine, settling_exponent
from translimit.models import SharpHeadChain, sample_cosine


def test_orders_and_values_at_step_zero():
    steps = (0.2, 0.1, 0.05)
    assert order_of(steps, [h**2 for h in steps]).value == pytest.approx(2.0)
    assert order_of(steps, [h + 0.4 * h**2 for h in steps]).value == pytest.approx(1.0, abs=0.02)
    found = at_zero(steps, [3.0 + h - 2.0 * h**2 for h in steps])
    assert found.value == pytest.approx(3.0)
    assert found.floor > 0


def test_all_sequences_of_heads():
    """Two layers of two heads: the four sequences of one head, and the nine of averages."""
    start = np.array(ROWS) / np.linalg.norm(ROWS, axis=1, keepdims=True)
    heads = [(np.add(MEAN, OTHER), np.eye(3)), (np.subtract(MEAN, OTHER), np.array(TURN))]

    def update(x, V, A):
        weights = np.exp(x @ A.T @ x.T)
        return 0.5 * weights / weights.sum(1, keepdims=True) @ x @ V.T

    def overlap(sequence):
        x = start
        for drawn in sequence:
            x = x + np.mean([update(x, *heads[one]) for one in drawn], axis=0)
            x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return (np.sum(x @ x.T) - 3) / 6

    for count in (1, 2):
        layers = list(itertools.product((0, 1), repeat=count))
        values = [overlap(one) for one in itertools.product(layers, repeat=2)]
        assert exact_mean(0.5, count) == pytest.approx(np.mean(values), abs=1e-12)
    assert exact_mean(0.5, 1, tangent=True) != pytest.approx(exact_mean(0.5, 1), abs=1e-2)


def test_backward_layers_of_two_tokens():
    """Against 200 000 sampled layers, and the noted weak errors (limits .20240 and .29143)."""
    rng = np.random.default_rng(0)
    x = np.eye(2, 6)
    noise = math.sqrt(0.5 * 0.5 / 6) * rng.standard_normal((200_000, 1, 6))
    for tangent in (False, True):
        u = noise - np.sum(noise * x, -1, keepdims=True) * x if tangent else noise
        y = x + u
        R = np.sum(y[:, 0] * y[:, 1], -1) / np.prod(np.linalg.norm(y, axis=-1), axis=-1)
        found = chain_expectation(np.square, dim=6, step=0.5, layers=1, tangent=tangent)
        assert abs(found - np.mean(R**2)) < 4.5 * np.std(R**2) / 200_000**0.5
    ambient = chain_expectation(np.square, dim=6, step=0.5, layers=2)
    assert ambient - 0.20240 == pytest.approx(-0.0333, abs=2e-4)
    tangent = chain_expectation(lambda R: R, dim=6, step=0.25, layers=4, tangent=True)
    assert tangent - 0.29143 == pytest.approx(-0.0265, abs=2e-4)


def test_sampled_cosines_and_rates():
    cosine = np.full(100_000, 0.6)
    rng = np.random.default_rng(0)
    c, s = sample_cosine(cosine, np.sqrt(1 - cosine**2), 6, rng)
    np.testing.assert_allclose(c**2 + s**2, 1.0)
    assert abs(c.mean() - mean_cosine(0.6, 6)) < 4.5 * c.std() / 100_000**0.5
    found = kernel(16, 100_000, jax.random.key(0))
    assert abs(found.coefficient - found.exact) < 4.5 * found.stderr
    rate = settling_rate(64, 2, 0.05, 60_000, jax.random.key(1))
    expected = settling_exponent(64, heads=2, step=0.05)
    assert abs(rate.rate - expected) < 4.5 * rate.stderr + 0.02


def test_infinitely_wide_heads_and_several_heads():
    """Near 1 a chain of heads keeps 1 - u accurate: its rate over one layer."""
    chain = SharpHeadChain(dim=32, head_dim=math.inf, diffusive_step=0.1, heads=4)
    paths = chain.simulate(1.0 - 1e-9, [0.1 / 32], replicas=50_000, key=jax.random.key(0))
    u = paths.overlaps[:, 0]
    change = np.log((1.0 - u) / 1e-9)
    expected = settling_exponent(32, math.inf) * 0.1 / 32
    assert abs(change.mean() - expected) < 4.5 * change.std() / 50_000**0.5 + 1e-3


@pytest.mark.parametrize(
    ("name", "changes", "supported"),
    [
        ("laplace", {"heads": 4000}, "lost-1"),
        pytest.param(
            "absorption",
            {"dim": 16, "replicas": 60, "step": 0.2},
            "settled-share",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_small_run(name, changes, supported):
    experiment = get_experiment(f"koubbi2026/{name}")
    config = dataclasses.replace(experiment.presets["demo"], **changes)
    results = compute(experiment, config)
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    assert tuple(claims) == experiment.claim_names(config)
    assert claims[supported].verdict is Verdict.supported
    for rival in claims[supported].rivals:
        assert claims[supported].swapped(rival).verdict is not Verdict.supported, rival.name
    assert draw_all(experiment, config, results)


@pytest.mark.parametrize(
    ("name", "changes", "argument"),
    [
        ("laplace", {"dims": (16, 64)}, "dims"),
        ("slow-motion", {"dims": (64, 16, 32)}, "dims"),
        ("absorption", {"dim": 8}, "dim"),
        ("settling", {"replicas": 1}, "replicas"),
    ],
)
def test_sizes_that_the_claims_can_not_use(name, changes, argument):
    experiment = get_experiment(f"koubbi2026/{name}")
    with pytest.raises(ConfigError) as caught:
        experiment.cells(dataclasses.replace(experiment.presets["demo"], **changes))
    assert caught.value.argument == argument
