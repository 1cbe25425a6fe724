"""Heads with a mean effect: the ballistic limit and the modified equation (row 6)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.homogenized.mean_effects import V, X

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Retraction
from translimit.describe import FiniteHeads, GaussianHeads, ShiftedHeads
from translimit.limits.homogenized import BallisticFlow, ModifiedFlow
from translimit.limits.homogenized.drifts import (
    ballistic_drift,
    mean_update,
)
from translimit.models import RandomHeadChain

LAW = ShiftedHeads(mean_v=V, mean_a=np.eye(3), beta=1.0)
STEPS = (0.1, 0.05, 0.025)


@functools.cache
def chain(step: float, retraction: Retraction) -> np.ndarray:
    """Layer by layer, so that all steps share one compilation; the law has no noise."""
    one = RandomHeadChain(law=LAW, step=step, heads=1, layers=1, retraction=retraction)
    tokens = X
    for _ in range(round(1 / step)):
        tokens = one.simulate(tokens, key=jax.random.key(0)).tokens[0, -1]
    return tokens


@functools.cache
def modified(step: float, retraction: Retraction) -> np.ndarray:
    problem = ModifiedFlow(law=LAW, initial=X, t1=1.0, step=step, retraction=retraction)
    return solve(problem, save=[1.0]).tokens[0]


def gap(step: float, chain_kind: Retraction, flow_kind: Retraction) -> float:
    return float(np.abs(chain(step, chain_kind) - modified(step, flow_kind)).max())


def test_acceptance_6_the_ballistic_limit_and_the_chain():
    overlaps = solve(BallisticFlow(law=LAW, initial=X, t1=1.0), save=[0.0, 1.0]).overlaps[1]
    found = overlaps[np.triu_indices(3, 1)]
    np.testing.assert_allclose(found, (0.82887497, 0.56252961, 0.79507946), atol=1e-7)
    found = [x[0] @ x[1] for x in (chain(step, Retraction.AMBIENT) for step in STEPS)]
    np.testing.assert_allclose(found, (0.81200906, 0.82034568, 0.82458733), atol=1e-7)


def test_acceptance_6_full_and_printed_modified_equation():
    full = [gap(step, Retraction.AMBIENT, Retraction.AMBIENT) for step in STEPS]
    printed = [gap(step, Retraction.AMBIENT, Retraction.TANGENT) for step in STEPS]
    np.testing.assert_allclose(full, (2.315e-3, 5.893e-4, 1.486e-4), rtol=0.02)
    np.testing.assert_allclose(printed, (2.686e-2, 1.388e-2, 7.058e-3), rtol=0.02)
    # The orders, two against one.
    assert np.log2(full[1] / full[2]) == pytest.approx(2.0, abs=0.1)
    assert np.log2(printed[1] / printed[2]) == pytest.approx(1.0, abs=0.1)


def test_the_printed_equation_is_right_for_the_tangent_chain():
    gaps = [gap(step, Retraction.TANGENT, Retraction.TANGENT) for step in STEPS]
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(2.0, abs=0.1)
    assert gaps[0] < 1e-3


def test_the_flow_is_self_attention_on_the_sphere():
    """Against the field written out, and without a mean for isotropic heads."""
    x = jnp.asarray(X)
    weights = np.exp(X @ X.T)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights @ X @ V.T
    np.testing.assert_allclose(mean_update(LAW, x), expected, rtol=1e-5)
    flat = expected - np.sum(expected * X, axis=1, keepdims=True) * X
    np.testing.assert_allclose(ballistic_drift(LAW, x), flat, rtol=1e-4, atol=1e-6)
    isotropic = GaussianHeads(dim=3, beta=1.0, sigma_a=1.0)
    assert not np.any(mean_update(isotropic, x))
    both = FiniteHeads(V=np.stack([V, 0 * V]), A=np.stack([np.eye(3)] * 2), beta=1.0)
    np.testing.assert_allclose(mean_update(both, x), expected / 2, rtol=1e-5)


def test_solutions_are_labelled_and_drawn():
    solution = solve(BallisticFlow(law=LAW, initial=2 * X, t1=1.0, normalize=True), save=[0.0, 1.0])
    assert solution.to_xarray()["tokens"].dims == ("time", "token", "component")
    np.testing.assert_allclose(solution.tokens[0], X, rtol=1e-12)
    assert solution.plot().collections


@pytest.mark.usefixtures("as_user")
def test_refusals():
    random = ShiftedHeads(mean_v=V, mean_a=np.eye(3), beta=1.0, sigma_a=1.0)
    with pytest.raises(ArgumentTypeError, match="drawn_from"):
        BallisticFlow(law=random, initial=X, t1=1.0)
    with pytest.raises(ArgumentError, match="norm"):
        BallisticFlow(law=LAW, initial=2 * X, t1=1.0)
    with pytest.raises(ArgumentError, match="step"):
        ModifiedFlow(law=LAW, initial=X, t1=1.0, step=0.0)
    with pytest.raises(ArgumentTypeError, match="retraction"):
        ModifiedFlow(law=LAW, initial=X, t1=1.0, step=0.1, retraction="ambient")
    with pytest.raises(ArgumentTypeError, match="law"):
        BallisticFlow(law=None, initial=X, t1=1.0)
