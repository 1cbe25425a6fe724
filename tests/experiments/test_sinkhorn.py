"""Sinkhorn attention at toy sizes: what is exact holds at any size, and the erratum is seen."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import drawn

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.castin2025 import sinkhorn

NAME = "castin2025/sinkhorn"
TOY = replace(
    sinkhorn.Config(),
    strengths=(0.32, 1.05),
    rounds=30,
    contraction_tokens=20,
    contraction_clouds=2,
    draws=4,
    tokens=(16, 32),
    clouds=(6, 6),  # one number of clouds, one compilation of their closures
    steps=4,
    energy_tokens=15,
)


@pytest.fixture(scope="module")
def run():
    experiment = get_experiment(NAME)
    results = {c.name: experiment.compute_cell(TOY, c, 0) for c in experiment.cells(TOY)}
    return experiment, results


def test_claims_that_are_exact_hold_at_any_size(run):
    experiment, results = run
    verdicts = {claim.name: claim.verdict for claim in experiment.claims(TOY, results)}
    exact = (
        "contraction-b=0.32",
        "contraction-b=1.05",
        "corrected-invertible",
        "corrected-singular-A",
        "corrected-singular-Sigma",
        "printed-invertible",
        "mean-exact",
        "energy-rate-falls",
        "energy-sign-falls",
        "energy-rate-rises",
        "energy-sign-rises",
    )
    assert {name: verdicts[name] for name in exact} == dict.fromkeys(exact, Verdict.supported)
    # Every draw with a singular matrix shows the erratum.
    singular = results["erratum"]["printed"].sel(case=["singular-A", "singular-Sigma"])
    assert float(singular.min()) > 1e-3
    names = experiment.claim_names()
    assert set(verdicts) == set(names) - {"contraction-b=3.2"}


def test_figures_draw(run):
    experiment, results = run
    for spec in experiment.figures(TOY, results):
        figure = drawn(spec)
        figure.canvas.draw()
        assert all(ax.get_xlabel() for ax in figure.axes)


def test_same_key_same_bits(run):
    experiment, results = run
    for cell in experiment.cells(TOY):
        if cell.name in ("clouds/n=16", "erratum"):
            again = experiment.compute_cell(TOY, cell, 0)
            for name, values in results[cell.name].data_vars.items():
                np.testing.assert_array_equal(again[name].values, values.values)


def test_refusal(as_user):
    with pytest.raises(ConfigError, match=r"clouds: got .* for tokens .*one count per entry"):
        get_experiment(NAME).cells(sinkhorn.Config(clouds=(8,)))
