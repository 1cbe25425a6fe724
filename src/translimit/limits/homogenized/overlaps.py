r"""The equation of the overlaps under common noise, and its kernel s_ij = E <m_i, m_j>.

With R_ij = <x_i, x_j> and the kernel s_ij I / dim of the noise per unit diffusive time, R is a
closed diffusion on the correlation matrices: `overlap_drift` and `overlap_covariation`. The kernel,
the overlaps of attention outputs, is sampled from R alone (`attention_overlap`), expanded for small
scores, and in closed form for two tokens and infinite ones.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978 (drift); the covariations and the
expansion are derived in the documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import gram_factor, head_weights, require_gram, require_isotropic
from translimit.core import (
    AnyArray,
    ArrayInput,
    Key,
    Number,
    Numbers,
    following_inputs,
    require_count,
    require_flag,
)
from translimit.describe import AbstractIsotropicHeads

#: Heads that are averaged at once; results do not depend on it.
BLOCK = 64


def overlap_drift(
    overlaps: Float[AnyArray, "*batch tokens tokens"],
    s: Float[AnyArray, "*batch tokens tokens"],
    dim: int,
) -> Float[AnyArray, "*batch tokens tokens"]:
    """D_ij = (d - 2 + R_ij^2) s_ij / d - (d - 1) R_ij (s_ii + s_jj) / (2 d), d = dim.

    Args:
        overlaps: R.
        s: overlaps of the attention outputs, E <m_i, m_j>.
        dim: dimension of the tokens.
    """
    xp = _module(overlaps, s)
    variance = xp.diagonal(s, axis1=-2, axis2=-1)
    sums = variance[..., :, None] + variance[..., None, :]
    return ((dim - 2 + overlaps**2) * s - 0.5 * (dim - 1) * overlaps * sums) / dim


def overlap_covariation(
    overlaps: Float[AnyArray, "tokens tokens"],
    s: Float[AnyArray, "tokens tokens"],
    dim: int,
    first: tuple[int, int],
    second: tuple[int, int],
) -> Number:
    """D <R_ij, R_kl> / d tau of the pairs (i, j) = first and (k, l) = second.

    The sum over p in {i, j} and q in {k, l} of s_pq <P_p x_p', P_q x_q'>, divided by dim, where
    p' and q' are the other members of the pairs and P_p projects on the tangent space at x_p.
    """

    def projected(p: int, p_other: int, q: int, q_other: int) -> Number:
        return (
            overlaps[p_other, q_other]
            - overlaps[q, q_other] * overlaps[q, p_other]
            - overlaps[p, p_other] * overlaps[p, q_other]
            + overlaps[p, p_other] * overlaps[q, q_other] * overlaps[p, q]
        )

    pairs = [(p, o) for p, o in (first, first[::-1])], [(q, o) for q, o in (second, second[::-1])]
    terms = [s[p, q] * projected(p, po, q, qo) for p, po in pairs[0] for q, qo in pairs[1]]
    return sum(terms) / dim


def small_score_overlap(
    overlaps: Float[AnyArray, "tokens tokens"], score_std: Number
) -> Float[AnyArray, "tokens tokens"]:
    """S to the second order in score_std, with an error of the fourth.

    s_ij = m + score_std^2 (R_ij |C|^2 / n^2 + (1 / n) sum_k C_kk (r_k - m)), where r_k is the mean
    of row k of R, m the mean of all of R, and C = J R J with J = I - 1 1^T / n.
    """
    xp = _module(overlaps)
    n = overlaps.shape[-1]
    centring = xp.eye(n) - 1.0 / n
    C = centring @ overlaps @ centring
    r = xp.mean(overlaps, axis=-1)
    m = xp.mean(r)
    second = overlaps * xp.sum(C**2) / n**2 + xp.mean(xp.diagonal(C) * (r - m))
    return m + score_std**2 * second


def one_hot_overlap(overlap: Numbers) -> Numbers:
    """s_12 of two tokens for infinite scores, where every query attends to one key.

    1/2 + asin(R) / pi + R (1/2 - asin(R) / pi); s_11 = s_22 = 1, in any dimension.
    """
    agree = 0.5 + _module(overlap).arcsin(overlap) / np.pi
    return agree + overlap * (1.0 - agree)


class OverlapEstimate(eqx.Module):
    """s_ij = E <m_i, m_j> with its sampling error.

    Attributes:
        value: the estimate [tokens, tokens].
        stderr: its standard errors [tokens, tokens]; at most count^{-1/2}.
        count: independent draws behind it: heads, or antithetic pairs of them.
    """

    value: Float[AnyArray, "tokens tokens"]
    stderr: Float[AnyArray, "tokens tokens"]
    count: int = eqx.field(static=True)


def attention_overlap(
    law: AbstractIsotropicHeads,
    overlaps: ArrayInput,
    *,
    samples: int,
    key: Key,
    causal: bool = False,
    antithetic: bool = False,
) -> OverlapEstimate:
    """Estimate s_ij = E <m_i, m_j> for tokens with the given overlaps.

    Unbiased. Cost O(samples tokens^3), whatever the dimension and the head dimension.

    Args:
        law: of the heads.
        overlaps: of the tokens [tokens, tokens]; decides the precision.
        samples: heads to draw, at least 2; pairs of them if antithetic.
        key: of the draws; head h takes `fold_in(key, h)`.
        causal: whether a token sees only itself and the tokens before it.
        antithetic: average every head with the one of opposite scores, which removes the odd
            orders in the scores.

    Raises:
        ArgumentError: overlaps that are no correlation matrix, too few samples.
        ArgumentTypeError: a law that is not invariant under rotations.

    Examples:
        Without scores, s is the mean of all overlaps:

        >>> import jax, numpy as np
        >>> from translimit.describe import GaussianHeads
        >>> law = GaussianHeads(dim=8, beta=0.0, sigma_a=1.0)
        >>> found = attention_overlap(law, np.eye(4), samples=2, key=jax.random.key(0))
        >>> bool(np.allclose(found.value, 0.25))
        True
    """
    require_isotropic(law)
    overlaps = require_gram(overlaps, "overlaps", law.dim)
    samples = require_count(samples, "samples", 2)
    causal, antithetic = require_flag(causal, "causal"), require_flag(antithetic, "antithetic")
    options = _Options(samples, causal, antithetic)
    value, stderr = following_inputs(_estimate, overlaps, (law, options, key))
    return OverlapEstimate(value, stderr, samples)


class _Options(eqx.Module):
    samples: int = eqx.field(static=True)
    causal: bool = eqx.field(static=True)
    antithetic: bool = eqx.field(static=True)


@eqx.filter_jit
def _estimate(
    overlaps: Float[Array, "tokens tokens"],
    parameters: tuple[AbstractIsotropicHeads, _Options, Key],
) -> tuple[Float[Array, "tokens tokens"], Float[Array, "tokens tokens"]]:
    law, options, key = parameters
    factor = gram_factor(overlaps, law.dim)

    def one(index: Array) -> Array:
        head_key = jax.random.fold_in(key, index)
        weights = head_weights(
            law, factor, 1, head_key, causal=options.causal, antithetic=options.antithetic
        )
        outputs = weights @ factor
        return jnp.mean(outputs @ outputs.swapaxes(-1, -2), axis=0)

    def add(sums: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        draws = jax.vmap(one)(index)
        kept = (index < options.samples)[:, None, None]
        draws = jnp.where(kept, draws - reference, 0.0)
        return (sums[0] + jnp.sum(draws, axis=0), sums[1] + jnp.sum(draws**2, axis=0)), None

    # Sums of deviations from one draw, so that the variance does not cancel.
    reference = one(jnp.asarray(0))
    zero = jnp.zeros_like(overlaps)
    blocks = -(-options.samples // BLOCK)
    indices = jnp.arange(blocks * BLOCK).reshape(blocks, BLOCK)
    (first, second), _ = jax.lax.scan(add, (zero, zero), indices)
    mean = first / options.samples
    variance = (second / options.samples - mean**2) / (options.samples - 1)
    return reference + mean, jnp.sqrt(jnp.maximum(variance, 0.0))


def _module(*arrays: Numbers) -> ModuleType:
    return np if all(isinstance(a, np.ndarray | np.generic | float) for a in arrays) else jnp
