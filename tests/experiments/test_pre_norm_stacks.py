"""Pre-LN stacks at toy sizes: cells, claims and figures."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, drawn

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.koubbi2026 import pre_norm_stacks

NAME = "koubbi2026/pre-norm-stacks"
TOY = replace(pre_norm_stacks.Config(), sizes=((128, 3, 4),), tokens=8, networks=16)


@pytest.fixture(scope="module")
def run():
    experiment = get_experiment(NAME)
    return experiment, compute(experiment, TOY)


@pytest.mark.slow
def test_claims(run):
    experiment, results = run
    claims = {claim.name: claim for claim in experiment.check(TOY, results)}
    assert len(claims) == 4
    for name, claim in claims.items():
        assert claim.verdict is not Verdict.refuted, name
        # 4.5 standard errors, and a bias of a finite width of at most 1 / D.
        assert claim.gap < 4.5 * claim.floor + 1 / 128
        assert len(claim.rivals) == (3 if "whole" in name else 4)
        assert all(claim.gap_of(rival) > 0 for rival in claim.rivals)
    assert len(experiment.claim_names(TOY)) == 4


@pytest.mark.slow
def test_figures_draw(run):
    experiment, results = run
    for spec in experiment.drawings(TOY, results):
        figure = drawn(spec)
        figure.canvas.draw()
        assert all(ax.get_xlabel() for ax in figure.axes)


@pytest.mark.slow
def test_cells_share_their_tokens(run):
    _, results = run
    first = [data["drawn"][:, 0].values for data in results.values()]
    for one in first[1:]:
        np.testing.assert_array_equal(one, first[0])


def test_refusal(as_user):
    with pytest.raises(ConfigError, match="heads dividing dim"):
        get_experiment(NAME).cells(replace(TOY, sizes=((10, 2, 3),)))
