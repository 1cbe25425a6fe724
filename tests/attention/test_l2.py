"""L2 attention: the bound on its closure, keys without full rank."""

import jax
import numpy as np
import pytest
from tests.limits.meanfield.canonical import Q, V

from translimit.attention import (
    L2,
)
from translimit.core import ArgumentError


def test_two_routes_bound_on_the_closure_of_l2_with_injective_keys():
    rng = np.random.default_rng(3)
    for _ in range(20):
        attention = L2(*rng.normal(size=(3, 3, 3)), score_scale=0.7, key_scale=0.4)
        root = 10 ** rng.uniform(-2, 3) * rng.normal(size=(3, 3))
        M = attention.gaussian_field(np.zeros(3), root @ root.T)[1]
        assert np.linalg.norm(M, 2) <= attention.closure_rate * (1 + 1e-9)


def test_the_bound_on_the_closure_of_l2_is_reached():
    """For wide clouds M tends to V B^-1 A, whose norm is the bound where directions align."""
    rng = np.random.default_rng(5)
    left, right, other = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(3))
    # V keeps what the least singular direction of K passes on, which Q asks for most.
    K = left @ np.diag([2.0, 1.0, 0.4]) @ right.T
    Q = left @ np.diag([0.1, 0.2, 3.0]) @ other.T
    V = np.outer(rng.normal(size=3), right[:, 2])
    attention = L2(Q, K, V, score_scale=0.7, key_scale=0.3)
    M = attention.gaussian_field(np.zeros(3), 1e9 * np.eye(3))[1]
    reached = np.linalg.norm(M, 2)
    # |A| is c times the largest product of singular values of K and Q, 0.4 times 3.
    assert reached == pytest.approx(
        np.linalg.norm(V, 2) / (0.3 * 0.4**2) * 0.7 * 0.4 * 3.0, rel=1e-6
    )
    assert attention.closure_rate == pytest.approx(reached, rel=1e-6)


def test_refusals_of_rank_deficient_keys(as_user):
    with pytest.raises(ArgumentError, match="K: has rank 1 and tokens have dimension 2"):
        _ = L2(Q=[[0.0, 1.0]], K=[[1.0, 0.0]], V=V).closure_rate
    with pytest.raises(ArgumentError, match="K: has rank 1"):
        _ = L2(Q=Q, K=[[1.0, 2.0], [2.0, 4.0]], V=V).closure_rate
    with pytest.raises(ArgumentError, match="K: is traced; ask for the bound outside jit"):
        jax.jit(lambda K: L2(Q=Q, K=K, V=V).closure_rate)(Q)
