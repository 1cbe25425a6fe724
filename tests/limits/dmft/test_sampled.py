"""Sampled heads and neurons: printed figures, the NumPy pass, and what each response does."""

import math
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from benchmarks.support import dmft_numpy
from tests.limits.dmft.cases import (
    BASE,
    FULL,
    RICH,
    last_kernel,
    ring4,
    score_head_var,
)
from tests.limits.dmft.network import RING4, RING4_Y

from translimit.core import solve
from translimit.describe import Activation
from translimit.limits import dmft
from translimit.limits.dmft import CausalSampling
from translimit.limits.dmft.compressed.passes import compressed_pass
from translimit.limits.dmft.compressed.setup import numbers_of, shape_of

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def base() -> Any:
    return solve(ring4(**BASE, head_dim=2), CausalSampling(heads=3000), key=KEY)


def test_a3_two_coordinates_a_head(base: Any) -> None:
    # The printed figures have a standard error of 3e-4.
    z = (base.predictions[5] - [0.77875, -0.98681]) / np.hypot(base.stderr[5], 3e-4)
    assert np.all(np.abs(z) < 4.5)
    np.testing.assert_allclose(base.predictions[5], [0.77875, -0.98681], atol=4e-3)
    assert last_kernel(base, 11) == pytest.approx(7.559, abs=0.04)
    # Variance over 12,000 heads: standard error below 2 %.
    assert score_head_var(base, 0) == pytest.approx(0.5, rel=0.06)
    assert score_head_var(base, 11) == pytest.approx(0.615, rel=0.06)


def test_the_law_of_attention_over_heads(base: Any) -> None:
    law = base.score_law(0)
    assert law.scores.shape == (12, 8000, 2, 2, 2)
    quantiles = law.quantiles()[:, 11, 0, 0, 1]
    np.testing.assert_allclose(quantiles, [-2.19, -0.89, 0, 0.89, 2.18], atol=0.15)
    assert law.excess_kurtosis[0].mean() == pytest.approx(6 / 2, rel=0.25)
    np.testing.assert_allclose(law.attention.sum(axis=-1), 1.0)


@pytest.mark.parametrize(
    ("response", "change"), [("R_v", 0.134), ("R_p", 0.0155), ("R_h", 0.085), ("R_g", 0.019)]
)
def test_a10_each_response_matters(base: Any, response: str, change: float) -> None:
    method = CausalSampling(heads=3000, populations=2, omit=(response,), check_tol=False)
    wrong = solve(ring4(**BASE, head_dim=2), method, key=KEY)
    rms = np.sqrt(np.mean((wrong.predictions - base.predictions) ** 2))
    assert rms == pytest.approx(change, rel=0.15)


def test_errors_are_honest(base: Any) -> None:
    other = solve(ring4(**BASE, head_dim=2), CausalSampling(heads=3000), key=jax.random.key(7))
    z = (base.predictions - other.predictions)[1:] / np.hypot(base.stderr, other.stderr)[1:]
    assert 0.1 < np.sqrt(np.mean(z**2)) < 4.5
    assert not base.predictions[0].any()  # f(0) = 0 exactly
    again = solve(ring4(**BASE, head_dim=2), CausalSampling(heads=3000), key=KEY)
    np.testing.assert_array_equal(again.predictions, base.predictions)
    with pytest.warns(dmft.SamplingFloorWarning, match="above the requested 1e-06"):
        solve(ring4(**BASE, head_dim=2), CausalSampling(heads=3000, floor=1e-6), key=KEY)


#: Every ingredient, for the pass in NumPy.
A6 = dmft_numpy.Setting(
    kx=RING4,
    y=RING4_Y,
    steps=8,
    layers=2,
    head_dim=2,
    alpha_A=0.75,
    beta0=1.5,
    gamma0=1.0,
    eta0=0.06,
    mlp="tanh",
    norm=True,
    causal=True,
    momentum=0.5,
)


@pytest.fixture(scope="module")
def full() -> Any:
    method = CausalSampling(heads=4000, neurons=8000, populations=4)
    return solve(ring4(**FULL), method, key=KEY)


def test_a6_every_ingredient_at_once(full: Any) -> None:
    np.testing.assert_allclose(full.predictions[7], [1.0002, -1.2892], atol=2e-3)
    assert last_kernel(full, 7) == pytest.approx(3.448, abs=0.01)
    for t in (0, 7):
        assert score_head_var(full, t) == pytest.approx(0.707, rel=0.04)


