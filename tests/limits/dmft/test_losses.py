"""Losses and readouts: printed figures with infinite heads, where nothing is sampled."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft.cases import X
from tests.limits.dmft.language import LM12, lm12, sin6

from translimit.core import solve
from translimit.limits.dmft import (
    Architecture,
    CrossEntropy,
    Huber,
    LinearAlgebra,
    Logistic,
    SquaredError,
    TiedStartWarning,
    TrainingDynamics,
)
from translimit.limits.dmft.solver import solve_training


def ring(targets: Any, loss: Any, eta0: float, **options: Any) -> TrainingDynamics:
    return TrainingDynamics(
        architecture=Architecture(head_dim=math.inf, beta0=1.5),
        inputs=X,
        targets=targets,
        loss=loss,
        steps=8,
        eta0=eta0,
        **options,
    )


def check(solution: Any, loss: list[float], last: list[float] | float) -> None:
    """Losses of all evaluations, and the last outputs of row 0."""
    np.testing.assert_allclose(solution.loss, loss, rtol=0, atol=1e-5)
    row = solution.predictions[7].reshape(solution.row_loss[0].size, -1)[0]
    np.testing.assert_allclose(row, last, rtol=0, atol=1e-5)


C5 = [1.386294, 1.223444, 1.118838, 1.045567, 0.987995, 0.938551, 0.893431, 0.850729]
SMOOTH = CrossEntropy(smoothing=0.1, temperature=0.5)


def test_c1_cross_entropy() -> None:
    solution = solve(sin6(eta0=0.3))
    expected = [1.098612, 0.707438, 0.553641, 0.479566, 0.437933, 0.405724, 0.373966, 0.338026]
    check(solution, expected, [1.475166, -2.553166, 1.078000])
    assert solution.score_law(0).mean[7, 0, 1, 0] == pytest.approx(-0.2305158, abs=1e-7)
    # At equal outputs all classes are the largest.
    np.testing.assert_allclose(solution.correct[0], 1 / 3)
    assert solution.accuracy[7] == 1
    np.testing.assert_allclose(solution.row_loss.mean(axis=1), solution.loss, rtol=1e-12)
    data = solution.to_xarray()
    assert data["predictions"].dims == ("time", "input", "output")
    assert data["targets"].dims == ("input",)
    assert data["accuracy"].dims == ("time",)
    assert len(solution.plot().lines) == 2
    # eta_0 at the edge is that of the kernel of one output times the curvature 1 / 3.
    largest = np.linalg.eigvalsh(solution.ntk[0])[-1]
    assert solution.sharpness[0] == pytest.approx(largest / 9, rel=1e-12)
    assert np.isnan(solution.ntk[1:]).all()


def test_c2_zero_readout() -> None:
    solution = solve(sin6(eta0=0.3, readout_std=0.0))
    expected = [1.098612, 0.955430, 0.822143, 0.682165, 0.570964, 0.508053, 0.475295, 0.455153]
    check(solution, expected, [1.122660, -2.210679, 1.088019])
    # Step 0 moves the readout alone, and attention first moves at the second update.
    assert not solution.score_law(0).mean[:2].any()
    assert solution.score_law(0).mean[2].any()


def test_c5_a_language_model() -> None:
    solution = solve(lm12(eta0=0.5))
    check(solution, C5, [-0.573462, 0.917362, -0.353043, 0.009143])
    assert solution.score_law(0).mean[7, 0, 1, 0] == pytest.approx(0.0082149, abs=1e-7)
    np.testing.assert_allclose(solution.loss_by_position.mean(axis=1), solution.loss)
    data = solution.to_xarray()
    assert data["predictions"].dims == ("time", "input", "token", "output")
    assert data["accuracy_by_position"].shape == (8, 4)
    assert len(solution.plot_positions("accuracy_by_position").lines) == 4


def test_c7_a_trained_gain_of_scores() -> None:
    solution = solve(lm12(eta0=0.5, score_gain_rate=4.0))
    assert solution.score_gain[7, 0] == pytest.approx(1.009573, abs=1e-6)
    assert solution.loss[7] == pytest.approx(0.850688, abs=1e-6)
    assert solution.score_law(0).mean[7, 0, 1, 0] == pytest.approx(0.0082975, abs=1e-7)


def test_one_part_in_s_on_the_readout_of_tokens_is_refuted() -> None:
    equations = lm12(eta0=0.5).equations
    wrong = replace(equations, features=equations.features / equations.tokens)
    solution = solve_training(wrong, LinearAlgebra(), None, None)
    assert np.abs(solution.loss - C5).max() > 0.1


def test_weights_and_rate_are_one_factor() -> None:
    first = solve(lm12(eta0=0.5, weights=np.full((3, 4), 2 / 12)))
    second = solve(lm12(eta0=1.0))
    np.testing.assert_allclose(first.predictions, second.predictions, atol=1e-12)
    np.testing.assert_allclose(first.loss, 2 * second.loss, atol=1e-12)


def test_rows_without_target_or_weight_do_not_act() -> None:
    weights = np.full((3, 4), 1 / 9)
    weights[:, 0] = 0
    targets = np.array([[-1, 1, 2, 3], [-1, 1, 1, 1], [-1, 1, 1, 2]])
    tested = solve(lm12(eta0=0.5, weights=weights))
    masked = solve(lm12(eta0=0.5, targets=targets))
    np.testing.assert_allclose(masked.predictions, tested.predictions, atol=1e-12)
    assert np.isnan(masked.row_loss[:, :, 0]).all()
    assert np.isfinite(tested.row_loss).all()
    assert np.isnan(tested.loss_by_position[:, 0]).all()  # not trained there
    np.testing.assert_allclose(masked.loss, tested.loss, atol=1e-12)


def test_the_lazy_limit_of_a_language_model() -> None:
    # f(1) = eta_0 K Delta(0) with the kernel of single rows, up to gamma_0^2.
    problem = lm12(eta0=0.5, gamma0=1e-4)
    solution = solve(problem)
    rows = solution.predictions.reshape(8, 12, 4)
    error = (np.eye(4)[problem.targets.reshape(-1)] - 0.25) / 12
    np.testing.assert_allclose(rows[1], 0.5 * solution.ntk[0] @ error, atol=1e-7)
    assert np.abs(rows[1]).max() > 0.1


def test_frozen_positions_have_a_kernel_of_their_own() -> None:
    # Exact with the memory kernel by hand; one kernel for both is refuted.
    given: dict[str, Any] = {"eta0": 0.5, "position_std": 0.5}
    frozen, trained = (lm12(**given, position_rate=rate) for rate in (0.0, 1.0))
    words = frozen.embedding.memory
    ids = LM12.reshape(-1)
    np.testing.assert_array_equal(words, ids[:, None] == ids)
    np.testing.assert_array_equal(frozen.input_kernel, trained.input_kernel)
    np.testing.assert_array_equal(trained.input_kernel, trained.embedding.memory)
    f, g = solve(frozen).predictions, solve(trained).predictions
    assert np.abs(f - g).max() > 1e-3


def test_c9_tied_and_centred() -> None:
    solution = solve(lm12(eta0=0.25, tied=True, centred=True))
    expected = [1.386294, 1.315695, 1.254988, 1.203320, 1.159553, 1.122444, 1.090802, 1.063584]
    check(solution, expected, [-0.420179, 0.611737, -0.146745, -0.045507])
    assert np.isnan(solution.ntk).all()


@pytest.mark.slow
def test_c8_tied() -> None:
    solution = solve(lm12(eta0=0.25, tied=True))
    expected = [1.361880, 1.303431, 1.251965, 1.207623, 1.169937, 1.138070, 1.111068, 1.088031]
    check(solution, expected, [-0.382166, 0.581128, -0.108907, 0.418332])
    np.testing.assert_allclose(solution.predictions[0, 0, 0], [0, 0, 0, 0.485071], atol=1e-6)
    with pytest.warns(TiedStartWarning, match=r"start at up to 6\.08.*centred=True"):
        solve(lm12(eta0=0.25, tied=True, gamma0=0.1))


@pytest.mark.slow
def test_c3_smoothing_temperature_and_momentum() -> None:
    solution = solve(sin6(eta0=0.1, momentum=0.5, loss=SMOOTH))
    expected = [1.098612, 0.720940, 0.606727, 0.581014, 0.559644, 0.531310, 0.498352, 0.464052]
    check(solution, expected, [0.703518, -1.056303, 0.352785])


@pytest.mark.slow
def test_c4_logistic() -> None:
    solution = solve(ring([1.0, -1.0], Logistic(), 0.3))
    expected = [0.693147, 0.476018, 0.320407, 0.198198, 0.118874, 0.074744, 0.050639, 0.036680]
    check(solution, expected, 3.330237)
    np.testing.assert_array_equal(solution.accuracy, [0.5] + [1.0] * 7)
    # With one output the kernel is known at all times, and the curvature is 1 / 4 at the start.
    assert np.isfinite(solution.sharpness).all()
    largest = np.linalg.eigvalsh(solution.ntk[0])[-1]
    assert solution.sharpness[0] == pytest.approx(largest / 8, rel=1e-12)


@pytest.mark.slow
def test_c4_huber() -> None:
    solution = solve(ring([1.0, -1.25], Huber(0.5), 0.1))
    expected = [0.437500, 0.355000, 0.269679, 0.176144, 0.086930, 0.022236, 0.003258, 0.000335]
    check(solution, expected, 0.983201)
    wide = solve(ring([1.0, -1.25], Huber(1e6), 0.1))
    squared = solve(ring([1.0, -1.25], None, 0.1))
    np.testing.assert_allclose(wide.predictions, squared.predictions, atol=1e-14)


def test_c6_normalised_keys_and_queries() -> None:
    options = {"layers": 2, "alpha_L": 0.5, "beta0": 1.0, "qk_norm": "rms", "score_gain": 2.0}
    solution = solve(lm12(eta0=0.5, **options))
    expected = [1.386294, 1.243743, 1.141259, 1.065045, 1.004652, 0.953852, 0.909020, 0.868015]
    np.testing.assert_allclose(solution.loss, expected, rtol=0, atol=1e-5)
    assert solution.score_law(0).mean[7, 0, 1, 0] == pytest.approx(0.0063371, abs=1e-7)


@pytest.mark.slow
def test_two_classes_are_the_logistic_loss() -> None:
    # f_1 + f_2 = 0, and f_1 - f_2 = 2^(1/2) f of the logistic loss at temperature 2^(-1/2).
    a = Architecture(
        head_dim=math.inf, layers=2, beta0=1.5, norm="rms", causal=True, final_norm=True
    )
    given: dict[str, Any] = {"architecture": a, "inputs": X, "steps": 8, "eta0": 0.2}
    given |= {"momentum": 0.3}
    two = solve(TrainingDynamics(**given, targets=[0, 1], loss=CrossEntropy()))
    loss = Logistic(temperature=2**-0.5)
    one = solve(TrainingDynamics(**given, targets=[1.0, -1.0], loss=loss))
    np.testing.assert_allclose(two.predictions.sum(axis=-1), 0, atol=1e-12)
    apart = two.predictions[..., 0] - two.predictions[..., 1]
    np.testing.assert_allclose(apart, 2**0.5 * one.predictions, atol=1e-11)
    np.testing.assert_allclose(two.loss, one.loss, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (SquaredError(), [[0.3, -1.0], [2.0, 0.1]]),
        (Huber(0.7), [[0.3, -1.0], [2.0, 0.1]]),
        (Logistic(0.6), [[1.0, -1.0], [-1.0, -1.0]]),
        (SMOOTH, [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_errors_and_curvatures_are_derivatives(loss: Any, targets: Any) -> None:
    y = loss.columns(np.array(targets))

    def error(f: np.ndarray) -> np.ndarray:
        return np.asarray(loss.error(jnp.asarray(f), jnp.asarray(y)))

    f, tiny = np.array([[0.4, -0.6], [0.9, 1.3]]), 1e-6
    slopes, second = np.zeros((2, 2)), np.zeros((2, 2))
    with jax.enable_x64(True):
        for row, output in np.ndindex(2, 2):
            step = np.zeros((2, 2))
            step[row, output] = tiny
            up, down = loss.value(f + step, y), loss.value(f - step, y)
            slopes[row, output] = (up - down)[row] / (2 * tiny)
            change = error(f - step) - error(f + step)
            second[row, output] = change[row, output] / (2 * tiny)
        found = error(f)
        start = error(np.zeros((2, 2)))
    np.testing.assert_allclose(found, -slopes, atol=1e-9)
    if isinstance(loss, CrossEntropy):  # what it tells is the curvature of equal outputs
        np.testing.assert_allclose(loss.curvature(f, y), 1 / (2 * 0.5**2))
        np.testing.assert_allclose(start.sum(axis=1), 0, atol=1e-15)
    else:
        np.testing.assert_allclose(loss.curvature(f, y), second, atol=1e-8)
