"""The stochastic limit with common noise: paths, steps, the backward equation (rows 3, 8)."""

import jax
import numpy as np
import pytest
from tests.limits.homogenized.cases import LAW, R, law_with

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Outcome, Retraction
from translimit.describe import GaussianHeads, WideHeads
from translimit.limits.homogenized import OverlapSDE, SphereEuler, TokenSDE, classify
from translimit.limits.homogenized.overlaps import (
    attention_overlap,
    overlap_covariation,
    overlap_drift,
)
from translimit.limits.homogenized.schedule import schedule
from translimit.limits.homogenized.two_tokens import pair_expectation, without_scores


@pytest.mark.parametrize(
    "retraction",
    [Retraction.TANGENT, pytest.param(Retraction.AMBIENT, marks=pytest.mark.slow)],
)
def test_one_step_has_the_drift_and_covariation_of_the_overlaps(retraction):
    """20 000 small steps: means and products within 4.5 s.e. and O(step).

    Of both problems for the ambient step; the tangent one has no code of its own in either.
    """
    step, dim = 1e-2, 5
    law = GaussianHeads.of_score_std(1.0, dim=dim)
    s = attention_overlap(law, R, samples=100_000, key=jax.random.key(0)).value
    method = SphereEuler(max_step=step, paths=20_000, retraction=retraction)
    tokens = np.linalg.cholesky(R) @ np.eye(3, dim)
    problems = (
        OverlapSDE(law=law, initial=R, t1=step),
        TokenSDE(law=law, initial=tokens, t1=step),
    )
    for problem in problems if retraction is Retraction.AMBIENT else problems[:1]:
        moved = solve(problem, method, key=jax.random.key(3), save=[step]).overlaps[:, 0] - R
        stderr = moved.std(axis=0) / 20_000**0.5
        gap = np.abs(moved.mean(axis=0) - step * overlap_drift(R, s, dim))
        assert (gap < 4.5 * stderr + 2 * step**2 + 1e-12).all()
        for one, other in (((0, 1), (0, 1)), ((0, 1), (1, 2)), ((0, 2), (1, 2))):
            product = moved[:, *one] * moved[:, *other] / step
            expected = overlap_covariation(R, s, dim, one, other)
            assert abs(product.mean() - expected) < 4.5 * product.std() / 20_000**0.5 + 0.3 * step


@pytest.fixture(scope="module")
def overlaps_at_three_halves():
    """Mean overlap of 2000 paths at tau = 1.5, step .05."""
    problem = OverlapSDE(law=LAW, initial=np.eye(6), t1=1.5)
    method = SphereEuler(max_step=0.05, paths=2000)
    return solve(problem, method, key=jax.random.key(1), save=[1.5]).mean_overlap()


def test_acceptance_3_the_sde(overlaps_at_three_halves):
    """Note: .225 +- .013 at step .05; ours with 2000 paths."""
    found = overlaps_at_three_halves
    assert abs(found.value - 0.225) < 4.5 * np.hypot(0.013, found.stderr)


@pytest.mark.slow
def test_acceptance_3_the_equation_of_the_tokens(overlaps_at_three_halves):
    method = SphereEuler(max_step=0.05, paths=2000)
    problem = TokenSDE(law=LAW, initial=np.eye(6, 8), t1=1.5)
    tokens = solve(problem, method, key=jax.random.key(2), save=[1.5])
    one, two = overlaps_at_three_halves, tokens.mean_overlap()
    assert abs(one.value - two.value) < 4.5 * np.hypot(one.stderr, two.stderr)
    np.testing.assert_allclose(np.linalg.norm(tokens.tokens, axis=-1), 1.0, rtol=1e-12)


def paths_of(step: float, retraction: Retraction, paths: int, seed: int) -> np.ndarray:
    law = WideHeads(dim=6, score_std=0.0)
    method = SphereEuler(max_step=step, paths=paths, retraction=retraction)
    problem = OverlapSDE(law=law, initial=np.eye(2, dtype=np.float32), t1=1.0)
    return solve(problem, method, key=jax.random.key(seed), save=[1.0]).overlaps[:, 0, 0, 1]


def test_acceptance_8_the_backward_equation():
    for observable, expected in ((lambda r: r, 0.29143), (np.square, 0.20240)):
        found = pair_expectation(observable, without_scores, initial=0.0, t1=1.0, dim=6)
        assert found == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("retraction", "power", "exact", "error"),
    [
        (Retraction.AMBIENT, 2, 0.20240, -0.0333),
        pytest.param(Retraction.TANGENT, 1, 0.29143, -0.0459, marks=pytest.mark.slow),
    ],
)
def test_acceptance_8_step_errors(retraction, power, exact, error):
    """Ambient on E R^2 and tangent on E R at step .5: 4.5 s.e. of 1e5 paths and of the values.

    The equation is that of "The diffusive limit" in docs/theory/homogenized.md, its exact means
    at two tokens without scores from the backward equation; s.e. of the values 2.4e-4.
    """
    values = np.float64(paths_of(0.5, retraction, 100_000, 1)) ** power
    stderr = np.hypot(values.std() / np.sqrt(100_000), 2.4e-4)
    assert abs(values.mean() - exact - error) < 4.5 * stderr


