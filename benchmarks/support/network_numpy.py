r"""A pre-LN decoder with all weights drawn, in plain NumPy: the peer of `benchmarks/predict.py`.

It shares no code with translimit. Single precision; queries, keys and values are one product, all
heads one stacked product; every weight is drawn once, by the generator's own single-precision
normals, and kept for the way back, which is written out by hand:

    x <- x + softmax(q k^T / d^{1/2}) v W_O,    x <- x + gelu(y W_1) W_2,    y = layer norm of x.

Biases are 0 and gains 1, as at initialisation. Weights have deviation `std`, those that write to
the stream `std` / (2 L)^{1/2}, as GPT-2's.
"""

from __future__ import annotations

import math

import numpy as np

EPS = 1e-5


def simulate(
    rng: np.random.Generator, ids: np.ndarray, *, layers: int, dim: int, heads: int, std: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean overlap of two different tokens, mean square, and gradient square a token, by level.

    The gradient at the top is Gaussian, of norm one for every token.

    Args:
        rng: randomness.
        ids: of the tokens [n].
        layers: L.
        dim: D.
        heads: which divide D.
        std: of weights, embeddings and positions.
    """

    def normal(deviation: float, *shape: int) -> np.ndarray:
        drawn = rng.standard_normal(shape, dtype=np.float32)
        drawn *= deviation
        return drawn

    n, out = len(ids), std / math.sqrt(2 * layers)
    x = normal(std, int(ids.max()) + 1, dim)[ids] + normal(std, n, dim)
    levels, passed = [x], []
    for _ in range(layers):
        weights = (
            normal(std, dim, 3 * dim),
            normal(out, dim, dim),
            normal(std, dim, 4 * dim),
            normal(out, 4 * dim, dim),
        )
        x, kept = _forward(x, weights, heads)
        levels.append(x)
        passed.append((weights, kept))
    grads = [normal(dim**-0.5, n, dim)]
    for weights, kept in reversed(passed):
        grads.append(_backward(grads[-1], weights, kept, heads))
    squares = np.array([np.mean(level**2) for level in levels])
    passing = np.array([np.sum(grad**2) / n for grad in reversed(grads)])
    return np.array([_mean_overlap(level) for level in levels]), squares, passing


def _forward(x: np.ndarray, weights: tuple, heads: int) -> tuple[np.ndarray, tuple]:
    w_qkv, w_out, w_in, w_back = weights
    n, dim = x.shape
    y, scale = _norm(x)
    qkv = (y @ w_qkv).reshape(n, 3, heads, dim // heads).transpose(1, 2, 0, 3)
    q, k, v = np.ascontiguousarray(qkv)
    scores = q @ k.transpose(0, 2, 1)
    scores *= (dim // heads) ** -0.5
    scores += np.triu(np.full((n, n), -np.inf, np.float32), 1)
    scores -= scores.max(axis=2, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(axis=2, keepdims=True)
    mixed = (p @ v).transpose(1, 0, 2).reshape(n, dim)
    middle = x + mixed @ w_out
    z, scale_2 = _norm(middle)
    hidden = z @ w_in
    value, slope = _gelu(hidden)
    return middle + value @ w_back, (y, scale, q, k, v, p, z, scale_2, slope)


def _backward(grad: np.ndarray, weights: tuple, kept: tuple, heads: int) -> np.ndarray:
    w_qkv, w_out, w_in, w_back = weights
    y, scale, q, k, v, p, z, scale_2, slope = kept
    n, dim = grad.shape
    grad = grad + _norm_back(((grad @ w_back.T) * slope) @ w_in.T, z, scale_2)
    own = (grad @ w_out.T).reshape(n, heads, dim // heads).transpose(1, 0, 2)
    of_p = own @ v.transpose(0, 2, 1)
    of_s = p * (of_p - np.sum(of_p * p, axis=2, keepdims=True))
    of_s *= (dim // heads) ** -0.5
    parts = np.stack([of_s @ k, of_s.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ own])
    return grad + _norm_back(parts.transpose(2, 0, 1, 3).reshape(n, 3 * dim) @ w_qkv.T, y, scale)


def _norm(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = x - x.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + EPS)
    return centred * scale, scale


def _norm_back(grad: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    along = np.mean(grad * y, axis=1, keepdims=True)
    return (grad - grad.mean(axis=1, keepdims=True) - y * along) * scale


def _gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GELU by tanh, as GPT-2's, and its derivative."""
    c = np.float32(math.sqrt(2 / math.pi))
    t = np.tanh(c * (x + np.float32(0.044715) * x**3))
    slope = c * (1 + np.float32(0.134145) * x**2)
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * slope


def _mean_overlap(x: np.ndarray) -> float:
    """Over pairs of different tokens; the norms remove the mean of a token."""
    centred = x - x.mean(axis=1, keepdims=True)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    n = len(x)
    return float((np.sum(units.sum(axis=0) ** 2) - n) / (n * (n - 1)))
