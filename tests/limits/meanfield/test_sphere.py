"""Tokens on the sphere: acceptance figures, symmetries, energies, refusals."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from tests.limits.meanfield.circle import circle

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Outcome, named_key
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.meanfield import (
    SphereFlow,
    SphereSolution,
    equal_cosine_rate,
)
from translimit.observe import (
    cluster_angle,
    cluster_counts,
    interaction_energy,
    partition_function,
)

# The default method with other tolerances, which compiles nothing anew.
PRECISE = AdaptiveODE(rtol=1e-10, atol=1e-12, step_to_saves=False, solver=diffrax.Tsit5())


def cloud(seed: int, tokens: int = 8, dim: int = 3) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((tokens, dim))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def velocity(flow: SphereFlow, points: np.ndarray | None = None) -> np.ndarray:
    """The compiled field at the flow's tokens, or at other points."""
    points = flow.initial if points is None else points
    log_weights = (
        np.full(len(points), -np.log(len(points))) if flow.weights is None else np.log(flow.weights)
    )
    with jax.enable_x64(True):
        return np.asarray(flow.velocity(jnp.asarray(points), jnp.asarray(log_weights)))


def test_acceptance_20_orthonormal_tokens():
    flow = SphereFlow(initial=np.eye(8), t1=2.0, beta=2.0)
    final = solve(flow, PRECISE, save=[0.5, 1.0, 2.0]).tokens[-1]
    cosines = (final @ final.T)[np.triu_indices(8, 1)]
    np.testing.assert_allclose(cosines, 0.6598737095, rtol=1e-7)


@pytest.mark.parametrize("options", [{}, {"normalised": False, "shift": 1.0}])
def test_equal_cosines_stay_equal_and_follow_the_scalar_equation(options):
    rho = 0.3
    tokens = np.linalg.cholesky(rho + (1 - rho) * np.eye(8))
    ts = np.array([0.0, 0.5, 1.5])
    solution = solve(SphereFlow(initial=tokens, t1=1.5, beta=2.0, **options), PRECISE, save=ts)
    exact = solve_ivp(
        lambda t, y: [equal_cosine_rate(y[0], 2.0, 8, **options)],
        (0.0, 1.5),
        [rho],
        rtol=1e-11,
        atol=1e-12,
        t_eval=ts,
    ).y[0]
    for points, cosine in zip(solution.tokens, exact, strict=True):
        np.testing.assert_allclose((points @ points.T)[np.triu_indices(8, 1)], cosine, rtol=1e-8)
    assert exact[-1] > 0.8


def test_acceptance_22_clusters_on_the_circle():
    """300 iid uniform tokens at t = 12 under SA, 20 seeds.

    The standard errors are 0.17, 0.15 and 0.18, so that 0.7 is four of them.
    """

    def final(beta, key):
        angles = 2 * jnp.pi * jax.random.uniform(key, (300,))
        points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        flow = SphereFlow(initial=points, t1=12.0, beta=beta)
        return solve(flow, FixedODE(steps=60), save=[12.0]).tokens[-1]

    keys = jax.vmap(lambda i: jax.random.fold_in(named_key(22), i))(jnp.arange(20))
    run = jax.jit(lambda beta: jax.lax.map(lambda key: final(beta, key), keys))
    for beta, expected in ((9.0, 3.65), (25.0, 6.15), (81.0, 11.3)):
        counts = cluster_counts(run(beta), cluster_angle(beta))
        assert counts.mean() == pytest.approx(expected, abs=0.7)


def test_usa_on_the_circle_is_kuramoto_at_beta_zero():
    angles = np.random.default_rng(3).uniform(-np.pi, np.pi, 12)
    difference = angles[:, None] - angles
    tangent = circle(angles + np.pi / 2)
    for beta in (0.0, 1.7):
        kernel = np.exp(beta * np.cos(difference)) * np.sin(difference)
        for normalised in (False, True):
            flow = SphereFlow(initial=circle(angles), t1=1.0, beta=beta, normalised=normalised)
            mass = np.exp(beta * np.cos(difference)).sum(axis=1) if normalised else 12
            speed = -kernel.sum(axis=1) / mass
            np.testing.assert_allclose(velocity(flow), speed[:, None] * tangent, atol=1e-14)


@pytest.mark.parametrize("normalised", [True, False])
def test_field_with_parameters_and_weights(normalised):
    """Against loops over queries and keys."""
    generator = np.random.default_rng(4)
    Q, K = generator.standard_normal((2, 2, 3))
    V = generator.standard_normal((3, 3))
    weights = generator.dirichlet(np.ones(8))
    shift = {} if normalised else {"shift": 0.7}
    flow = SphereFlow(
        initial=3.0 * cloud(5),  # scaled to the sphere
        t1=1.0,
        beta=1.3,
        Q=Q,
        K=K,
        V=V,
        normalised=normalised,
        weights=weights,
        **shift,
    )
    points = cloud(5)
    for point, found in zip(points, velocity(flow), strict=True):
        kernel = [
            w * np.exp(1.3 * (Q @ point) @ (K @ y)) for w, y in zip(weights, points, strict=True)
        ]
        gamma = V @ sum(k * y for k, y in zip(kernel, points, strict=True))
        gamma = gamma / sum(kernel) if normalised else gamma * np.exp(-0.7)
        np.testing.assert_allclose(found, gamma - (gamma @ point) * point, atol=1e-13)


