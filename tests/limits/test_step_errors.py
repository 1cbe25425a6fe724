"""Every stochastic solve says what its steps do to means, and hides it where it may choose them."""

import dataclasses
import inspect
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import digamma

from translimit import limits, solve
from translimit.core import (
    AbstractMethod,
    coupled_step_error,
    hidden_step,
    separate_step_error,
)
from translimit.core.step_error import HALVINGS, StepError
from translimit.describe import FiniteHeads, WideHeads
from translimit.limits.homogenized import (
    ArtanhEuler,
    ModifiedSDE,
    OverlapSDE,
    SlowOverlap,
    SphereEuler,
    TokenSDE,
)
from translimit.limits.homogenized.schedule import schedule
from translimit.limits.homogenized.step_error import Comparison, refined
from translimit.limits.homogenized.two_tokens import pair_expectation, without_scores
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    EulerMaruyama,
    ShapedMLP,
    StructurePreserving,
    linear_log_det_law,
    linear_variance,
)

THREE = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]])
LINEAR = Block(gamma=0.6, tau0=np.inf, lam=0.8)
FULL = Block(gamma=0.6, tau0=1.0, mlp=ShapedMLP(gamma=0.6, c_plus=0.0, c_minus=-1.0))
NO_SCORES = WideHeads(dim=6, score_std=0.0)
KEY = jax.random.key(0)

#: One problem for each pair of a stochastic problem and a method with steps.
SOLVES: dict[str, tuple[Any, Any]] = {
    "covariances": (
        lambda: CovarianceSDE(block=LINEAR, initial=THREE, t1=0.2),
        StructurePreserving(paths=40),
    ),
    "covariances, euler": (
        lambda: CovarianceSDE(block=LINEAR, initial=THREE, t1=0.2),
        EulerMaruyama(paths=40),
    ),
    "overlaps": (
        lambda: OverlapSDE(law=NO_SCORES, initial=np.eye(2), t1=0.2),
        SphereEuler(paths=40),
    ),
    "tokens": (
        lambda: TokenSDE(law=NO_SCORES, initial=np.eye(2, 6), t1=0.2),
        SphereEuler(paths=40),
    ),
    "drift and noise": (
        lambda: ModifiedSDE(
            law=FiniteHeads(V=[np.eye(3), -0.5 * np.eye(3)], A=[np.eye(3)] * 2, beta=1.0),
            initial=np.eye(2, 3),
            t1=0.2,
            step=0.1,
            heads=1,
        ),
        SphereEuler(paths=40),
    ),
    "slow overlap": (
        lambda: SlowOverlap(initial=0.3, t1=0.2, drift_coefficient=1.0),
        ArtanhEuler(paths=40),
    ),
}


def test_the_table_has_every_method_with_steps() -> None:
    modules = limits.shaped, limits.homogenized, limits.dmft, limits.meanfield
    members = [getattr(module, name) for module in modules for name in dir(module)]
    methods = [one for one in members if inspect.isclass(one) and issubclass(one, AbstractMethod)]
    found = {
        one
        for one in methods
        if one.random is True and "max_step" in {field.name for field in dataclasses.fields(one)}
    }
    assert found == {type(method) for _, method in SOLVES.values()}


@pytest.mark.parametrize("name", SOLVES)
def test_a_solution_says_the_error_of_its_step(name: str) -> None:
    problem, method = SOLVES[name]
    solution = solve(problem(), method, key=KEY, save=[0.0, 0.1, 0.2])
    assert np.isfinite(solution.discretisation)
    assert 0 < solution.discretisation < 0.5
    assert 0 < solution.max_step <= 0.02 + 1e-12
    attributes = solution.to_xarray().attrs
    assert attributes["max_step"] == solution.max_step
    assert attributes["discretisation"] == solution.discretisation


@pytest.mark.parametrize("name", ["covariances, euler", "overlaps", "slow overlap"])
def test_a_start_alone_has_no_step_error(name: str) -> None:
    problem, method = SOLVES[name]
    solution = solve(problem(), method, key=KEY, save=[0.0])
    assert solution.discretisation == pytest.approx(0.0, abs=1e-12)


def exact_log_det(step: float, t1: float) -> float:
    """Mean log det of three tokens by the scheme, whose linear part multiplies Wishart matrices."""
    degrees = 1 / (float(linear_variance(LINEAR)) * step)
    each = sum(digamma((degrees - row) / 2) + np.log(2 / degrees) for row in range(3))
    return np.linalg.slogdet(THREE)[1] + round(t1 / step) * each


