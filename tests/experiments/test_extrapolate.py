"""Experiments on extrapolation: claims on planted losses, and small runs."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.extrapolate import collapse, coverage, ladders, shape

#: Deviations over seeds: what all sizes share, and what is their own.
COMMON, OWN = 0.02, 0.01


def planted(experiment, config, losses):
    """Datasets of all cells, with losses by cell and place."""
    rng = np.random.default_rng(0)
    (part,) = experiment.parts
    found = {}
    common = COMMON * rng.normal(size=(4000, 1, len(config.times)))
    for point in part.points(config):
        mean, seeds = losses(point)
        noise = common[:seeds] + OWN * rng.normal(size=(seeds, *mean.shape))
        record = ladders.Losses(np.exp(mean + noise))
        found[part.cell_name(point)] = record.to_dataset({})
    return found


def test_coverage_of_planted_series_is_supported_and_the_largest_size_is_not() -> None:
    experiment = get_experiment("extrapolate/coverage")
    config = replace(coverage.Config(), held_seeds=200, seeds=40, draws=2)
    t = np.array(config.times) / config.times[-1]

    def losses(at):
        rates = np.array(config.log2_rates)[:, None]
        size = config.sizes(at.axis)[0] / at.size
        mean = -t + (0.3 + 0.02 * rates) * t * size + 0.1 * t**2 * size**2
        return mean, config.members(at)

    results = planted(experiment, config, losses)
    found = verdicts(experiment, config, results)
    assert found["two-errors"] == Verdict.supported
    assert found["rms"] == Verdict.supported
    assert draw_all(experiment, config, results) == ["held-out", "coverage"]
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    assert claims["two-errors"].gap_of(claims["two-errors"].rivals[0]) > 0.3


def test_curves_with_a_diverged_network_are_left_out() -> None:
    experiment = get_experiment("extrapolate/coverage")
    config = replace(experiment.presets["demo"], log2_rates=(-8.0, -7.0))
    results = planted(
        experiment, config, lambda at: (np.zeros((2, len(config.times))), config.members(at))
    )
    broken = results["heads=3/draw=0"].copy(deep=True)
    broken["loss"][0, 1, -1] = np.nan
    with pytest.raises(ConfigError, match="log2_rates: networks diverged at all but one"):
        experiment.check(config, {**results, "heads=3/draw=0": broken})


def test_planted_curves_with_and_without_a_trend() -> None:
    experiment = get_experiment("extrapolate/collapse")
    config = replace(collapse.Config(), seeds=400)
    t = np.array(config.times) / config.times[-1]
    for growing, verdict in ((True, Verdict.supported), (False, Verdict.underpowered)):
        a = 2 * t if growing else np.ones_like(t)
        results = planted(experiment, config, lambda H, a=a: ((-t + a / H)[None], config.seeds))
        claims = experiment.check(config, results)
        assert [claim.verdict for claim in claims] == [verdict]
        assert claims[0].holds
        assert draw_all(experiment, config, results) == ["curves", "ratios"]
    # Sizes that follow no line in 1/n.
    results = planted(
        experiment, config, lambda H: ((-t + 2 * t * (H == 4) + t / H)[None], config.seeds)
    )
    assert verdicts(experiment, config, results) == {"trend": Verdict.refuted}


def test_the_best_of_planted_shapes_is_found() -> None:
    experiment = get_experiment("extrapolate/shape")
    config = shape.Config()

    def losses(size):
        N, H, L = size
        mean = 0.3 + 0.6 / N + 0.4 / H + 0.5 / L
        return np.full((1, len(config.times)), mean), config.all_seeds(size)

    assert len(config.large()) >= 20
    assert all(config.budget >= 4 * (N * H) ** 2 * L for N, H, L in config.small())
    results = planted(experiment, config, losses)
    assert verdicts(experiment, config, results) == {"regret": Verdict.supported}
    assert draw_all(experiment, config, results) == ["shapes"]
    with pytest.raises(ConfigError, match="budget: got 7"):
        replace(config, budget=7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coverage", "collapse", "shape", "dmft"])
def test_small_runs_have_claims_and_figures(name: str) -> None:
    experiment = get_experiment(f"extrapolate/{name}")
    config = experiment.presets["demo"]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    if name != "shape":  # seven small shapes predict with errors of 0.03 to 0.4, and rank wrongly
        assert Verdict.refuted not in found.values()
    assert len(draw_all(experiment, config, results)) == len(experiment.figures)