@pytest.mark.slow
def test_acceptance_8_step_errors_in_full():
    """2e6 paths at four steps; standard errors 2.4e-4, twice (ours and of the values)."""
    ambient = {0.5: -0.0333, 0.25: -0.0160, 0.125: -0.0076, 0.0625: -0.0040}
    tangent = {0.5: -0.0459, 0.25: -0.0265, 0.125: -0.0144, 0.0625: -0.0078}
    for index, step in enumerate(ambient):
        values = np.float64(paths_of(step, Retraction.AMBIENT, 2_000_000, index)) ** 2
        assert abs(values.mean() - 0.20240 - ambient[step]) < 4.5 * 1.41 * 2.4e-4
        values = np.float64(paths_of(step, Retraction.TANGENT, 2_000_000, 9 + index))
        assert abs(values.mean() - 0.29143 - tangent[step]) < 4.5 * 1.41 * 2.4e-4


@pytest.mark.slow
@pytest.mark.parametrize("retraction", list(Retraction))
def test_the_stated_step_error_covers_the_measured_one(retraction):
    """At step .25, twice of which is far from small: to a third, and 4.5 s.e. of 40 000 paths."""
    method = SphereEuler(max_step=0.25, paths=40_000, retraction=retraction)
    problem = OverlapSDE(law=WideHeads(dim=6, score_std=0.0), initial=np.eye(2), t1=1.0)
    solution = solve(problem, method, key=jax.random.key(0), save=[1.0])
    values = solution.overlaps[:, 0, 0, 1]
    gaps, errors = [], []
    for power, exact in ((1, 0.29143), (2, 0.20240)):
        gaps.append(abs(np.mean(values**power) - exact))
        errors.append(np.std(values**power) / 40_000**0.5)
    assert max(gaps) < 1.5 * solution.discretisation + 4.5 * max(errors)
    assert solution.discretisation < 1.5 * max(gaps) + 4.5 * max(errors)


def test_solutions_are_labelled_and_drawn_and_paths_do_not_depend_on_their_number():
    problem = OverlapSDE(law=LAW, initial=np.eye(3), t1=0.5, causal=True)
    # Groups of 1024 paths share a compilation: one of them, and one with a path more.
    solution, more = (
        solve(problem, SphereEuler(max_step=0.1, paths=paths), key=jax.random.key(0), save=[0, 0.5])
        for paths in (1024, 1025)
    )
    assert more.overlaps.shape[0] == 1025
    np.testing.assert_allclose(more.overlaps[:1024], solution.overlaps, rtol=1e-12)
    assert np.abs(more.overlaps[1024] - more.overlaps[0]).max() > 1e-3
    assert solution.outcome == Outcome.successful
    data = solution.to_xarray()
    assert data["overlaps"].dims == ("sample", "time", "token", "token2")
    np.testing.assert_allclose(data["slow_time"], [0, 0.5 / 8])
    np.testing.assert_allclose(data["overlaps"][:, 0], np.broadcast_to(np.eye(3), (1024, 3, 3)))
    assert "diffusive" in solution.plot().get_xlabel()


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentError, match="negative eigenvalue"):
        OverlapSDE(law=LAW, initial=[[1, 2], [2, 1]], t1=1.0)
    with pytest.raises(ArgumentError, match="t1"):
        OverlapSDE(law=LAW, initial=np.eye(2), t1=-1.0)
    with pytest.raises(ArgumentTypeError, match="not Markov"):
        OverlapSDE(law=law_with(1.0), initial=np.eye(2), t1=1.0)
    with pytest.raises(ArgumentTypeError, match="causal"):
        TokenSDE(law=LAW, initial=np.eye(8), t1=1.0, causal="yes")
    with pytest.raises(ArgumentTypeError, match="key"):
        solve(OverlapSDE(law=LAW, initial=np.eye(2), t1=1.0))
    with pytest.raises(ArgumentError, match="step"):
        SphereEuler(max_step=0.0)
    with pytest.raises(ArgumentError, match="samples"):
        attention_overlap(LAW, R, samples=1, key=jax.random.key(0))
    with pytest.raises(ArgumentTypeError, match="antithetic: got 1; pass True or False"):
        attention_overlap(LAW, R, samples=2, antithetic=1, key=jax.random.key(0))
    with pytest.raises(ArgumentTypeError, match="save: is traced, or t1 is; pass concrete times"):
        jax.jit(lambda t1: schedule([t1], 0.1).sizes)(1.0)
    with pytest.raises(ArgumentTypeError, match="law"):
        classify(3, tokens=1, layers=1, step=0.1, heads=1)
    with pytest.raises(ArgumentError, match="layers"):
        classify(LAW, tokens=1, layers=-1, step=0.1, heads=1)
    with pytest.raises(ArgumentError, match="tolerance"):
        classify(LAW, tokens=1, layers=1, step=0.1, heads=1, tolerance=2.0)
