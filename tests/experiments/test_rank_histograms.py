"""Rank histograms at toy sizes; the published draws and scheme."""

import functools

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import check_experiment, get_experiment
from translimit.experiments.castin2025 import limit_ranks, rank_draws, rank_histograms
from translimit.limits.meanfield import identity_limit

RANKS = rank_histograms.Config(draws=4, max_steps=600, euler_steps=300)


@functools.cache
def run(name, config):
    experiment = get_experiment(name)
    return experiment, compute(experiment, config)


def test_rank_histograms_at_toy_size():
    experiment, results = run("castin2025/rank-histograms", RANKS)
    claims = {claim.name: claim for claim in experiment.check(RANKS, results)}
    assert tuple(claims) == experiment.claim_names(RANKS)
    for variant in ("softmax", "l2"):
        # Few draws decide little; none settles elsewhere, and the limit is exact.
        assert claims[f"{variant}-identity-rank"].estimate.value == 0.0
        assert claims[f"{variant}-identity-limit"].verdict is Verdict.supported
        floor, *_ = claims[f"{variant}-identity-rank"].rivals
        assert floor.estimate.value == 2 / 3  # wrong in d = 3 and 5, right in d = 4
    assert len(draw_all(experiment, RANKS, results)) == 4
    # Nothing is left out: every way of counting counts every draw.
    for spec in experiment.drawings(RANKS, results):
        assert all(sum(row[2:]) == RANKS.draws for row in spec.table.rows)


def test_undecided_draws_count_against_the_rank():
    """With nearly all draws undecided the rank is not supported, whatever the few others say."""
    experiment, results = run("castin2025/rank-histograms", RANKS)
    results = {name: cell.copy(deep=True) for name, cell in results.items()}
    for cell in results.values():
        cell["rank"].values[1:] = -1
        cell["undecided"].values[1:] = True
    found = verdicts(experiment, RANKS, results)
    for variant in ("softmax", "l2"):
        for values in ("identity", "random"):
            assert found[f"{variant}-{values}-rank"] is Verdict.refuted


def test_published_ranks_of_the_exact_limits():
    """Of 100 exact limits in d = 4, 32 have one eigenvalue above 0.1 and 68 have two."""
    cases = rank_draws.draws("softmax", "identity", 4, 100)
    exact = [identity_limit(draw.Q, draw.cov) for draw in cases]
    counts = [(np.linalg.eigvalsh(cov) > rank_draws.THRESHOLD).sum() for cov in exact]
    assert np.bincount(counts).tolist() == [0, 32, 68]
    # The first projected Euler step leaves the cone in 49 of them.
    scheme = rank_draws.projected_euler("softmax", "identity", cases, step=0.05, max_steps=1)
    assert scheme.left_cone.sum() == 49


def test_projected_euler_goes_to_the_limit_with_small_steps():
    """Without an overshoot the scheme is Euler, and its limit is near the exact one."""
    (draw,) = rank_draws.draws("softmax", "identity", 3, 1)
    exact = np.linalg.eigvalsh(identity_limit(draw.Q, draw.cov))
    scheme = rank_draws.projected_euler("softmax", "identity", [draw], step=2e-3, max_steps=40_000)
    assert not scheme.left_cone[0]
    assert scheme.rank[0] == (exact > rank_draws.THRESHOLD).sum()


def test_the_error_of_a_share_is_never_zero():
    none, half = (rank_draws.share(np.arange(100) < k) for k in (0, 50))
    assert (none.value, half.value) == (0.0, 0.5)
    np.testing.assert_allclose(half.stderr, 0.05, rtol=0.03)
    assert 0.5 / 100 < none.stderr < 2 / 100


@pytest.mark.slow
def test_ranks_of_general_value_maps_at_toy_size():
    experiment = get_experiment("castin2025/limit-ranks")
    config = limit_ranks.Config(variants=("l2",), draws=12)
    results = check_experiment(experiment, config).results
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    for name in ("identity-l2", "bounded-l2", "determinant-l2"):
        assert claims[name].verdict is Verdict.supported, name
    ranks = results["ranks/l2"]
    settled = ranks["rank"].values >= 0
    assert settled.mean() > 0.6
    assert (ranks["rank"] == ranks["dim"] - ranks["query_rank"]).values[settled].all()


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ConfigError, match="draws: got 101"):
        get_experiment("castin2025/rank-histograms").cells(rank_histograms.Config(draws=101))
