"""Experiments at toy sizes: same bits, honest claims, figures that draw; and the registry."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import drawn

from translimit.core import ConfigError, Verdict, jackknife, named_key
from translimit.experiments import PRESETS, all_experiments, get_experiment
from translimit.experiments.castin2025 import (
    digit_clouds,
    digits,
    finite_depth,
    particles_and_closure,
    past_blow_up,
    sigmoid,
    variants,
)

TOY = {
    "castin2025/particles-and-closure": replace(
        particles_and_closure.Config(),
        tokens=(40, 80),
        clouds=(8, 8),  # one number of clouds, one compilation of their closures
        steps=4,
        picture_tokens=30,
    ),
    "castin2025/finite-depth": replace(finite_depth.Config(), layers=(8, 16), tokens=12, clouds=6),
    "castin2025/past-blow-up": replace(past_blow_up.Config(), tokens=(10, 20), clouds=4),
    "castin2025/digits": replace(
        digits.Config(), images=8, groups=3, draws=2, strengths=(0.1, 1.0), saves=3, steps=4
    ),
    "castin2025/variants": replace(
        variants.Config(),
        variants=("l2", "linear"),
        tokens=20,
        clouds=16,
        layers=(4, 8),
        depth_tokens=8,
        depth_clouds=4,
        growth_tokens=8,
        growth_clouds=4,
        compact_tokens=(4, 8),
        compact_all=16,
        compact_clouds=16,
    ),
    "castin2025/sigmoid": replace(sigmoid.Config(), sharpnesses=(2.0,), tokens=30, clouds=6),
}


@functools.cache
def computed(name):
    experiment, config = get_experiment(name), TOY[name]
    results = {
        cell.name: experiment.compute_cell(config, cell, 0) for cell in experiment.cells(config)
    }
    return experiment, config, results


#: Toys that take over ten seconds.
SLOW = ("castin2025/variants", "castin2025/sigmoid")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in TOY],
)
def run(request):
    return computed(request.param)


def test_claims_and_figures(run):
    experiment, config, results = run
    claims = experiment.check(config, results)
    assert len({claim.name for claim in claims}) == len(claims)
    assert {claim.verdict for claim in claims} <= set(Verdict)
    for spec in experiment.drawings(config, results):
        figure = drawn(spec)
        assert all(ax.get_xlabel() or not ax.axison for ax in figure.axes)


def test_same_key_same_bits(run):
    experiment, config, results = run
    cell = experiment.cells(config)[-1]
    again = experiment.compute_cell(config, cell, 0)
    for name, values in results[cell.name].data_vars.items():
        np.testing.assert_array_equal(again[name].values, values.values)


def test_exact_claims_hold_at_any_size():
    """The blow-up time and the bound on finite clouds are exact: supported even at toy sizes."""
    *_, results = computed("castin2025/past-blow-up")
    data = results["n=20"]
    assert float(data["blow_up_time"]) == pytest.approx(1.0, abs=1e-7)
    assert float(data["bound_ratio"].max()) <= 1 + 1e-9
    exact = 0.5 / (1 - data["time"].values[:8])
    np.testing.assert_allclose(data["closure_variance"][:8], exact, rtol=1e-7)


def test_surrogates_have_the_moments_of_the_patches():
    tokens, surrogate = digit_clouds.clouds(named_key(0, "clouds"), groups=3, images=8, patch=2)
    for real, gaussian in zip(tokens, surrogate, strict=True):
        np.testing.assert_allclose(gaussian.mean(axis=0), real.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(np.cov(gaussian.T), np.cov(real.T), atol=1e-12)
        assert np.abs(gaussian - real).max() > 0.5


def test_jackknife_removes_the_bias_of_a_square():
    """E[mean^2] exceeds its target by var / n; the jackknife of a square is exactly unbiased.

    4000 repetitions of 5 draws of N(0.3, 1): standard error about 0.012.
    """
    generator = np.random.default_rng(0)
    estimates, plain = [], []
    for _ in range(4000):
        sample = generator.normal(0.3, 1.0, 5)
        estimates.append(jackknife(lambda rows, s=sample: float(s[rows].mean() ** 2), 5).value)
        plain.append(sample.mean() ** 2)
    stderr = np.std(estimates) / np.sqrt(4000)
    assert abs(np.mean(estimates) - 0.09) < 4.5 * stderr
    assert np.mean(plain) - 0.09 > 4.5 * np.std(plain) / np.sqrt(4000)


def test_every_experiment_has_its_presets_and_costs():
    experiments = all_experiments()
    assert {"castin2025/digits", "castin2025/particles-and-closure"} <= set(experiments)
    for experiment in experiments.values():
        assert set(experiment.presets) == set(PRESETS)
        for config in experiment.presets.values():
            assert experiment.cost(config).seconds > 0
            names = [cell.name for cell in experiment.cells(config)]
            assert len(set(names)) == len(names)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ConfigError, match="did you mean 'castin2025/digits'"):
        get_experiment("castin2025/digit")
    with pytest.raises(ConfigError, match="patch: 3 does not divide"):
        get_experiment("castin2025/digits").cells(digits.Config(patch=3))
    with pytest.raises(ConfigError, match="groups: got 2; pass at least 3"):
        get_experiment("castin2025/digits").cells(digits.Config(groups=2))
    with pytest.raises(ConfigError, match="variant: got 'softmx'; did you mean 'softmax'"):
        get_experiment("castin2025/particles-and-closure").cells(
            particles_and_closure.Config(variant="softmx")
        )
    with pytest.raises(ConfigError, match="more than the 1797"):
        get_experiment("castin2025/digits").cells(digits.Config(images=1000))
    with pytest.raises(ConfigError, match=r"clouds: got .* for tokens .*one count per entry"):
        get_experiment("castin2025/particles-and-closure").cells(
            particles_and_closure.Config(clouds=(8,))
        )
