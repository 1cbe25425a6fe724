"""Energies of softmax and Sinkhorn attention: acceptance row 19, signs, rates, closed forms."""

import numpy as np
import pytest

from translimit.attention import Sinkhorn, Softmax
from translimit.core import ArgumentError
from translimit.observe import (
    gaussian_self_transport,
    gaussian_self_transport_rate,
    gaussian_softmax_energy,
    gaussian_softmax_energy_rate,
    interaction_energy,
    partition_function,
    self_transport,
    self_transport_rate,
    softmax_energy,
    softmax_energy_rate,
)

RNG = np.random.default_rng(0)
SYMMETRIC = np.array([[0.7, 0.2], [0.2, -0.4]])
GENERAL = np.array([[0.7, 0.5], [-0.2, -0.4]])
CLOUD = RNG.normal(size=(25, 2)) + np.array([0.4, 0.1])
WEIGHTS = RNG.dirichlet(np.ones(25))
STEP = 1e-4


def sinkhorn(A, V=None):
    return Sinkhorn(Q=A, K=np.eye(2), V=np.eye(2) if V is None else V, tol=1e-13)


def transport(A, cloud, weights=WEIGHTS):
    potentials = sinkhorn(A).potentials(cloud, weights=weights)
    return self_transport(potentials.f, potentials.g, weights=weights), potentials


def difference(energy, velocity):
    """Fourth-order central difference along the velocity."""
    values = [energy(CLOUD + k * STEP * velocity) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)


def test_acceptance_row_19_gaussian_self_transport():
    value = gaussian_self_transport(SYMMETRIC, np.array([[1.0, 0.3], [0.3, 0.6]]))
    np.testing.assert_allclose(value, -0.2739328892, rtol=0, atol=1e-9)


@pytest.mark.parametrize("A", [SYMMETRIC, GENERAL])
def test_two_routes_gaussian_self_transport_equals_that_of_a_quadrature_cloud(A):
    mean, cov = np.array([0.3, -0.2]), np.array([[1.0, 0.3], [0.3, 0.6]])
    nodes, masses = np.polynomial.hermite_e.hermegauss(20)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weights = np.outer(masses, masses).reshape(-1)
    cloud = mean + grid @ np.linalg.cholesky(cov).T
    value, _ = transport(A, cloud, weights / weights.sum())
    np.testing.assert_allclose(value, gaussian_self_transport(A, cov, mean=mean), atol=1e-11)


def test_two_routes_self_transport_equals_its_definition():
    """min over plans of -sum pi S + KL(pi | w w), at POT's plan."""
    ot = pytest.importorskip("ot", reason="POT is not installed: nothing to compare with")
    scores = (CLOUD @ GENERAL.T) @ CLOUD.T
    plan = ot.sinkhorn(WEIGHTS, WEIGHTS, -scores, 1.0, "sinkhorn_log", 5000, 1e-14)
    divergence = np.sum(plan * np.log(plan / np.outer(WEIGHTS, WEIGHTS)))
    value, _ = transport(GENERAL, CLOUD)
    np.testing.assert_allclose(value, divergence - np.sum(plan * scores), atol=1e-10)


def test_identity_rate_of_the_softmax_energy_and_its_sign():
    for V, sign in [(SYMMETRIC, 1), (-SYMMETRIC, -1), (GENERAL, 0)]:
        attention = Softmax(Q=SYMMETRIC, K=np.eye(2), V=V)
        velocity = attention(CLOUD, CLOUD, weights=WEIGHTS)
        rate = softmax_energy_rate(CLOUD, SYMMETRIC, velocity, weights=WEIGHTS)
        numeric = difference(lambda c: softmax_energy(c, SYMMETRIC, weights=WEIGHTS), velocity)
        np.testing.assert_allclose(rate, numeric, rtol=1e-8)
        assert sign == 0 or sign * rate > 0.01


@pytest.mark.parametrize("A", [SYMMETRIC, GENERAL])
def test_identity_rate_of_the_self_transport(A):
    _, potentials = transport(A, CLOUD)
    velocity = np.random.default_rng(1).normal(size=CLOUD.shape)
    rate = self_transport_rate(CLOUD, A, potentials.f, potentials.g, velocity, weights=WEIGHTS)
    numeric = difference(lambda c: transport(A, c)[0], velocity)
    np.testing.assert_allclose(rate, numeric, rtol=1e-8)


def test_identity_sinkhorn_descends_its_self_transport():
    """V = A: the rate is -2 int |A m|^2 dmu; V = -A: its opposite; V = P A: the sign persists."""
    _, potentials = transport(SYMMETRIC, CLOUD)
    mean = sinkhorn(SYMMETRIC)(CLOUD, CLOUD, weights=WEIGHTS)
    P = np.array([[1.0, 0.4], [0.4, 0.3]])
    for V, sign in [(SYMMETRIC, -1), (-SYMMETRIC, 1), (P @ SYMMETRIC, -1)]:
        rate = self_transport_rate(
            CLOUD, SYMMETRIC, potentials.f, potentials.g, mean @ V.T, weights=WEIGHTS
        )
        expected = -2 * WEIGHTS @ np.sum((mean @ SYMMETRIC) * (mean @ V.T), axis=1)
        np.testing.assert_allclose(rate, expected, rtol=1e-10)
        assert sign * rate > 0.001