@pytest.mark.slow
def test_a6_every_ingredient_the_law_of_attention() -> None:
    # 48,000 heads: the standard error of the variance is under half a percent.
    method = CausalSampling(heads=12_000, neurons=8000, heads_kept=12_000)
    solution = solve(ring4(**FULL), method, key=KEY)
    for t in (0, 7):
        assert score_head_var(solution, t) == pytest.approx(0.707, rel=0.02)


def test_a6_without_the_responses_at_equal_times_it_fails(full: Any) -> None:
    # Dropping R^p at equal times takes f(7) to about (.992, -1.292): five times the tolerance.
    assert np.all(np.abs(full.predictions[7] - [0.992, -1.292]) > 2e-3)


def test_the_numpy_pass_agrees(full: Any) -> None:
    runs = [dmft_numpy.solve(A6, heads=2000, neurons=4000, seed=s) for s in range(3)]
    f = np.stack([run.f[..., 0] for run in runs])
    stderr = np.hypot(full.stderr, f.std(axis=0, ddof=1) / 3**0.5)
    z = (full.predictions - f.mean(axis=0))[1:] / stderr[1:]
    assert np.sqrt(np.mean(z**2)) < 4.5
    np.testing.assert_allclose(full.predictions, f.mean(axis=0), atol=3e-3)
    ntk = np.mean([run.ntk for run in runs], axis=0)
    np.testing.assert_allclose(full.ntk, ntk, rtol=0.02, atol=0.05)


@pytest.mark.slow
def test_a6_by_two_routes() -> None:
    # Printed f(7) = (1.0002, -1.2892), to 2e-3. Whole histories in NumPy (24,000 heads and fewer)
    # and compressed ones say (1.0003, -1.2894) with 1e-4: the print is 2e-4 off, within its error.
    method = CausalSampling(heads=8000, neurons=16_000, populations=8, check_tol=False)
    found = solve(ring4(**FULL), method, key=KEY)
    runs = [
        dmft_numpy.solve(A6, heads=8000, neurons=16_000, seed=seed).f[7, :, 0] for seed in range(8)
    ]
    stderr = np.hypot(found.stderr[7], np.std(runs, axis=0, ddof=1) / 8**0.5)
    assert np.all(stderr < 4e-4)
    assert np.all(np.abs(found.predictions[7] - np.mean(runs, axis=0)) < 4.5 * stderr)
    np.testing.assert_allclose(found.predictions[7], [1.0002, -1.2892], atol=8e-4)


@pytest.mark.slow
def test_a3_with_many_heads() -> None:
    method = CausalSampling(heads=20_000, heads_kept=20_000)
    two = solve(ring4(**BASE, head_dim=2), method, key=KEY)
    np.testing.assert_allclose(two.predictions[5], [0.77875, -0.98681], atol=1.5e-3)
    assert last_kernel(two, 11) == pytest.approx(7.559, abs=0.012)
    assert score_head_var(two, 0) == pytest.approx(0.5, rel=0.02)
    assert score_head_var(two, 11) == pytest.approx(0.615, rel=0.02)
    method = CausalSampling(heads=10_000, heads_kept=10_000, populations=8)
    four = solve(ring4(**BASE, head_dim=4), method, key=KEY)
    np.testing.assert_allclose(four.predictions[5], [0.76909, -0.97191], atol=1.5e-3)
    assert last_kernel(four, 11) == pytest.approx(7.489, abs=0.012)
    assert score_head_var(four, 0) == pytest.approx(0.25, rel=0.02)
    assert score_head_var(four, 11) == pytest.approx(0.307, rel=0.02)


@pytest.mark.slow
def test_a4_moment_matching_leaves_no_error_in_linear_networks() -> None:
    linear = {**RICH, "layers": 3, "attention": False, "mlp": Activation.LINEAR}
    for neurons in (200, 300):
        method = CausalSampling(neurons=neurons, populations=2, tol=1e-16, check_tol=False)
        solution = solve(ring4(**linear, steps=10, eta0=0.05), method, key=KEY)
        np.testing.assert_allclose(solution.predictions[9], [0.99997799, -1.25001741], atol=1e-7)
        assert solution.stderr.max() < 1e-12
    plain = CausalSampling(neurons=300, populations=2, moment_matching=False)
    assert solve(ring4(**linear, steps=10, eta0=0.05), plain, key=KEY).stderr.max() > 1e-3


