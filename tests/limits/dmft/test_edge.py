"""Sharpness by branches: printed kernels, an unfolded oracle, identities and mutations."""

import math

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RICH, X, ring4
from tests.limits.dmft.language import lm12, sin6

from translimit.core import ArgumentError, ArgumentTypeError, solve
from translimit.describe import Activation
from translimit.limits.dmft import (
    Adam,
    Architecture,
    CausalSampling,
    CrossEntropy,
    Logistic,
    TrainingDynamics,
    best_rate,
    edge,
    tangent_kernel,
)
from translimit.limits.dmft import branches as branching
from translimit.limits.dmft.largest_eigenvalue import largest_eigenvalue

KEY = jax.random.key(0)
#: The case whose tangent kernels are printed (C14).
C14 = {
    "layers": 2,
    "alpha_L": 0.75,
    "beta0": 1.5,
    "gamma0": 1.2,
    "eta0": 0.03,
    "norm": "rms",
    "causal": True,
    "steps": 8,
}
PRINTED = {
    0: (8.86487, 1.47606, 8.49371),
    3: (9.67755, 1.05660, 9.14412),
    6: (11.60166, 0.02897, 10.73777),
}


def two_outputs(problem: TrainingDynamics) -> TrainingDynamics:
    """The same with a second output, which learns nothing and folds the error into gradients."""
    y = np.stack([problem.targets, np.zeros(len(problem.targets))], axis=1)
    return TrainingDynamics(
        architecture=problem.architecture,
        inputs=problem.inputs,
        targets=y,
        readout="pooled",
        steps=problem.steps,
        eta0=problem.eta0,
        momentum=problem.momentum,
    )


@pytest.mark.parametrize("t", sorted(PRINTED))
def test_c14_printed_kernels(t):
    kernel, stderr = tangent_kernel(ring4(**C14), time=t)
    K = kernel[:, 0, :, 0]
    np.testing.assert_allclose((K[0, 0], K[0, 1], K[1, 1]), PRINTED[t], atol=1e-4)
    assert not stderr.any()


def test_the_unfolded_kernel_of_one_output_is_the_oracle():
    """The pass of one output knows its kernel; branches do not use it. Momentum included."""
    problem = ring4(**{**C14, "momentum": 0.5})
    solution = solve(problem)
    found = edge(problem, times=(0, 3, 7))
    np.testing.assert_allclose(found.sharpness, solution.sharpness[[0, 3, 7]], rtol=1e-6)
    np.testing.assert_allclose(found.ratio, solution.edge_ratio[[0, 3, 7]], rtol=1e-6)
    np.testing.assert_allclose(found.rates, 3.0 / found.sharpness)
    assert np.all(found.discretisation < 1e-5 * found.sharpness)
    assert "edge of it" not in repr(found)
    assert set(found.to_xarray()) >= {"sharpness", "rates", "ratio", "directions"}


@pytest.mark.slow
def test_a_second_output_that_is_blind_changes_no_kernel_of_the_first_at_the_start():
    """Folded against unfolded: K(0) is the same in both blocks, and zero between them."""
    problem = ring4(**C14)
    folded, _ = tangent_kernel(two_outputs(problem))
    one, _ = tangent_kernel(problem)
    for output in (0, 1):
        np.testing.assert_allclose(folded[:, output, :, output], one[:, 0, :, 0], atol=1e-5)
    np.testing.assert_allclose(folded[:, 0, :, 1], 0, atol=1e-5)
    # A kernel for each class is wrong later.
    later, _ = tangent_kernel(sin6(eta0=0.3), time=4)
    np.testing.assert_allclose(later, later.transpose(2, 3, 0, 1), atol=1e-4)
    assert np.abs(later[:, 0, :, 1]).max() > 0.1


def test_two_classes_are_the_logistic_problem():
    """f_1 - f_2 = sqrt(2) f' at temperature 1 / sqrt(2): losses and sharpness agree."""
    shape = Architecture(head_dim=math.inf, norm="rms", causal=True, beta0=1.5)
    given = {"architecture": shape, "inputs": X, "steps": 6, "eta0": 0.2, "momentum": 0.3}
    classes = TrainingDynamics(targets=[0, 1], loss=CrossEntropy(), **given)
    signs = TrainingDynamics(targets=[1.0, -1.0], loss=Logistic(2**-0.5), **given)
    np.testing.assert_allclose(
        edge(classes, times=(0, 2, 5)).sharpness, solve(signs).sharpness[[0, 2, 5]], rtol=1e-5
    )


@pytest.mark.slow
def test_tied_readouts_and_tokens():
    """C8: the full kernel against that of one block; 0.3696 and 0.3707 are printed."""
    tied = lm12(eta0=0.25, tied=True, centred=True)
    kernel, _ = tangent_kernel(tied)
    kernel = kernel.reshape(12, 4, 12, 4)
    centre = np.eye(4) - 0.25
    moved = np.einsum("ij,rjsk,kl->risl", centre, kernel, centre).reshape(48, 48) / (4 * 12)
    assert np.linalg.eigvalsh((moved + moved.T) / 2)[-1] == pytest.approx(0.3696, abs=2e-4)
    assert np.linalg.eigvalsh(kernel[:, 0, :, 0] / 48)[-1] == pytest.approx(0.3707, abs=2e-4)
    between = [np.abs(kernel[:, o, :, u]).max() for o in range(4) for u in range(o)]
    assert max(between) == pytest.approx(0.74, abs=0.01)
    found = edge(tied, times=(0,), products=30, rtol=1e-8)
    assert found.sharpness[0] == pytest.approx(0.3696, abs=2e-4)


