"""Trained finite networks approach the limit: the sharp test, extrapolated in 1 / heads.

E f_H = f + b / H + O(1 / H^2) and Var f_H = v / H. The seed average at two sizes gives
2 mean(2H) - mean(H) with its standard error, compared entry by entry. Entries share one mode, so
that the rms z of a right pair scatters: bounds of 1.7 or 2.
"""

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, FULL, RICH, X, Y, last_kernel, ring4
from tests.limits.dmft.network import RING4, Network, inputs_with_kernel, rms_z

from translimit.core import solve
from translimit.describe import Activation
from translimit.limits.dmft import Architecture, CausalSampling, LinearAlgebra, TrainingDynamics

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)
METHOD = CausalSampling(heads=6000, neurons=12_000, populations=4)


def network(problem: TrainingDynamics, H: int, norm: str | None = None) -> Network:
    """The finite network of a problem; N = 2 where there is no attention."""
    a = problem.architecture
    if a.norm is not None and norm is None:
        norm = "rms"
    return Network(
        N=int(a.head_dim),
        H=H,
        L=int(a.layers),
        alpha_A=a.alpha_A,
        alpha_L=a.alpha_L,
        beta0=a.beta0,
        gamma0=a.gamma0,
        eta0=problem.eta0,
        attention=a.attention,
        mlp=a.mlp.value if a.mlp else None,
        norm=norm,
        causal=a.causal,
        momentum=problem.momentum,
    )


def trained(
    problem: TrainingDynamics, H: int, seeds: int, norm: str | None = None
) -> dict[str, Any]:
    """Predictions [seeds, steps, inputs, outputs] and kernels of networks."""
    x = problem.inputs
    assert x is not None
    y = problem.targets.reshape(len(x), -1)
    return network(problem, H, norm).ensemble(
        x, y, problem.steps, seeds, H, weights=problem.weights
    )


def distance(problem: TrainingDynamics, solution: Any, sizes: Any, norm: str | None = None) -> Any:
    """Rms z of predictions and of the last kernel for two (heads, seeds)."""
    first, second = (trained(problem, H, seeds, norm) for H, seeds in sizes)
    f = solution.predictions.reshape(first["f"].shape[1:])
    floor = solution.stderr.reshape(f.shape)
    size = problem.steps * problem.fields
    kernel = solution.kernel(solution.layers).reshape(size, size)
    kernels = [net["kernel"].reshape(-1, size, size) for net in (first, second)]
    # f(0) is exact and enters as it is; kernels of a sampled limit have a floor of their own.
    z_f = rms_z(first["f"], second["f"], f, floor)
    return z_f, rms_z(kernels[0], kernels[1], kernel, 0.002)


def test_a6_attention_alone() -> None:
    problem = ring4(**BASE, head_dim=2)
    solution = solve(problem, METHOD, key=KEY)
    runs = {H: trained(problem, H, seeds) for H, seeds in ((16, 600), (32, 600), (64, 300))}
    f = solution.predictions[..., None]
    mse = {H: np.mean((run["f"] - f) ** 2) for H, run in runs.items()}
    for H in runs:
        assert H * mse[H] == pytest.approx(0.32, rel=0.2)
    slope = np.polyfit(np.log(list(mse)), np.log(list(mse.values())), 1)[0]
    assert slope == pytest.approx(-1, abs=0.12)
    assert rms_z(runs[32]["f"], runs[64]["f"], f, solution.stderr[..., None]) < 1.7
    kernel = solution.kernel(1).reshape(12, 4, 12, 4)
    assert rms_z(runs[32]["kernel"], runs[64]["kernel"], kernel, 0.01) < 1.7
    assert 64 * np.mean((runs[64]["kernel"] - kernel) ** 2) == pytest.approx(45, rel=0.25)
    # The planted fault: without the smallest of the responses the distance is far outside.
    wrong = solve(problem, CausalSampling(heads=6000, omit=("R_p",)), key=KEY)
    assert rms_z(runs[32]["f"], runs[64]["f"], wrong.predictions[..., None]) > 3


