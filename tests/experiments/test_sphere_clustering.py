"""Sphere clustering at toy sizes."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import drawn

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.castin2025 import sphere_clustering

TOY = {
    "castin2025/sphere-clustering": replace(
        sphere_clustering.Config(), betas=(4.0, 9.0), tokens=24, clouds=4, t1=12.0, dims=(2,)
    ),
}


@pytest.fixture(scope="module", params=TOY)
def run(request):
    experiment, config = get_experiment(request.param), TOY[request.param]
    results = {
        cell.name: experiment.compute_cell(config, cell, 0) for cell in experiment.cells(config)
    }
    return experiment, config, results


@pytest.mark.slow
def test_claims_and_figures(run):
    experiment, config, results = run
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    # Whatever the size: growth rates, the energy, and the exact facts about prefixes.
    exact = (*(f"{name}-{m}" for name in ("growth", "energy-rate") for m in ("sa", "usa")),)
    for name in (*exact, "energy-increases"):
        assert claims[name].verdict is Verdict.supported, name
    for spec in experiment.drawings(config, results):
        figure = drawn(spec)
        assert all(ax.get_xlabel() or not ax.axison for ax in figure.axes)
    cell = experiment.cells(config)[0]
    again = experiment.compute_cell(config, cell, 0)
    for name, values in results[cell.name].data_vars.items():
        np.testing.assert_array_equal(again[name].values, values.values)


@pytest.mark.parametrize("name", TOY)
def test_names_of_claims_at_the_presets(name):
    experiment = get_experiment(name)
    for config in experiment.presets.values():
        names = experiment.claim_names(config)
        assert len(set(names)) == len(names)


def test_refusals():
    clustering = get_experiment("castin2025/sphere-clustering")
    with pytest.raises(ConfigError, match="clouds: got 3"):
        clustering.cells(sphere_clustering.Config(clouds=3))
    with pytest.raises(ConfigError, match="t1: got 5"):
        clustering.cells(sphere_clustering.Config(t1=5.0))
    with pytest.raises(ConfigError, match="dims: got"):
        clustering.cells(sphere_clustering.Config(dims=(3,)))