@pytest.mark.parametrize("normalised", [True, False])
def test_energy_identity_by_finite_differences(normalised):
    """E' = sum_i w_i |x_i'|^2 for USA, with the factor Z_i for SA."""
    weights = np.random.default_rng(6).dirichlet(np.ones(8))
    flow = SphereFlow(initial=cloud(6), t1=1.0, beta=2.5, normalised=normalised, weights=weights)
    points, speed, step = cloud(6), velocity(flow), 1e-5
    energies = []
    for sign in (1, -1):
        moved = points + sign * step * speed
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        energies.append(interaction_energy(moved, 2.5, weights=weights))
    factor = partition_function(points, 2.5, weights=weights) if normalised else 1.0
    rate = weights @ (factor * np.sum(speed**2, axis=1))
    np.testing.assert_allclose((energies[0] - energies[1]) / (2 * step), rate, rtol=1e-8)


def test_energy_increases_norm_is_kept_and_permutation_permutes():
    order = np.random.default_rng(1).permutation(8)
    flow = SphereFlow(initial=cloud(7), t1=4.0, beta=4.0)
    solution = solve(flow)
    np.testing.assert_allclose(np.linalg.norm(solution.tokens, axis=-1), 1.0, atol=1e-15)
    assert np.all(np.diff(interaction_energy(solution.tokens, 4.0)) > -1e-9)
    assert np.all(np.diff(solution.norm_drift) >= 0)
    assert 0 < solution.norm_drift[-1] < 1e-6
    permuted = solve(SphereFlow(initial=cloud(7)[order], t1=4.0, beta=4.0)).tokens
    np.testing.assert_allclose(permuted, solution.tokens[:, order], atol=1e-6)
    # Saved times between the steps are as accurate as the steps.
    exact = solve(flow, PRECISE)
    np.testing.assert_allclose(solution.tokens, exact.tokens, atol=2e-6)


def test_rotations_commute_with_the_flow():
    rotation, _ = np.linalg.qr(np.random.default_rng(8).standard_normal((3, 3)))
    turned = velocity(SphereFlow(initial=cloud(8) @ rotation, t1=1.0, beta=3.0))
    straight = velocity(SphereFlow(initial=cloud(8), t1=1.0, beta=3.0))
    np.testing.assert_allclose(turned, straight @ rotation, atol=1e-14)


def test_projection_keeps_the_order_and_the_drift_falls_with_the_step():
    """Heun is of order 2 with the projection: error(h) / error(h/2) is 4 (order 1: 2, 3: 8)."""
    flow = SphereFlow(initial=cloud(9), t1=1.0, beta=2.0)
    exact = solve(flow, PRECISE).tokens[-1:]
    coarse, fine = (
        solve(flow, FixedODE(steps=steps, solver=diffrax.Heun()), save=[1.0]) for steps in (32, 64)
    )
    ratio = np.linalg.norm(coarse.tokens - exact) / np.linalg.norm(fine.tokens - exact)
    assert ratio == pytest.approx(4.0, abs=0.4)
    assert fine.norm_drift[-1] < coarse.norm_drift[-1] / 6  # third order in one step


def test_precision_follows_the_tokens():
    method = FixedODE(steps=32, solver=diffrax.Heun())
    flow = SphereFlow(initial=cloud(9).astype(np.float32), t1=1.0, beta=2.0)
    assert solve(flow, method, save=[1.0]).tokens.dtype == np.float32


def test_labelled_and_drawn():
    angles = np.linspace([0.0, 1.0, 2.0], [0.5, 1.0, 1.5], 4)
    solution = SphereSolution(
        ts=np.linspace(0, 1, 4),
        tokens=circle(angles),
        weights=None,
        norm_drift=np.zeros(4),
        steps_taken=np.asarray(3),
        outcome=Outcome.successful,
    )
    assert solution.to_xarray()["tokens"].dims == ("time", "token", "component")
    ax = solution.plot()
    assert ax.get_ylabel() == "angle"
    np.testing.assert_allclose(np.array([line.get_ydata() for line in ax.lines]).T, angles)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"initial": [[1.0, 0.0], [0.0, 0.0]]}, ArgumentError, "token 1 has norm zero"),
        ({"initial": np.zeros((0, 2))}, ArgumentError, "at least one token"),
        (
            {"initial": [[np.nan, 1.0]]},
            ArgumentError,
            "initial: has NaN or infinity in 1 of 2 entries",
        ),
        ({"beta": -1.0}, ArgumentError, "beta: got -1"),
        ({"beta": [1.0]}, ArgumentError, "beta: has shape"),
        ({"beta": np.inf}, ArgumentError, "beta: got "),
        ({"t1": 0.0}, ArgumentError, "t1: got 0"),
        ({"Q": np.eye(3)}, ArgumentError, "Q: has shape"),
        ({"K": np.ones((1, 2))}, ArgumentError, "K: has shape"),
        ({"V": np.ones((1, 2))}, ArgumentError, "V: has shape"),
        ({"weights": [0.5, 0.4]}, ArgumentError, "sum to one"),
        ({"normalised": 1}, ArgumentTypeError, "normalised: got 1"),
        ({"shift": 1.0}, ArgumentTypeError, "shift: is given"),
        ({"shift": [1.0], "normalised": False}, ArgumentError, "shift: has shape"),
    ],
)
def test_refusals(change, error, message):
    arguments = {"initial": np.eye(2), "t1": 1.0, "beta": 1.0} | change
    with pytest.raises(error, match=message):
        SphereFlow(**arguments)
