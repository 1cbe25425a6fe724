"""Edge and best rate of a language model beside finite networks, which share no code with them.

Networks are trained by automatic differentiation; their tangent kernel is that of all parameters.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft.language import LM12, LM12_NEXT, lm12
from tests.limits.dmft.network_with_autodiff import Net

from translimit.limits.dmft import CausalSampling, TrainingDynamics, best_rate, edge

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)
IDS, NEXT = jnp.asarray(LM12), jnp.asarray(LM12_NEXT)
ETA0, LATER, STEPS, SEEDS = 0.5, 4, 8, 240
METHOD = CausalSampling(heads=600, populations=4, heads_kept=1)


def problem() -> TrainingDynamics:
    return lm12(eta0=ETA0, head_dim=2, steps=STEPS)


def net(heads: int) -> Net:
    return Net(N=2, H=heads, vocabulary=4, mlp=False)


@partial(jax.jit, static_argnames=("heads", "seeds"))
def curvature(key: Any, heads: int, seeds: int) -> Any:
    """(w J)^(1/2) K (w J)^(1/2) [seeds, 2, 48, 48] before training and after some updates."""
    own = net(heads)

    def loss(params: Any) -> Any:
        logs = jax.nn.log_softmax(own.outputs(params, IDS))
        return -jnp.take_along_axis(logs, NEXT[..., None], axis=-1).mean()

    def bent_kernel(params: Any) -> Any:
        rates = own.rates(params, 1.0)
        flat = jax.jacrev(lambda params: own.outputs(params, IDS).reshape(-1))(params)
        jacobians = [
            rates[name] ** 0.5 * slopes.reshape(len(slopes), -1) for name, slopes in flat.items()
        ]
        p = jax.nn.softmax(own.outputs(params, IDS)).reshape(-1, 4)
        bent = (jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]) / len(p)
        values, basis = jnp.linalg.eigh(bent)
        root = (basis * jnp.sqrt(jnp.maximum(values, 0))[:, None]) @ basis.swapaxes(1, 2)
        whole = jax.scipy.linalg.block_diag(*root)
        J = whole @ jnp.concatenate(jacobians, axis=1)
        return J @ J.T

    def one(key: Any) -> Any:
        params = own.start(key, IDS.shape[1])
        rates, before = own.rates(params, ETA0), bent_kernel(params)

        def step(params: Any, _: Any) -> Any:
            slopes = jax.grad(loss)(params)
            return {name: x - rates[name] * slopes[name] for name, x in params.items()}, None

        params, _ = jax.lax.scan(step, params, None, length=LATER)
        return jnp.stack([before, bent_kernel(params)])

    return jax.lax.map(one, jax.random.split(key, seeds))


def test_sharpness_of_four_words_is_that_of_networks() -> None:
    """At the start and after four updates; a factor of 1.1 is seen."""
    # Largest eigenvalues of single networks lie higher by more than O(1 / H).
    small, large = (np.asarray(curvature(jax.random.key(H), H, SEEDS), float) for H in (32, 64))
    _, vectors = np.linalg.eigh(2 * large.mean(axis=0) - small.mean(axis=0))
    along = vectors[..., -1]
    small, large = (np.einsum("ti,stij,tj->st", along, own, along) for own in (small, large))
    expected = 2 * large.mean(axis=0) - small.mean(axis=0)
    spread = np.hypot(2 * large.std(axis=0, ddof=1), small.std(axis=0, ddof=1)) / SEEDS**0.5
    found = edge(problem(), METHOD, times=(0, LATER), key=KEY)
    error = np.hypot(spread, found.stderr)
    assert np.all(error < 0.03 * expected)
    assert np.all(np.abs(found.sharpness - expected) < 3 * error)
    for factor in (1.1, 1 / 1.1):
        assert np.all(np.abs(factor * found.sharpness - expected) > 3 * error)
    # Sharpness moves, by more than any of the errors.
    assert abs(expected[1] / expected[0] - 1) > 0.1


def lowest(rates: np.ndarray, losses: np.ndarray) -> float:
    """log10 of the first minimum, a parabola between points of the grid."""
    place = next(i for i in range(1, len(rates) - 1) if losses[i] < losses[i + 1])
    around = slice(place - 1, place + 2)
    bend, slope, _ = np.polyfit(np.log10(rates[around]), np.log(losses[around]), 2)
    return -slope / (2 * bend)


def test_the_best_rate_of_four_words_is_that_of_networks() -> None:
    """The start's edge of stability, and half and twice the rate, are not."""
    rates = np.geomspace(0.5, 6.0, 10)
    found = best_rate(problem(), method=METHOD, rates=rates, key=KEY)
    losses = []
    for rate in rates:
        f = net(64).train(KEY, IDS, NEXT, eta0=float(rate), steps=STEPS, seeds=20)[:, -1]
        own = jnp.take_along_axis(jax.nn.log_softmax(f), NEXT[None, ..., None], axis=-1)
        losses.append(float(jnp.nan_to_num(-own.mean(), nan=math.inf)))
    swept = lowest(rates, np.array(losses))
    assert abs(math.log10(found.rate) - swept) < 0.1
    for wrong in (found.edge, 2 * found.rate, found.rate / 2):
        assert abs(math.log10(wrong) - swept) > 0.2
