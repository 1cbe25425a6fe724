"""The canonical parameters, and the ensembles of clouds and closures that experiments share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import attention, core, limits, models
from translimit.core import Estimate

if TYPE_CHECKING:
    import xarray
    from jaxtyping import Array

    from translimit.core import AnyArray, Key
    from translimit.figures import Table


# The canonical set of the documentation: c = c_K = 1.
Q = np.array([[0.7, 0.2], [-0.3, 0.5]])
K = np.array([[0.4, -0.3], [0.2, 0.8]])
V = np.array([[0.9, 0.3], [-0.4, 0.6]])
MEAN = np.array([0.5, -0.3])
COV = np.array([[0.8, 0.2], [0.2, 0.5]])

#: The depth at which the softmax closure of these parameters blows up.
BLOW_UP = 3.93
#: Variants with an exact Gaussian closure.
CLOSED = ("softmax", "multi-head", "l2", "sinkhorn", "linear")
VARIANTS = (*CLOSED, "sigmoid")


def canonical_attention(
    variant: str, sharpness: float = 1.0, *, swapped: bool = False, causal: bool = False
) -> attention.AbstractAttention:
    """The canonical attention of a variant.

    The second head of the multi-head variant swaps Q and K; both have half the weight.

    Args:
        variant: one of `VARIANTS`.
        sharpness: multiplies Q and K.
        swapped: whether Q and K change places: a rival of all that is claimed.
        causal: the causal form, of softmax, L2 and sigmoid.

    Raises:
        ConfigError: an unknown variant.
    """
    query, key = sharpness * Q, sharpness * K
    if swapped:
        query, key = key, query
    if variant == "softmax":
        return attention.Softmax(Q=query, K=key, V=V, causal=causal)
    if variant == "multi-head":
        return attention.MultiHead(
            Q=np.stack([query, key]),
            K=np.stack([key, query]),
            V=np.stack([V, V.T]),
            W=0.5 * np.stack([np.eye(2), np.eye(2)]),
        )
    if variant == "l2":
        return attention.L2(Q=query, K=key, V=V, causal=causal)
    if variant == "sinkhorn":
        return attention.Sinkhorn(Q=query, K=key, V=V)
    if variant == "linear":
        return attention.Linear(Q=query, K=key, V=V)
    if variant == "sigmoid":
        return attention.Sigmoid(Q=query, K=key, V=V, causal=causal)
    raise core.ConfigError("variants", f"got {variant!r}", core.nearest(variant, VARIANTS))


def gaussian_clouds(
    key: Key, clouds: int, tokens: int, dtype: type[np.floating] = np.float32
) -> Float[np.ndarray, "clouds tokens 2"]:
    """Independent clouds of the canonical Gaussian [clouds, tokens, 2]."""
    import jax

    with jax.enable_x64(True):
        noise = np.asarray(jax.random.normal(key, (clouds, tokens, 2), dtype=dtype))
    return (MEAN + noise @ np.linalg.cholesky(COV).T).astype(dtype)


@functools.cache
def flow_clouds(
    t1: float, steps: int, variant: str = "softmax", sharpness: float = 1.0
) -> Callable[[np.ndarray], Array]:
    """Compiled: clouds [clouds, n, 2] to their tokens at t1, in the precision of the clouds."""
    import jax

    def flow(cloud: Array) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(
            attention=canonical_attention(variant, sharpness), initial=cloud, t1=t1
        )
        method = limits.meanfield.FixedODE(steps=steps)
        return core.solve(problem, method, save=[t1]).tokens[-1]

    def batched(clouds: Array) -> Array:
        return jax.lax.map(flow, clouds, batch_size=batch_size(*clouds.shape[:2]))

    return jax.jit(batched)


@functools.cache
def closures(
    t1: float, variant: str = "softmax", sharpness: float = 1.0, swapped: bool = False
) -> Callable[[np.ndarray, np.ndarray], tuple[Array, Array]]:
    """Compiled: means [clouds, 2] and covariances [clouds, 2, 2] to the closure's at t1."""
    import jax

    problem = limits.meanfield.GaussianFlow if variant in CLOSED else limits.meanfield.MomentClosure

    def closure(mean: Array, cov: Array) -> tuple[AnyArray, AnyArray]:
        chosen = canonical_attention(variant, sharpness, swapped=swapped)
        flow = problem(attention=chosen, mean=mean, cov=cov, t1=t1)
        solution = core.solve(flow, limits.meanfield.FixedODE(steps=64), save=[t1])
        return solution.mean[-1], solution.cov[-1]

    return jax.jit(jax.vmap(closure))


