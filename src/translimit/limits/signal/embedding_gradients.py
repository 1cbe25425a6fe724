r"""Gradients of what makes tokens: tables of embeddings, positions and types; the map of patches.

Tokens enter as x_i = mu E_{t_i} + P_i + T. With B the Gram matrix of the gradient with respect to
them,

    E |dE|^2 = mu^2 sum_ij 1[t_i = t_j] B_ij,    E |dP|^2 = tr B,    E |dT|^2 = sum_ij B_ij.

A norm of the embedding stands between: B is then s s^T * B_0, with s from the tokens before it; and
a matrix that maps r entries to the stream multiplies B_0 by r sigma^2. A padding row has none.

Patches of an image enter as x_i = p_i W + P_i, class tokens as T_c + P_c, registers as rows
without a position:

    E |dW|^2 = sum_ij <p_i, p_j> B_ij,    E |dP|^2 = tr B,    E |dT|^2 = tr B over class tokens.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput, as_float64
from translimit.describe import Embedding, Normalisation, PatchEmbedding, Stack


def embedding_squares(
    stack: Stack, ids: ArrayInput, grad_gram: ArrayInput
) -> dict[str, Float[np.ndarray, "*copies"]]:
    """Squares |dW|^2 of the tables that a stack has: "embedding", "positions", "types".

    Args:
        stack: with the embedding of its tokens.
        ids: of the tokens [n].
        grad_gram: B at level 0, of one gradient or of several copies [..., n, n].

    Raises:
        ArgumentError: a stack without a table of embeddings; ids that are no whole numbers, or of
            another number than B has rows.

    Examples:
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> embedding = describe.Embedding(0.1, multiplier=2.0, position_std=0.1)
        >>> stack = describe.pre_norm_stack(64, 1, attention, embedding=embedding)
        >>> found = embedding_squares(stack, [5, 6, 5], np.ones((3, 3)))
        >>> {name: float(one) for name, one in found.items()}
        {'embedding': 20.0, 'positions': 3.0}
    """
    of = stack.embedding
    if not isinstance(of, Embedding):
        raise ArgumentError("stack", "has no table of embeddings", "give it an Embedding")
    row, grads = np.asarray(ids), np.asarray(as_float64(grad_gram, "grad_gram"))
    n = len(row)
    if row.ndim != 1 or not np.issubdtype(row.dtype, np.integer) or grads.shape[-2:] != (n, n):
        raise ArgumentError(
            "ids", f"have shape {row.shape} for B of shape {grads.shape}", "pass n whole numbers"
        )
    same = (row[:, None] == row[None, :]).astype(float)
    if of.padding is not None:
        same[row == of.padding] = 0.0
    if of.inner is not None:
        grads = of.inner * of.inner_std**2 * grads
    squares = (of.multiplier * of.std) ** 2 * np.diagonal(same)
    grads = _before(of.norm, squares + of.position_std**2 + of.type_std**2, grads)
    found = {"embedding": of.multiplier**2 * np.sum(same * grads, axis=(-2, -1))}
    if of.position_std > 0:
        found["positions"] = np.trace(grads, axis1=-2, axis2=-1)
    if of.type_std > 0:
        found["types"] = np.sum(grads, axis=(-2, -1))
    return {name: np.asarray(one) for name, one in found.items()}


def patch_squares(
    stack: Stack, pixel_gram: ArrayInput, grad_gram: ArrayInput
) -> dict[str, Float[np.ndarray, "*copies"]]:
    """Squares |dW|^2 of "patches" and, where a stack has them, of tables of an image's tokens.

    These are "positions", "class_tokens" and "registers".

    Args:
        stack: with the embedding of patches.
        pixel_gram: <p_i, p_j> of the patches' pixels [patches, patches].
        grad_gram: B at level 0, of one gradient or of several copies [..., n, n].

    Raises:
        ArgumentError: a stack that reads no patches, or matrices of other numbers of patches and
            tokens.

    Examples:
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> image = describe.PatchEmbedding(0.1, 1, 2, 4, position_std=0.1, class_stds=(0.1,))
        >>> stack = describe.pre_norm_stack(64, 1, attention, embedding=image)
        >>> found = patch_squares(stack, 48 * np.eye(2), np.ones((3, 3)))
        >>> {name: float(one) for name, one in found.items()}
        {'patches': 96.0, 'positions': 3.0, 'class_tokens': 1.0}
    """
    of = stack.embedding
    if not isinstance(of, PatchEmbedding):
        raise ArgumentError("stack", "has no embedding of patches", "give it a PatchEmbedding")
    inner = np.asarray(as_float64(pixel_gram, "pixel_gram"))
    if inner.shape != (of.patches, of.patches):
        need = f"pass [{of.patches}, {of.patches}]"
        raise ArgumentError("pixel_gram", f"has shape {inner.shape}", need)
    grads = np.asarray(as_float64(grad_gram, "grad_gram"))
    if grads.shape[-2:] != (of.tokens, of.tokens):
        need = f"pass [..., {of.tokens}, {of.tokens}]"
        raise ArgumentError("grad_gram", f"has shape {grads.shape}", need)
    classes, first = len(of.class_stds), of.tokens - of.patches
    squares, placed = np.zeros(of.tokens), np.ones(of.tokens)
    placed[classes:first] = 0.0
    squares[:classes] = np.square(of.class_stds)
    squares[first:] = of.std**2 * np.diagonal(inner)
    grads = _before(of.norm, squares + of.position_std**2 * placed, grads)
    each = np.diagonal(grads, axis1=-2, axis2=-1)
    found = {"patches": np.sum(inner * grads[..., first:, first:], axis=(-2, -1))}
    if of.position_std > 0:
        found["positions"] = np.sum(each * placed, axis=-1)
    if classes:
        found["class_tokens"] = np.sum(each[..., :classes], axis=-1)
    if of.registers:
        found["registers"] = np.sum(each[..., classes:first], axis=-1)
    return {name: np.asarray(one) for name, one in found.items()}


def _before(
    norm: Normalisation | None, squares: Float[np.ndarray, " n"], grads: np.ndarray
) -> np.ndarray:
    """B of what a norm reads, tokens of these mean squares; B itself without a norm."""
    if norm is None:
        return grads
    total = squares + norm.norm_eps
    s = norm.gain * np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
    return s[:, None] * s[None, :] * grads
