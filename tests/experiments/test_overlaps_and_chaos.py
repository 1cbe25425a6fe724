"""Overlaps, common noise, chaos and the order of temperature at small sizes."""

import dataclasses

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, Verdict, named_key
from translimit.experiments import PRESETS, Found, get_experiment
from translimit.experiments.koubbi2026 import (
    chaos_systems,
    common,
    euler_maruyama,
    single_layers,
)

SMALL = {
    "overlaps": {"replicas": 600, "layers": 5000},
    "common-noise": {"clouds": 40, "heads": 3},
    "chaos": {"sizes": (8, 16, 32), "largest": 128, "replicas": (100, 6), "layers": 2000},
    "high-temperature": {"heads": 30_000},
}
#: Verdicts that a small run must reach too.
EXPECTED = {
    "common-noise": {
        "fokker-planck-drift": Verdict.supported,
        "fokker-planck-noise": Verdict.supported,
    },
    "high-temperature": {
        "coefficient": Verdict.supported,
        "order-random": Verdict.supported,
        "order-simplex-0.25": Verdict.supported,
    },
}
QUICK = ("high-temperature",)


def small(name):
    experiment = get_experiment(f"koubbi2026/{name}")
    return experiment, dataclasses.replace(experiment.presets["demo"], **SMALL[name])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SMALL]
)
def test_a_small_run_is_whole(name):
    experiment, config = small(name)
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert EXPECTED.get(name, {}).items() <= found.items()
    assert len(draw_all(experiment, config, results)) == len(experiment.figures)
    for claim in experiment.check(config, results):
        for rival in claim.rivals:
            assert claim.swapped(rival).verdict is not Verdict.supported, (claim.name, rival.name)


@pytest.mark.parametrize("name", SMALL)
def test_every_claim_names_a_rival_at_every_preset(name):
    experiment, _ = small(name)
    assert set(experiment.presets) == set(PRESETS)
    costs = [experiment.cost(experiment.presets[preset]).seconds for preset in PRESETS]
    assert costs == sorted(costs)
    for preset in PRESETS:
        config = experiment.presets[preset]
        for claims in experiment.claims:
            assert all(claims.rivals_at(config, point) for point in claims.over(config))


@pytest.mark.parametrize(
    ("name", "changes", "argument"),
    [
        ("overlaps", {"replicas": 3}, "replicas"),
        ("overlaps", {"layers": 1500}, "layers"),
        ("common-noise", {"particles": (64,)}, "particles"),
        ("chaos", {"replicas": (2, 8)}, "replicas"),
        ("chaos", {"sizes": (16, 400)}, "sizes"),
        ("high-temperature", {"heads": 1000}, "heads"),
    ],
)
def test_sizes_that_the_claims_can_not_use(name, changes, argument):
    experiment, config = small(name)
    with pytest.raises(ConfigError) as caught:
        experiment.cells(dataclasses.replace(config, **changes))
    assert caught.value.argument == argument


def test_euler_maruyama_keeps_equal_tokens_equal_and_norms_on_average():
    """Equal tokens move alike: their inner product is the square of one norm, one in the mean."""
    start = np.tile(np.eye(1, 5), (3, 1))
    both = euler_maruyama.mean_overlaps(
        start, 1.0, step=0.05, blocks=2, pairs=2, paths=300, key=named_key(0, "test")
    )
    assert both.shape == (2, 300, 3)
    np.testing.assert_allclose(both[:, :, 0], 1.0, rtol=1e-6)
    spread = both[0, :, -1].std() / 300**0.5
    assert abs(both[0, :, -1].mean() - 1.0) < 4.5 * spread + 0.01
    assert both[0, :, -1].std() < 0.2


def test_other_theories_of_one_step_have_other_moments():
    """Drift and covariations against a direct sum over matrices of one entry, without scores."""
    R, d = single_layers.START, single_layers.ONE_DIM
    kernel = np.full((3, 3), R.mean())
    ones = np.zeros(3), np.zeros(6)
    data = single_layers.OneStep(ones[0], ones[0], ones[1], ones[1], kernel, 0.0, 0.01, 10)
    tokens, size = np.linalg.cholesky(R) @ np.eye(3, d), 1e-3
    drift, products = np.zeros(3), np.zeros(6)
    pairs = np.array(single_layers.PAIRS).T
    for entry in range(d * d):
        V = np.eye(d * d)[entry].reshape(d, d) * d**0.5 * size
        for sign in (1, -1):
            moved = tokens + sign * (V @ tokens.mean(axis=0))
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            change = (moved @ moved.T - R)[*pairs]
            drift += change / size**2 / (2 * d * d)
            products += [change[a] * change[b] for a, b in single_layers.PRODUCTS]
    np.testing.assert_allclose(data.theory("drift"), drift, atol=1e-5)
    np.testing.assert_allclose(
        data.theory("covariation"), products / size**2 / (2 * d * d), atol=1e-5
    )
    for name in single_layers.MOMENTS:
        for wrong in single_layers.WRONG[name]:
            if wrong != "attention removed":
                gap = np.abs(data.theory(name, wrong) - data.theory(name)).max()
                assert gap > 0.01, (name, wrong)


def test_systems_of_one_size_have_no_distance_without_the_others():
    """The small system of all tokens is the large one, and the share of its error is all of it."""
    draw = np.random.default_rng(0)
    systems = chaos_systems._through(
        (4, 8), 32, 3, 5, draw, lambda x: chaos_systems._free_layer(draw, x)
    )
    assert all(one.shape == (3, 2) for one in systems)
    assert np.all(systems[0] > 0)
    still = chaos_systems._through((4, 8), 32, 3, 5, draw, lambda x: x)
    np.testing.assert_allclose(still[0], 0.0)
    np.testing.assert_allclose(still[1], still[2])


def test_the_printed_bound_of_chaos_is_an_erratum():
    experiment, config = small("chaos")
    found = Found(config, {})
    printed = {
        (point.kind, rival.name)
        for claims in experiment.claims
        if claims.name.startswith("single")
        for point in claims.over(found.config)
        for rival in claims.rivals_at(config, point)
        if rival.printed
    }
    assert {kind for kind, _ in printed} == {"first", "token"}


def test_paths_with_a_coarse_solver_are_extrapolated_with_their_own_error():
    draw = np.random.default_rng(0)
    exact, error = draw.standard_normal((400, 1)), draw.standard_normal((400, 1))
    fine, coarse = exact + 0.1 * (1 + error), exact + 0.2 * (1 + error)
    paths = common.Paths(np.zeros(1), fine, 0.0, coarse)
    for name, expected in (("mean", exact.mean()), ("spread", exact.std(ddof=1))):
        found = paths.statistic(name)
        assert found.value == pytest.approx(expected, abs=0.02)
        assert found.discretisation > 0
    assert paths.statistic("mean").stderr == pytest.approx(exact.std(ddof=1) / 20, rel=1e-9)
    spreads = [np.std(draw.standard_normal(400), ddof=1) for _ in range(400)]
    assert paths.statistic("spread").stderr == pytest.approx(np.std(spreads), rel=0.25)
