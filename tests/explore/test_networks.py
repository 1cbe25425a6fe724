"""Networks beside the limits: in law those of the models, and none where they cost too much."""

import jax
import numpy as np
import pytest

from translimit.describe import Block, ShiftedHeads, WideHeads
from translimit.explore.networks import (
    affordable,
    beside,
    head_overlaps,
    mean_and_error,
    mean_effect_overlaps,
    shaped_correlations,
)
from translimit.models import RandomHeadChain, ShapedTransformer


def far(some: np.ndarray, others: np.ndarray) -> float:
    """The largest difference of two means, in their combined standard errors."""
    (mean, error), (other, error2) = mean_and_error(some), mean_and_error(others)
    return float(np.max(np.abs(mean - other)[1:] / np.hypot(error, error2)[1:]))


def drawn(simulate, monkeypatch, *sizes, networks: int = 256) -> np.ndarray:
    monkeypatch.setattr("translimit.explore.networks.NETWORKS", (networks,))
    monkeypatch.setattr("translimit.explore.networks.BUDGET", 1e12)
    simulate.cache_clear()
    found = simulate(*sizes)
    simulate.cache_clear()
    return found


@pytest.mark.parametrize("dim", [pytest.param(6, marks=pytest.mark.slow), 24])
def test_heads_have_the_law_of_the_chain_of_the_models(monkeypatch, dim: int) -> None:
    # Below twice the tokens the stream is followed itself, above its overlaps alone.
    found = drawn(head_overlaps, monkeypatch, 4, dim, 2, 6, 0.7, 1.5)
    chain = RandomHeadChain(law=WideHeads(dim=dim, score_std=1.5), step=0.7, heads=2, layers=6)
    paths = chain.simulate_overlaps(
        np.eye(4), replicas=256, key=jax.random.key(0), save_every=1
    ).overlaps
    means = (np.asarray(paths).sum(axis=(2, 3)) - 4) / 12
    assert far(found, means) < 4.5


def test_heads_with_a_mean_have_the_law_of_the_chain_of_the_models(monkeypatch) -> None:
    found = drawn(mean_effect_overlaps, monkeypatch, 8, 2, 6, 0.1, 1.5)
    same = np.eye(8)
    for sigma, within in ((8**-0.5, True), (2 * 8**-0.5, False)):  # the rival: twice the noise
        law = ShiftedHeads(mean_v=same, mean_a=same, beta=1.5, sigma_v=sigma)
        chain = RandomHeadChain(law=law, step=0.1, heads=2, layers=6)
        paths = chain.simulate(np.eye(2, 8), replicas=256, key=jax.random.key(0), save_every=1)
        tokens = np.asarray(paths.tokens)
        overlaps = (tokens[..., 0, :] * tokens[..., 1, :]).sum(axis=-1)
        assert far(found, overlaps) < 4.5
        spreads = found[:, -1].std(), overlaps[:, -1].std()
        # The ratio of two deviations of 256 networks has a standard error of 0.063.
        assert (abs(np.log(spreads[0] / spreads[1])) < 0.28) == within


@pytest.mark.slow
def test_shaped_networks_have_the_law_of_those_of_the_models(monkeypatch) -> None:
    found = drawn(shaped_correlations, monkeypatch, 3, 0.4, 4, 2, 5, 0.6, 0.5)
    network = ShapedTransformer(block=Block(gamma=0.6, tau0=0.5, heads=2), dim=8, layers=5)
    start = 0.4 + 0.6 * np.eye(3)
    cov = network.simulate(start, key=jax.random.key(0), seeds=256, save_every=1).cov
    cov = np.asarray(cov)
    correlation = cov[..., 0, 1] / np.sqrt(cov[..., 0, 0] * cov[..., 1, 1])
    assert far(found, correlation) < 4.5


def test_networks_that_cost_too_much_are_not_drawn() -> None:
    assert affordable(1.0) > affordable(2e6) > affordable(1e8) == 0
    none = head_overlaps(64, 4096, 64, 1000, 0.5, 1.0)
    assert none.shape == (0, 1001)
    assert beside(none, 1000) == ()
    assert shaped_correlations(4, 0.2, 64, 64, 1000, 0.4, 1.0).shape == (0, 1001)


def test_points_carry_two_standard_errors_at_the_levels_of_the_networks() -> None:
    networks = np.array([[0.0, 0.1, 0.3], [0.0, 0.3, 0.5]])
    (points,) = beside(networks, 2.0)
    np.testing.assert_allclose(points.x, [1.0, 2.0])
    np.testing.assert_allclose(points.y, [0.2, 0.4])
    assert points.error is not None
    np.testing.assert_allclose(points.error, [0.2, 0.2])
