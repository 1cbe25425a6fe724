"""Sinkhorn attention at toy sizes: what is exact holds at any size, and the erratum is seen."""

from types import MappingProxyType

import pytest
from tests.experiments.checks import drawn

from translimit.core import ConfigError, Verdict
from translimit.experiments import check_experiment, get_experiment
from translimit.experiments.castin2025 import (
    sinkhorn_clouds,
    sinkhorn_contraction,
    sinkhorn_energy,
    sinkhorn_erratum,
)

TOY = MappingProxyType(
    {
        "castin2025/sinkhorn-contraction": sinkhorn_contraction.Config(
            strengths=(0.32, 1.05), rounds=30, tokens=20, clouds=2
        ),
        "castin2025/sinkhorn-erratum": sinkhorn_erratum.Config(draws=16),
        # One number of clouds, one compilation of their closures.
        "castin2025/sinkhorn-clouds": sinkhorn_clouds.Config(
            tokens=(16, 32), clouds=(6, 6), steps=4
        ),
        "castin2025/sinkhorn-energy": sinkhorn_energy.Config(tokens=15),
    }
)
EXACT = {
    "castin2025/sinkhorn-contraction": ("contraction-b=0.32", "contraction-b=1.05"),
    "castin2025/sinkhorn-erratum": (
        "corrected-invertible",
        "corrected-singular-A",
        "corrected-singular-Sigma",
        "script-invertible",
    ),
    "castin2025/sinkhorn-clouds": ("mean-exact",),
    "castin2025/sinkhorn-energy": (
        "energy-rate-falls",
        "energy-sign-falls",
        "energy-rate-rises",
        "energy-sign-rises",
    ),
}


#: Toys that take over ten seconds.
SLOW = ("castin2025/sinkhorn-clouds", "castin2025/sinkhorn-energy")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in TOY],
)
def run(request):
    experiment, config = get_experiment(request.param), TOY[request.param]
    return experiment, config, check_experiment(experiment, config).results


def test_claims_that_are_exact_hold_at_any_size(run):
    experiment, config, results = run
    found = {claim.name: claim for claim in experiment.check(config, results)}
    for name in EXACT[experiment.name]:
        # Few draws tell no rivals apart whose errors are random; the prediction holds.
        assert found[name].holds, found[name]
        if experiment.name != "castin2025/sinkhorn-erratum":
            assert found[name].verdict is Verdict.supported, found[name]
    if "erratum" in results:
        # Every draw with a singular matrix shows the erratum.
        errors = results["erratum"]["error"].sel(expression="script")
        singular = errors.sel(case=["singular-A", "singular-Sigma"])
        assert float(singular.min()) > 1e-3


def test_figures_draw(run):
    experiment, config, results = run
    for spec in experiment.drawings(config, results):
        figure = drawn(spec)
        figure.canvas.draw()
        assert all(ax.get_xlabel() for ax in figure.axes)


@pytest.mark.usefixtures("as_user")
def test_refusal():
    with pytest.raises(ConfigError, match=r"clouds: got .* for tokens .*one count per entry"):
        get_experiment("castin2025/sinkhorn-clouds").cells(sinkhorn_clouds.Config(clouds=(8,)))
