"""Without scores: conserved cross-ratios, and exact samples against other solutions."""

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.core import ArgumentError
from translimit.describe import WideHeads
from translimit.limits.homogenized import OverlapSDE, SphereEuler, TokenSDE
from translimit.limits.homogenized.moebius import cross_ratio, sample_overlaps
from translimit.limits.homogenized.two_tokens import pair_expectation, without_scores
from translimit.models import RandomHeadChain
from translimit.observe import mean_overlap_of

START = np.array(
    [[1.0, 0.3, -0.2, 0.1], [0.3, 1.0, 0.5, 0.0], [-0.2, 0.5, 1.0, 0.2], [0.1, 0.0, 0.2, 1.0]]
)


def test_samples_conserve_cross_ratios_and_are_correlation_matrices():
    R = sample_overlaps(START, [0.5, 2.0], dim=5, replicas=8, key=jax.random.key(0), max_step=0.05)
    assert R.shape == (8, 2, 4, 4)
    before = cross_ratio(1.0 - START, 0, 1, 2, 3)
    np.testing.assert_allclose(cross_ratio(1.0 - R, 0, 1, 2, 3), before, rtol=1e-9)
    assert np.linalg.eigvalsh(R).min() > -1e-9
    np.testing.assert_allclose(np.diagonal(R, axis1=2, axis2=3), 1.0, atol=1e-12)
    means = sample_overlaps(
        START, [0.5, 2.0], dim=5, replicas=8, key=jax.random.key(0), max_step=0.05, means=True
    )
    np.testing.assert_allclose(means, mean_overlap_of(R), rtol=1e-9)


def test_two_tokens_against_the_backward_equation():
    R = sample_overlaps(
        np.eye(2), [1.0], dim=6, replicas=6000, key=jax.random.key(1), max_step=0.05
    )[:, 0, 0, 1]
    for power in (1, 2):
        exact = pair_expectation(
            lambda R, power=power: R**power, without_scores, initial=0.0, t1=1.0, dim=6
        )
        values = R**power
        assert abs(values.mean() - exact) < 4 * values.std() / 6000**0.5 + 2e-3


def test_means_of_more_samples_than_are_computed_at_once():
    arguments = {"dim": 3, "replicas": 4097, "key": jax.random.key(1), "max_step": 0.1}
    R = sample_overlaps(np.eye(2), [0.1], **arguments)
    means = sample_overlaps(np.eye(2), [0.1], **arguments, means=True)
    np.testing.assert_allclose(means, R[..., 0, 1], atol=1e-12)


@pytest.mark.parametrize("std", [0.0, 2.0])
def test_a_chain_and_a_limit_conserve_cross_ratios_without_scores_only(std):
    law = WideHeads(dim=8, score_std=std)
    chain = RandomHeadChain(law=law, step=0.05, heads=1, layers=200)
    paths = chain.simulate_overlaps(START, replicas=32, key=jax.random.key(2))
    problem = OverlapSDE(law=law, initial=START, t1=0.5)
    method = SphereEuler(max_step=0.0025, paths=32)
    limit = solve(problem, method, key=jax.random.key(3), save=[0.0, 0.5])
    for separations in (paths.separations[:, -1], limit.separations[:, -1]):
        ratio = np.asarray(cross_ratio(separations, 0, 1, 2, 3))
        change = np.log(ratio / cross_ratio(1.0 - START, 0, 1, 2, 3))
        rms = float(np.sqrt(np.mean(change**2)))
        assert rms < 0.02 if std == 0 else rms > 0.1


@pytest.mark.parametrize("std", [0.0, 2.0])
@pytest.mark.parametrize("solver", ["weights", "tokens"])
def test_so_do_those_of_explicit_tokens(solver, std):
    law, tokens = WideHeads(dim=8, score_std=std), np.zeros((4, 8))
    tokens[:, :4] = np.linalg.cholesky(START)
    if solver == "weights":
        chain = RandomHeadChain(law=law, step=0.05, heads=1, layers=200)
        paths = chain.simulate(tokens, replicas=32, key=jax.random.key(4))
    else:
        problem = TokenSDE(law=law, initial=tokens, t1=0.5)
        method = SphereEuler(max_step=0.0025, paths=32)
        paths = solve(problem, method, key=jax.random.key(5), save=[0.0, 0.5])
    ratio = np.asarray(cross_ratio(paths.separations[:, -1], 0, 1, 2, 3))
    change = np.log(ratio / cross_ratio(1.0 - START, 0, 1, 2, 3))
    rms = float(np.sqrt(np.mean(change**2)))
    assert rms < 0.02 if std == 0 else rms > 0.1


@pytest.mark.usefixtures("as_user")
def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ArgumentError, match="ts"):
        sample_overlaps(START, [1.0, 0.5], dim=4, replicas=1, key=key)
    with pytest.raises(ArgumentError, match="initial"):
        sample_overlaps(START, [1.0], dim=3, replicas=1, key=key)