def test_a6_the_law_of_attention_over_heads() -> None:
    from scipy.stats import ks_2samp

    problem = ring4(**BASE, head_dim=2)
    method = CausalSampling(heads=12_000, populations=8, heads_kept=12_000)
    law = solve(problem, method, key=KEY).score_law(0)
    limit = law.scores[11, :, 0, 0, 1]
    # 96,000 heads: quantiles at 1 % have a standard error of 0.02.
    quantiles = np.quantile(limit, [0.01, 0.1, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(quantiles, [-2.19, -0.89, 0, 0.89, 2.18], atol=0.05)
    assert np.var(limit) == pytest.approx(0.616, rel=0.02)
    assert law.excess_kurtosis[11, 0, 0, 1] == pytest.approx(3.07, rel=0.1)
    for H, seeds in ((4, 2000), (64, 160)):
        heads = trained(problem, H, seeds)["last_scores"][..., 0, 0, 1].ravel()
        statistic = ks_2samp(heads, limit).statistic
        level = 1.63 * np.sqrt(1 / heads.size + 1 / limit.size)
        assert (statistic > level) == (H == 4)


CASES: dict[str, tuple[Any, Any, Any]] = {
    # (i)-(iii) of A6-x: problem, f(7), H^out_00(7, 7)
    "depth": (
        {
            "head_dim": 2,
            "layers": 4,
            "alpha_A": 0.75,
            "alpha_L": 0.5,
            "beta0": 1.0,
            "gamma0": 1.5,
            "eta0": 0.04,
        },
        (0.8181, -1.0394),
        3.807,
    ),
    "mlp": (
        {"head_dim": 3, "mlp": Activation.TANH, **RICH, "eta0": 0.05},
        (0.9939, -1.2359),
        5.992,
    ),
    "half": ({"head_dim": 4, "alpha_A": 0.5, **RICH, "eta0": 0.03}, (0.6614, -0.8411), 3.770),
}


@pytest.mark.parametrize("name", CASES)
def test_a6_x_three_fully_specified_cases(name: str) -> None:
    options, expected, kernel = CASES[name]
    problem = ring4(**options, steps=8)
    solution = solve(problem, METHOD, key=KEY)
    np.testing.assert_allclose(solution.predictions[7], expected, atol=1.2e-3)
    assert last_kernel(solution, 7) == pytest.approx(kernel, abs=0.015)
    z_f, z_h = distance(problem, solution, ((16, 400), (32, 300)))
    assert z_f < 2
    assert z_h < 2


def test_a6_every_ingredient_against_networks() -> None:
    problem = ring4(**FULL)
    solution = solve(problem, METHOD, key=KEY)
    np.testing.assert_allclose(solution.predictions[7], [1.0002, -1.2892], atol=2e-3)
    assert last_kernel(solution, 7) == pytest.approx(3.448, abs=0.01)
    z_f, z_h = distance(problem, solution, ((24, 600), (48, 500)))
    assert z_f < 2
    assert z_h < 2


def test_a6_deep_linear_networks() -> None:
    problem = ring4(
        head_dim=2,
        layers=3,
        attention=False,
        mlp=Activation.LINEAR,
        **RICH,
        steps=10,
        eta0=0.05,
    )
    solution = solve(problem, LinearAlgebra())
    z_f, z_h = distance(problem, solution, ((32, 400), (64, 400)))
    assert z_f < 2
    assert z_h < 2


def test_a6_minibatches_and_a_test_point() -> None:
    generator = np.random.default_rng(4)
    inputs = generator.standard_normal((3, 2, 6))
    weights = np.zeros((8, 3))
    weights[::2, 0] = weights[1::2, 1] = 1.0  # one input at a time; the third is never trained
    problem = ring4(
        head_dim=2,
        norm="rms",
        **RICH,
        steps=8,
        eta0=0.04,
        inputs=inputs,
        targets=np.array([1.0, -1.0, 0.0]),
        weights=weights,
    )
    solution = solve(problem, METHOD, key=KEY)
    assert abs(solution.predictions[7, 2]) > 0.05
    z_f, z_h = distance(problem, solution, ((24, 400), (48, 300)))
    assert z_f < 2
    assert z_h < 2


def test_a6_two_outputs() -> None:
    generator = np.random.default_rng(5)
    inputs = generator.standard_normal((3, 2, 6))
    problem = TrainingDynamics(
        architecture=Architecture(head_dim=2, mlp=Activation.TANH, **RICH),
        inputs=inputs,
        targets=np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]),
        readout="pooled",
        steps=8,
        eta0=0.06,
    )
    solution = solve(problem, METHOD, key=KEY)
    assert solution.predictions.shape == (8, 3, 2)
    assert np.isnan(solution.ntk[1:]).all()
    assert np.isfinite(solution.ntk[0]).all()
    z_f, z_h = distance(problem, solution, ((24, 500), (48, 400)))
    assert z_f < 1.7
    assert z_h < 2


def test_a6_layer_norm_has_the_limit_of_the_rms_norm() -> None:
    options: dict[str, Any] = {
        "head_dim": 2,
        "layers": 2,
        "mlp": Activation.TANH,
        **RICH,
        "steps": 10,
        "eta0": 0.04,
    }
    problem = ring4(**options, norm="layer")
    solution = solve(problem, METHOD, key=KEY)
    np.testing.assert_allclose(solution.predictions[9], [0.9914, -1.1911], atol=3e-3)
    z_f, _ = distance(problem, solution, ((32, 400), (64, 200)), norm="layer")
    assert z_f < 1.7


def test_several_outputs_with_one_agree_with_one_output() -> None:
    # Folded gradients (the error inside) and unfolded ones are two forms of one limit.
    problem = ring4(**BASE)
    twice = TrainingDynamics(
        architecture=problem.architecture,
        inputs=X,
        targets=np.stack([Y, np.zeros(2)], axis=1),
        readout="pooled",
        steps=12,
        eta0=0.03,
    )
    first, both = solve(problem), solve(twice)
    # A second output that stays near its target 0 = f(0) changes nothing in the first.
    np.testing.assert_allclose(both.predictions[..., 1], 0.0, atol=1e-12)
    np.testing.assert_allclose(both.predictions[..., 0], first.predictions, atol=1e-9)


def test_the_inputs_have_the_kernel_of_the_acceptance_rows() -> None:
    x = inputs_with_kernel(RING4, 2).reshape(4, 4)
    np.testing.assert_allclose(x @ x.T / 4, RING4, atol=1e-14)
