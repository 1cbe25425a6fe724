"""The best learning rate: its rule on known curves, the limit's threshold, refusals."""

import json
import math
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import ring4

from translimit.core import ArgumentError, ArgumentTypeError, solve
from translimit.describe import Activation
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    LinearAlgebra,
    TrainingDynamics,
    best_rate,
    edge,
)
from translimit.limits.dmft.best_rate import small_populations
from translimit.limits.dmft.rate_rules import divergence, first_minimum, jackknife, robust_loss

KEY = jax.random.key(0)
RATES = np.geomspace(0.1, 1.0, 11)


def test_the_first_minimum_of_known_curves():
    parabola = np.exp((np.log(RATES / 0.3)) ** 2)
    assert first_minimum(RATES, parabola).rate == pytest.approx(0.3, rel=1e-9)
    # A curve that falls again after it has risen: the first minimum counts, a ripple does not.
    again = np.where(RATES > 0.6, 0.5, parabola)
    assert first_minimum(RATES, again).rate == pytest.approx(0.3, rel=1e-9)
    ripple = np.exp((np.log(RATES / 0.6)) ** 2) * (1 + 0.005 * (-1.0) ** np.arange(11))
    assert abs(np.log10(first_minimum(RATES, ripple).rate / 0.6)) < 0.05
    assert first_minimum(RATES, RATES).bound == "lowest"
    assert first_minimum(RATES, 1 / RATES).bound == "largest"
    # Beside a diverged point there is no parabola.
    wall = np.where(RATES > 0.55, np.inf, 1 / RATES)
    found = first_minimum(RATES, wall)
    assert found == (pytest.approx(RATES[7]), 7, "")


def test_the_robust_rule_charges_for_the_spread():
    """Populations that scatter beyond 0.4: the plain minimum lies there, the robust one below."""
    rng = np.random.default_rng(0)
    smooth = np.exp((np.log(RATES / 0.6)) ** 2)
    scatter = np.where(RATES > 0.4, 5 * (RATES - 0.4), 0.0)
    losses = smooth + scatter * rng.normal(size=(4, 11)) * 0.5
    losses = losses - losses.mean(axis=0) + smooth
    plain = first_minimum(RATES, robust_loss(losses, 0.0)).rate
    robust = first_minimum(RATES, robust_loss(losses)).rate
    assert plain == pytest.approx(0.6, rel=1e-6)
    assert robust < 0.5
    assert 0 < jackknife(RATES, losses) < 0.2
    losses[2, 5:] = np.inf
    assert np.isinf(robust_loss(losses)[5:]).all()


def test_divergence_is_bracketed():
    assert divergence(RATES, np.where(RATES > 0.5, 3.0, 0.1), 1.0) == (RATES[6], RATES[7])
    assert divergence(RATES, np.full(11, np.inf), 1.0) == (0.0, RATES[0])
    assert divergence(RATES, np.full(11, 0.5), 1.0) == (RATES[-1], math.inf)


@pytest.fixture(scope="module")
def exact():
    return best_rate(ring4(steps=6, eta0=7.0, beta0=1.5, gamma0=0.5))


def test_the_exact_limit(exact):
    """Each loss is that of a solve, and the edge that of `edge`."""
    problem = ring4(steps=6, eta0=float(exact.rates[4]), beta0=1.5, gamma0=0.5)
    solution = solve(problem)
    assert exact.losses.shape == (1, 18)
    assert exact.losses[0, 4] == pytest.approx(solution.loss[-1], rel=1e-12)
    assert exact.start == pytest.approx(solution.loss[0])
    assert exact.edge == pytest.approx(edge(problem, times=(0,)).rates[0], rel=1e-3)
    assert exact.plain == exact.rate
    assert exact.stderr == 0
    last, first = exact.divergence
    assert exact.rate < last < first
    assert first / last == pytest.approx(1.25)
    # The rate is the minimum: solves beside it are worse.
    around = [
        solve(ring4(steps=6, eta0=exact.rate * f, beta0=1.5, gamma0=0.5)).loss[-1]
        for f in (0.7, 1.0, 1.4)
    ]
    assert around[1] < min(around[0], around[2])


def test_what_it_leaves(exact):
    told = exact.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["best_rate"] == exact.rate
    data = exact.to_xarray()
    assert data["loss"].dims == ("population", "rate")
    assert data.attrs["best_rate"] == exact.rate
    assert "best rate" in repr(exact)
    assert exact._repr_html_().startswith("<table>")
    assert "data:image/png" in exact._repr_html_()
    assert exact.plot().get_xscale() == "log"


