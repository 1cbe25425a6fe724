"""Nothing depends on the axes: fields, closures, ranks and blow-up times of turned problems."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attention.variants import DIM, PLAIN

from translimit import Outcome, solve
from translimit.attention import (
    L2,
    FeedForward,
    FixedSinkhorn,
    Linear,
    MultiHead,
    Sigmoid,
    Sinkhorn,
    Softmax,
    Unnormalized,
)
from translimit.limits.meanfield import (
    GaussianFlow,
    GaussianLimit,
    MomentClosure,
    SphereFlow,
    solve_limits,
)

PLANE = {"Q": [[0.0, 1.0]], "K": [[1.0, 0.0]], "V": [[0.0, 0.0], [0.0, 1.0]]}
COV = np.array([[0.5, 0.4], [0.4, 0.9]])
#: Sigma_11 = 1/2 stays, and Sigma_12' = Sigma_12^2 from 0.4: all of them blow up at 2.5.
DIVERGING = {
    "softmax": Softmax(**PLANE),
    "linear": Linear(**PLANE),
    "l2": L2(**PLANE),
    "multi-head": MultiHead(
        **{name: np.asarray(value)[None] for name, value in PLANE.items()}, W=np.eye(2)[None]
    ),
    "feed-forward": FeedForward(Softmax(**PLANE), W=np.zeros((2, 2))),
}


SLOW = pytest.mark.slow


def rotation(dim, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def plane(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turned(attention, R):
    """The attention of the tokens R y."""
    if isinstance(attention, FeedForward):
        return FeedForward(turned(attention.attention, R), R @ attention.W @ R.T, R @ attention.b)
    maps = {"Q": attention.Q @ R.T, "K": attention.K @ R.T, "V": attention.V @ R.T}
    if isinstance(attention, MultiHead):
        maps["W"] = R @ attention.W
    else:
        maps["V"] = R @ maps["V"]
    names = tuple(maps)
    return eqx.tree_at(
        lambda module: tuple(getattr(module, name) for name in names),
        attention,
        tuple(maps.values()),
    )


@pytest.mark.parametrize(
    "name",
    [name if name == "l2" else pytest.param(name, marks=SLOW) for name in DIVERGING],
)
def test_a_blow_up_beside_a_bounded_direction_is_found_in_all_axes(name):
    for t1 in (4.0, 9.0):
        for angle in (0.0, 0.2, 0.5, 0.7, 1.2, 2.5):
            R = plane(angle)
            flow = GaussianFlow(
                attention=turned(DIVERGING[name], R), mean=np.zeros(2), cov=R @ COV @ R.T, t1=t1
            )
            solution = solve(flow, save=[1.0, t1])
            assert solution.outcome == Outcome.blow_up
            np.testing.assert_allclose(solution.blow_up_time, 2.5, rtol=1e-8)
            # Sigma_12 = 1 / (2.5 - t) and Sigma_22 = 0.9 (2.5 / (2.5 - t))^2 at t = 1.
            back = R.T @ solution.cov[0] @ R
            np.testing.assert_allclose(back, [[0.5, 1 / 1.5], [1 / 1.5, 2.5]], rtol=1e-7)


#: Closures with maps of rank one in three dimensions.
LOW = {
    "Q": np.array([[0.6, -0.4, 0.3], [1.2, -0.8, 0.6]]),
    "K": np.array([[0.5, 0.7, -0.2], [0.0, 0.0, 0.0]]),
    "V": np.outer([0.4, 0.9, -0.5], [0.3, -0.6, 0.8]),
}
CLOSURES = {
    "softmax": Softmax(**LOW),
    "l2": L2(**LOW, score_scale=0.6, key_scale=0.9),
    "linear": Linear(**LOW),
    "sinkhorn": Sinkhorn(**LOW),
    "fixed sinkhorn": FixedSinkhorn(**LOW, iterations=3),
    "multi-head": PLAIN["multi-head"](),
    "feed-forward": FeedForward(Softmax(**LOW), W=np.eye(3) / 5, b=[0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("name", CLOSURES)
def test_the_field_of_a_factor_is_that_of_its_covariance(name):
    mean, factor = np.array([0.3, -0.2, 0.5]), np.random.default_rng(3).normal(size=(3, 2))
    with jax.enable_x64(True):
        found = CLOSURES[name].factor_field(jnp.asarray(mean), jnp.asarray(factor))
    expected = CLOSURES[name].gaussian_field(mean, factor @ factor.T)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["softmax", "l2", "linear", "multi-head"])
def test_fields_keep_bounded_directions_beside_diverging_ones(name):
    """K reads a direction that is bounded, V writes into one that is not, and M F into that alone.

    In turned axes K F and V F are off by eps times the growth, and M leaves the range of V by no
    more. Made from F F^T it leaves it by eps times the growth squared, which is one at 1e8.
    """
    attention = DIVERGING[name]
    for growth in (1.0, 1e3, 1e6, 1e8):
        factor = np.array([[0.7, 0.0], [0.4 * growth, 0.8 * growth]])
        slope = 2.0 / 1.98 if name == "l2" else 1.0
        exact = np.array([[0.0, 0.0], [0.0, slope * 0.28 * growth]])
        bound = 1e-14 * np.array([[growth, growth], [growth, growth**2]])
        for angle in (0.3, 0.7, 1.2, 2.5):
            R = plane(angle)
            with jax.enable_x64(True):
                M = turned(attention, R).factor_field(jnp.zeros(2), jnp.asarray(R @ factor))[1]
            assert np.all(np.abs(R.T @ np.asarray(M) @ R - exact) <= bound)


#: Projected fields whose scores see the bounded direction, and one whose queries see the other.
BESIDE = {"Q": [[1.0, 0.0]], "K": [[1.0, 0.0]], "V": [[0.0, 0.0], [0.0, 1.0]]}
PROJECTED = {
    "sigmoid": (Sigmoid(**BESIDE, bias=0.4), 1e8),
    "sigmoid, wide scores": (Sigmoid(**PLANE, bias=0.4), 1e4),
    "unnormalised": (Unnormalized(**BESIDE), 1e8),
    "feed-forward": (FeedForward(Unnormalized(**BESIDE), W=np.diag([0.0, 0.5])), 1e8),
}


@pytest.mark.parametrize("name", ["sigmoid", "unnormalised", "feed-forward"])
def test_the_projected_field_of_a_factor_is_that_of_its_covariance(name):
    kind = {"sigmoid": Sigmoid, "unnormalised": Unnormalized}.get(name, Sigmoid)
    attention = kind(**LOW)
    if name == "feed-forward":
        attention = FeedForward(attention, W=np.eye(3) / 5, b=[0.1, 0.2, 0.3])
    mean, factor = np.array([0.3, -0.2, 0.5]), np.random.default_rng(3).normal(size=(3, 2)) / 2
    with jax.enable_x64(True):
        found = attention.moment_factor_field(jnp.asarray(mean), jnp.asarray(factor))
    expected = attention.moment_field(mean, factor @ factor.T)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PROJECTED)
def test_projected_fields_keep_bounded_directions_beside_diverging_ones(name):
    """As above: off by eps times the growth in every entry, and by its square in the largest."""
    attention, most = PROJECTED[name]
    for growth in (1.0, 1e2, 1e4, 1e6, 1e8):
        if growth > most:
            continue
        factor, mean = np.array([[0.7, 0.0], [0.4 * growth, 0.8 * growth]]), np.array([0.2, 0.0])
        with jax.enable_x64(True):
            plain = attention.moment_factor_field(jnp.asarray(mean), jnp.asarray(factor))
        drift, matrix = np.asarray(plain[0]), np.asarray(plain[1])
        bound = 1e-14 * np.where(matrix != 0, growth**2, growth)
        bound_of_drift = 1e-14 * np.array([growth, growth**2])
        for angle in (0.3, 0.7, 1.2, 2.5):
            R = plane(angle)
            with jax.enable_x64(True):
                g, M = turned(attention, R).moment_factor_field(
                    jnp.asarray(R @ mean), jnp.asarray(R @ factor)
                )
            assert np.all(np.abs(R.T @ np.asarray(M) @ R - matrix) <= bound)
            assert np.all(np.abs(R.T @ np.asarray(g) - drift) <= bound_of_drift)


@SLOW
@pytest.mark.parametrize("name", ["sigmoid", "unnormalised"])
def test_moment_closures_keep_bounded_directions_beside_diverging_ones(name):
    """Sigma_11 = 1/2 stays, and Sigma_12 grows at the rate 1 + kappa / 2, kappa of one dimension.

    Sigma_22 grows by 10^11 meanwhile.
    """
    kind = {"sigmoid": Sigmoid, "unnormalised": Unnormalized}[name]
    slope = kind(Q=[[1.0]], K=[[1.0]], V=[[1.0]]).moment_field([0.0], [[0.5]])[1][0, 0]
    attention = FeedForward(kind(**BESIDE), W=np.diag([0.0, 1.0]))
    t1 = 11.0 / (1.0 + slope)
    for angle in (0.0, 0.7, 1.2):
        R = plane(angle)
        closure = MomentClosure(
            attention=turned(attention, R), mean=np.zeros(2), cov=R @ COV @ R.T, t1=t1
        )
        solution = solve(closure, save=[t1])
        assert solution.outcome == Outcome.successful
        factor = R.T @ solution.factor[-1]
        assert np.sum(factor[0] ** 2) == pytest.approx(0.5, rel=1e-6)
        expected = 0.4 * np.exp((1.0 + slope) * t1)
        assert factor[0] @ factor[1] == pytest.approx(expected, rel=1e-7)


@SLOW
@pytest.mark.parametrize("name", CLOSURES)
def test_closures_turn_with_the_axes(name):
    mean = np.array([0.2, -0.1, 0.3])
    root = np.random.default_rng(5).normal(size=(3, 3)) / 2
    ends = []
    for R in (np.eye(3), rotation(3, 0), rotation(3, 1)):
        flow = GaussianFlow(
            attention=turned(CLOSURES[name], R), mean=R @ mean, cov=R @ root @ root.T @ R.T, t1=1.5
        )
        solution = solve(flow, save=[0.7, 1.5])
        assert solution.outcome == Outcome.successful
        ends.append((solution.mean @ R, R.T @ solution.cov @ R))
    for end in ends[1:]:
        np.testing.assert_allclose(end[0], ends[0][0], rtol=0, atol=1e-7)
        np.testing.assert_allclose(end[1], ends[0][1], rtol=0, atol=1e-7)


@SLOW
@pytest.mark.parametrize("kind", ["softmax", "l2"])
def test_ranks_and_blow_up_times_of_limits_turn_with_the_axes(kind):
    """K = -Q of rank one, in whose limit one direction is lost, and the plane that blows up."""
    make = {"softmax": Softmax, "l2": L2}[kind]
    query = np.array([[0.6, -0.4, 0.3]])
    falling = make(Q=query, K=-query, V=np.eye(3))
    rising = DIVERGING[kind]
    turns = [np.eye(3), rotation(3, 0), rotation(3, 1)]
    cov = np.diag([1.0, 0.5, 0.2])
    limits = solve_limits(
        [GaussianLimit(attention=turned(falling, R), cov=R @ cov @ R.T) for R in turns]
    )
    assert list(limits.rank) == [2, 2, 2]
    kept = limits.eigenvalues[:, :2]
    np.testing.assert_allclose(kept, kept[[0, 0, 0]], rtol=1e-6)
    planes = [plane(angle) for angle in (0.0, 0.2, 0.5, 0.7, 1.2, 2.5)]
    limits = solve_limits(
        [GaussianLimit(attention=turned(rising, R), cov=R @ COV @ R.T) for R in planes]
    )
    np.testing.assert_allclose(limits.blow_up_time, 2.5, rtol=1e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_velocities_turn_with_the_axes(name):
    attention, R = PLAIN[name](), rotation(DIM, 2)
    x, cloud = np.random.default_rng(7).normal(size=(2, 6, DIM))
    found = turned(attention, R)(x @ R.T, cloud @ R.T)
    np.testing.assert_allclose(found @ R, attention(x, cloud), rtol=0, atol=1e-13)


@SLOW
def test_flows_on_the_sphere_turn_with_the_axes():
    rng, R = np.random.default_rng(8), rotation(3, 3)
    tokens, query, key = rng.normal(size=(6, 3)), *rng.normal(size=(2, 1, 3))
    value = np.outer(rng.normal(size=3), rng.normal(size=3))
    settings = {"t1": 2.0, "beta": 2.0}
    plain = solve(SphereFlow(initial=tokens, Q=query, K=key, V=value, **settings), save=[2.0])
    other = solve(
        SphereFlow(initial=tokens @ R.T, Q=query @ R.T, K=key @ R.T, V=R @ value @ R.T, **settings),
        save=[2.0],
    )
    np.testing.assert_allclose(other.tokens @ R, plain.tokens, rtol=0, atol=1e-6)
