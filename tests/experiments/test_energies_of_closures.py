"""Energies of softmax and of closures at toy sizes: what is exact holds at any size."""

from types import MappingProxyType

import numpy as np
import pytest
from tests.experiments.checks import draw_all

from translimit.core import Verdict
from translimit.experiments import check_experiment, get_experiment
from translimit.experiments.castin2025 import bures_parts, softmax_energy

TOY = MappingProxyType(
    {
        "castin2025/softmax-energy": softmax_energy.Config(tokens=12, t1=0.5),
        "castin2025/bures-convexity": bures_parts.Config(draws=60, tokens=12, clouds=2),
    }
)
#: Shares of few draws decide nothing.
SAMPLED = ("semidefinite-score", "semidefinite-transport", "indefinite-score")


@pytest.mark.parametrize("name", TOY)
def test_exact_claims_hold_and_their_rivals_do_not(name):
    experiment, config = get_experiment(name), TOY[name]
    results = check_experiment(experiment, config).results
    for claim in experiment.check(config, results):
        if claim.name in SAMPLED or claim.name == "indefinite-transport":
            continue
        assert claim.verdict is Verdict.supported, claim
        for rival in claim.rivals:
            assert claim.swapped(rival).verdict is not Verdict.supported, (claim.name, rival.name)
    assert draw_all(experiment, config, results)


def test_curvature_of_the_transport_by_the_strengths():
    """The closed form halfway along the geodesic of the examples, against its numbers."""
    for name, value in (("definite", -5.050), ("indefinite", 2.357)):
        told = bures_parts._transport_terms(name)
        np.testing.assert_allclose(sum(told), value, atol=6e-4)
