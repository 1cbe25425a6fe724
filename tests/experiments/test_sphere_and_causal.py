"""Sphere clustering and causal attention at toy sizes; the field of a mixture by quadrature."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import drawn

from translimit.attention import Softmax
from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.castin2025 import causal, sphere_clustering

TOY = {
    "castin2025/sphere-clustering": replace(
        sphere_clustering.Config(), betas=(4.0, 9.0), tokens=24, clouds=4, t1=12.0, dims=(2,)
    ),
    "castin2025/causal": replace(
        causal.Config(),
        tokens=64,
        clouds=6,
        block_tokens=32,  # shapes like those of the other cells: one compilation
        block_clouds=6,
        positions=4,
        tokens_per_position=16,
        stability_clouds=6,
    ),
}


@pytest.fixture(scope="module", params=TOY)
def run(request):
    experiment, config = get_experiment(request.param), TOY[request.param]
    results = {
        cell.name: experiment.compute_cell(config, cell, 0) for cell in experiment.cells(config)
    }
    return experiment, config, results


def test_claims_and_figures(run):
    experiment, config, results = run
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    # Whatever the size: growth rates, the energy, and the exact facts about prefixes.
    for name in ("growth-sa", "growth-usa", "energy-increases", "first-token", "prefix-autonomy"):
        if name in claims:
            assert claims[name].verdict is Verdict.supported, name
    for spec in experiment.drawings(config, results):
        figure = drawn(spec)
        assert all(ax.get_xlabel() or not ax.axison for ax in figure.axes)
    cell = experiment.cells(config)[0]
    again = experiment.compute_cell(config, cell, 0)
    for name, values in results[cell.name].data_vars.items():
        np.testing.assert_array_equal(again[name].values, values.values)


def test_field_of_a_mixture_by_quadrature():
    """Gauss-Hermite nodes of both blocks as a weighted cloud: exact to rounding."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel()
    cloud = np.concatenate(
        [
            mean + grid @ np.linalg.cholesky(cov).T
            for mean, cov in zip(causal.BLOCK_MEANS, causal.BLOCK_COVS, strict=True)
        ]
    )
    queries = np.random.default_rng(0).normal(0.0, 0.7, (5, 2))
    softmax = Softmax(Q=causal.Q, K=causal.K, V=causal.V, score_scale=causal.BLOCK_SCALE)
    exact = softmax(queries, cloud, weights=np.tile(mass, 2) / (2 * mass.sum()))
    np.testing.assert_allclose(causal.mixture_field(queries), exact, rtol=1e-9)


@pytest.mark.parametrize("name", TOY)
def test_names_of_claims_at_the_presets(name):
    experiment = get_experiment(name)
    for config in experiment.presets.values():
        names = experiment.claim_names(config)
        assert len(set(names)) == len(names)


def test_refusals():
    clustering, masked = (get_experiment(name) for name in TOY)
    with pytest.raises(ConfigError, match="clouds: got 3"):
        clustering.cells(sphere_clustering.Config(clouds=3))
    with pytest.raises(ConfigError, match="t1: got 5"):
        clustering.cells(sphere_clustering.Config(t1=5.0))
    with pytest.raises(ConfigError, match="dims: got"):
        clustering.cells(sphere_clustering.Config(dims=(3,)))
    with pytest.raises(ConfigError, match="tokens: got 100"):
        masked.cells(causal.Config(tokens=100))
    with pytest.raises(ConfigError, match="block_clouds: got 2"):
        masked.cells(causal.Config(block_clouds=2))