def test_the_error_of_covariances_is_that_of_the_exact_law() -> None:
    # The pairs tell it to 0.014: 200 of them, and differences of deviation 0.2.
    step, t1 = 0.04, 0.8
    error = abs(exact_log_det(step, t1) - linear_log_det_law(LINEAR, THREE, t1)[0])
    problem = CovarianceSDE(block=LINEAR, initial=THREE, t1=t1)
    solution = solve(problem, StructurePreserving(paths=1600, max_step=step), key=KEY, save=[t1])
    found = solution.step_error(lambda paths: paths.log_det[:, -1])
    assert abs(found.bias - error) < 4.5 * found.noise + 0.2 * error
    assert found.noise < 0.3 * error
    assert solution.discretisation == pytest.approx(float(found.bias + found.noise))
    assert solution.mean_log_det().discretisation == solution.discretisation
    assert solution.max_step == step


@pytest.mark.parametrize(
    "kind", [StructurePreserving, pytest.param(EulerMaruyama, marks=pytest.mark.slow)]
)
def test_two_steps_taken_as_one_have_the_law_of_one(kind: Any) -> None:
    """The coarse member of a pair is a path with the larger step: 4.5 s.e. of 1000 and 4000."""
    problem = CovarianceSDE(block=FULL, initial=THREE, t1=0.2)
    pairs = solve(problem, kind(paths=4000, max_step=0.02), key=KEY, save=[0.2]).pairs
    plain = solve(problem, kind(paths=4000, max_step=0.04), key=jax.random.key(1), save=[0.2])
    for observable in (lambda c: np.log(c[:, 0, 0]), lambda c: c[:, 0, 1] / c[:, 1, 1]):
        one, other = observable(pairs.coarse.cov[:, -1]), observable(plain.cov[:, -1])
        for power in (1, 2):
            a, b = ((x - other.mean()) ** power for x in (one, other))
            error = (a.var() / a.size + b.var() / b.size) ** 0.5
            assert abs(a.mean() - b.mean()) < 4.5 * error
    # On the same noise both members are near to each other: that is what the pairs are for.
    fine = np.log(pairs.fine.cov[:, -1, 0, 0])
    coarse = np.log(pairs.coarse.cov[:, -1, 0, 0])
    assert np.corrcoef(fine, coarse)[0, 1] > 0.9


def test_a_default_step_hides_behind_the_sampling_error_and_a_given_one_is_kept() -> None:
    problem = CovarianceSDE(block=FULL, initial=THREE, t1=0.2)
    given = solve(problem, StructurePreserving(paths=4000, max_step=0.02), key=KEY, save=[0.2])
    assert given.max_step == pytest.approx(0.02)
    assert given.discretisation > given.mean_log_det().stderr
    chosen = solve(problem, StructurePreserving(paths=4000), key=KEY, save=[0.2])
    assert chosen.max_step < 0.02
    assert chosen.discretisation < chosen.mean_log_det().stderr


@pytest.mark.slow
def test_the_mean_log_det_of_a_full_block_at_the_default_step() -> None:
    """Against steps of 0.00125: 4.5 s.e. of 20 000 and 10 000 paths, without those that exploded.

    At a step of 0.02 the mean log det is off by 0.07 to 0.15, five times the sampling error.
    """
    problem = CovarianceSDE(block=FULL, initial=THREE, t1=1.0)
    chosen = solve(problem, StructurePreserving(paths=20_000), key=KEY, save=[1.0])
    method = StructurePreserving(paths=10_000, max_step=0.00125)
    finer = solve(problem, method, key=jax.random.key(1), save=[1.0])
    one, other = chosen.mean_log_det(), finer.mean_log_det()
    assert one.discretisation < 1.5 * one.stderr
    allowed = 4.5 * np.hypot(one.stderr, other.stderr) + other.discretisation
    assert abs(one.value - other.value) < allowed
    assert chosen.max_step <= 0.005


def test_the_error_of_overlaps_is_that_of_the_backward_equation() -> None:
    # Errors of 20 000 paths: 0.0012 in E R^2, a seventh of it in the estimate.
    step = 0.125
    problem = OverlapSDE(law=NO_SCORES, initial=np.eye(2, dtype=np.float32), t1=1.0)
    solution = solve(problem, SphereEuler(max_step=step, paths=20_000), key=KEY, save=[1.0])
    exact = pair_expectation(np.square, without_scores, initial=0.0, t1=1.0, dim=6)
    values = np.float64(solution.overlaps[:, 0, 0, 1]) ** 2
    error, stderr = abs(values.mean() - exact), values.std() / 20_000**0.5
    assert error > 4.5 * stderr
    assert abs(solution.discretisation - error) < 4.5 * stderr + 0.3 * error


