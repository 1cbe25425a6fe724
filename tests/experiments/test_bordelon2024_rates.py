"""Best learning rates and generalisation: curves with known minima, and small studies."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.cli import main
from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.bordelon2024 import (
    best_rate_cells,
    dmft_best_rate,
    unseen_digits,
)
from translimit.experiments.bordelon2024.rate_curves import Curves, curve_rows, lowest, mean_loss

RATES = np.geomspace(0.1, 2.0, 15)


def curves(best: float, swept: float) -> Curves:
    """The limit and networks with these best rates, which scatter and diverge beyond them."""
    rng = np.random.default_rng(0)

    def losses(count: int, place: float) -> np.ndarray:
        smooth = 0.1 * np.exp(np.log(RATES / place) ** 2)
        wild = np.where(RATES > 1.2, 50.0, smooth)
        return wild * (1 + 0.01 * rng.standard_normal((count, 1)))

    return Curves(
        rate=RATES,
        limit=losses(4, best),
        large=losses(2, 1.4 * best),  # the plain minimum lies too high
        networks=np.stack([losses(16, swept), losses(16, swept)]),
        size=np.array([32, 64]),
        start=2.0,
        edge=2.0,
        steps=8,
        sampled=True,
        predicted=best,
        predicted_decades=0.01,
        diverging=float(RATES[RATES > 1.2][0]),
    )


def test_ratios_of_known_curves():
    found = curves(0.5, 0.4)
    assert found.best.rate == pytest.approx(0.5, rel=1e-6)
    assert found.plain == pytest.approx(0.7, rel=1e-6)
    ratio = found.ratio(64)
    assert ratio.value == pytest.approx(math.log10(0.5 / 0.4), abs=1e-6)
    assert ratio.stderr < 1e-6
    assert found.ratio(64, 0.8).value == pytest.approx(math.log10(2), abs=1e-6)
    assert found.networks_diverging(64) == found.diverging
    assert {row[0] for row in curve_rows(found)} == {
        "limit",
        "limit, small populations",
        "networks, H = 32",
        "networks, H = 64",
    }
    assert max(row[1] for row in curve_rows(found)) < 1.2


@pytest.mark.parametrize(
    ("limit", "networks", "steps"),
    [
        (10, 8, 2),
        (math.inf, 8, 7),
        (8, math.inf, -7),
        (14, math.inf, None),
        (math.inf,) * 2 + (None,),
    ],
)
def test_a_divergence_beyond_the_grid_is_a_bound_or_unknown(limit, networks, steps):
    """In steps of a grid of fifteen: the next one is the least that it can be."""

    def rate(place):
        return math.inf if math.isinf(place) else float(RATES[place])

    told = np.where(np.arange(15) < networks, 1.0, 50.0) * np.ones((16, 1))
    found = replace(
        curves(0.5, 0.5), networks=told[None], size=np.array([64]), diverging=rate(limit)
    )
    step = RATES[1] / RATES[0]
    gap = found.divergence_gap(64, step) / math.log10(step)
    assert math.isnan(gap) if steps is None else gap == pytest.approx(steps)


def test_the_first_minimum_of_networks():
    one = np.exp(np.log(RATES / 0.4) ** 2)
    assert lowest(RATES, one) == pytest.approx(math.log10(0.4))
    assert lowest(RATES, np.where(RATES > 1, 0.5, one)) == pytest.approx(math.log10(0.4))
    assert lowest(RATES, 1 / RATES) == pytest.approx(math.log10(2.0))
    broken = np.ones((3, 15))
    broken[1, 4] = np.inf
    assert np.flatnonzero(np.isinf(mean_loss(broken))).tolist() == [4]


@pytest.mark.parametrize("name", sorted(best_rate_cells.CELLS))
def test_cells_are_problems_of_the_limit(name):
    problem = best_rate_cells.CELLS[name]
    dynamics = problem.limit()
    x, y = problem.data()
    assert len(x) == len(y) == problem.inputs
    assert dynamics.fields == x.shape[0] * x.shape[1]
    again = best_rate_cells.CELLS[name].data()
    np.testing.assert_array_equal(again[0], x)


def test_claims_of_curves_that_agree_and_that_do_not():
    """The robust rule is supported, its rivals are not; another rate is refuted."""
    experiment = get_experiment("bordelon2024/dmft-best-rate")
    config = dmft_best_rate.Config(cells=("squared", "digits"), heads=(32, 64), seeds=16)
    for best, expected in ((0.5, Verdict.supported), (0.2, Verdict.refuted)):
        cells = {f"curves/{name}": curves(best, 0.5).to_dataset({}) for name in config.cells}
        found = verdicts(experiment, config, cells)
        assert {found["median"], found["rate-squared"]} == {expected}
        assert found["divergence-digits"] is Verdict.supported
    draw_all(experiment, config, cells)


def test_claims_of_networks_that_scatter_as_they_should():
    """Networks drawn with a bias and a covariance: singles and ensembles are told apart."""
    experiment = get_experiment("bordelon2024/dmft-generalisation")
    config = replace(experiment.presets["demo"], steps=4, networks=16_000)
    rng = np.random.default_rng(0)
    digits = config.inputs + config.unseen
    limit = rng.normal(size=(config.steps, digits, 3))
    limit[0] = 0.0
    y = config.all_digits()[1]
    log_p = limit - np.log(np.exp(limit).sum(axis=-1, keepdims=True))
    paid = -np.take_along_axis(log_p, np.broadcast_to(y[:, None], (config.steps, digits, 1)), -1)
    solved = unseen_digits.Solved(
        predictions=limit,
        loss=paid[:, : config.inputs, 0].mean(axis=1),
        test_loss=paid[:, config.inputs :, 0].mean(axis=1),
        test_loss_stderr=np.full(config.steps, 1e-4),
        test_accuracy=np.zeros(config.steps),
        start=np.full((digits, 3), 4.0),
    )
    cells = {"limit": solved.to_dataset({})}
    bias = 1.5 * np.sign(limit) * (np.arange(config.steps) > 0)[:, None, None]
    for heads, count in config.counts():
        noise = 2 * rng.normal(size=(count, config.steps, digits, 3))
        nets = unseen_digits.Nets(limit + bias / heads + noise / heads**0.5)
        cells[f"networks/H={heads}"] = nets.to_dataset({})
    claims = {claim.name: claim for claim in experiment.check(config, cells)}
    for claim in claims.values():
        assert claim.gap < claim.tol + 4.5 * claim.floor, claim
        assert claim.verdict is not Verdict.refuted
    assert claims["start"].verdict is Verdict.supported
    # A theory in which averaging loses nothing is far off.
    rivals = {rival.name: rival for rival in claims["test-of-4"].rivals}
    wrong = rivals["averaging that loses nothing"].estimate
    assert wrong is not None
    assert abs(wrong.value) > 4.5 * wrong.stderr
    draw_all(experiment, config, cells)


CASES = {
    "dmft-best-rate": dmft_best_rate.Config(
        cells=("squared",), heads=(16, 32), seeds=8, factor=1.6, large=600
    ),
    "dmft-generalisation": replace(
        get_experiment("bordelon2024/dmft-generalisation").presets["demo"],
        networks=800,
        samples=800,
        neurons=1600,
    ),
    "dmft-own-best-rate": replace(
        get_experiment("bordelon2024/dmft-own-best-rate").presets["demo"],
        factor=1.6,
        swept=8,
        large=600,
    ),
}


def test_best_rates_are_those_of_gradient_descent_on_a_plain_stream():
    config = CASES["dmft-own-best-rate"]
    for name, value in (("optimizer", "adam"), ("activation_on_stream", "gelu")):
        with pytest.raises(ConfigError, match=f"{name}: got '{value}'.*; pass '"):
            replace(config, **{name: value})


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_small_studies_are_not_refuted_and_draw(name):
    experiment, config = get_experiment(f"bordelon2024/{name}"), CASES[name]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    assert Verdict.refuted not in found.values()
    draw_all(experiment, config, results)


@pytest.mark.slow
def test_the_command_prints_the_best_rate(tmp_path, capsys):
    own = {"task": "synthetic", "inputs": 2, "steps": 5, "axis": "none", "samples": 0}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(own))
    command = ["dmft", str(path), "--best-rate", "--executor", "serial", "--json"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [claim["name"] for claim in said["claims"]] == ["rate"]
    told = said["curves"]
    assert 0.05 * told["edge"] < told["predicted"] < told["edge"]
    assert len(told["rate"]) == len(told["limit"][0])
