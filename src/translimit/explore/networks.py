"""Finite networks for a page that answers while a slider moves: no program to compile.

The laws are those of `models.RandomHeadChain.simulate_overlaps` and of `models.ShapedTransformer`;
the tests hold them together. Both draw what the weights do to the tokens, not the weights: given
tokens with covariance L L^T, a matrix of independent normals takes them to L Z.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; Noci et al., arXiv 2306.17759.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from translimit.core import standard_error
from translimit.figures import INK, Points
from translimit.observe import mean_overlap_of

#: Networks that are drawn, the most first; fewer where they cost too much.
NETWORKS = (8, 4)
#: Normal numbers and exponentials that a view may cost: about 0.2 s.
BUDGET = 1e7


#: What a panel says where no network was drawn.
TOO_LARGE = "Networks of these sizes take too long to draw while a slider moves."


def beside(networks: Float[np.ndarray, "networks levels"], end: float | int) -> tuple[Points, ...]:
    """Means over networks with two standard errors, at about twelve levels.

    Args:
        networks: a number of every network, level by level; none, and nothing is drawn.
        end: the abscissa of the last level; the first is 0.
    """
    count, levels = networks.shape
    if not count:
        return ()
    picks = np.unique(np.linspace(0, levels - 1, 13).round().astype(int))[1:]
    mean, error = mean_and_error(networks[:, picks])
    return (
        Points(
            picks * end / (levels - 1),
            mean,
            INK,
            f"{count} networks, mean ± 2 standard errors",
            "square",
            3.0,
            2 * error,
        ),
    )


def mean_and_error(
    networks: Float[np.ndarray, "networks ..."],
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Means over networks and their standard errors."""
    return networks.mean(axis=0), standard_error(networks)


def affordable(each: float) -> int:
    """How many networks a view draws; 0 where even a few would stop the sliders.

    Args:
        each: what one network costs, in normal numbers.
    """
    return next((count for count in NETWORKS if count * each <= BUDGET), 0)


@lru_cache(maxsize=64)
def head_overlaps(
    tokens: int, dim: int, heads: int, layers: int, step: float, score_std: float
) -> Float[np.ndarray, "networks levels"]:
    """Mean overlap of tokens that start orthogonal, layer by layer, in networks of random heads.

    Args:
        tokens: how many, at most `dim`.
        dim: width of the stream.
        heads: of a layer, all drawn anew.
        layers: depth.
        step: residual step.
        score_std: deviation of the score of two unit tokens.

    Returns:
        Means over pairs after 0, 1, ..., `layers` layers; no networks where they cost too much.
    """
    n, wide = tokens, dim if dim < 2 * tokens else tokens
    count = affordable(layers * (heads * n * (n + wide) * (1 + n / 64) + n * n * n / 4))
    draws = np.random.default_rng([n, dim, heads, layers])
    factor = np.broadcast_to(np.eye(n, wide), (count, n, wide))
    found = np.zeros((count, layers + 1))
    size = step / (heads * math.sqrt(dim))
    for level in range(1, layers + 1 if count else 0):
        normals = draws.standard_normal((count, heads, wide, wide), np.float32)
        rows = factor[:, None].astype(np.float32)
        scores = np.float32(score_std) * (rows @ normals @ rows.swapaxes(-1, -2))
        outputs = _softmax(scores) @ rows
        outputs = outputs.swapaxes(1, 2).reshape(count, n, -1).astype(float)
        mean = size**2 * (outputs @ outputs.swapaxes(-1, -2))
        root = _root(mean)
        moved = factor + root @ draws.standard_normal((count, n, wide))
        gram = moved @ moved.swapaxes(-1, -2)
        if wide < dim:
            outside = root @ _bartlett(draws, count, n, dim - wide)
            gram = gram + outside @ outside.swapaxes(-1, -2)
        norms = np.sqrt(np.einsum("cii->ci", gram))
        gram = gram / (norms[:, :, None] * norms[:, None, :])
        factor = _root(gram) if wide < dim else moved / norms[..., None]
        found[:, level] = mean_overlap_of(gram)
    return found


