"""Where nothing is sampled: printed figures, closed forms, and everything that is refused."""

import copy
import math
import re
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft_cases import BASE, FULL, RICH, X, Y, last_kernel, ring4

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    MemoryLimitError,
    NoSuchLimitError,
    Outcome,
    SolveError,
    solve,
)
from translimit.describe import Activation
from translimit.limits import dmft
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    LinearAlgebra,
    TrainingDynamics,
    remarks,
)

LINEAR = {**RICH, "layers": 3, "attention": False, "mlp": Activation.LINEAR}


@pytest.fixture(scope="module")
def base() -> Any:
    return solve(ring4(**BASE))


def test_a2_infinite_heads(base: Any) -> None:
    np.testing.assert_allclose(base.predictions[1], [0.1603125, -0.2025], rtol=0, atol=1e-12)
    expected = [[0.30886324, -0.38961613], [0.75455799, -0.94787112], [0.99749083, -1.24717613]]
    np.testing.assert_allclose(base.predictions[[2, 5, 11]], expected, rtol=0, atol=1e-8)
    assert last_kernel(base, 11) == pytest.approx(7.378682, abs=1e-6)
    # First-step suppression: A(0) = A(1) = 0 exactly.
    scores = base.score_law(0).mean[:4, 0, 0, 1]
    np.testing.assert_allclose(scores, [0, 0, -0.00030624, -0.00079377], rtol=0, atol=1e-8)
    assert not base.stderr.any()


def test_the_first_step_follows_the_tangent_kernel_of_uniform_attention(base: Any) -> None:
    # Closed form: K^NTK = (2 + 4 beta0^2) times the kernel of pooled inputs, at any gamma0.
    pooled = X.mean(axis=1)
    kernel = (2 + 4 * 2.0**2) * pooled @ pooled.T / X.shape[-1]
    np.testing.assert_allclose(base.ntk[0], kernel, rtol=1e-13)
    np.testing.assert_allclose(base.predictions[1], 0.03 * kernel @ (Y / 2), rtol=1e-12)


def test_the_solution_is_consistent_labelled_and_drawn(base: Any) -> None:
    np.testing.assert_allclose(base.loss, np.sum((Y - base.predictions) ** 2, axis=1) / 4)
    data = base.to_xarray()
    assert data["kernel"].shape == (2, 12, 2, 2, 12, 2, 2)
    kernel = base.kernel(1).reshape(48, 48)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-12, atol=1e-12)
    assert np.linalg.eigvalsh(kernel).min() > -1e-10
    # <g g> of the last state is <w w> / S^2, the same for all tokens.
    gradient = base.gradient_kernel(1)
    assert gradient[0, 0, 0, 0, 1, 1] == pytest.approx(0.25)
    np.testing.assert_allclose(gradient, gradient[:, :1, :1, :, :1, :1] * np.ones_like(gradient))
    assert base.movement(1)[0] == pytest.approx(0.0, abs=1e-12)
    assert np.all(base.movement(1)[-1] > 0.5)
    assert set(base.responses(0)) == {"R_h", "R_g", "S_x", "S_p"}
    assert data["movement"].dims == ("state", "time", "input", "token")
    assert data.attrs["outcome"] == "successful"
    assert data.attrs["samples"] == base.samples == 1
    assert data.attrs["discretisation"] == base.discretisation == 0.0
    assert data.attrs["reference"].endswith("arXiv 2405.15712")
    assert base.plot().get_xlabel() == "updates"
    assert base.plot_kernel(1, (1, 0)).images[0].get_array().shape == (12, 12)
    assert len(base.plot_scores(0, (0, 0, 1)).lines) == 1