@pytest.mark.slow
def test_a5_convergence_in_the_head_dimension() -> None:
    exact = solve(ring4(**BASE)).predictions
    expected = {2: 3.74e-4, 4: 1.39e-4, 8: 4.33e-5, 16: 1.20e-5}
    squares = {}
    for head_dim, mse in expected.items():
        method = CausalSampling(heads=24_000 // head_dim, populations=6)
        solution = solve(ring4(**BASE, head_dim=head_dim), method, key=KEY)
        squares[head_dim] = np.mean((solution.predictions - exact) ** 2)
        assert squares[head_dim] == pytest.approx(mse, rel=0.25)
        variance = solution.score_law(0).variance[:, 0].mean(axis=(1, 2))  # of input 0, as in A3
        assert head_dim * variance[0] == pytest.approx(1.0, rel=0.06)
        assert head_dim * variance[11] == pytest.approx(1.22, rel=0.06)
        step = np.diff(solution.score_law(0).scores[:2], axis=0)
        assert head_dim * np.mean(step**2) == pytest.approx(5.2e-3, rel=0.1)
    # Single runs scatter by 14 % in the mse at 32, and by (2 / 750)^(1/2) in moments.
    method = CausalSampling(heads=750, populations=12)
    solution = solve(ring4(**BASE, head_dim=32), method, key=KEY)
    assert np.mean((solution.predictions - exact) ** 2) == pytest.approx(3.11e-6, rel=0.25)
    variance = solution.score_law(0).variance[:, 0].mean(axis=(1, 2))
    assert 32 * variance[0] == pytest.approx(1.0, rel=0.1)
    assert 32 * variance[11] == pytest.approx(1.22, rel=0.1)
    assert -2 < np.log2(squares[16] / squares[8]) < -1.6


@pytest.mark.slow
def test_infinite_heads_beside_sampled_neurons() -> None:
    options: dict[str, Any] = {**RICH, "mlp": Activation.TANH, "norm": "rms", "steps": 8}
    problem = ring4(**options, eta0=0.05)
    assert problem.methods == (CausalSampling,)
    solution = solve(problem, CausalSampling(heads=1, neurons=8000), key=KEY)
    np.testing.assert_allclose(solution.predictions[7], [0.9836, -1.2054], atol=2e-3)
    # In the depth ODE neurons are sampled cell by cell; its extrapolation is that of layers.
    deep: dict[str, Any] = {**options, "gamma0": 1.0, "eta0": 0.03, "steps": 5}
    method = CausalSampling(neurons=4000, cells=8)
    ode = solve(ring4(**deep, layers=math.inf), method, key=KEY)
    layered = [solve(ring4(**deep, layers=n), method, key=KEY).predictions for n in (4, 8, 16)]
    once = [2 * fine - coarse for coarse, fine in pairwise(layered)]
    twice = (4 * once[1] - once[0]) / 3
    np.testing.assert_allclose(ode.predictions[4], twice[4], atol=0.01)


@pytest.mark.slow
def test_a7_divergence_at_small_alpha_and_concentration_at_one() -> None:
    at_half = {4: (0.0222, 0.0337), 8: (0.0230, 0.0364), 16: (0.0235, 0.0398), 32: (0.0236, 0.0454)}
    # Head means of A(2): the printed ones have errors of 1, 1.6, 2 and 3e-4.
    means = {4: (6.8e-4, 1e-4), 8: (1.12e-3, 1.6e-4), 16: (2.27e-3, 2e-4), 32: (4.3e-3, 3e-4)}
    at_one = {4: 7.3e-3, 8: 4.0e-3, 16: 2.1e-3, 32: 1.06e-3}
    short = {**BASE, "steps": 4}
    for head_dim, (first, last) in at_half.items():
        heads = 24_000 // head_dim
        method = CausalSampling(heads=heads, populations=64, heads_kept=heads)
        solution = solve(ring4(**short, head_dim=head_dim, alpha_A=0.5), method, key=KEY)
        start, end = solution.key_gradient[[0, 3], 0]
        assert start == pytest.approx(first, rel=0.06)
        assert end == pytest.approx(last, rel=0.06)
        assert end - start == pytest.approx(0.0101 + 3.7e-4 * head_dim, rel=0.04)
        mean, error = means[head_dim]
        found, own = _rms_of_means(solution.score_law(0).scores[2], 64)
        assert abs(found - mean) < max(0.25 * mean, 3 * math.hypot(error, own))
        quiet = solve(ring4(**short, head_dim=head_dim), method, key=KEY)
        assert quiet.key_gradient[0, 0] == pytest.approx(at_one[head_dim], rel=0.06)


def _rms_of_means(scores: Any, populations: int) -> tuple[float, float]:
    """Rms over entries of head means, and its standard error over populations."""
    runs = scores.reshape(populations, -1, *scores.shape[1:]).mean(axis=1)
    mean, noise = runs.mean(axis=0), runs.var(axis=0, ddof=1) / populations
    rms = math.sqrt(np.mean(mean**2 - noise))
    return rms, math.sqrt(np.sum(mean**2 * noise)) / (mean.size * rms)


@pytest.mark.slow
def test_a13_scores_of_large_heads_at_initialisation() -> None:
    method = CausalSampling(heads=3000, populations=8, heads_kept=3000)
    wide = solve(ring4(**{**BASE, "steps": 1}, head_dim=256, alpha_A=0.5), method, key=KEY)
    scores = wide.score_law(0).scores[0]
    assert len(scores) == 24_000  # a standard error of 0.009
    np.testing.assert_allclose(scores.var(axis=0), 1.0, atol=0.04)
    cov = np.mean(scores[:, 0, 0, 0] * scores[:, 0, 0, 1])
    assert cov == pytest.approx(0.5, abs=0.03)
    assert np.mean(scores[:, 0, 0, 1] * scores[:, 1, 0, 1]) == pytest.approx(0.06, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [2, 4])
def test_a14_excess_kurtosis_of_the_first_scores(head_dim: int) -> None:
    method = CausalSampling(heads=25_000, populations=4, heads_kept=25_000)
    solution = solve(ring4(**{**BASE, "steps": 1}, head_dim=head_dim), method, key=KEY)
    law = solution.score_law(0)
    assert law.scores.shape[1] == 100_000
    assert law.excess_kurtosis[0].mean() == pytest.approx(6 / head_dim, rel=0.1)


@pytest.mark.slow
def test_a11_the_lazy_limit() -> None:
    lazy: dict[str, Any] = {
        "head_dim": 2,
        "layers": 2,
        "beta0": 1.5,
        "mlp": Activation.TANH,
        "norm": "rms",
        "steps": 10,
        "eta0": 0.1,
    }
    method = CausalSampling(heads=4000, neurons=4000, populations=2)
    gaps = {}
    for gamma0 in (0.1, 0.01):
        problem = ring4(**lazy, gamma0=gamma0)
        # One population: its predictions belong to its own kernel.
        shape = shape_of(problem.equations, method, 2)
        numbers = numbers_of(problem.equations, method, shape)
        trace = compressed_pass(shape, numbers, 10, KEY, 1)
        expected = [[11.311, 1.770], [1.770, 10.803]]
        np.testing.assert_allclose(trace.ntk[0], expected, atol=6 / 4000**0.5)
        f = dmft.lazy_predictions(trace.ntk[0], [1.0, -1.25], steps=10, eta0=0.1)
        gaps[gamma0] = np.abs(trace.f[..., 0] - f).max()
    assert gaps[0.1] == pytest.approx(1.15e-3, rel=0.2)
    assert gaps[0.01] < 5e-5
    # The printed range is 0.5 to 4e-5; where the sampling part is small the ratio exceeds 150.
    assert gaps[0.1] / gaps[0.01] > 23


@pytest.mark.slow
def test_a15_the_gain_from_moment_matching() -> None:
    truth = solve(ring4(**BASE, head_dim=2), CausalSampling(heads=20_000), key=KEY).predictions
    errors = {}
    for matching in (True, False):
        method = CausalSampling(heads=500, populations=16, moment_matching=matching)
        solution = solve(ring4(**BASE, head_dim=2), method, key=KEY)
        spread = 16 * np.mean(solution.stderr**2)
        bias = np.mean((solution.predictions - truth) ** 2)
        errors[matching] = spread + bias
    assert errors[True] < 2e-5
    assert errors[False] > 10 * errors[True]


@pytest.mark.slow
def test_single_precision_populations_do_not_move_the_floor(base: Any) -> None:
    method = CausalSampling(heads=3000, precision="float32")
    single = solve(ring4(**BASE, head_dim=2), method, key=KEY)
    gap = np.abs(single.predictions - base.predictions).max()
    assert gap < 0.05 * base.stderr.max()


@pytest.mark.slow
def test_rounding_does_not_grow_along_training() -> None:
    # Steps are small, so that what is new at one is small beside the past: targets moved by 1e-13
    # must move predictions by about as much, not by a power of the number of steps.
    generator = np.random.default_rng(0)
    inputs, signs = generator.standard_normal((4, 4, 32)), np.array([1.0, -1.0, 1.0, -1.0])
    method = CausalSampling(heads=400, populations=2)
    options: dict[str, Any] = {"head_dim": 4, "layers": 2, "beta0": 1.5, "steps": 16, "eta0": 0.02}
    first, moved = (
        solve(ring4(**options, inputs=inputs, targets=y), method, key=KEY).predictions
        for y in (signs, signs * (1 + 1e-13))
    )
    assert 0 < np.abs(first - moved).max() < 1e-8
