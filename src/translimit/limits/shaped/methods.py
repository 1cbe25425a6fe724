r"""Steps of the covariance SDE: the structure-preserving one, and Euler-Maruyama beside it.

Noise is drawn exactly from m x m Gaussian matrices, never through a covariance of m (m + 1) / 2
entries: with L L^T = V and G, G' of independent N(0, 1) entries, S = (G' + G'^T) / sqrt(2),

    dM = sigma L dS L^T + gamma^2 alpha beta / sqrt(H) (A_1 V + V A_1^T),
    A_1 = L G L^T C / (m tau0).

The structure-preserving step of size h is a layer of width 1 / h in law up to O(h^2): mix
V^ = lam^2 V + gamma^2 A V A^T, add the MLP's drift as a kernel, and multiply by a Wishart
matrix with 1 / (sigma^2 h) degrees of freedom. All of it acts on a factor L: V is positive
semi-definite by construction, may be singular, and log det V stays right at any horizon.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    ArgumentError,
    lower_product,
    require_count,
    require_real,
    semidefinite_cholesky,
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
from translimit.limits.shaped.mixing import after_attention, after_mlp
from translimit.limits.shaped.noise import StepNoise, normal_noise, wishart_noise

#: Steps that are not given are at most this, whatever the noise allows.
LARGEST_DEFAULT_STEP = 0.02


class AbstractCovarianceMethod(AbstractMethod):
    """How the covariance is carried and stepped; one path, `jax.vmap` gives the ensemble."""

    paths: eqx.AbstractVar[int]
    max_step: eqx.AbstractVar[float | None]
    adaptive: eqx.AbstractVar[float | None]
    growth_limit: eqx.AbstractVar[float]

    @property
    def saturates(self) -> bool:
        """Whether the attention of a step is bounded however large its scores are."""
        return False

    @abc.abstractmethod
    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """The state that carries this covariance."""

    @abc.abstractmethod
    def noise(
        self, block: Block | ShapedMLP, state: Array, h: Array, key: PRNGKeyArray
    ) -> StepNoise:
        """What a step of size h draws."""

    @abc.abstractmethod
    def degrees(self, block: Block | ShapedMLP, h: Array) -> Array | None:
        """Degrees of freedom of the Wishart matrix of a step of size h; None without one."""

    @abc.abstractmethod
    def advance(self, block: Block | ShapedMLP, state: Array, h: Array, noise: StepNoise) -> Array:
        """The state one step of size h later."""

    @abc.abstractmethod
    def trace(self, state: Array) -> Array:
        """The trace of the covariance."""

    @abc.abstractmethod
    def read(self, state: Array) -> tuple[Array, Array]:
        """The covariance [tokens, tokens] and its log det."""

    @abc.abstractmethod
    def largest_step(self, block: Block | ShapedMLP, tokens: int) -> float:
        """The largest step that this method admits for concrete parameters."""

    def first_max_step(self, block: Block | ShapedMLP, tokens: int) -> float:
        """The largest step that is given, or the first that is tried; one too large is refused.

        Raises:
            ArgumentError: a step above the bound, which the message states.
        """
        bound = self.largest_step(block, tokens)
        if self.max_step is None:
            return min(bound, LARGEST_DEFAULT_STEP)
        if self.max_step > bound:
            raise ArgumentError(
                "max_step",
                f"got {self.max_step:g} for {tokens} tokens",
                f"pass less: the largest admissible step is {bound:.4g} (1 / (4 sigma^2 tokens), "
                "or less)",
            )
        return self.max_step


class StructurePreserving(AbstractCovarianceMethod):
    """The structure-preserving step of weak order 1, in factor form.

    Cost: O(tokens^3) a step and path; about 4 sigma^2 tokens steps per unit of time at least.

    Attributes:
        paths: independent paths.
        max_step: largest step. By default 1 / (4 sigma^2 tokens), and at most 0.02, is halved until
            the error of the steps is below the sampling error of the paths. Steps are made shorter
            so that every save time is hit.
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
    max_step: float | None = eqx.field(static=True, default=None)
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

    @property
    def saturates(self) -> bool:
        """With `bounded`."""
        return self.bounded

    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """A lower-triangular factor."""
        return semidefinite_cholesky(cov)

    def noise(
        self, block: Block | ShapedMLP, state: Array, h: Array, key: PRNGKeyArray
    ) -> StepNoise:
        """Scores of one head, or with `bounded` of all of them, and a Bartlett factor."""
        heads = (block.heads,) if isinstance(block, Block) and self.bounded else ()
        scores = (*heads, *state.shape) if isinstance(block, Block) else (0,)
        return wishart_noise(scores, self.degrees(block, h), len(state), key, state.dtype)

    def degrees(self, block: Block | ShapedMLP, h: Array) -> Array:
        """1 / (sigma^2 h)."""
        return 1 / (linear_variance(block) * h)

    def advance(self, block: Block | ShapedMLP, state: Array, h: Array, noise: StepNoise) -> Array:
        """Attention, MLP, then the Wishart factor of all linear noise."""
        factor = state
        growth = 0.0
        mlp = block if isinstance(block, ShapedMLP) else block.mlp
        if isinstance(block, Block):
            factor = after_attention(block, factor, h, noise.scores, self.bounded)
            growth = growth + block.growth_rate
        if mlp is not None:
            factor = after_mlp(mlp, factor, h)
            growth = growth + mlp.growth_rate
        scale = jnp.exp(growth * h / 2) / jnp.sqrt(self.degrees(block, h))
        return lower_product(factor, noise.linear) * scale

    def trace(self, state: Array) -> Array:
        """The squared norm of the factor."""
        return jnp.sum(state**2)

    def read(self, state: Array) -> tuple[Array, Array]:
        """L L^T, and twice the sum of log L_ii."""
        return state @ state.T, 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(state))))

    def largest_step(self, block: Block | ShapedMLP, tokens: int) -> float:
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
        max_step: largest step; by default 0.02 is halved as for `StructurePreserving`.
        growth_limit: a path whose trace has grown by this factor has exploded.

    Raises:
        ArgumentError: numbers that are not positive.
        ArgumentTypeError: paths that is no integer.
    """

    paths: int = eqx.field(static=True, default=1000)
    max_step: float | None = eqx.field(static=True, default=None)
    growth_limit: float = 1e8
    adaptive: float | None = eqx.field(static=True, default=None, init=False)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_sizes(self)

    def start(self, cov: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
        """A factor with orthogonal columns, which one decomposition a step gives."""
        return _clipped_root(cov)

    def noise(
        self, block: Block | ShapedMLP, state: Array, h: Array, key: PRNGKeyArray
    ) -> StepNoise:
        """Two normal matrices."""
        return normal_noise(len(state), key, state.dtype)

    def degrees(self, block: Block | ShapedMLP, h: Array) -> None:
        """There is no Wishart matrix."""

    def advance(self, block: Block | ShapedMLP, state: Array, h: Array, noise: StepNoise) -> Array:
        """One explicit step, projected on the cone."""
        cov = state @ state.T
        moved = cov + h * drift_of(block, cov) + jnp.sqrt(h) * _change(block, state, noise)
        return _clipped_root(moved)

    def trace(self, state: Array) -> Array:
        """The squared norm of the factor."""
        return jnp.sum(state**2)

    def read(self, state: Array) -> tuple[Array, Array]:
        """The covariance and its log det, minus infinity where it was clipped."""
        return state @ state.T, jnp.sum(jnp.log(jnp.sum(state**2, axis=0)))

    def largest_step(self, block: Block | ShapedMLP, tokens: int) -> float:
        """No bound: nothing keeps this method from steps that are too large."""
        return math.inf


def _clipped_root(cov: Array) -> Array:
    """F with F F^T = cov, its negative eigenvalues set to zero, and orthogonal columns."""
    values, basis = jnp.linalg.eigh((cov + cov.T) / 2)
    return basis * jnp.sqrt(jnp.maximum(values, 0.0))


def _change(block: Block | ShapedMLP, factor: Array, noise: StepNoise) -> Array:
    """One draw of dM for a unit of time, with the covariation of `diffusion`."""
    symmetric = (noise.linear + noise.linear.T) / jnp.sqrt(2.0)
    result = jnp.sqrt(linear_variance(block)) * factor @ symmetric @ factor.T
    if isinstance(block, ShapedMLP):
        return result
    turned = first_order_attention(block, factor, noise.scores) @ factor @ factor.T
    return result + attention_noise(block) * (turned + turned.T)


def attention_rate(block: Block | ShapedMLP, factor: Float[Array, "tokens tokens"]) -> Array:
    """R(V), the rate at which the attention noise changes V relative to itself."""
    if isinstance(block, ShapedMLP):
        return jnp.zeros((), factor.dtype)
    inner = centre(factor.T).T  # C L
    spread = jnp.sum((inner.T @ inner) ** 2)
    return (attention_noise(block) / block.tau0) ** 2 * spread / factor.shape[0]


@jax.jit
def change_rate(block: Block | ShapedMLP, cov: Float[Array, "tokens tokens"]) -> Array:
    """The rate at which attention changes V relative to itself: of the noise, or of the drift."""
    if isinstance(block, ShapedMLP):
        return jnp.zeros((), cov.dtype)
    gains = block.shaped_gains
    second, mean = attention_parts(block, cov)
    turned = mean @ cov
    second = gains.attention**2 * second
    drift = second + gains.identity * gains.attention * (turned + turned.T)
    largest = jnp.max(jnp.abs(cov))
    drift_rate = block.gamma**2 * jnp.max(jnp.abs(drift)) / jnp.where(largest > 0, largest, 1.0)
    spread = jnp.sum(centre(centre(cov).T) ** 2)
    noise_rate = (attention_noise(block) / block.tau0) ** 2 * spread / cov.shape[0]
    return jnp.maximum(drift_rate, noise_rate)


def require_sizes(method: AbstractCovarianceMethod) -> None:
    """The checks that both methods share."""
    require_count(method.paths, "paths")
    for name in ("max_step", "adaptive", "growth_limit"):
        value = getattr(method, name)
        if value is not None:
            require_real(value, name, POSITIVE)