def test_a_readout_that_starts_at_zero_looks_flat():
    """C5: the rate at the edge is 5.40, and 16.3 where the readout starts at zero."""
    assert edge(lm12(eta0=0.5), times=(0,)).rates[0] == pytest.approx(5.40, abs=0.01)
    flat = edge(lm12(eta0=0.5, readout_std=0.0), times=(0,))
    assert flat.rates[0] == pytest.approx(16.3, abs=0.1)


@pytest.mark.slow
def test_sampled_heads_have_the_kernel_that_their_pass_knows():
    method = CausalSampling(heads=300, neurons=400, populations=2)
    options = {"head_dim": 2, "mlp": Activation.TANH, "norm": "rms", **RICH}
    problem = ring4(steps=6, eta0=0.05, **options)
    solution = solve(problem, method, key=KEY)
    found = edge(problem, method, times=(0, 5), key=KEY)
    # The pass regresses on innovations, branches differentiate: they differ by sampling alone.
    own = np.linalg.norm(solution.stderr, axis=1).max() + 4.5 * found.stderr
    assert np.all(
        np.abs(found.sharpness - solution.sharpness[[0, 5]]) < 0.03 * found.sharpness + own
    )
    assert found.samples == 2


def test_eigenvalues_of_matrices():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 40))
    A = A @ A.T
    exact = np.linalg.eigvalsh(A)[-1]
    found = largest_eigenvalue(lambda x: A @ x, np.ones(40), 20, 1e-10)
    assert abs(found.value - exact) <= max(2 * found.error, 1e-9 * exact)
    few = largest_eigenvalue(lambda x: A @ x, np.ones(40), 3, 1e-10)
    assert few.value < exact
    assert few.products == 3
    assert largest_eigenvalue(lambda x: 2 * x, np.ones(5), 9, 1e-9).products == 1


@pytest.mark.slow
def test_wrong_branches_are_seen(monkeypatch):
    """Mutations: an update that is not that of the given errors; a step that is too large."""
    problem = ring4(**C14)
    right = edge(problem, times=(3,)).sharpness[0]
    monkeypatch.setitem(branching.STEP, "float64", 3.0)
    crude = edge(problem, times=(3,))
    assert crude.discretisation[0] > 1e-3
    assert abs(crude.sharpness[0] - right) > 1e-3
    monkeypatch.undo()
    # With the velocity of the heavy ball the kernel is that of weights that have moved on.
    heavy = ring4(**C14, momentum=0.5)
    assert edge(heavy, times=(3,)).sharpness[0] == pytest.approx(solve(heavy).sharpness[3])
    monkeypatch.setattr(branching, "at_rest", lambda plan, numbers, state, t: state)
    jax.clear_caches()
    moving = edge(heavy, times=(3,)).sharpness[0]
    assert abs(moving / solve(heavy).sharpness[3] - 1) > 5e-3
    monkeypatch.undo()
    given = branching.GivenError.error
    monkeypatch.setattr(branching.GivenError, "error", lambda self, f, y: given(self, f, 1.01 * y))
    jax.clear_caches()
    assert edge(problem, times=(3,)).sharpness[0] == pytest.approx(1.01 * right, rel=1e-5)
    monkeypatch.undo()
    jax.clear_caches()


def test_refusals():
    problem = ring4(**C14)
    with pytest.raises(ArgumentError, match=r"times: got \[8\]"):
        edge(problem, times=(8,))
    with pytest.raises(ArgumentError, match="products"):
        edge(problem, products=1)
    with pytest.raises(ArgumentError, match="time: got 8"):
        tangent_kernel(problem, time=8)
    with pytest.raises(ArgumentTypeError, match="key: is not needed"):
        edge(problem, key=KEY)
    with pytest.raises(ArgumentTypeError, match="method: got"):
        edge(problem, CausalSampling())
    with pytest.raises(ArgumentTypeError, match="key: is missing"):
        edge(ring4(steps=3, eta0=0.1, head_dim=2))
    adam = ring4(steps=3, eta0=0.1, head_dim=2, optimizer=Adam())
    for of_gradient_descent in (edge, best_rate):
        with pytest.raises(ArgumentError, match="problem: is solved by PopulationSampling alone"):
            of_gradient_descent(adam, key=KEY)


@pytest.mark.slow
def test_the_schedule_and_the_convention_of_rates():
    problem = ring4(**C14, schedule=np.linspace(1, 0.3, 8))
    found = edge(problem, times=(0, 7))
    np.testing.assert_allclose(found.ratio, solve(problem).edge_ratio[[0, 7]], rtol=1e-6)
    np.testing.assert_allclose(found.rates * found.ratio, problem.eta0, rtol=1e-9)