@pytest.mark.parametrize("A", [SYMMETRIC, GENERAL])
def test_identity_rate_of_the_gaussian_self_transport(A):
    cov, M = np.array([[1.0, 0.3], [0.3, 0.6]]), np.array([[0.3, -0.8], [0.5, 0.4]])

    def along(step):
        moved = np.eye(2) + step * M
        return gaussian_self_transport(A, moved @ cov @ moved.T)

    values = [along(k * STEP) for k in (-2, -1, 1, 2)]
    numeric = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)
    np.testing.assert_allclose(gaussian_self_transport_rate(A, cov, M), numeric, rtol=1e-8)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    "observable",
    [
        lambda weights: softmax_energy(CLOUD, SYMMETRIC, weights=weights),
        lambda weights: softmax_energy_rate(CLOUD, SYMMETRIC, CLOUD, weights=weights),
        lambda weights: self_transport(WEIGHTS, WEIGHTS, weights=weights),
        lambda weights: self_transport_rate(
            CLOUD, SYMMETRIC, WEIGHTS, WEIGHTS, CLOUD, weights=weights
        ),
        lambda weights: interaction_energy(CLOUD, 1.0, weights=weights),
        lambda weights: partition_function(CLOUD, 1.0, weights=weights),
    ],
)
def test_weights_of_tokens_are_fractions_and_no_counts(observable):
    np.testing.assert_allclose(observable(np.full(25, 1 / 25)), observable(None))
    for weights in (np.ones(25), 25 * WEIGHTS, np.append(WEIGHTS[:-1], WEIGHTS[-1] - 2e-6)):
        with pytest.raises(ArgumentError, match=r"^weights: .*pass 25 non-negative weights that"):
            observable(weights)
    with pytest.raises(ArgumentError, match=r"^weights: "):
        observable(np.append(np.full(24, 1.1 / 24), -0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_energy(CLOUD, np.eye(3)), r"A: has shape \(3, 3\) for tokens"),
        (lambda: softmax_energy(CLOUD[0], SYMMETRIC), r"A: has shape \(2, 2\) for tokens \(2,\)"),
        (lambda: softmax_energy(CLOUD, SYMMETRIC, weights=WEIGHTS[:3]), r"weights: has shape \(3"),
        (lambda: softmax_energy_rate(CLOUD, GENERAL, CLOUD), "A: is not symmetric"),
        (lambda: softmax_energy_rate(CLOUD, SYMMETRIC, CLOUD[:2]), r"velocity: has shape \(2, 2\)"),
        (lambda: self_transport(WEIGHTS, WEIGHTS[:2]), r"g: has shape \(2,\)"),
        (lambda: gaussian_self_transport(SYMMETRIC, -np.eye(2)), "cov: has the negative"),
    ],
)
def test_refusals(call, message, as_user):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_energies_by_loops():
    points = np.random.default_rng(0).standard_normal((2, 6, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    for cloud, energy, rescaled in zip(
        points,
        interaction_energy(points, 1.5),
        interaction_energy(points, 1.5, rescaled=True),
        strict=True,
    ):
        total = sum(np.exp(1.5 * x @ y) for x in cloud for y in cloud)
        np.testing.assert_allclose(energy, total / (2 * 1.5 * 36), rtol=1e-13)
        np.testing.assert_allclose(rescaled, energy * np.exp(-1.5), rtol=1e-13)
    assert interaction_energy(np.ones((4, 1)), 2.0, rescaled=True) == pytest.approx(0.25)
    np.testing.assert_allclose(partition_function(np.eye(2), 0.0), [1.0, 1.0])


def test_gaussian_softmax_energy_and_its_rate():
    """Against a quadrature cloud, and the finite differences of the closed form."""
    A, cov = np.array([[0.9, 0.3], [0.3, -0.5]]), np.array([[0.5, 0.1], [0.1, 0.3]])
    nodes, masses = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weights = np.outer(masses, masses).reshape(-1)
    weights /= weights.sum()
    cloud = grid @ np.linalg.cholesky(cov).T
    value = softmax_energy(cloud, A, weights=weights)
    np.testing.assert_allclose(gaussian_softmax_energy(A, cov), value, rtol=1e-10)
    M = A @ cov @ A
    rate = gaussian_softmax_energy_rate(A, cov, M)
    np.testing.assert_allclose(
        rate, softmax_energy_rate(cloud, A, cloud @ M.T, weights=weights), rtol=1e-8
    )
    moved = [gaussian_softmax_energy(A, cov + k * 1e-5 * (M @ cov + cov @ M.T)) for k in (1, -1)]
    np.testing.assert_allclose(rate, (moved[0] - moved[1]) / 2e-5, rtol=1e-7)
    assert gaussian_softmax_energy(A, 9 * cov) == np.inf
