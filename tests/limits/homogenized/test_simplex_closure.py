"""The simplex closure: its equations, moments and limits (row 3; the order beyond the first)."""

import math

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import GaussianHeads, WideHeads
from translimit.limits.homogenized import (
    Dimension,
    FirstOrder,
    LinearNoise,
    ReplicaDiffusion,
    SimplexClosure,
)
from translimit.limits.homogenized.high_temperature import (
    logistic_overlap_all,
    overlap_all_drift,
)
from translimit.limits.homogenized.simplex_kernel import kernel_table
from translimit.limits.homogenized.simplex_moments import covariances, eigenvalues, moment_terms
from translimit.limits.homogenized.two_tokens import pair_expectation, without_scores


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        pytest.param(Dimension.EXACT, 0.248, marks=pytest.mark.slow),
        pytest.param(Dimension.LARGE, 0.366, marks=pytest.mark.slow),
    ],
)
def test_acceptance_3_the_simplex_equation(dimension, value):
    law = GaussianHeads.of_score_std(1.5, dim=8)
    problem = SimplexClosure(law=law, tokens=6, t1=1.5, dimension=dimension)
    solution = solve(problem, FirstOrder(), save=[0.0, 1.5])
    assert float(solution.overlap[-1]) == pytest.approx(value, abs=2e-3)
    assert solution.overlap[0] == 0.0
    assert solution.to_xarray()["overlap"].dims == ("time",)
    assert solution.plot().lines


def test_acceptance_3_with_fluctuations():
    """Wide heads .2102; the chain at head_dim 8 has .215 in the mean of four runs."""
    wide = SimplexClosure(law=WideHeads(dim=8, score_std=1.5), tokens=6, t1=1.5)
    assert solve(wide, save=[1.5]).overlap[0] == pytest.approx(0.2102, abs=2e-4)
    law = GaussianHeads.of_score_std(1.5, dim=8)
    narrow = solve(SimplexClosure(law=law, tokens=6, t1=1.5), save=[0.0, 1.5])
    assert narrow.overlap[0] == 0.0
    assert narrow.overlap[1] == pytest.approx(0.214, abs=0.012)


@pytest.mark.parametrize(
    ("sizes", "first", "linear", "replica"),
    [
        ((8, 16, 0.0, 0.0, 3.0), 0.6025, 0.5449, (0.5541, 0.0576, 0.0487, 0.0399)),
        ((4, 8, 0.0, 0.0, 3.0), 0.6487, 0.5607, (0.5758, 0.1153, 0.0912, 0.0672)),
        ((16, 16, 0.0, 0.0, 3.0), 0.4360, 0.3857, (0.3949, 0.0571, 0.0470, 0.0370)),
        ((8, 16, 1.0, 0.0, 3.0), 0.5964, 0.5195, (0.5304, 0.0718, 0.0544, 0.0445)),
        ((8, 16, 2.0, 0.0, 3.0), 0.5688, 0.4681, (0.4821, 0.0965, 0.0624, 0.0512)),
        ((4, 16, 1.5, 0.3, 1.0), 0.5667, 0.5582, (0.5584, 0.0311, 0.0229, 0.0179)),
    ],
)
def test_mean_and_second_moments(sizes, first, linear, replica):
    tokens, dim, std, initial, t1 = sizes
    law = WideHeads(dim=dim, score_std=std)
    problem = SimplexClosure(law=law, initial=initial, tokens=tokens, t1=t1)
    found = solve(problem, save=[t1])
    values = [found.overlap[0], *found.second_moments[0]]
    np.testing.assert_allclose(values, replica, atol=2e-4)
    assert found.discretisation < 1e-3
    if sizes[2] in (0.0, 2.0) and tokens == 8:
        assert solve(problem, FirstOrder(), save=[t1]).overlap[0] == pytest.approx(first, abs=1e-4)
        by_noise = solve(problem, LinearNoise(), save=[t1])
        assert by_noise.overlap[0] == pytest.approx(linear, abs=1e-4)