def test_a4_deep_linear_networks_and_a12_two_layers() -> None:
    linear = solve(ring4(**LINEAR, steps=10, eta0=0.05))
    np.testing.assert_allclose(linear.predictions[9], [0.99997799, -1.25001741], atol=1e-7)
    # One compiled shape, three richnesses; y - f at eta_0 t = 1.
    for gamma0, expected in ((0.3, 0.184022), (1.0, 0.087246), (2.0, 0.011391)):
        problem = TrainingDynamics(
            architecture=Architecture(head_dim=1, gamma0=gamma0, attention=False),
            inputs=np.ones((1, 1, 1)),
            targets=[1.5],
            steps=101,
            eta0=0.01,
        )
        solution = solve(problem)
        assert 1.5 - solution.predictions[-1, 0] == pytest.approx(expected, abs=1e-6)
        exact = dmft.two_layer_linear(1.5, gamma0, [1.0])[0]
        assert solution.predictions[-1, 0] == pytest.approx(exact, abs=6e-3)
        f = solution.predictions[-1, 0]
        assert solution.kernel(1)[-1, 0, 0, -1, 0, 0] == pytest.approx(
            math.sqrt(1 + (gamma0 * f) ** 2), abs=0.02
        )


@pytest.mark.parametrize(("gamma0", "rest"), [(0.3, 0.188016), (1.0, 0.090592), (2.0, 0.012815)])
def test_a12_the_flow_of_two_layers_in_closed_form(gamma0: float, rest: float) -> None:
    assert 1.5 - dmft.two_layer_linear(1.5, gamma0, [1.0])[0] == pytest.approx(rest, abs=1e-6)
    # Against the equation itself, by differences; odd in the target; at rest at the target.
    times = np.array([0.3 - 1e-5, 0.3, 0.3 + 1e-5, 60.0])
    f = dmft.two_layer_linear(1.5, gamma0, times)
    slope = 2 * math.sqrt(1 + (gamma0 * f[1]) ** 2) * (1.5 - f[1])
    assert (f[2] - f[0]) / 2e-5 == pytest.approx(slope, rel=1e-8)
    assert f[3] == pytest.approx(1.5)
    np.testing.assert_allclose(dmft.two_layer_linear(-1.5, gamma0, times), -f)


def test_lazy_predictions_follow_the_kernel() -> None:
    kernel = np.array([[2.0, 0.3], [0.3, 1.0]])
    f = dmft.lazy_predictions(kernel, [1.0, -1.0], steps=4, eta0=0.1)
    step = np.eye(2) - 0.05 * kernel
    expected = np.array([1.0, -1.0]) - np.linalg.matrix_power(step, 3) @ [1.0, -1.0]
    np.testing.assert_allclose(f[3], expected)
    heavy = dmft.lazy_predictions(kernel, [1.0, -1.0], steps=3, eta0=0.1, momentum=0.5)
    np.testing.assert_allclose(heavy[2] - heavy[1], 0.5 * heavy[1] + (f[2] - f[1]))


def test_a13_covariance_of_scores_at_initialisation() -> None:
    kernel = ring4(**BASE).input_kernel
    cov = dmft.initial_score_cov(kernel, 2)
    assert cov[0, 0, 0, 0, 0, 0] == 1
    assert cov[0, 0, 0, 0, 0, 1] == pytest.approx(0.5)
    assert cov[0, 0, 1, 1, 0, 1] == pytest.approx(0.06)


@pytest.mark.slow
def test_a2_with_depth_normalisation_mask_and_momentum() -> None:
    problem = ring4(
        **RICH,
        layers=2,
        alpha_L=0.75,
        norm="rms",
        causal=True,
        momentum=0.5,
        steps=8,
        eta0=0.04,
    )
    solution = solve(problem)
    np.testing.assert_allclose(solution.predictions[7], [1.12485276, -1.37205619], atol=1e-7)
    assert last_kernel(solution, 7) == pytest.approx(4.604760, abs=1e-6)


