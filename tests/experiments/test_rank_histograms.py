"""Rank histograms at toy sizes; the published draws and scheme."""

import numpy as np
import pytest
from tests.experiments.checks import draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.castin2025 import rank_draws, rank_histograms

RANKS = rank_histograms.Config(draws=4, max_steps=600, euler_steps=300)


def run(name, config, cells=None):
    experiment = get_experiment(name)
    return experiment, {
        cell.name: experiment.compute_cell(config, cell, 0)
        for cell in experiment.cells(config)
        if cells is None or cell.name in cells
    }


def test_rank_histograms_at_toy_size():
    experiment, results = run("castin2025/rank-histograms", RANKS)
    found = verdicts(experiment, RANKS, results)
    assert tuple(found) == experiment.claim_names(RANKS)
    for variant in ("softmax", "l2"):
        for name in ("identity-bound", "random-bound", "identity-rank"):
            assert found[f"{variant}-{name}"] == Verdict.supported
    assert found["floor-of-half"] == Verdict.refuted
    assert len(draw_all(experiment, RANKS, results)) == 4
    # Nothing is left out: every way of counting counts every draw.
    for spec in experiment.drawings(RANKS, results):
        assert all(sum(row[2:]) == RANKS.draws for row in spec.table.rows)


def test_published_ranks_of_the_exact_limits():
    """Of 100 exact limits in d = 4, 32 have one eigenvalue above 0.1 and 68 have two."""
    cases = rank_draws.draws("softmax", "identity", 4, 100)
    exact = [rank_draws.exact_limit(draw) for draw in cases]
    counts = [(np.linalg.eigvalsh(cov) > rank_draws.THRESHOLD).sum() for cov in exact]
    assert np.bincount(counts).tolist() == [0, 32, 68]
    # The first projected Euler step leaves the cone in 49 of them.
    scheme = rank_draws.projected_euler("softmax", "identity", cases, step=0.05, max_steps=1)
    assert scheme.left_cone.sum() == 49


def test_projected_euler_goes_to_the_limit_with_small_steps():
    """Without an overshoot the scheme is Euler, and its limit is near the exact one."""
    (draw,) = rank_draws.draws("softmax", "identity", 3, 1)
    exact = np.linalg.eigvalsh(rank_draws.exact_limit(draw))
    scheme = rank_draws.projected_euler("softmax", "identity", [draw], step=2e-3, max_steps=40_000)
    assert not scheme.left_cone[0]
    assert scheme.rank[0] == (exact > rank_draws.THRESHOLD).sum()


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ConfigError, match="draws: got 101"):
        get_experiment("castin2025/rank-histograms").cells(rank_histograms.Config(draws=101))