@lru_cache(maxsize=64)
def mean_effect_overlaps(
    dim: int, heads: int, layers: int, step: float, beta: float
) -> Float[np.ndarray, "networks levels"]:
    """Overlap of two tokens that start orthogonal, where the mean value map is the identity.

    Scores are beta <x, y> in every head, so that the heads of a layer are one matrix of values: the
    identity and noise whose entries have variance 1 / (dim heads).

    Args:
        dim: of the tokens, at least 2.
        heads: of a layer, all drawn anew.
        layers: depth.
        step: residual step.
        beta: multiplies the scores.

    Returns:
        After 0, 1, ..., `layers` layers; no networks where they cost too much.
    """
    count = affordable(layers * (dim * dim + 40.0))
    draws = np.random.default_rng([dim, heads, layers])
    tokens = np.broadcast_to(np.eye(2, dim), (count, 2, dim))
    found = np.zeros((count, layers + 1))
    for level in range(1, layers + 1 if count else 0):
        means = _softmax(beta * (tokens @ tokens.swapaxes(-1, -2))) @ tokens
        noise = draws.standard_normal((count, dim, dim)) / math.sqrt(dim * heads)
        moved = tokens + step * (means + means @ noise.swapaxes(-1, -2))
        tokens = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
        found[:, level] = (tokens[:, 0] * tokens[:, 1]).sum(axis=-1)
    return found


@lru_cache(maxsize=64)
def shaped_correlations(
    tokens: int,
    correlation: float,
    head_dim: int,
    heads: int,
    layers: int,
    gamma: float,
    tau0: float,
) -> Float[np.ndarray, "networks levels"]:
    """Correlation of two tokens, layer by layer, in shaped Transformers without an MLP.

    Args:
        tokens: how many, of unit variance.
        correlation: of two of them at the start.
        head_dim: of keys, queries and values; the width is heads times it.
        heads: concatenated, without an output projection.
        layers: depth.
        gamma: weight of the branch; the skip has (1 - gamma^2)^(1/2).
        tau0: temperature, without the shaping (D d_k)^(1/2).

    Returns:
        After 0, 1, ..., `layers` layers; no networks where they cost too much.
    """
    n, dim = tokens, heads * head_dim
    count = affordable(3.0 * layers * n * dim)
    draws = np.random.default_rng([n, dim, heads, layers])
    start = np.linalg.cholesky(correlation + (1 - correlation) * np.eye(n))
    # The covariance of the tokens is that of the start exactly.
    basis = np.linalg.qr(draws.standard_normal((max(count, 1), max(dim, n), n)))[0]
    state = math.sqrt(dim) * (start @ basis.swapaxes(-1, -2))[:count, :, :dim]
    skip, scale = math.sqrt(1 - gamma**2), tau0 * math.sqrt(dim * head_dim)
    found = np.full((count, layers + 1), correlation)
    for level in range(1, layers + 1 if count else 0):
        factor = _root(state @ state.swapaxes(-1, -2) / dim)[:, None]
        normals = draws.standard_normal((3, count, heads, n, head_dim), np.float32)
        queries, keys, values = factor @ normals
        weights = _softmax(queries @ keys.swapaxes(-1, -2) / scale)
        branch = (np.eye(n) + weights - 1 / n) @ values
        branch = branch.swapaxes(1, 2).reshape(count, n, dim)
        state = skip * state + gamma * branch
        first, second = state[:, 0], state[:, 1]
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        found[:, level] = (first * second).sum(axis=1) / norms
    return found


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _root(cov: np.ndarray) -> np.ndarray:
    """Q with Q Q^T = cov, which may be singular."""
    values, basis = np.linalg.eigh(cov)
    return basis * np.sqrt(np.maximum(values, 0.0))[..., None, :]


def _bartlett(draws: np.random.Generator, count: int, size: int, degrees: int) -> np.ndarray:
    """Lower triangular factors of Wishart matrices of `size` normals in `degrees` dimensions."""
    found = np.tril(draws.standard_normal((count, size, size)), -1)
    chi = np.sqrt(draws.chisquare(degrees - np.arange(size), (count, size)))
    found[:, np.arange(size), np.arange(size)] = chi
    return found