@pytest.mark.slow
def test_a8_infinite_depth() -> None:
    deep: dict[str, Any] = {"beta0": 1.0, "gamma0": 2.0, "steps": 6, "eta0": 0.05}
    ode = ring4(**deep, layers=math.inf)
    plain = solve(ode, LinearAlgebra(cells=64, extrapolate=False))
    np.testing.assert_allclose(plain.predictions[5], [0.378229, -0.476731], atol=1e-6)
    better = solve(ode, LinearAlgebra(cells=64))
    np.testing.assert_allclose(better.predictions[5], [0.379641, -0.478509], atol=1e-6)
    assert np.all(np.abs(better.predictions[5] - [0.37963, -0.47850]) < 1e-4)
    assert np.all(better.cell_error[5] < 1e-4)
    layered, scores = {}, {}
    for layers in (8, 16, 32, 64):
        solution = solve(ring4(**deep, layers=layers))
        layered[layers] = solution.predictions[5]
        scores[layers] = np.sqrt(np.mean(solution.score_law(layers // 2).mean[5] ** 2))
    np.testing.assert_allclose(layered[64], [0.387721, -0.488671], atol=1e-6)
    once = {n: 2 * layered[n] - layered[n // 2] for n in (32, 64)}
    twice = (4 * once[64] - once[32]) / 3
    np.testing.assert_allclose(twice, [0.379610, -0.478470], atol=1e-6)
    # A9: attention that moves at alpha_L = 1, and freezes at alpha_L = 1/2.
    np.testing.assert_allclose(
        [scores[n] for n in (8, 16, 32, 64)], [1.045e-3, 8.66e-4, 7.79e-4, 7.36e-4], rtol=0.01
    )
    for layers, expected in ((8, 6.92e-4), (16, 3.60e-4), (32, 1.82e-4), (64, 9.08e-5)):
        solution = solve(ring4(**deep, layers=layers, alpha_L=0.5))
        rms = np.sqrt(np.mean(solution.score_law(layers // 2).mean[5] ** 2))
        assert rms == pytest.approx(expected, rel=0.01)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha_A": 0.4}, "alpha_A: got 0.4; pass a number in"),
        ({"alpha_L": 1.1}, "alpha_L: got 1.1; pass a number in"),
        ({"gamma0": 0.0}, "gamma0: got 0, where the network is linear.*lazy_predictions"),
        ({"gamma0": -1.0}, "gamma0: "),
        ({"head_dim": 0}, "head_dim: got 0"),
        ({"head_dim": 2.5}, "head_dim: got 2.5; pass an integer"),
        ({"layers": -math.inf}, "layers: got -inf"),
        ({"layers": math.nan}, "layers: got nan"),
        ({"mlp": "tanh"}, "mlp: got 'tanh'; pass a member of describe.Activation"),
        ({"norm": "batch"}, 'norm: got \'batch\'; pass "rms", "layer" or None'),
        ({"trained_gains": True}, "trained_gains: .*leave the gains untrained"),
        ({"attention": 1}, "attention: got 1"),
        ({"head_dim": math.inf, "alpha_A": 0.5}, "alpha_A: .*no limit beyond initialisation"),
        ({"layers": math.inf, "alpha_L": 0.5}, "alpha_L: .*only alpha_L = 1 has the depth ODE"),
        ({"eta0": 0.0}, "eta0: "),
        ({"steps": 0}, "steps: got 0"),
        ({"momentum": 1.0}, "momentum: got 1"),
        ({"inputs": X[0]}, r"inputs: has shape \(2, 4\)"),
        ({"inputs": np.full((2, 2, 2), np.nan)}, "inputs: has NaN or infinity in 8 of 8 entries"),
        ({"targets": [1.0, 2.0, 3.0]}, r"targets: has shape \(3,\)"),
        ({"weights": [0.5, -0.5]}, "weights: .*least entry -0.5"),
        ({"weights": np.ones((3, 2))}, r"weights: has shape \(3, 2\)"),
    ],
)
def test_what_has_no_limit_or_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, NoSuchLimitError), match=f"^{message}"):
        ring4(**{**BASE, "head_dim": 2, **change})


@pytest.mark.usefixtures("as_user")
def test_optimisers_conventions_and_traced_values() -> None:
    given: dict[str, Any] = {
        "architecture": Architecture(head_dim=2),
        "inputs": X,
        "targets": Y,
        "steps": 3,
    }
    with pytest.raises(NoSuchLimitError, match=r"^optimizer: got 'adam'"):
        TrainingDynamics(**given, eta0=0.1, optimizer="adam")
    with pytest.raises(ArgumentError, match=r"^lr_convention: got 'other'"):
        TrainingDynamics(**given, eta0=0.1, lr_convention="other")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentTypeError, match=r"^inputs: some values are traced"):
        jax.jit(lambda eta0: TrainingDynamics(**given, eta0=eta0).eta0)(0.1)
    with pytest.raises(ArgumentTypeError, match=r"^architecture: got 3; pass limits.dmft.Arch"):
        TrainingDynamics(**{**given, "architecture": 3}, eta0=0.1)
    with pytest.raises(ArgumentError, match=r"^schedule: .* least entry -1; pass factors of at"):
        TrainingDynamics(**given, eta0=0.1, schedule=[1.0, -1.0, 1.0])
    with pytest.raises(ArgumentError, match=r"^schedule: has shape"):
        TrainingDynamics(**given, eta0=0.1, schedule=[1.0])
    table = TrainingDynamics(
        **{**given, "architecture": Architecture(head_dim=2, gamma0=2.0)},
        eta0=0.4,
        lr_convention="table",
    )
    assert table.rate == pytest.approx(0.1)


@pytest.mark.usefixtures("as_user")
def test_targets_that_can_be_read_in_two_ways_ask_which() -> None:
    given: dict[str, Any] = {"architecture": Architecture(head_dim=2), "steps": 3, "eta0": 0.1}
    both = {**given, "inputs": X, "targets": np.ones((2, 2))}
    with pytest.raises(ArgumentTypeError, match=r"^readout: is missing.* shape \(2, 2\).*pooled"):
        TrainingDynamics(**both)
    assert TrainingDynamics(**both, readout="pooled").targets.shape == (2, 2)
    # One token is its own mean; three outputs are not those of two tokens.
    for inputs, targets in (
        (X[:, :1], np.ones((2, 1))),
        (X, np.ones((2, 3))),
        (X, np.ones((2, 1))),
        (X, Y),
    ):
        for readout in (None, "pooled"):
            TrainingDynamics(**given, inputs=inputs, targets=targets, readout=readout)
        with pytest.raises(NoSuchLimitError, match=r"^readout: got 'token'.*not solved yet"):
            TrainingDynamics(**given, inputs=inputs, targets=targets, readout="token")
    with pytest.raises(ArgumentError, match=r"^readout: got 'mean'; pass \"pooled\""):
        TrainingDynamics(**both, readout="mean")


@pytest.mark.usefixtures("as_user")
def test_methods_keys_and_times() -> None:
    exact, sampled = ring4(**BASE), ring4(**BASE, head_dim=2)
    assert exact.methods == (LinearAlgebra,)
    assert sampled.methods == (CausalSampling,)
    assert ring4(**LINEAR, steps=3, eta0=0.05).methods == (LinearAlgebra, CausalSampling)
    with pytest.raises(ArgumentTypeError, match=r"^key: LinearAlgebra is deterministic"):
        solve(exact, key=jax.random.key(0))
    with pytest.raises(ArgumentTypeError, match=r"^key: CausalSampling draws random numbers"):
        solve(sampled)
    with pytest.raises(ArgumentTypeError, match=r"LinearAlgebra does not solve TrainingDynamics"):
        solve(sampled, LinearAlgebra())
    with pytest.raises(ArgumentError, match=r"^save: every evaluation is kept"):
        solve(exact, save=[0.0, 5.0])
    with pytest.raises(ArgumentError, match=r"^keep_states: is False, and nothing is observed"):
        solve(exact, keep_states=False)
    with pytest.raises(NoSuchLimitError, match="TrainingDynamics has no state to show"):
        solve(exact, observe={"loss": lambda t, state: t})
    with pytest.raises(ArgumentError, match=r"^heads: got 96, where moment matching needs 97"):
        solve(sampled, CausalSampling(heads=96), key=jax.random.key(0))
    full = {**FULL, "attention": False}
    with pytest.raises(ArgumentError, match=r"^neurons: got 64, where moment matching needs 65"):
        solve(ring4(**full), CausalSampling(neurons=64), key=jax.random.key(0))
    for change, message in (
        ({"cells": 6}, "cells: got 6; pass a multiple of 4"),
        ({"omit": ("R_x",)}, "omit: got R_x; known: R_v"),
        ({"populations": 1}, "populations: got 1"),
        ({"precision": "float16"}, "precision: got 'float16'"),
        ({"heads": 0}, "heads: got 0"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            CausalSampling(**change)  # pyright: ignore[reportArgumentType]


def bare(solution: Any, **changes: Any) -> Any:
    other = copy.copy(solution)
    for name, value in changes.items():
        object.__setattr__(other, name, value)
    return other


@pytest.mark.usefixtures("as_user")
def test_what_a_solution_does_not_have_is_told(base: Any) -> None:
    stream = {"residual": np.stack([base.kernel(0)] * 2)}
    for call, message in (
        (lambda: base.kernel(9), "layer: got 9; pass an integer from 0 to 1"),
        (lambda: bare(base, _attention=False).score_law(0), "layer: the architecture has no att"),
        (lambda: bare(base, _kernels=stream).responses(0, 0), "layer: there are no blocks; look"),
        (lambda: base.responses(0, 5), "block: got 5; pass an integer from 0 to 0"),
        (
            lambda: dmft.lazy_predictions(np.eye(2), np.ones(3), steps=1, eta0=1.0),
            r"targets: has shape \(3,\)",
        ),
        (
            lambda: dmft.lazy_predictions(
                np.eye(2), np.ones((2, 3)), steps=1, eta0=1.0, weights=np.ones(3)
            ),
            r"weights: has shape \(3,\); pass one for each input, \[2\]",
        ),
        (lambda: dmft.initial_score_cov(np.eye(4), 3), "inputs: got 3 for 4 fields; pass a divis"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_memory_is_told_before_the_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ring4(**BASE, head_dim=2)
    small, large = (problem.memory(CausalSampling(heads=n)) for n in (2000, 200_000))
    assert 2e6 < small < 1e8 < large
    monkeypatch.setattr("translimit.limits.dmft.solver.available_memory", lambda: small // 2)
    with pytest.raises(MemoryLimitError, match=r"^heads: histories need .* GiB are free; take few"):
        solve(problem, CausalSampling(heads=2000), key=jax.random.key(0))


def test_a_diverging_run_says_where_and_warns() -> None:
    problem = ring4(beta0=2.0, gamma0=2.0, steps=12, eta0=1e3)  # same compiled shape as `base`
    with pytest.warns(
        dmft.EdgeOfStabilityWarning,
        match=r"1 at the edge of stability\), first above at evaluation 0",
    ):
        solution = solve(problem, throw=False)
    assert solution.outcome == Outcome.non_finite
    assert re.fullmatch(
        r"evaluation \d+, (layer 0, attention, (for|back)ward|readout)", solution.failed_at
    )
    assert np.isnan(solution.predictions[-1]).all()
    with pytest.warns(dmft.EdgeOfStabilityWarning), pytest.raises(SolveError, match="infinite or"):
        solve(problem)


def test_heavy_tails_are_told() -> None:
    with pytest.warns(dmft.HeavyTailWarning, match=r"reaches 50 .evaluation 1, layer 0.*quantiles"):
        remarks.warn_of_heavy_tails(np.array([[3.0], [50.0]]))
    remarks.warn_of_heavy_tails(np.array([[3.0]]))
