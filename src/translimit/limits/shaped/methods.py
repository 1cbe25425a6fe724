r"""Steps of the covariance SDE: the structure-preserving one, and Euler-Maruyama beside it.

Noise is drawn exactly from m x m Gaussian matrices, never through a covariance of m (m + 1) / 2
entries: with L L^T = V and G, G' of independent N(0, 1) entries, S = (G' + G'^T) / sqrt(2),

    dM = sigma L dS L^T + gamma^2 alpha beta / sqrt(H) (A_1 V + V A_1^T),
    A_1 = L G L^T C / (m tau0).

The structure-preserving step of size h is a layer of width 1 / h in law up to O(h^2): mix
V^ = lam^2 V + gamma^2 A V A^T, add the MLP's drift as a kernel, and multiply by a Wishart
matrix with 1 / (sigma^2 h) degrees of freedom. All of it acts on a factor L: V is positive
semi-definite by construction, may be singular, and log det V stays right at any horizon.

Without a causal mask the whole of a step happens in the coordinates of L. With K = L^T C L,
v = diag(V) and r = C diag(C V C), softmax expanded gives

    A L = L (alpha + sqrt(h / H) beta / (m tau0) G K) + h beta / (2 m tau0^2) v (L^T r)^T = L P,

so that V^ = L (lam^2 + gamma^2 P P^T) L^T: the matrix in brackets is well conditioned however thin
V is, and its Cholesky factor times L is the factor of V^. L^-1 v is all that P needs of an inverse.
Where that is large, or not there, a QR decomposition of the parts of V^ takes its place.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.attention import shaped_attention
from translimit.core import (
    FEW_ROWS,
    AbstractMethod,
    ArgumentError,
    ArgumentTypeError,
    brief,
    lower_factor,
    lower_product,
    normals,
    psd_sqrt,
    quick_lower_factor,
    semidefinite_cholesky,
    try_cholesky,
    where_allowed,
    wishart_factor,
)
from translimit.limits.shaped.block import Block, ShapedMLP
from translimit.limits.shaped.coefficients import (
    attention_noise,
    attention_parts,
    centre,
    drift_of,
    first_order_attention,
    linear_variance,
)

#: Steps of the default method are at most this, whatever the noise allows.
LARGEST_DEFAULT_STEP = 0.02


class AbstractCovarianceMethod(AbstractMethod):
    """How the covariance is carried and stepped; one path, `jax.vmap` gives the ensemble."""

    paths: eqx.AbstractVar[int]
    step: eqx.AbstractVar[float | None]
    adaptive: eqx.AbstractVar[float | None]
    growth_limit: eqx.AbstractVar[float]

    @abc.abstractmethod
    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """The state that carries this covariance."""

    @abc.abstractmethod
    def advance(self, block: Any, state: Array, h: Array, key: PRNGKeyArray) -> Array:
        """The state one step of size h later."""

    @abc.abstractmethod
    def trace(self, state: Array) -> Array:
        """The trace of the covariance."""

    @abc.abstractmethod
    def read(self, state: Array) -> tuple[Array, Array]:
        """The covariance [tokens, tokens] and its log det."""

    @abc.abstractmethod
    def largest_step(self, block: Any, tokens: int) -> float:
        """The largest step that this method admits for concrete parameters."""

    def step_of(self, block: Any, tokens: int) -> float:
        """The step that is used; a larger one than the method admits is refused.

        Raises:
            ArgumentError: a step above the bound, which the message states.
        """
        bound = self.largest_step(block, tokens)
        if self.step is None:
            return min(bound, LARGEST_DEFAULT_STEP)
        if self.step > bound:
            raise ArgumentError(
                "step",
                f"got {self.step:g} for {tokens} tokens",
                f"pass less: the largest admissible step is {bound:.4g} (1 / (4 sigma^2 tokens), "
                "or less)",
            )
        return self.step


class StructurePreserving(AbstractCovarianceMethod):
    """The structure-preserving step of weak order 1, in factor form.

    Cost: O(tokens^3) a step and path; about 4 sigma^2 tokens steps per unit of time at least.

    Attributes:
        paths: independent paths.
        step: largest step; by default 1 / (4 sigma^2 tokens), and at most 0.02. Steps are made
            shorter so that every save time is hit.
        bounded: softmax itself in place of its expansion: the step is then a network layer of
            width 1 / step, which can not overflow, and can not explode either. Without it
            (Taylor) paths can explode, as those of the SDE do.
        adaptive: tolerance of per-path steps h <= adaptive^2 / R(V), where R is the rate of the
            attention noise; for statistics of explosion take 0.1. None for equal steps.
        growth_limit: a path whose trace has grown by this factor has exploded. Near the threshold
            gamma^2 = heads / 2 paths return even from far out: at gamma^2 = 0.4 a limit of 1e4
            counts a fifth too many explosions.

    Raises:
        ArgumentError: numbers that are not positive, `adaptive` together with `bounded`.
        ArgumentTypeError: paths that is no integer.
    """

    paths: int = eqx.field(static=True, default=1000)
    step: float | None = eqx.field(static=True, default=None)
    bounded: bool = eqx.field(static=True, default=False)
    adaptive: float | None = eqx.field(static=True, default=None)
    growth_limit: float = 1e8
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_sizes(self)
        if self.adaptive is not None and self.bounded:
            raise ArgumentError(
                "adaptive",
                "is given with bounded=True",
                "leave it out: the bounded step needs none",
            )

    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """A lower-triangular factor."""
        return semidefinite_cholesky(cov)

    def advance(self, block: Any, state: Array, h: Array, key: PRNGKeyArray) -> Array:
        """Attention, MLP, then the Wishart factor of all linear noise."""
        mixing, wishart = jax.random.split(key)
        factor = state
        growth = 0.0
        mlp = block if isinstance(block, ShapedMLP) else block.mlp
        if isinstance(block, Block):
            factor = _after_attention(block, factor, h, mixing, self.bounded)
            growth = growth + block.kappa
        if mlp is not None:
            factor = quick_lower_factor(_mlp_stack(mlp, factor, h))
            growth = growth + mlp.kappa
        degrees = 1 / (linear_variance(block) * h)
        root = wishart_factor(wishart, degrees, factor.shape[0], factor.dtype)
        return lower_product(factor, root) * (jnp.exp(growth * h / 2) / jnp.sqrt(degrees))

    def trace(self, state: Array) -> Array:
        """The squared norm of the factor."""
        return jnp.sum(state**2)

    def read(self, state: Array) -> tuple[Array, Array]:
        """L L^T, and twice the sum of log L_ii."""
        return state @ state.T, 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(state))))

    def largest_step(self, block: Any, tokens: int) -> float:
        """1 / (4 sigma^2 tokens), where the relative noise of a step is of order one.

        An MLP asks for h (c_+ - c_-)^2 <= 1 besides.
        """
        bound = 1 / (4 * float(linear_variance(block)) * tokens)
        mlp = block if isinstance(block, ShapedMLP) else block.mlp
        if mlp is None or mlp.c_plus == mlp.c_minus:
            return bound
        return min(bound, 1 / (mlp.c_plus - mlp.c_minus) ** 2)


class EulerMaruyama(AbstractCovarianceMethod):
    """V + h b + sqrt(h) dM, symmetrised, negative eigenvalues clipped: the baseline.

    Clipping destroys directions, so that log det is wrong at coarse steps; kept as a cross-check.

    Attributes:
        paths: independent paths.
        step: largest step; 0.02 by default.
        growth_limit: a path whose trace has grown by this factor has exploded.

    Raises:
        ArgumentError: numbers that are not positive.
        ArgumentTypeError: paths that is no integer.
    """

    paths: int = eqx.field(static=True, default=1000)
    step: float | None = eqx.field(static=True, default=None)
    growth_limit: float = 1e8
    adaptive: float | None = eqx.field(static=True, default=None, init=False)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_sizes(self)

    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """The covariance itself."""
        return cov

    def advance(self, block: Any, state: Array, h: Array, key: PRNGKeyArray) -> Array:
        """One explicit step, projected on the cone."""
        moved = state + h * drift_of(block, state) + jnp.sqrt(h) * noise(block, state, key)
        values, basis = jnp.linalg.eigh((moved + moved.T) / 2)
        return (basis * jnp.maximum(values, 0.0)) @ basis.T

    def trace(self, state: Array) -> Array:
        """The trace."""
        return jnp.trace(state)

    def read(self, state: Array) -> tuple[Array, Array]:
        """The covariance and its log det, minus infinity where it was clipped."""
        values = jnp.linalg.eigvalsh(state)
        return state, jnp.sum(jnp.log(jnp.maximum(values, 0.0)))

    def largest_step(self, block: Any, tokens: int) -> float:
        """No bound: nothing keeps this method from steps that are too large."""
        return math.inf


def noise(
    block: Block | ShapedMLP, cov: Float[Array, "tokens tokens"], key: PRNGKeyArray
) -> Float[Array, "tokens tokens"]:
    """One draw of dM for a unit of time, with the covariation of `diffusion`."""
    first, second = jax.random.split(key)
    factor = psd_sqrt(cov)
    normal = jax.random.normal(first, cov.shape, cov.dtype)
    symmetric = (normal + normal.T) / jnp.sqrt(2.0)
    result = jnp.sqrt(linear_variance(block)) * factor @ symmetric @ factor.T
    if isinstance(block, ShapedMLP):
        return result
    logits = jax.random.normal(second, cov.shape, cov.dtype)
    turned = first_order_attention(block, factor, logits) @ cov
    return result + attention_noise(block) * (turned + turned.T)


def attention_rate(block: Block | ShapedMLP, factor: Float[Array, "tokens tokens"]) -> Array:
    """R(V), the rate at which the attention noise changes V relative to itself."""
    if isinstance(block, ShapedMLP):
        return jnp.zeros((), factor.dtype)
    inner = centre(factor.T).T  # C L
    spread = jnp.sum((inner.T @ inner) ** 2)
    return (attention_noise(block) / block.tau0) ** 2 * spread / factor.shape[0]


def require_sizes(method: Any) -> None:
    """The checks that both methods share."""
    if isinstance(method.paths, bool) or not isinstance(method.paths, (int, np.integer)):
        raise ArgumentTypeError("paths", f"got {brief(method.paths)}", "pass an integer")
    if method.paths < 1:
        raise ArgumentError("paths", f"got {method.paths}", "pass at least 1")
    for name in ("step", "adaptive", "growth_limit"):
        value = getattr(method, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ArgumentError(name, f"got {value}", "pass a positive number")


def _after_attention(block: Block, factor: Array, h: Array, key: Array, bounded: bool) -> Array:
    """A lower-triangular factor of V^ = lam^2 V + gamma^2 E_heads[A V A^T] + noise of A."""
    if bounded:
        return quick_lower_factor(_softmax_stack(block, factor, h, key))
    if block.causal:
        return quick_lower_factor(_causal_stack(block, factor, h, key))
    skip, mixing, tokens, source = _expanded_attention(block, factor, h, key)
    if factor.shape[0] <= FEW_ROWS:
        return lower_factor(_parts(factor, skip, mixing, tokens, source))
    solved, exists = _solve_lower(factor, tokens)
    mixing_of_all = mixing + jnp.outer(solved, source)
    inner = mixing_of_all @ mixing_of_all.T + skip**2 * jnp.eye(len(factor), dtype=factor.dtype)
    allowed, root = try_cholesky(inner)
    quick = lower_product(factor, root)
    return where_allowed(
        allowed & exists,
        quick,
        lambda *parts: lower_factor(_parts(*parts)),
        factor,
        skip,
        mixing,
        tokens,
        source,
    )


def _expanded_attention(
    block: Block, factor: Array, h: Array, key: Array
) -> tuple[Array, Array, Array, Array]:
    """V^ = (skip L)(skip L)^T + (L mixing + tokens source^T)(...)^T, up to second order in softmax.

    The noise is computed in float32, like the normals that it is made of; K is that of the centred
    factor, which loses nothing where tokens are nearly equal.
    """
    gains, size, dtype = block.gains, factor.shape[0], factor.dtype
    centred = centre(factor.T).T  # C L
    largest = jnp.max(jnp.abs(centred))
    unit = (centred / jnp.where(largest > 0, largest, 1.0)).astype(jnp.float32)
    kernel = _product32(unit.T, unit)  # K / largest^2
    noise = _product32(normals(key, factor.shape), kernel).astype(dtype)
    strength = largest**2 / (size * block.tau0)
    mixing = (block.gamma * gains.attention * jnp.sqrt(h / block.heads) * strength) * noise
    mixing = mixing + block.gamma * gains.identity * jnp.eye(size, dtype=dtype)
    own = jnp.sum(centred**2, axis=1)
    source = (block.gamma * gains.attention * h) * ((own - jnp.mean(own)) @ factor)
    tokens = jnp.sum(factor**2, axis=1) / (2 * size * block.tau0**2)
    # One draw stands for the mean of H heads: its noise is right, and what it lacks of
    # E[A_1 V A_1^T], a multiple of V, is added to the skip connection.
    lacking = h * (1 - 1 / block.heads) * (block.gamma * gains.attention * strength) ** 2
    skip = jnp.sqrt(block.lam**2 + lacking * jnp.sum(kernel.astype(dtype) ** 2))
    return skip, mixing, tokens, source


def _parts(factor: Array, skip: Array, mixing: Array, tokens: Array, source: Array) -> Array:
    """The two parts of V^ side by side."""
    branch = factor @ mixing + jnp.outer(tokens, source)
    return jnp.concatenate([skip * factor, branch], axis=1)


def _solve_lower(factor: Array, tokens: Array) -> tuple[Array, Array]:
    """L^-1 v, and whether v is in the range of L where a pivot of L is zero."""
    pivots = jnp.diagonal(factor)
    filled = factor + jnp.diag(jnp.where(pivots == 0, 1.0, 0.0).astype(factor.dtype))
    solved = jax.lax.linalg.triangular_solve(filled, tokens[:, None], left_side=True, lower=True)
    solved = solved[:, 0]
    # What is left of a token that repeats others must be rounding.
    rounding = 64 * jnp.finfo(factor.dtype).eps * jnp.max(tokens)
    return solved, jnp.all((pivots != 0) | (jnp.abs(solved) <= rounding))


def _product32(left: Array, right: Array) -> Array:
    """A product in float32, on every device."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _softmax_stack(block: Block, factor: Array, h: Array, key: Array) -> Array:
    """Parts of V^ side by side, with softmax itself and every head drawn."""
    normal = normals(key, (block.heads, *factor.shape)).astype(factor.dtype)
    logits = jnp.sqrt(h) / block.tau0 * (factor @ normal @ factor.T)
    heads = shaped_attention(logits, block.gains, block.causal) @ factor
    parts = block.gamma / block.heads**0.5 * heads
    return jnp.concatenate([block.lam * factor, *parts], axis=1)