def batch_size(clouds: int, tokens: int) -> int:
    """Clouds that are computed together: about 2^20 pairs of tokens, which stay in cache."""
    return max(1, min(clouds, 2**20 // tokens**2))


def depth_errors(
    key: Key, layers: tuple[int, ...], tokens: int, clouds: int, variant: str = "softmax"
) -> Float[np.ndarray, "layers clouds"]:
    """Rms distance of networks of L layers to the flow at t = 1, for each L and cloud.

    Clouds are uniform on [-1, 1]^2, in float64; the same clouds at every L.

    Returns:
        Errors [layers, clouds].
    """
    import jax

    with jax.enable_x64(True):
        shape = (clouds, tokens, 2)
        initial = jax.random.uniform(key, shape, dtype=np.float64, minval=-1.0, maxval=1.0)
        initial = np.asarray(initial)
    softened = canonical_attention(variant)
    errors = np.zeros((len(layers), clouds))
    for index, cloud in enumerate(initial):
        flow = limits.meanfield.ParticleFlow(attention=softened, initial=cloud, t1=1.0)
        exact = limits.meanfield.AdaptiveODE(rtol=1e-10, atol=1e-12)
        limit = core.solve(flow, exact, save=[1.0]).tokens[-1]
        for row, count in enumerate(layers):
            network = models.ResidualAttention(softened, count).simulate(cloud).tokens[-1]
            errors[row, index] = np.sqrt(np.mean(np.sum((network - limit) ** 2, axis=-1)))
    return errors


def quadrature(
    mean: np.ndarray, factor: Float[np.ndarray, "dim rank"], order: int
) -> tuple[Float[np.ndarray, "nodes dim"], Float[np.ndarray, " nodes"]]:
    """Nodes and weights of N(mean, factor factor^T), exact for polynomials of high degree.

    Args:
        mean: of the Gaussian [dim].
        factor: of its covariance.
        order: nodes per column of the factor.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(order)
    rank = factor.shape[1]
    grid = np.stack(np.meshgrid(*[nodes] * rank), axis=-1).reshape(-1, rank)
    weights = np.prod(np.stack(np.meshgrid(*[masses / masses.sum()] * rank), -1), axis=-1)
    return mean + grid @ factor.T, weights.reshape(-1)


def paired(
    measured: Float[np.ndarray, " samples"],
    predicted: Float[np.ndarray, " samples"],
    discretisation: float = 0.0,
) -> Estimate:
    """The mean of what was measured, with the error of its difference to a prediction.

    Args:
        measured: in every sample.
        predicted: for the same samples.
        discretisation: of what was measured.
    """
    stderr = Estimate.from_samples(measured - predicted).stderr
    return Estimate(float(measured.mean()), stderr, len(measured), discretisation)


def symbol(moment: str) -> str:
    r"""A moment as mathematics: `\Sigma_{11}` for Sigma_11."""
    name, _, indices = moment.partition("_")
    return f"\\{name}_{{{indices}}}"


def curves(
    table: Table, x: str, y: str, stderr: str, *, xlabel: str
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """Two columns of a table over another, as `figures.plot_convergence` takes them.

    Args:
        table: the rows.
        x: column of the sizes.
        y: column of the errors.
        stderr: column of their standard errors.
        xlabel: what the sizes are.
    """
    import xarray

    coords = {x: (x, table.numbers(x), {"long_name": xlabel})}
    error, bars = (xarray.DataArray(table.numbers(one), coords, (x,)) for one in (y, stderr))
    return error, bars
