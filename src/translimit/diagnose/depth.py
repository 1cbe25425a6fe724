r"""Weights along depth: products that no choice of basis changes, their cosines, and their order.

Raw matrices of neighbouring layers are uncorrelated even where the layers do the same, since heads
and inner bases are arbitrary. Invariant are

    A_l = sum_h W_Q,h W_K,h^T  [D, D],     V_l = sum_h W_V,h W_O,h  [D, D],

with a pre-norm's gains folded in. <A, A'> = sum_hh' tr[(W_Q,h^T W_Q,h')(W_K,h'^T W_K,h)] costs
H^2 D d^2 and never forms a D x D matrix. Drawn layers have cosines of order 1 / D.

The edge of a matrix of independent entries of mean square s^2 is s (rows^(1/2) + columns^(1/2)):
what lies above it, training put there.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import MATRICES, Layer
from translimit.diagnose.nulls import rms

#: Orders of more layers than this are not tried.
MOST_LAYERS = 8
#: A mean neighbour cosine below this says nothing about the order.
LEAST_COSINE = 0.2


def depth_cosines(
    checkpoint: Checkpoint,
) -> tuple[Float[np.ndarray, "layers layers"], Float[np.ndarray, "layers layers"]]:
    """Cosines of A and of V between all layers.

    Args:
        checkpoint: the network.
    """
    factors = [_factors(layer) for layer in checkpoint.layers]
    found = []
    for kind in (0, 1):
        size = len(factors)
        gram = np.empty((size, size))
        for i, j in itertools.combinations_with_replacement(range(size), 2):
            gram[i, j] = gram[j, i] = _product(factors[i][kind], factors[j][kind])
        norms = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(gram / np.outer(norms, norms))
    return found[0], found[1]


def neighbour_sum(cosines: Float[np.ndarray, "layers layers"], order: Sequence[int]) -> float:
    """The sum of the cosines of neighbours in an order of the layers.

    Args:
        cosines: of `depth_cosines`.
        order: of the layers.
    """
    return float(sum(cosines[i, j] for i, j in itertools.pairwise(order)))


def best_order(cosines: Float[np.ndarray, "layers layers"]) -> tuple[int, ...] | None:
    """The order with the largest sum of neighbour cosines, of all; of it and its reversal the one
    that begins with the smaller number.

    Args:
        cosines: of `depth_cosines`.

    Returns:
        The order; None for more than eight layers, or fewer than three.
    """
    size = len(cosines)
    if not 3 <= size <= MOST_LAYERS or not np.isfinite(cosines).all():
        return None
    orders = np.array([one for one in itertools.permutations(range(size)) if one[0] < one[-1]])
    sums = sum(cosines[orders[:, i], orders[:, i + 1]] for i in range(size - 1))
    return tuple(int(i) for i in orders[int(np.argmax(sums))])


def spectra(checkpoint: Checkpoint) -> dict[str, Float[np.ndarray, "layers 2"]]:
    """Largest singular value over the edge, and the share of |W|^2 above it, of every matrix.

    Args:
        checkpoint: the network.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for layer in checkpoint.layers:
        for name in MATRICES:
            if name not in layer.parameters:
                continue
            matrix = np.asarray(layer.parameters[name], np.float64)
            values = np.linalg.svd(matrix, compute_uv=False)
            edge = rms(matrix) * (math.sqrt(matrix.shape[0]) + math.sqrt(matrix.shape[1]))
            squares = values**2
            row = (math.nan, math.nan)
            if edge > 0:
                row = (values[0] / edge, squares[values > edge].sum() / squares.sum())
            found.setdefault(name, []).append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def movement(before: Checkpoint, after: Checkpoint) -> dict[str, Float[np.ndarray, " layers"]]:
    """|W - W_0| / |W_0| of every matrix, by layer.

    Args:
        before: W_0.
        after: W, of the same shapes.
    """
    found: dict[str, list[float]] = {}
    for one, other in zip(before.layers, after.layers, strict=True):
        for name in MATRICES:
            if name in one.parameters:
                start, end = (np.asarray(x.parameters[name], np.float64) for x in (one, other))
                size = np.linalg.norm(start)
                moved = np.linalg.norm(end - start) / size if size > 0 else math.nan
                found.setdefault(name, []).append(float(moved))
    return {name: np.array(rows) for name, rows in found.items()}


def _factors(layer: Layer) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(W_Q, W_K) and (W_V, W_O) as [heads, D, entries], gains of a pre-norm folded in."""
    of, dim = layer.attention, layer.dim
    gain = np.ones(dim)
    if layer.blocks[0].norm_in is not None:
        gain = np.asarray(layer.parameters.get("attention_in.gain", gain), np.float64)

    def heads(name: str, count: int) -> np.ndarray:
        matrix = gain[:, None] * np.asarray(layer.parameters[name], np.float64)
        parts = matrix.reshape(dim, count, -1).swapaxes(0, 1)
        return np.repeat(parts, of.heads // count, axis=0)

    out = np.asarray(layer.parameters["W_O"], np.float64).reshape(of.heads, of.values, dim)
    q, k, v = heads("W_Q", of.heads), heads("W_K", of.key_heads), heads("W_V", of.key_heads)
    return (q, k), (v, out.swapaxes(1, 2))


def _product(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """<A, A'> of A = sum_h L_h R_h^T."""
    left = np.einsum("hda,kdb->hkab", one[0], other[0], optimize=True)
    right = np.einsum("hda,kdb->hkab", one[1], other[1], optimize=True)
    return float((left * right).sum())