def _causal_stack(block: Block, factor: Array, h: Array, key: Array) -> Array:
    """Parts of V^ side by side, with every row centred over the tokens that it sees."""
    gains, size, dtype = block.gains, factor.shape[0], factor.dtype
    second, mean = attention_parts(block, factor @ factor.T)
    first = first_order_attention(block, factor, normals(key, factor.shape).astype(dtype))
    matrix = gains.identity * jnp.eye(size, dtype=dtype) + gains.attention * (
        jnp.sqrt(h / block.heads) * first + h * mean
    )
    parts = [block.lam * factor, block.gamma * matrix @ factor]
    if block.heads > 1:
        # What one draw lacks of the mean of H heads, no multiple of V here.
        lacking = h * (1 - 1 / block.heads) * (block.gamma * gains.attention) ** 2
        parts.append(jnp.sqrt(lacking) * semidefinite_cholesky(second))
    return jnp.concatenate(parts, axis=1)


def _mlp_stack(mlp: ShapedMLP, factor: Array, h: Array) -> Array:
    r"""Parts of lam^2 V + gamma^2 K_h(V), with K_h = V + h b / gamma^2 exactly.

    The kernel of the shaped ReLU of width 1 / h differs from this by O(h^(3/2)) unless c_+ + c_- =
    0, which would make the scheme of weak order 1/2 only. Positivity: sqrt(1 - rho^2) - rho
    arccos(rho) = e(rho) - pi rho / 2 with e = sqrt(1 - rho^2) + rho arcsin(rho), a power series in
    rho^2 with positive coefficients, so that p_a p_b e(rho_ab) is positive semi-definite, and so
    is what is left of V.
    """
    share = h * (mlp.c_plus - mlp.c_minus) ** 2 / (2 * jnp.pi)
    growth = 0.0 if mlp.normalised else h * (mlp.c_plus**2 + mlp.c_minus**2) / 2
    norms = jnp.sqrt(jnp.sum(factor**2, axis=1))
    unit = factor / norms[:, None]
    rho = jnp.clip(unit @ unit.T, -1.0, 1.0)
    even = jnp.sqrt(1 - rho**2) + rho * jnp.arcsin(rho)
    root = norms[:, None] * semidefinite_cholesky(even)
    linear = mlp.lam**2 + mlp.gamma**2 * (1 + growth - share * jnp.pi / 2)
    return jnp.concatenate([jnp.sqrt(linear) * factor, mlp.gamma * jnp.sqrt(share) * root], axis=1)
