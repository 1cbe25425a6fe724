"""Causal attention at toy sizes: exact facts about prefixes; the field of a mixture."""

import numpy as np
import pytest
from tests.experiments.checks import compute, drawn, verdicts

from translimit import observe
from translimit.attention import Softmax
from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.castin2025 import (
    canonical,
    causal_blocks,
    causal_prefixes,
    causal_stability,
)

TOY = {
    # Clouds of one shape: one compilation.
    "castin2025/causal-prefixes": causal_prefixes.Config(tokens=128, clouds=6),
    "castin2025/causal-blocks": causal_blocks.Config(tokens=32, clouds=6),
    "castin2025/causal-stability": causal_stability.Config(
        variants=("softmax",), positions=4, tokens_per_position=4, clouds=6
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n.endswith("blocks") else []) for n in TOY],
)
def test_claims_and_figures(name):
    experiment, config = get_experiment(name), TOY[name]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert tuple(found) == experiment.claim_names(config)
    # Whatever the size: the exact facts.
    for claim in ("first-token", "prefix-autonomy"):
        assert found.get(claim, Verdict.supported) is Verdict.supported
    for spec in experiment.drawings(config, results):
        assert all(ax.get_xlabel() or not ax.axison for ax in drawn(spec).axes)
    cell = experiment.cells(config)[-1]
    again = experiment.compute_cell(config, cell, 0)
    for array, values in results[cell.name].data_vars.items():
        np.testing.assert_array_equal(again[array].values, values.values)


def test_moments_are_in_the_order_of_their_names():
    assert observe.moment_names(2) == causal_prefixes.MOMENTS


def test_field_of_a_mixture_by_quadrature():
    """Gauss-Hermite nodes of both blocks as a weighted cloud: exact to rounding."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel()
    cloud = np.concatenate(
        [
            mean + grid @ np.linalg.cholesky(cov).T
            for mean, cov in zip(causal_blocks.MEANS, causal_blocks.COVS, strict=True)
        ]
    )
    queries = np.random.default_rng(0).normal(0.0, 0.7, (5, 2))
    softmax = Softmax(Q=canonical.Q, K=canonical.K, V=canonical.V, score_scale=causal_blocks.SCALE)
    exact = softmax(queries, cloud, weights=np.tile(mass, 2) / (2 * mass.sum()))
    np.testing.assert_allclose(causal_blocks.mixture_field(queries), exact, rtol=1e-9)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ConfigError, match="tokens: got 100"):
        causal_prefixes.Config(tokens=100)
    with pytest.raises(ConfigError, match="clouds: got 2"):
        causal_blocks.Config(clouds=2)
