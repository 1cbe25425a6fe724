r"""Drift and diffusion of the covariance, each held against the formula it comes from.

With C = I - 1 1^T / m, W = C V C, r = C diag(W), v = diag(V), and E over one layer's scores,

    E[A_1 V A_1^T] = ||W||^2 V / (m tau0)^2,      E[A_2] = v r^T / (2 m tau0^2),
    b = gamma^2 (beta^2 E[A_1 V A_1^T] + alpha beta (E[A_2] V + V E[A_2]^T)) + kappa V,
    Sigma_ab,cd = sigma^2 (V_ac V_bd + V_ad V_bc) + gamma^4 alpha^2 beta^2 / (H tau0^2) A_ab,cd.

The drift knows nothing of heads, head dimension and projection; the attention part of the
diffusion is divided by the number of heads. Under a causal mask every row is centred over the
tokens that it sees.

Reference: Noci et al., arXiv 2306.17759, in the closed form derived in the documentation,
"The shaped Transformer".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    NoSuchLimitError,
    as_float64,
    in_float64,
    is_traced,
    require_covariance,
)
from translimit.limits.shaped.block import Block, ShapedMLP, require_limit
from translimit.limits.shaped.units import finite, in_unit, unit_of_covariance


def covariance_drift(block: Block | ShapedMLP, cov: ArrayInput) -> Float[AnyArray, "tokens tokens"]:
    """Drift b(V) of the covariance, per unit of layers / dim.

    Args:
        block: attention block, full block, or MLP block alone.
        cov: V [tokens, tokens], positive semi-definite.

    Raises:
        ArgumentError: not a covariance; a token of norm zero where there is an MLP; a result beyond
            float64.
        NoSuchLimitError: the block has no covariance SDE.

    Examples:
        >>> import numpy as np
        >>> from translimit.limits.shaped import Block, covariance_drift
        >>> print(covariance_drift(Block(gamma=1.0, tau0=1.0), np.eye(5))[0, 0].round(12))
        0.16
    """
    here = require_tokens_cov(block, cov)
    unit = unit_of_covariance(block, here, "cov")
    with np.errstate(over="ignore", invalid="ignore"):  # refused in the next line
        return finite(
            in_float64(_covariance_drift, in_unit(block, unit), here / unit) * unit, "cov"
        )


def diffusion(
    block: Block | ShapedMLP, cov: ArrayInput
) -> Float[AnyArray, "tokens tokens tokens tokens"]:
    """Covariation d<V_ab, V_cd> / dt as a full tensor: for tests and few tokens.

    Entries off the diagonal are entries like all others: no factor 2. The solver never forms this
    tensor.

    Args:
        block: attention block, full block, or MLP block alone.
        cov: V [tokens, tokens], positive semi-definite.

    Raises:
        ArgumentError: not a covariance; a token of norm zero where there is an MLP; a result beyond
            float64.
        NoSuchLimitError: the block has no covariance SDE.
    """
    here = require_tokens_cov(block, cov)
    unit = unit_of_covariance(block, here, "cov")
    with np.errstate(over="ignore", invalid="ignore"):
        found = in_float64(_diffusion, in_unit(block, unit), here / unit)
        return finite(found * unit * unit, "cov")


def log_det_drift(block: Block | ShapedMLP, cov: ArrayInput) -> Float[AnyArray, ""]:
    """Ito drift of log det V.

    Args:
        block: attention block, full block, or MLP block alone.
        cov: V [tokens, tokens], positive definite.

    Raises:
        ArgumentError: not a covariance, a singular one, or a result beyond float64.
        NoSuchLimitError: the block has no covariance SDE.
    """
    here = require_tokens_cov(block, cov)
    if not is_traced(here) and np.linalg.matrix_rank(here, hermitian=True) < len(here):
        raise ArgumentError("cov", "is singular", "pass a positive definite covariance")
    unit = unit_of_covariance(block, here, "cov")
    return finite(in_float64(_log_det_drift, in_unit(block, unit), here / unit), "cov")


def correlation_drift(
    block: Block | ShapedMLP, cov: ArrayInput, pair: tuple[int, int] = (0, 1)
) -> Float[AnyArray, ""]:
    """Ito drift of the correlation V_ij / sqrt(V_ii V_jj) of a pair of tokens.

    Args:
        block: attention block, full block, or MLP block alone.
        cov: V [tokens, tokens]; both tokens of positive norm.
        pair: the two tokens.

    Raises:
        ArgumentError: not a covariance, a token out of range or of norm zero, or a result beyond
            float64.
        NoSuchLimitError: the block has no covariance SDE.
    """
    here = require_tokens_cov(block, cov)
    if not all(0 <= index < here.shape[0] for index in pair) or pair[0] == pair[1]:
        raise ArgumentError(
            "pair", f"got {pair}", f"pass two different tokens from 0 to {here.shape[0] - 1}"
        )
    if not is_traced(here) and min(here[i, i] for i in pair) <= 0:
        raise ArgumentError(
            "cov", "a token of the pair has norm zero", "pass a pair of positive norm"
        )
    unit = unit_of_covariance(block, here, "cov")
    found = in_float64(_correlation_drift, in_unit(block, unit), here / unit, np.asarray(pair))
    return finite(found, "cov")


def linear_variance(block: Block | ShapedMLP) -> float | Float[Array, ""]:
    """sigma^2, the part of the noise that is linear in V, summed over the parts of the block."""
    if isinstance(block, ShapedMLP):
        mixed = 2 * (block.lam * block.gamma) ** 2
        return mixed + block.gamma**4 * (1 + 1 / block.hidden_ratio)
    branch = (block.shaped_gains.identity * block.gamma) ** 2
    theta = 1 + 1 / block.value_ratio if block.projection else 1.0
    own = 2 * block.lam**2 * branch + theta * branch**2
    return own if block.mlp is None else own + linear_variance(block.mlp)


def require_tokens_cov(
    block: Block | ShapedMLP, cov: ArrayInput, name: str = "cov"
) -> Float[AnyArray, "tokens tokens"]:
    """A covariance that this block can take, and a block that has a limit.

    Raises:
        ArgumentError: not symmetric positive semi-definite, or with a token of norm zero where an
            MLP needs its correlations.
        NoSuchLimitError: the block has no covariance SDE.
    """
    require_limit(block)
    checked = require_covariance(as_float64(cov, name), name)
    has_mlp = isinstance(block, ShapedMLP) or block.mlp is not None
    if has_mlp and not is_traced(checked) and np.min(np.diagonal(checked)) <= 0:
        raise ArgumentError(
            name, "a token has norm zero", "pass tokens of positive norm, as an MLP needs"
        )
    return checked


def attention_parts(
    block: Block, cov: Float[Array, "tokens tokens"]
) -> tuple[Float[Array, "tokens tokens"], Float[Array, "tokens tokens"]]:
    """E[A_1 V A_1^T] and E[A_2] of one head, per unit of time."""
    tokens = cov.shape[0]
    if block.causal:
        return _causal_parts(cov, block.tau0)
    centred = centre(centre(cov).T)
    spread = jnp.diagonal(centred)
    spread = spread - jnp.mean(spread)
    second = jnp.sum(centred**2) / (tokens * block.tau0) ** 2 * cov
    mean = jnp.outer(jnp.diagonal(cov), spread) / (2 * tokens * block.tau0**2)
    return second, mean


def centre(rows: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
    """Every row minus its mean: rows C."""
    return rows - jnp.mean(rows, axis=1, keepdims=True)


def centre_seen(rows: Float[Array, "tokens tokens"]) -> Float[Array, "tokens tokens"]:
    """Row a minus its mean over the first a tokens, and zero behind them: rows C_a."""
    tokens = rows.shape[0]
    seen = jnp.tril(jnp.ones_like(rows))
    mean = jnp.sum(rows * seen, axis=1) / jnp.arange(1, tokens + 1)
    return (rows - mean[:, None]) * seen


def first_order_attention(
    block: Block, factor: Float[Array, "tokens rank"], normal: Float[Array, "rank rank"]
) -> Float[Array, "tokens tokens"]:
    """A_1 for scores y = L G L^T / tau0: centred and divided by the number of tokens seen."""
    scores = factor @ normal @ factor.T / block.tau0
    tokens = factor.shape[0]
    if block.causal:
        return centre_seen(scores) / jnp.arange(1, tokens + 1)[:, None]
    return centre(scores) / tokens


def shaped_relu_kernel(correlation: Array) -> Array:
    """Sqrt(1 - rho^2) - rho arccos(rho), with rounding beyond [-1, 1] cut off."""
    rho = jnp.clip(correlation, -1.0, 1.0)
    return jnp.sqrt(1 - rho**2) - rho * jnp.arccos(rho)


def _causal_parts(cov: Array, tau0: float | Float[Array, ""]) -> tuple[Array, Array]:
    """The two expectations with row a centred over the first a tokens, by prefix sums, O(m^2)."""
    count = jnp.arange(1, cov.shape[0] + 1, dtype=cov.dtype)
    sums = jnp.cumsum(cov, axis=1)  # s_kc = sum_{l <= c} V_kl
    both = jnp.cumsum(sums, axis=0)
    squares = jnp.cumsum(sums**2, axis=0)
    trace = (
        jnp.cumsum(jnp.cumsum(cov**2, axis=0), axis=1)
        - squares / count[None, :]
        - squares.T / count[:, None]
        + both**2 / jnp.outer(count, count)
    )
    second = cov * trace / (jnp.outer(count, count) * tau0**2)
    centred = (
        jnp.diagonal(cov)[None, :]
        - 2 * sums.T / count[:, None]
        + (jnp.diagonal(both) / count**2)[:, None]
    )
    mean = jnp.diagonal(cov)[:, None] / (2 * count[:, None] * tau0**2) * centre_seen(centred)
    return second, mean


def _attention_drift(block: Block, cov: Array) -> Array:
    second, mean = attention_parts(block, cov)
    gains = block.shaped_gains
    turned = mean @ cov
    return (
        block.gamma**2
        * (gains.attention**2 * second + gains.identity * gains.attention * (turned + turned.T))
        + block.growth_rate * cov
    )


def _mlp_drift(mlp: ShapedMLP, cov: Array) -> Array:
    norms = jnp.sqrt(jnp.diagonal(cov))
    scale = jnp.outer(norms, norms)
    nu = (mlp.c_plus - mlp.c_minus) ** 2 / (2 * jnp.pi) * shaped_relu_kernel(cov / scale)
    nu = jnp.where(jnp.eye(cov.shape[0], dtype=bool), 0.0, nu)
    result = mlp.gamma**2 * nu * scale + mlp.growth_rate * cov
    if not mlp.normalised:
        result = result + mlp.gamma**2 * (mlp.c_plus**2 + mlp.c_minus**2) / 2 * cov
    return result


def drift_of(block: Block | ShapedMLP, cov: Array) -> Array:
    """The drift as a pure function of arrays."""
    if isinstance(block, ShapedMLP):
        return _mlp_drift(block, cov)
    attention = _attention_drift(block, cov)
    return attention if block.mlp is None else attention + _mlp_drift(block.mlp, cov)


def attention_noise(block: Block) -> float | Float[Array, ""]:
    """Gamma^2 alpha beta / sqrt(H), the factor of A_1 V + V A_1^T in the noise."""
    gains = block.shaped_gains
    return block.gamma**2 * gains.identity * gains.attention / block.heads**0.5


def _covariation(
    block: Block | ShapedMLP, cov: Array, a: Array, b: Array, c: Array, d: Array
) -> Array:
    """Sigma_ab,cd for index arrays."""
    linear = linear_variance(block) * (cov[a, c] * cov[b, d] + cov[a, d] * cov[b, c])
    if isinstance(block, ShapedMLP):
        return linear
    tokens = cov.shape[0]
    index = jnp.arange(tokens)
    if block.causal:
        seen = index[None, :] <= index[:, None]
        eye = jnp.eye(tokens)
        count = jnp.arange(1, tokens + 1)
        masks = seen[:, :, None] & seen[:, None, :]
        centring = (
            jnp.where(masks, eye[None] - 1 / count[:, None, None], 0.0) / count[:, None, None]
        )
        half = jnp.einsum("ij,ajk->aik", cov, centring)
        inner = jnp.einsum("abi,ij,cdj->abcd", half, cov, half)
    else:
        half = centre(cov) / tokens
        inner = jnp.broadcast_to((half @ cov @ half.T)[None, :, None, :], (tokens,) * 4)

    def term(a: Array, b: Array, c: Array, d: Array) -> Array:
        return cov[a, c] * inner[a, b, c, d]

    total = term(a, b, c, d) + term(a, b, d, c) + term(b, a, c, d) + term(b, a, d, c)
    return linear + (attention_noise(block) / block.tau0) ** 2 * total


@jax.jit
def _covariance_drift(block: Block | ShapedMLP, cov: Array) -> Array:
    return drift_of(block, cov)


@jax.jit
def _diffusion(block: Block | ShapedMLP, cov: Array) -> Array:
    index = jnp.arange(cov.shape[0])
    return _covariation(block, cov, *jnp.meshgrid(index, index, index, index, indexing="ij"))


@jax.jit
def _log_det_drift(block: Block | ShapedMLP, cov: Array) -> Array:
    tokens = cov.shape[0]
    result = jnp.trace(jnp.linalg.solve(cov, drift_of(block, cov)))
    result = result - linear_variance(block) / 2 * tokens * (tokens + 1)
    if isinstance(block, ShapedMLP):
        return result
    second, _ = attention_parts(block, cov)
    if block.causal:
        index = jnp.arange(tokens)
        seen = jnp.tril(jnp.ones_like(cov))
        count = jnp.arange(1, tokens + 1)
        sums = jnp.cumsum(cov, axis=1)
        own = cov[index, index] - 2 * sums[index, index] / count
        own = own + jnp.diagonal(jnp.cumsum(sums, axis=0)) / count**2
        returned = jnp.sum(jnp.diagonal(cov) * own * jnp.diagonal(seen) / count**2)
        returned = returned / block.tau0**2
    else:
        returned = jnp.trace(second) / jnp.trace(cov)
    again = returned + jnp.trace(jnp.linalg.solve(cov, second))
    return result - attention_noise(block) ** 2 * again


@jax.jit
def _correlation_drift(block: Block | ShapedMLP, cov: Array, pair: Array) -> Array:
    i, j = pair[0], pair[1]
    change = drift_of(block, cov)
    first, second, both = cov[i, i], cov[j, j], cov[i, j]
    size = jnp.sqrt(first * second)
    rho = both / size

    def sigma(a: Array, b: Array, c: Array, d: Array) -> Array:
        return _covariation(block, cov, a, b, c, d)

    curvature = (
        0.75 * rho * (sigma(i, i, i, i) / first**2 + sigma(j, j, j, j) / second**2)
        + 0.5 * rho * sigma(i, i, j, j) / size**2
        - sigma(i, j, i, i) / (first * size)
        - sigma(i, j, j, j) / (second * size)
    )
    slope = change[i, j] / size - rho / 2 * (change[i, i] / first + change[j, j] / second)
    return slope + curvature / 2


def require_linear(block: Block) -> None:
    """Only the linear part of the block has these closed laws.

    Raises:
        NoSuchLimitError: finite temperature, an MLP or a growth_rate.
    """
    require_limit(block)
    if isinstance(block, ShapedMLP) or block.mlp is not None or np.isfinite(block.tau0):
        raise NoSuchLimitError(
            "block", "has attention or an MLP", "pass one with tau0=inf and no MLP"
        )
    if block.growth_rate:
        raise NoSuchLimitError(
            "block", f"has growth_rate = {block.growth_rate:g}", "pass one with growth_rate = 0"
        )
