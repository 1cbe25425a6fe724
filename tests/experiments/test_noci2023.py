"""The experiments on the shaped Transformer at toy sizes: claims bind, and figures draw."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import SUPPORTED, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.noci2023 import (
    ablations,
    exact_facts,
    explosion,
    one_layer,
    sde_and_networks,
    shaped_and_unshaped,
    starts,
    weak_error,
)
from translimit.experiments.noci2023 import theories as theories_of_the_sde
from translimit.limits.shaped import Block, ShapedGains, covariance_drift, diffusion


def test_real_tokens_are_starts() -> None:
    for name in starts.STARTS:
        cov = starts.initial_covariance(name)
        assert np.linalg.eigvalsh(cov).min() > -1e-12
        if name not in starts.UNEQUAL:
            assert np.mean(np.diagonal(cov)) == pytest.approx(1.0)
    text = starts.initial_covariance("text")
    assert np.linalg.matrix_rank(text) < len(text)  # "It is ": the space and the i occur twice


def _one_step(block, cov, theories, paths):
    step = 1e-2
    covs = theories_of_the_sde.simulate(
        block,
        cov,
        theories,
        t1=step,
        steps=1,
        paths=paths,
        stop_trace=1e9,
        rng=np.random.default_rng(0),
    )
    return [(one - cov) / step for one in covs], step


def test_the_log_det_of_a_singular_covariance_is_no_number() -> None:
    singular, regular = np.ones((2, 2)), np.eye(2)
    values = theories_of_the_sde.observe(np.stack([singular, regular]))
    assert np.isnan(values[0, -1])
    assert np.isfinite(values[0, :-1]).all()
    np.testing.assert_allclose(values[1], [0.0, 2.0, 0.5, 0.0, 0.0], atol=1e-12)


def test_theories_are_the_sde_and_differ_by_its_terms() -> None:
    block, cov = Block(gamma=0.5, tau0=0.5, heads=2), starts.UNEQUAL["three unequal"]
    theory = theories_of_the_sde.Theory
    named = (theory(), theory(mean=0.0), theory(square=0.0), theory(noise=0.0), theory(linear=1.1))
    (right, *wrong), step = _one_step(block, cov, named, 40_000)
    flat = (right * step**0.5).reshape(-1, 9)
    scatter = flat.std(axis=0) / step**0.5 / len(flat) ** 0.5
    drift = np.asarray(covariance_drift(block, cov))
    assert np.all(np.abs(right.mean(axis=0) - drift).ravel() < 5 * scatter + 0.02)
    exact = np.asarray(diffusion(block, cov)).reshape(9, 9)
    assert np.cov(flat.T) == pytest.approx(exact, abs=0.06 * exact.max())
    # What a factor of the attention gains changes in the drift tells both of its parts.
    twice = Block(gamma=0.5, tau0=0.5, shaped_gains=ShapedGains(attention=2.0, centring=2.0))
    square = (np.asarray(covariance_drift(twice, cov)) - 2 * drift) / 2
    moved = [np.median(one - right, axis=0) for one in wrong[:2]]
    assert moved[0] == pytest.approx(-(drift - square), abs=1e-9)
    assert moved[1] == pytest.approx(-square, abs=1e-9)
    quiet = np.asarray(diffusion(Block(gamma=0.5, tau0=float("inf")), cov)).reshape(9, 9)
    assert np.cov((wrong[2] * step**0.5).reshape(-1, 9).T) == pytest.approx(quiet, abs=0.3)
    louder = np.var(wrong[3][:, 0, 0]) - np.var(right[:, 0, 0])
    assert louder * step == pytest.approx(0.1 * quiet[0, 0], rel=0.2)


def test_sde_and_networks() -> None:
    experiment = get_experiment("noci2023/sde-and-networks")
    config = sde_and_networks.Config(
        cases=("four",),
        dims=(20, 40),
        ratios=(0.05, 0.15),
        networks=2000,
        paths=500,
        pairs=200,
        step=0.01,
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["densities", "trajectories", "differences"]
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    assert set(claims) == {"four-log_trace", "four-share", "four-log_det"}
    assert all(claim.verdict is not Verdict.refuted for claim in claims.values())
    log_trace = claims["four-log_trace"]
    gaps = {rival.name: log_trace.gap_of(rival) for rival in log_trace.rivals}
    assert gaps["softmax not centred"] > gaps["1 / tau0 in the drift"] > 0.02
    # Another law in the place of the SDE is seen.
    limit = results["limit/four"].copy(deep=True)
    limit["mean"].values[:] = limit["mean"].values + 1.0
    spoiled = {**results, "limit/four": limit}
    assert set(verdicts(experiment, config, spoiled).values()) == {Verdict.refuted}


@pytest.mark.slow
def test_one_layer() -> None:
    experiment = get_experiment("noci2023/one-layer")
    config = one_layer.Config(draws=4000, layers=2000, layer_dim=1000, clock_dim=16, chains=2000)
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["ratios"]
    claims = experiment.check(config, results)
    assert all(claim.gap < 5 * claim.floor + 0.05 for claim in claims)
    several = next(one for one in claims if one.name.startswith("attention-noise-H=4-n_k=8"))
    far = next(one for one in several.rivals if one.name == "the noise without 1 / H")
    assert several.excluded_by(far) > 4.5


@pytest.mark.slow
def test_weak_error() -> None:
    experiment = get_experiment("noci2023/weak-error")
    config = weak_error.Config(dims=(8, 16), networks=3200)
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["rates"]
    found = verdicts(experiment, config, results)
    assert found["mlp-rate"] is Verdict.supported
    assert found["attention-mean"] is not Verdict.refuted
    # The control variates take the noise away, and have mean zero.
    error = results["attention/n=16"]["error"].values
    assert error.std() < 0.1 * 0.3 / (3200 / 16) ** 0.5 * 4
    assert 0.0 < error.mean() < 0.012


@pytest.mark.slow
def test_shaped_and_unshaped(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("shaped", "softmax", "no identity")
    full = shaped_and_unshaped.CASES
    monkeypatch.setattr(shaped_and_unshaped, "CASES", {case: full[case] for case in kept})
    experiment = get_experiment("noci2023/shaped-and-unshaped")
    config = shaped_and_unshaped.Config(
        dims=(50, 100),
        layers=20,
        networks=1000,
        draws=2000,
        gradient_dim=16,
        gradient_layers=4,
        gradient_networks=8,
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["depth", "gradients"]
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert found["no identity-log_trace-20"] is Verdict.supported


def test_laws_of_ablations_are_those_of_matrices() -> None:
    for case, gains in (("no centring", (1, 1, 0)), ("no identity", (0, 1, 1))):
        uniform = np.full((4, 4), 0.25)
        matrix = gains[0] * np.eye(4) + (gains[1] - gains[2]) * uniform
        cov = ablations.start(4)
        for _ in range(3):
            cov = (cov + matrix @ cov @ matrix.T) / 2
        assert ablations.law(4, case, "log_trace", 3) == pytest.approx(np.log(cov[0, 0]))
        assert ablations.law(4, case, "correlation", 3) == pytest.approx(cov[0, 1] / cov[0, 0])
    # The recursion with scores that hardly differ is uniform attention.
    rng = np.random.default_rng(0)
    small = 1e-6 * ablations.start(4)
    drawn = ablations.recursion("softmax", small, 2, 1, 50, rng)[:, -1].mean(axis=0)
    expected = ablations.law(4, "uniform attention", "correlation", 2)
    assert drawn[0, 1] / drawn[0, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_explosion() -> None:
    experiment = get_experiment("noci2023/explosion")
    config = explosion.Config(
        gamma_squares=(0.25, 0.4, 0.5),
        temperatures=(0.5, 1.0),
        cases=("one head",),
        paths=1000,
        adaptive=0.2,
        dims=(20,),
        networks=200,
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["map", "times", "growth"]
    found = verdicts(experiment, config, results)
    assert found["paths-one head"] is not Verdict.refuted


@pytest.fixture(scope="module")
def facts():
    """The experiment, a toy configuration, and its results."""
    experiment = get_experiment("noci2023/exact-facts")
    config = replace(
        exact_facts.Config(), paths=2500, steps=(0.05,), step=0.02, starts=(0.5,), horizon=15.0
    )
    return experiment, config, compute(experiment, config)


def test_the_tolerance_of_a_claim_decides(facts) -> None:
    """The walk of CONTRIBUTING: `tol` is changed in one place, and ledger and verdict follow."""
    experiment, config, results = facts
    name = "alignment-0.5"
    before = {claim.name: claim.to_json() for claim in experiment.check(config, results)}

    def with_tolerance(tol: float):
        changed = tuple(
            replace(one, tol=tol) if one.name == "alignment-{rho:g}" else one
            for one in experiment.claims
        )
        claims = replace(experiment, claims=changed).check(config, results)
        told = {claim.name: claim.to_json() for claim in claims}
        assert {k: v for k, v in told.items() if k != name} == {
            k: v for k, v in before.items() if k != name
        }
        (claim,) = (claim for claim in claims if claim.name == name)
        assert told[name]["tol"] == tol
        return claim

    strict = with_tolerance(0.0)
    assert not strict.holds
    edge = strict.gap + SUPPORTED * strict.floor
    assert not with_tolerance(0.99 * edge).holds
    assert with_tolerance(1.01 * edge).holds
    loose = with_tolerance(1.0)
    assert loose.holds
    assert loose.left  # within so much every rival stays
    assert loose.verdict is not Verdict.supported


def test_exact_facts(facts) -> None:
    experiment, config, results = facts
    assert draw_all(experiment, config, results) == ["log-det", "alignment"]
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert found["arcsine-martingale"] is not Verdict.refuted
