"""Attention weights and blow-up times at toy sizes: closed forms, SciPy, samples."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all

from translimit import observe
from translimit.core import ConfigError, Verdict, named_key
from translimit.experiments import Keys, get_experiment
from translimit.experiments.castin2025 import (
    blow_up_times,
    canonical,
    plane,
    tilted_weights,
    weights_of_clouds,
)

WEIGHTS = replace(
    weights_of_clouds.Config(),
    variants=("l2",),
    tokens=(40,),
    clouds=(8,),
    sharp_tokens=(50, 10_000),
    sharp_clouds=32,
)
MAPS = blow_up_times.Config(side=7, checks=2)


def check(experiment, config, results):
    draw_all(experiment, config, results)
    return {claim.name: claim for claim in experiment.check(config, results)}


@pytest.mark.slow
def test_attention_weights_at_toy_size():
    experiment = get_experiment("castin2025/attention-weights")
    results = compute(experiment, WEIGHTS)
    claims = check(experiment, WEIGHTS, results)
    assert set(claims) == {"l2-entropy", "l2-sample-size", "sample-size-law", "entropy-law"}
    assert claims["sample-size-law"].verdict is Verdict.supported
    for name in ("l2-entropy", "l2-sample-size"):
        claim = claims[name]
        assert claim.gap < 4.5 * claim.floor + 1 / 40  # no more than the bias of few tokens
    # A cloud of 50 has nothing left of the law at 24, where the largest 10,000 still average.
    few, many = (results[f"sharp/n={n}"]["fraction"].mean("cloud") * n for n in (50, 10_000))
    assert 1 < float(few[-1]) < float(many[-1]) < 20
    assert float(many[-1]) > 1e4 * 10_000 * np.exp(-24.0)


@pytest.mark.parametrize("variant", weights_of_clouds.VARIANTS)
def test_weights_of_samples_are_those_of_the_closure(variant):
    """16 clouds of 500 from their own moments: 4.5 standard errors, and the O(1 / n)."""
    clouds = canonical.gaussian_clouds(named_key(1), 16, 500, np.float64)
    chosen = canonical.canonical_attention(variant)
    mean, cov = observe.moments(clouds)
    deficit, fraction = tilted_weights.closure_weights(chosen, mean, cov)
    logits = tilted_weights.scores(chosen, clouds, clouds)
    for found, predicted in (
        (np.log(500) - observe.attention_entropy(logits).mean(axis=-1), deficit),
        (observe.effective_sample_size(logits).mean(axis=-1) / 500, fraction),
    ):
        gap = found - predicted
        allowed = 4.5 * gap.std(ddof=1) / 4 + 1 / 500
        assert abs(gap.mean()) < allowed
        assert allowed < 0.01 < predicted.mean() / 3


def test_l2_map_is_its_closed_form():
    l2 = blow_up_times.compute_map(MAPS, "l2-degenerate", Keys(0, "", ""))
    found, expected = l2.blow_up_time, l2.expected
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    both = np.isfinite(expected)
    assert both.sum() > 5
    np.testing.assert_allclose(found[both], expected[both], rtol=1e-6)


def test_scipy_finds_a_known_blow_up():
    """V = I: 1 / lambda_max(Sigma_0 (A + A^T)), by the route that checks the other maps."""
    Q, K = np.array([[0.7, 0.2], [-0.3, 0.5]]), np.array([[0.9, -0.3], [0.2, 0.8]])
    cov = np.array([[0.6, 0.2], [0.2, 0.4]])
    A = K.T @ Q / np.sqrt(2.0)
    exact = 1 / np.linalg.eigvals(cov @ (A + A.T)).real.max()
    found = plane.scipy_blow_up_time([(np.eye(2), A)], cov, 50.0)
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    assert np.isinf(plane.scipy_blow_up_time([(np.eye(2), A)], cov, 0.5 * exact))


@pytest.mark.slow
def test_blow_up_times_at_toy_size():
    experiment = get_experiment("castin2025/blow-up-times")
    results = compute(experiment, MAPS)
    claims = check(experiment, MAPS, results)
    assert tuple(claims) == experiment.claim_names(MAPS)
    assert {claim.verdict for claim in claims.values()} == {Verdict.supported}
    # Softmax scales: twice the start, half the time.
    field, t1 = blow_up_times.make_field("softmax-random")
    cov = blow_up_times.covariances_of_trace_one(np.array([-0.9, 0.0]))
    once, twice = (blow_up_times.blow_up_times(field, c * cov, t1) for c in (1.0, 2.0))
    finite = np.isfinite(once)
    assert finite.any()
    np.testing.assert_allclose(twice[finite], once[finite] / 2, rtol=1e-7)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    weights = get_experiment("castin2025/attention-weights")
    with pytest.raises(ConfigError, match=r"variants: got \('softmx',\); did you mean 'soft"):
        weights.cells(replace(WEIGHTS, variants=("softmx",)))
    with pytest.raises(ConfigError, match=r"clouds: got .* for tokens .*one count per entry"):
        weights.cells(weights_of_clouds.Config(clouds=(8,)))
    with pytest.raises(ConfigError, match="variants: got 'softmx'; did you mean 'softmax'"):
        canonical.canonical_attention("softmx")
    maps = get_experiment("castin2025/blow-up-times")
    with pytest.raises(ConfigError, match="side: got 4"):
        maps.cells(blow_up_times.Config(side=4))
    with pytest.raises(ConfigError, match="checks: got 0"):
        maps.cells(blow_up_times.Config(checks=0))