def test_the_printed_convention_has_other_rates(exact):
    """With the paper's printed rate all rates are gamma_0^2 times as large."""
    problem = TrainingDynamics(
        architecture=Architecture(head_dim=math.inf, beta0=1.5, gamma0=0.5),
        inputs=ring4(steps=6, eta0=1.0).inputs,
        targets=[1.0, -1.25],
        steps=3,
        eta0=1.0,
        lr_convention="table",
    )
    assert best_rate(problem, 6).rate == pytest.approx(0.25 * exact.rate, rel=1e-6)


@pytest.mark.slow
def test_small_populations():
    """The same random numbers at all rates: losses are smooth in the rate, populations differ."""
    problem = ring4(steps=8, eta0=1.0, head_dim=2, beta0=1.5, gamma0=1.0)
    found = best_rate(problem, key=KEY)
    assert found.losses.shape == (4, 18)
    assert found.sampled
    assert found.decades < 0.1
    assert found.rate <= found.plain * 1.01
    large = best_rate(problem, key=KEY, method=CausalSampling(heads=4000), rates=found.rates)
    assert abs(math.log10(found.rate / large.rate)) < 0.15
    again = best_rate(problem, key=KEY, rates=found.rates)
    np.testing.assert_array_equal(again.losses, found.losses)


def test_refusals():
    problem = ring4(steps=6, eta0=1.0)
    for rates in ([1.0], [1.0, 2.0, 3.0], [2.0, 1.0, 0.5], [-1.0, 1.0, 2.0]):
        with pytest.raises(ArgumentError, match="rates: got"):
            best_rate(problem, rates=rates)
    with pytest.raises(ArgumentError, match="steps"):
        best_rate(problem, 1)
    with pytest.raises(ArgumentError, match="steps: got 9, and weights or schedule"):
        best_rate(ring4(steps=6, eta0=1.0, schedule=np.linspace(1, 0, 6)), 9)
    with pytest.raises(ArgumentTypeError, match="key: is not needed"):
        best_rate(problem, key=KEY, method=LinearAlgebra())


def test_populations_of_the_rule_hold_the_directions_of_short_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The least size is more than these few fields need: without it the rule's own counts decide.
    monkeypatch.setattr(sys.modules["translimit.limits.dmft.best_rate"], "SMALL", 1)
    problem = ring4(
        steps=8, eta0=0.1, head_dim=2, beta0=1.5, gamma0=1.5, mlp=Activation.TANH, norm="rms"
    )
    method = small_populations(problem, problem.steps)
    assert isinstance(method, CausalSampling)
    solve(problem, replace(method, populations=2, check_tol=False), key=KEY)
    # A third of them does not.
    assert method.heads is not None
    assert method.neurons is not None
    fewer = replace(method, heads=method.heads // 3, neurons=method.neurons // 3)
    with pytest.raises(ArgumentError, match=r"need twice as many coordinates"):
        solve(problem, replace(fewer, populations=2, check_tol=False), key=KEY)


def test_a_rate_whose_populations_are_too_small_is_refused_alone() -> None:
    """Lazy training at a small rate has few directions, at larger ones more than these hold."""
    problem = ring4(steps=8, eta0=1.0, head_dim=2, beta0=1.5, gamma0=1.5)
    method = CausalSampling(heads=56, populations=2, tol=1e-2)
    rates = np.geomspace(1e-4, 0.3, 4)
    found = best_rate(problem, key=KEY, method=method, rates=rates)
    assert 0 < len(found.too_small) < 4
    refused = np.isin(rates, list(found.too_small))
    np.testing.assert_array_equal(np.isnan(found.losses).all(axis=0), refused)
    assert np.isfinite(found.losses[:, ~refused]).all()
    assert found.rate not in found.too_small
    assert "heads: got 56, where" in found.summary()["populations too small"]
    assert all("take about" in why for why in found.too_small.values())
    assert found.divergence[1] not in found.too_small
    assert json.loads(json.dumps(found.to_dict()))["too_small"]
    with pytest.raises(ArgumentError, match=r"heads: got 8, where .* need twice"):
        best_rate(problem, key=KEY, method=replace(method, heads=8), rates=rates)
