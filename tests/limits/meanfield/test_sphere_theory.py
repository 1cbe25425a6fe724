"""Formulas of tokens on the sphere: growth rates, metastable clusters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.meanfield.circle import circle

from translimit.core import ArgumentError
from translimit.limits.meanfield import (
    SphereFlow,
    equal_cosine_rate,
    growth_rates,
    metastable_clusters,
)


@pytest.mark.parametrize(
    ("beta", "k", "usa", "sa"),
    [(4.0, 3, 7.508870501, 0.6643888122), (9.0, 4, 770.4297470, 0.7044970293)],
)
def test_acceptance_21_growth_rates_on_the_circle(beta, k, usa, sa):
    """The formulas, and the linearised field of 64 tokens, whose sums are exact to rounding."""
    np.testing.assert_allclose(growth_rates(beta, normalised=False)[k - 1], usa, rtol=1e-9)
    np.testing.assert_allclose(growth_rates(beta)[k - 1], sa, rtol=1e-9)
    uniform = 2 * np.pi * np.arange(64) / 64
    for normalised, rate in ((False, usa), (True, sa)):
        flow = SphereFlow(initial=circle(uniform), t1=1.0, beta=beta, normalised=normalised)

        def angular(angles, flow=flow):
            points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
            tangent = jnp.stack([-jnp.sin(angles), jnp.cos(angles)], axis=-1)
            log_weights = jnp.full(64, -jnp.log(64.0))
            return jnp.sum(flow.velocity(points, log_weights) * tangent, axis=-1)

        with jax.enable_x64(True):
            mode = jnp.cos(k * jnp.asarray(uniform))
            _, growth = jax.jvp(angular, (jnp.asarray(uniform),), (mode,))
        np.testing.assert_allclose(growth, rate * np.cos(k * uniform), rtol=1e-6, atol=1e-6 * rate)


def test_number_of_metastable_clusters():
    predicted = [metastable_clusters(beta) for beta in (1.0, 2.0, 4.0, 9.0, 16.0, 25.0, 49.0, 81.0)]
    assert predicted == [1, 2, 3, 4, 6, 7, 10, 13]
    np.testing.assert_allclose(metastable_clusters(5000.0), 100, atol=1)
    # The rates are continuous at beta = 0, the Kuramoto model, and do not overflow.
    np.testing.assert_allclose(growth_rates(0.0, 3), [0.5, 0, 0])
    np.testing.assert_allclose(growth_rates(1e-7, 3), [0.5, 0, 0], atol=1e-6)
    assert np.isfinite(growth_rates(5000.0, normalised=False, shift=5000.0)).all()


@pytest.mark.usefixtures("as_user")
def test_refusals_of_the_formulas():
    with pytest.raises(ArgumentError, match="beta: got -1"):
        growth_rates(-1.0)
    with pytest.raises(ArgumentError, match="modes: got 0"):
        growth_rates(1.0, 0)
    with pytest.raises(ArgumentError, match="beta: got nan"):
        metastable_clusters(np.nan)
    with pytest.raises(ArgumentError, match="tokens: got 1"):
        equal_cosine_rate(0.0, 1.0, 1)
    with pytest.raises(ArgumentError, match="overlap: got"):
        equal_cosine_rate(-0.9, 1.0, 5)