def test_the_error_of_the_slow_overlap_is_that_of_a_martingale() -> None:
    # At kappa = 0 the overlap is a martingale, and what its mean moves by is the error.
    problem = SlowOverlap(initial=0.5, t1=1.0, drift_coefficient=0.0)
    solution = solve(problem, ArtanhEuler(max_step=0.05, paths=20_000), key=KEY, save=[0.5, 1.0])
    moved = solution.overlap - 0.5
    error, stderr = np.abs(moved.mean(axis=0)), moved.std(axis=0) / 20_000**0.5
    assert solution.discretisation > error.max() - 4.5 * stderr.max()
    assert solution.discretisation < error.max() + 4.5 * stderr.max() + 0.01
    chosen = solve(problem, ArtanhEuler(paths=20_000), key=KEY, save=[0.5, 1.0])
    assert chosen.discretisation < chosen.mean_square().stderr


# --- the parts ---------------------------------------------------------------------------------


def test_step_errors_of_known_numbers() -> None:
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(4000, 2))
    coarse = fine + [0.5, 0.0] + 0.1 * rng.normal(size=fine.shape)
    coarse[0, 0] = np.nan
    found = coupled_step_error(coarse, fine, 2.0, 16_000)
    np.testing.assert_allclose(found.bias, [1.0, 0.0], atol=4.5 * 0.2 / 4000**0.5)
    np.testing.assert_allclose(found.noise, 0.2 / 4000**0.5, rtol=0.1)
    np.testing.assert_allclose(found.sampling, 1 / 16_000**0.5, rtol=0.1)
    assert found.largest == pytest.approx(float((found.bias + found.noise).max()))
    apart = separate_step_error(rng.normal(size=(4000, 1)) + 0.5, fine[:, :1], 1 / 7)
    np.testing.assert_allclose(apart.bias, 0.5 / 7, atol=4.5 * 2**0.5 / 7 / 4000**0.5)
    np.testing.assert_allclose(apart.noise, 2**0.5 / 7 / 4000**0.5, rtol=0.1)
    assert np.isnan(coupled_step_error(coarse[:1], fine[:1], 1.0, 1).largest)


def test_a_step_is_halved_until_its_error_is_hidden() -> None:
    assert hidden_step(2.0, lambda step: step < 0.3) == 0.25
    assert hidden_step(0.1, lambda _: True) == 0.1
    assert hidden_step(1.0, lambda _: False) == 0.5**HALVINGS
    for bias, noise, hidden, visible, lost in (
        (0.1, 0.1, True, False, True),
        (0.25, 0.1, False, False, False),
        (0.25, 0.2, False, False, True),
        (0.6, 0.1, False, True, False),
        (np.nan, np.nan, True, False, True),
    ):
        error = StepError(np.array([bias]), np.array([noise]), np.array([0.3]))
        assert (error.hidden, error.visible, error.lost) == (hidden, visible, lost)


@pytest.mark.parametrize("factor", [2, 8])
@pytest.mark.parametrize(
    "times", [[1.0], [0.0, 0.3, 1.0], list(np.linspace(0, 2, 21)), [0.1, 0.11, 0.6]]
)
def test_a_coarser_schedule_reaches_the_same_times(factor: int, times: list[float]) -> None:
    plan = schedule(times, 0.02)
    both = Comparison(plan, factor)
    fine, coarse = (np.cumsum(np.asarray(p.sizes)) for p in (both.fine, both.coarse))
    assert both.saves[-1] == len(times) - 1
    for save in both.saves:
        last = np.flatnonzero(np.asarray(plan.slots) <= save)[-1]
        assert fine[last] == pytest.approx(times[save])
        assert coarse[last] == pytest.approx(times[save])
    sizes = np.asarray(both.coarse.sizes)
    assert np.count_nonzero(sizes) <= len(sizes) / factor + 2 * len(both.saves)
    # c sum h^2: what the ratio makes of the difference is the error of the fine steps.
    errors = [np.sum(np.asarray(p.sizes) ** 2) for p in (both.fine, both.coarse)]
    assert (errors[1] - errors[0]) * both.ratio[-1] == pytest.approx(errors[0])


def test_very_few_steps_are_compared_with_finer_ones() -> None:
    plan = schedule([0.02], 0.02)
    both = Comparison(refined(plan, 8), 8, of=plan)
    assert np.count_nonzero(np.asarray(both.coarse.sizes)) == 1
    # One step of h against eight of h / 8: the error is 8 / 7 of the difference.
    np.testing.assert_allclose(both.ratio, 8 / 7)
