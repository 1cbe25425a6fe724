r"""Attention and MLP in a structure-preserving step, on a factor L of the covariance V = L L^T.

Without a causal mask the whole of a step happens in the coordinates of L. With K = L^T C L,
v = diag(V) and r = C diag(C V C), softmax expanded gives

    A L = L (alpha + sqrt(h / H) beta / (m tau0) G K) + h beta / (2 m tau0^2) v (L^T r)^T = L P,

so that V^ = L (lam^2 + gamma^2 P P^T) L^T: the matrix in brackets is well conditioned however thin
V is, and its Cholesky factor times L is the factor of V^. L^-1 v is all that P needs of an inverse.
Where that is large, or not there, a QR decomposition of the parts of V^ takes its place.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention import shaped_attention
from translimit.core import (
    FEW_ROWS,
    lower_factor,
    lower_product,
    quick_lower_factor,
    semidefinite_cholesky,
    try_cholesky,
    where_allowed,
)
from translimit.limits.shaped.block import Block, ShapedMLP
from translimit.limits.shaped.coefficients import attention_parts, centre, first_order_attention


def after_attention(
    block: Block,
    factor: Float[Array, "tokens tokens"],
    h: Array,
    normal: Float[Array, "*heads tokens tokens"],
    bounded: bool,
) -> Float[Array, "tokens tokens"]:
    """A lower-triangular factor of V^ = lam^2 V + gamma^2 E_heads[A V A^T] + noise of A.

    Args:
        block: attention block.
        factor: L.
        h: size of the step.
        normal: standard normals of the scores, of every head where the step is bounded.
        bounded: softmax itself in place of its expansion.
    """
    if bounded:
        return quick_lower_factor(_softmax_stack(block, factor, h, normal))
    if block.causal:
        return quick_lower_factor(_causal_stack(block, factor, h, normal))
    skip, mixing, tokens, source = _expanded_attention(block, factor, h, normal)
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
    block: Block, factor: Array, h: Array, normal: Array
) -> tuple[Array, Array, Array, Array]:
    """V^ = (skip L)(skip L)^T + (L mixing + tokens source^T)(...)^T, up to second order in softmax.

    The noise is computed in float32, like the normals that it is made of; K is that of the centred
    factor, which loses nothing where tokens are nearly equal.
    """
    gains, size, dtype = block.shaped_gains, factor.shape[0], factor.dtype
    centred = centre(factor.T).T  # C L
    largest = jnp.max(jnp.abs(centred))
    unit = (centred / jnp.where(largest > 0, largest, 1.0)).astype(jnp.float32)
    kernel = _product32(unit.T, unit)  # K / largest^2
    noise = _product32(normal, kernel).astype(dtype)
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


def _softmax_stack(block: Block, factor: Array, h: Array, normal: Array) -> Array:
    """Parts of V^ side by side, with softmax itself and every head drawn."""
    scores = jnp.sqrt(h) / block.tau0 * (factor @ normal.astype(factor.dtype) @ factor.T)
    heads = shaped_attention(scores, block.shaped_gains, block.causal) @ factor
    parts = block.gamma / block.heads**0.5 * heads
    return jnp.concatenate([block.lam * factor, *parts], axis=1)


def _causal_stack(block: Block, factor: Array, h: Array, normal: Array) -> Array:
    """Parts of V^ side by side, with every row centred over the tokens that it sees."""
    gains, size, dtype = block.shaped_gains, factor.shape[0], factor.dtype
    second, mean = attention_parts(block, factor @ factor.T)
    first = first_order_attention(block, factor, normal.astype(dtype))
    matrix = gains.identity * jnp.eye(size, dtype=dtype) + gains.attention * (
        jnp.sqrt(h / block.heads) * first + h * mean
    )
    parts = [block.lam * factor, block.gamma * matrix @ factor]
    if block.heads > 1:
        # What one draw lacks of the mean of H heads, no multiple of V here.
        lacking = h * (1 - 1 / block.heads) * (block.gamma * gains.attention) ** 2
        parts.append(jnp.sqrt(lacking) * semidefinite_cholesky(second))
    return jnp.concatenate(parts, axis=1)


def after_mlp(
    mlp: ShapedMLP, factor: Float[Array, "tokens tokens"], h: Array
) -> Float[Array, "tokens tokens"]:
    """A lower-triangular factor of lam^2 V + gamma^2 times the kernel of the MLP."""
    return quick_lower_factor(_mlp_stack(mlp, factor, h))


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
