"""Stability of the flow in W_2: the ratio stays bounded, and tends to the tangent flow's."""

import jax
import jax.numpy as jnp
import numpy as np
from tests.limits.meanfield.canonical import K, Q, V

from translimit import solve
from translimit.attention import Softmax
from translimit.integrate import FixedODE
from translimit.limits.meanfield import ParticleFlow
from translimit.observe import (
    stability_ratio,
)


def test_ratio_of_nearby_clouds_tends_to_that_of_the_tangent_flow():
    """W_2(t) / W_2(0) -> |D Phi_t v| / |v| for the noise v, and stays bounded on the way.

    Once the noise is far below the distances between tokens, the best coupling is the identity.
    """
    generator = np.random.default_rng(0)
    cloud = generator.uniform(-1, 1, (100, 2))
    noise = generator.standard_normal((100, 2))
    with jax.enable_x64(True):

        def flow(tokens):
            problem = ParticleFlow(attention=Softmax(Q=Q, K=K, V=V), initial=tokens, t1=2.0)
            return solve(problem, FixedODE(steps=20), save=[0.0, 2.0]).tokens

        def runge_kutta(tokens, h=0.1):
            """The same flow by steps of our own, which forward derivatives pass through."""
            log_weights = jnp.full(100, -jnp.log(100.0))

            def field(x):
                return Softmax(Q=Q, K=K, V=V).velocity(x, x, log_weights, None, None)

            def step(x, _):
                k1 = field(x)
                k2 = field(x + h / 2 * k1)
                k3 = field(x + h / 2 * k2)
                k4 = field(x + h * k3)
                return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

            return jax.lax.scan(step, tokens, length=20)[0]

        compiled = jax.jit(flow)
        tangent = jax.jit(lambda x, v: jax.jvp(runge_kutta, (x,), (v,))[1])(cloud, noise)
        base = np.asarray(compiled(cloud))
        ratios = [
            stability_ratio(base, np.asarray(compiled(cloud + size * noise)))[1]
            for size in (0.1, 0.0125, 1e-5)
        ]
    limit = np.linalg.norm(tangent) / np.linalg.norm(noise)
    np.testing.assert_allclose(ratios[2], limit, rtol=1e-4)
    # The sizes of the documentation: 1.1 for another cloud, to the spread between clouds.
    assert all(abs(ratio - 1.1) < 0.2 for ratio in ratios)


def test_stability_ratio_of_exact_flows():
    """A cloud scaled by e^t spreads any difference by e^t; W_2 does not know the order of tokens.

    With positions only tokens of one position may be coupled: the ratio of a permuted cloud grows
    from a larger start.
    """
    generator = np.random.default_rng(1)
    cloud, ts = generator.standard_normal((6, 2)), np.array([0.0, 0.5, 1.0])
    other = cloud + 0.1 * generator.standard_normal((6, 2))
    scale = np.exp(ts)[:, None, None]
    order = generator.permutation(6)
    ratio = stability_ratio(scale * cloud, scale * other[order])
    np.testing.assert_allclose(ratio, np.exp(ts))
    positions = np.repeat([0.0, 0.5, 1.0], 2)
    conditional = stability_ratio(scale * cloud, scale * other, positions=positions)
    np.testing.assert_allclose(conditional, np.exp(ts))
    apart = stability_ratio(scale * cloud, 2 * scale**2 * cloud, positions=np.arange(6.0))
    np.testing.assert_allclose(
        apart, np.linalg.norm((scale - 2 * scale**2) * cloud, axis=(1, 2)) / np.linalg.norm(cloud)
    )
