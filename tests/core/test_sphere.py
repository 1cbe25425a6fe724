"""The geometry of the unit sphere: identities of its operations, and orders of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import SPHERE, ArgumentError, ArgumentTypeError, Retraction, require_retraction

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def doubles() -> tuple[jax.Array, jax.Array]:
    x = SPHERE.project(RNG.normal(size=(7, 4)))
    return jnp.asarray(x), jnp.asarray(RNG.normal(size=(7, 4)))


def test_projections():
    x, u = doubles()
    np.testing.assert_allclose(np.linalg.norm(SPHERE.project(3.0 * x), axis=-1), 1.0, rtol=1e-14)
    v = SPHERE.tangent(x, u)
    np.testing.assert_allclose(SPHERE.overlap(x, v), 0.0, atol=1e-14)
    np.testing.assert_allclose(SPHERE.tangent(x, v), v, atol=1e-14)
    back, defect = SPHERE.project_measured(x * jnp.asarray([1.0] * 6 + [1.25])[:, None])
    np.testing.assert_allclose(back, x, atol=1e-15)
    assert defect == pytest.approx(0.25)


def test_the_exponential_is_a_geodesic():
    x, u = doubles()
    v = SPHERE.tangent(x, u)
    v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    for time in (0.0, 1e-9, 0.3, 3.0):
        y = SPHERE.exp(x, time * v)
        np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), 1.0, rtol=1e-14)
        np.testing.assert_allclose(SPHERE.distance(x, y), time, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("retraction", list(Retraction))
def test_retractions_follow_the_geodesic_to_their_order(retraction):
    """|retract(x, h u) - exp(x, h P_x u)| is O(h^3) for tangent steps, O(h^2) for ambient ones."""
    x, u = doubles()
    steps = np.array([1e-2, 5e-3, 2.5e-3])
    gaps = [
        float(
            jnp.max(
                SPHERE.distance(
                    SPHERE.retract(x, h * u, retraction), SPHERE.exp(x, h * SPHERE.tangent(x, u))
                )
            )
        )
        for h in steps
    ]
    order = np.polyfit(np.log(steps), np.log(gaps), 1)[0]
    assert order == pytest.approx(3 if retraction is Retraction.TANGENT else 2, abs=0.1)


def test_distances_resolve_equal_and_opposite_points():
    x, u = doubles()
    v = SPHERE.tangent(x, u)
    v = 1e-12 * v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    near = SPHERE.project(x + v)
    np.testing.assert_allclose(SPHERE.distance(x, near), 1e-12, rtol=1e-3)
    np.testing.assert_allclose(SPHERE.distance(x, -x), np.pi, rtol=1e-15)
    np.testing.assert_allclose(SPHERE.separations(x)[0], 1 - (x[0] @ x.T), atol=1e-15)


def test_random_points_are_uniform():
    """The mean and second moments of 20,000 points: 5 standard errors."""
    points = SPHERE.random(jax.random.key(1), (20_000, 3))
    np.testing.assert_allclose(jnp.linalg.norm(points, axis=-1), 1.0, rtol=1e-6)
    assert np.abs(np.asarray(points).mean(axis=0)).max() < 5 * (3 * 20_000) ** -0.5
    moments = np.asarray(points).T @ np.asarray(points) / 20_000
    assert np.abs(moments - np.eye(3) / 3).max() < 5 * 0.3 * 20_000**-0.5


def test_what_lies_on_the_sphere():
    assert np.array_equal(SPHERE.require(np.eye(2), "tokens"), np.eye(2))
    np.testing.assert_allclose(
        SPHERE.require([[3e200, 4e200]], "tokens", normalize=True), [[0.6, 0.8]], rtol=1e-15
    )
    with pytest.raises(ArgumentError, match="tokens: token 1 has norm 2; pass normalize=True"):
        SPHERE.require(np.diag([1.0, 2.0]), "tokens")
    with pytest.raises(ArgumentError, match="tokens: token 1 has norm zero and no direction"):
        SPHERE.require(np.diag([1.0, 0.0]), "tokens", normalize=True)
    for wrong in (np.ones(2), np.zeros((0, 2)), np.zeros((2, 0))):
        with pytest.raises(ArgumentError, match="tokens: has shape"):
            SPHERE.require(wrong, "tokens")
    with pytest.raises(ArgumentError, match=r"tokens: has shape \(2, 2\); pass \[tokens, 3\]"):
        SPHERE.require(np.eye(2), "tokens", 3)
    with pytest.raises(Exception, match="tokens: norms are not one"):
        jax.jit(lambda x: SPHERE.require(x, "tokens"))(2 * jnp.eye(2)).block_until_ready()


@pytest.mark.usefixtures("as_user")
def test_a_retraction_is_a_member():
    with pytest.raises(ArgumentTypeError, match="retraction: got 'ambient'; pass Retraction"):
        require_retraction("ambient")