def test_two_tokens_against_the_backward_equation():
    law = WideHeads(dim=6, score_std=0.0)
    found = solve(SimplexClosure(law=law, tokens=2, t1=1.0), save=[1.0])
    options = {"initial": 0.0, "t1": 1.0, "dim": 6}
    mean = pair_expectation(lambda R: R, without_scores, **options)
    square = pair_expectation(lambda R: R**2, without_scores, **options)
    assert found.overlap[0] == pytest.approx(mean, abs=1e-4)
    assert found.second_moments[0, 0] == pytest.approx(square - mean**2, abs=1e-4)
    assert not found.second_moments[0, 1:].any()


def test_coefficients_with_scores():
    overlap = np.array([0.3])
    kernel = kernel_table(WideHeads(dim=9, score_std=1.2), 5)(overlap)
    terms = moment_terms(kernel, overlap, 5, np.float64(9.0))
    for found, expected in (
        (terms.rates, (0.05812, -0.37498, -0.37498)),
        (terms.curvatures, (-0.05613, -0.06404, 0.03824)),
        (terms.noises, (0.46882, 0.06863, 0.01069)),
        ((kernel.p_kappa_1, kernel.s_kappa_1), (-0.059037, -0.002715)),
        ((kernel.p_kappa_2, kernel.s_kappa_2), (0.027657, 0.075958)),
    ):
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


@pytest.mark.parametrize("tokens", [2, 3, 4, 7])
def test_eigenvalues_are_those_of_the_covariance(tokens):
    """Of the matrix over all pairs, with every overlap and sharing counted by hand."""
    pairs = [(i, j) for i in range(tokens) for j in range(i)]
    moments = [1.0, 0.4, 0.1]
    matrix = [[moments[2 - len({*a} & {*b})] for b in pairs] for a in pairs]
    expected = np.unique(np.linalg.eigvalsh(matrix).round(9))
    v, c1, c2 = (np.float64(one) for one in moments)
    C = eigenvalues(v, c1 if tokens > 2 else 0.0 * v, c2 if tokens > 3 else 0.0 * v, tokens)
    np.testing.assert_allclose(sorted(C[: min(tokens - 1, 3)]), expected, atol=1e-8)
    assert covariances(C, tokens)[0] == pytest.approx(1.0)


def test_which_method_is_the_default():
    def default(std, **options):
        law = WideHeads(dim=64, score_std=std)
        return type(SimplexClosure(law=law, tokens=4, t1=1.0, **options).default_method())

    assert default(1.0) is ReplicaDiffusion
    assert default(1.0, dimension=Dimension.LARGE) is FirstOrder
    assert default(9.0) is FirstOrder
    assert default(math.inf) is FirstOrder


@pytest.mark.usefixtures("as_user")
def test_refusals():
    hard = SimplexClosure(law=WideHeads(dim=8, score_std=math.inf), tokens=4, t1=1.0)
    for method in (LinearNoise(), ReplicaDiffusion()):
        with pytest.raises(ArgumentError, match="method"):
            solve(hard, method)
    with pytest.raises(ArgumentError, match="nodes"):
        ReplicaDiffusion(nodes=10)

    def final(initial):
        law = WideHeads(dim=8, score_std=0.0)
        problem = SimplexClosure(law=law, initial=initial, tokens=4, t1=1.0)
        return solve(problem, ReplicaDiffusion(), save=[1.0]).overlap[0]

    with jax.enable_x64(True), pytest.raises(ArgumentTypeError, match="traced"):
        jax.grad(final)(0.1)


def test_the_closure_without_scores_is_logistic():
    """In m = gamma + (1 - gamma) / n, for large dimension: 1e-7 over the whole curve."""
    law = WideHeads(dim=8, score_std=0.0)
    problem = SimplexClosure(law=law, tokens=8, t1=6.0, dimension=Dimension.LARGE)
    solution = solve(problem)
    mean = solution.overlap + (1 - solution.overlap) / 8
    np.testing.assert_allclose(mean, logistic_overlap_all(solution.ts, 1 / 8), atol=1e-7)
    assert overlap_all_drift(0.3, 0.2, 10**9) == pytest.approx(0.3 * 0.7, rel=1e-8)
