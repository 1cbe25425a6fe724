"""Rows of a test, and what a loss gains in networks of finite size: expansions and networks."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RING4, X, Y, ring4
from tests.limits.dmft.language import SIN6
from tests.limits.dmft.network import Network, inputs_with_kernel

from translimit.core import ArgumentError, NoSuchLimitError, solve
from translimit.describe import Activation
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    CrossEntropy,
    TrainingDynamics,
    finite_size,
    loss_correction,
    output_covariance,
)

KEY = jax.random.key(0)
#: Three classes, one input each, and three inputs more that are not trained.
SEEN = np.concatenate([SIN6, SIN6 + 0.3 * np.cos(np.arange(24.0)).reshape(3, 2, 4)])
WEIGHTS = np.repeat([1 / 3, 0.0], 3)


def classes(**more: Any) -> TrainingDynamics:
    """Six inputs of three classes, of which three are trained."""
    given = {"inputs": SEEN, "targets": [0, 1, 2, 0, 1, 2], "weights": WEIGHTS} | more
    shape = Architecture(head_dim=math.inf, norm="rms", beta0=1.5)
    return TrainingDynamics(architecture=shape, loss=CrossEntropy(), steps=8, eta0=0.3, **given)


def test_rows_of_a_test_change_nothing_and_are_told():
    tested = solve(classes())
    alone = solve(classes(inputs=SIN6, targets=[0, 1, 2], weights=None))
    np.testing.assert_allclose(tested.predictions[:, :3], alone.predictions, atol=1e-12)
    np.testing.assert_allclose(tested.loss, alone.loss, atol=1e-12)
    np.testing.assert_array_equal(tested.tested, [False] * 3 + [True] * 3)
    f = tested.predictions[:, 3:]
    p = np.exp(f) / np.exp(f).sum(axis=-1, keepdims=True)
    own = -np.log(p[:, [0, 1, 2], [0, 1, 2]]).mean(axis=1)
    np.testing.assert_allclose(tested.test_loss, own)
    assert tested.test_loss[0] == pytest.approx(math.log(3))
    right = np.mean(f[-1].argmax(axis=1) == [0, 1, 2])
    assert tested.test_accuracy[-1] == pytest.approx(right)
    assert not tested.test_loss_stderr.any()
    assert {"test_loss", "test_accuracy"} <= set(tested.to_xarray())
    assert "test: loss" in tested.plot().get_legend_handles_labels()[1]
    with pytest.raises(ArgumentError, match="weights: leave no row for a test"):
        alone.test_loss  # noqa: B018


def test_the_correction_is_the_expansion_of_the_loss():
    """Against losses of drawn outputs f + b / H + xi / sqrt(H), single and averaged."""
    problem = classes()
    solution = solve(problem)
    rng = np.random.default_rng(0)
    b = rng.normal(size=(8, 6, 3))
    root = rng.normal(size=(8, 6, 3, 3))
    v = root @ root.swapaxes(-1, -2)
    H, draws = 400, 4000
    xi = np.einsum("trou,ntru->ntro", root, rng.normal(size=(draws, 8, 6, 3)))
    xi = np.concatenate([xi, -xi])
    for k, test in ((1, False), (1, True), (4, True)):
        f = solution.predictions + b / H + xi / math.sqrt(k * H)
        rows = (
            np.log(np.exp(f).sum(axis=-1))
            - np.take_along_axis(f, problem.targets[None, None, :, None], -1)[..., 0]
        )
        losses = rows[..., 3:].mean(axis=-1) if test else rows[..., :3].mean(axis=-1)
        limit = solution.test_loss if test else solution.loss
        found = H * (losses.mean(axis=0) - limit)
        stderr = H * (losses[:draws] + losses[draws:]).std(axis=0) / 2 / math.sqrt(draws)
        said = loss_correction(problem, solution.predictions, b, v, networks=k, test=test)
        assert np.all(np.abs(found - said) < 4.5 * stderr + 0.05 * np.abs(said).max())
    single, four, most = (
        loss_correction(problem, solution.predictions, b, v, networks=k, test=True)
        for k in (1, 4, 10**6)
    )
    np.testing.assert_allclose(four - most, (single - most) / 4, atol=1e-4)
    # An ensemble is no network of four times the width: its bias stays.
    assert np.abs(four - single / 4).max() > 0.1


def test_outputs_at_the_start_scatter_as_the_readout_does():
    """Against networks of 16 heads, and a rival: another richness."""
    problem = ring4(steps=2, eta0=0.05, head_dim=2, beta0=1.5, gamma0=0.7, norm="rms")
    v = output_covariance(problem, solve(problem, CausalSampling(heads=2000), key=KEY))
    net = Network(N=2, H=16, beta0=1.5, gamma0=0.7, eta0=0.05, norm="rms")
    f = net.ensemble(X, Y[:, None], 1, 3000, 0)["f"][:, 0, :, 0]
    said = v[0, :, 0, :, 0] / 16
    stderr = np.sqrt((said**2 + np.outer(np.diag(said), np.diag(said))) / len(f))
    assert np.all(np.abs(np.cov(f.T) - said) < 4.5 * stderr + 0.03 * np.abs(said))
    assert np.all(np.abs(np.diag(np.cov(f.T) - said / 0.7)) > 4.5 * np.diag(stderr))


@pytest.mark.slow
def test_lazy_training_carries_the_start_on():
    """At gamma_0 = 0.1 the scatter of trained networks is the start's, carried on; momentum too.

    One of the inputs is not trained. Rivals: the scatter of the start, at all times.
    """
    x = np.concatenate([X, inputs_with_kernel(RING4[::-1, ::-1], 2)[:1]])
    y = np.append(Y, 0.5)
    weights = np.array([0.5, 0.5, 0.0])
    options = {"beta0": 1.5, "gamma0": 0.1}
    problem = ring4(
        steps=6, eta0=0.12, head_dim=2, momentum=0.3, inputs=x, targets=y, weights=weights,
        **options,
    )  # fmt: skip
    solution = solve(problem, CausalSampling(heads=2000), key=KEY)
    v = output_covariance(problem, solution)[:, :, 0, :, 0]
    net = Network(N=2, H=32, eta0=0.12, momentum=0.3, **options)
    f = net.ensemble(x, y[:, None], 6, 500, 1, weights=problem.weights)["f"][..., 0]
    found = finite_size(problem, solution, f, 32).covariance[..., 0, 0]
    said = np.einsum("trr->tr", v)
    relative = 4.5 * math.sqrt(2 / 500)
    np.testing.assert_allclose(found, said, rtol=relative, atol=0.02 * said.max())
    assert np.all(np.abs(said[0] / found[-1] - 1) > relative)


@pytest.mark.slow
def test_losses_of_networks_gain_what_bias_and_covariance_say():
    """Singles, and ensembles of four: bias and covariance from one half, losses from another."""
    x = np.concatenate([X, inputs_with_kernel(RING4[::-1, ::-1], 2)[:1]])
    y = np.append(Y, 0.5)
    options = {"beta0": 1.5, "gamma0": 1.0, "norm": "rms"}
    problem = ring4(
        steps=8, eta0=0.1, head_dim=2, inputs=x, targets=y, weights=[0.5, 0.5, 0.0],
        mlp=Activation.TANH, **options,
    )  # fmt: skip
    solution = solve(problem, CausalSampling(heads=6000, neurons=12_000), key=KEY)
    net = Network(N=2, H=32, eta0=0.1, mlp="tanh", **options)
    f = net.ensemble(x, y[:, None], 8, 2400, 3, weights=problem.weights)["f"][..., 0]
    first, second = f[::2], f[1::2]
    found = finite_size(problem, solution, first, 32)
    for k in (1, 4):
        means = second.reshape(-1, k, *second.shape[1:]).mean(axis=1)
        losses = 0.5 * (means[..., 2] - y[2]) ** 2
        gain = 32 * (losses.mean(axis=0) - solution.test_loss)
        stderr = 32 * losses.std(axis=0, ddof=1) / math.sqrt(len(losses))
        said = loss_correction(
            problem, solution.predictions, found.bias, found.covariance, networks=k, test=True
        )
        assert np.all(np.abs(gain - said)[1:] < (4.5 * stderr + 0.1 * np.abs(said))[1:])
        if k == 4:  # not the quarter of a single network's
            single = loss_correction(
                problem, solution.predictions, found.bias, found.covariance, test=True
            )
            assert np.any(np.abs(gain - single / 4) > 4.5 * stderr)


def test_refusals():
    problem = classes()
    solution = solve(problem)
    with pytest.raises(ArgumentError, match="bias: has shape"):
        loss_correction(problem, solution.predictions, np.zeros((8, 6)), np.zeros((8, 6, 3, 3)))
    with pytest.raises(ArgumentError, match="predictions: has shape"):
        finite_size(problem, solution, np.zeros((1, 8, 6, 3)), 8)
    with pytest.raises(NoSuchLimitError, match="head_dim: is infinite"):
        output_covariance(problem, solution)
