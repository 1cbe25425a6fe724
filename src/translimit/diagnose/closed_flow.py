r"""Gaussian tokens through a checkpoint's own layers: the closure, layer after layer.

A law N(alpha, Sigma) of tokens is sent through all layers, in the place of the tokens themselves.
Attention is one of its closures with the law's own moments (`diagnose.closures`), norms and MLP are
the checkpoint's. After every layer the law is Gaussian again, of the mean and the covariance that
it then has. Nothing but the moments of the tokens that enter is used, so that errors add up over
layers: the result is *approximate*, and tells whether two moments carry the network.

The law is P particles, antithetic, and standardised exactly in their r directions: mean and
covariance of every law are exact, whatever P; what P samples is everything beyond. P >= 2 r + 2.

Its overlap is |E x / |x||^2, what two independent tokens of the law have.

Without a mask only: the prefix of a causal one has a law of its own, and its moments do not close.

Source: Castin et al., arXiv 2501.18322 (Gaussian closures); documentation, "Diagnosing a
checkpoint".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, Key, NoSuchLimitError, named_key, require_count
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.closures import concentrations, require_covered
from translimit.diagnose.layers import Layer
from translimit.diagnose.nulls import generator
from translimit.diagnose.passing import (
    after_attention,
    attention_branch,
    doubled,
    in_layer,
    normalised,
)

#: Directions of a covariance below this share of its largest are left out.
RANK = 1e-10
#: Spread of the scores, in units of (2 log n)^(1/2), above which infinitely many keys overshoot.
USABLE = 0.5


@dataclass(frozen=True, eq=False)
class ClosedFlow:
    """The closed law of one sequence beside its tokens.

    Attributes:
        overlap: |E x / |x||^2 of the law, at the entry and after every layer [L + 1].
        cov_error: |Sigma - C| / |C| with C the covariance of the tokens there [L + 1].
        mean_error: |alpha - mean| / |mean| there [L + 1].
    """

    overlap: Float[np.ndarray, " places"]
    cov_error: Float[np.ndarray, " places"]
    mean_error: Float[np.ndarray, " places"]


def closed_flow(
    checkpoint: Checkpoint,
    entry: Float[np.ndarray, "n D"],
    *,
    key: Key | int,
    closure: Literal["uniform", "gaussian", "finite"] = "finite",
    particles: int = 2048,
) -> ClosedFlow:
    """Send the moments of a sequence through all layers.

    Args:
        checkpoint: the network, without a mask.
        entry: tokens that enter.
        key: of the particles.
        closure: of attention; `finite` has as many keys as there are tokens.
        particles: P.

    Raises:
        NoSuchLimitError: a mask, rotary positions, windows; what no closure covers; `gaussian`
            where the scores spread further than half of (2 log n)^(1/2).
        ArgumentError: fewer particles than 2 r + 2; an unknown closure.
    """
    if closure not in ("uniform", "gaussian", "finite"):
        raise ArgumentError("closure", f"got {closure!r}", "pass uniform, gaussian or finite")
    count = require_count(particles, "particles", 4)
    x = np.asarray(entry, np.float64)
    mean, cov = x.mean(axis=0), np.cov(x.T, bias=True)
    rng = generator(named_key(key, "closed flow"))
    rows = [_beside(_cloud(mean, cov, count, rng), mean, cov, x)]
    for layer in map(doubled, checkpoint.layers):
        _require_open(layer)
        cloud = _through(layer, _cloud(mean, cov, count, rng), len(x), closure)
        mean, cov = cloud.mean(axis=0), np.cov(cloud.T, bias=True)
        x = np.asarray(in_layer(layer, x).exit)
        rows.append(_beside(cloud, mean, cov, x))
    return ClosedFlow(*np.array(rows).T)


def _require_open(layer: Layer) -> None:
    require_covered(layer)
    of = layer.attention
    if layer.causal or of.rotary is not None or of.scores.window or of.scores.chunk:
        problem = "the moments of a prefix or of turned keys do not close"
        raise NoSuchLimitError("checkpoint", problem, "take `fit_closures`, one step at a time")


def _cloud(
    mean: np.ndarray, cov: np.ndarray, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "particles D"]:
    """Particles of exactly this mean and covariance."""
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    kept = values > RANK * max(values[-1], 0.0)
    r = int(np.count_nonzero(kept))
    if count < 2 * r + 2:
        raise ArgumentError(
            "particles", f"got {count}, for {r} directions", f"pass {2 * r + 2} at least"
        )
    z = rng.standard_normal((count // 2, r))
    if r:
        z = np.linalg.qr(z)[0] * math.sqrt(len(z))  # z^T z = P / 2
    z = np.concatenate([z, -z])
    return mean + (z * np.sqrt(values[kept])) @ vectors[:, kept].T


def _through(
    layer: Layer, x: Float[np.ndarray, "P D"], n: int, closure: str
) -> Float[np.ndarray, "P D"]:
    """Particles after a layer; attention reads the law that they are."""
    own = layer.parameters
    u = np.asarray(normalised(layer.blocks[0].norm_in, own, "attention_in", x))
    branch = attention_branch(layer.blocks, own, _attention(layer, u, n, closure))
    return np.asarray(after_attention(layer.blocks, own, x, branch).exit)


def _attention(
    layer: Layer, u: Float[np.ndarray, "P D"], n: int, closure: str
) -> Float[np.ndarray, "P D"]:
    of, own = layer.attention, layer.parameters

    def heads(name: str, count: int) -> Float[np.ndarray, "heads P d"]:
        rows = np.asarray(u @ own[f"W_{name}"] + own.get(f"b_{name}", 0.0))
        rows = rows.reshape(len(u), count, -1).swapaxes(0, 1)
        return np.repeat(rows, of.heads // count, axis=0)

    q, k, v = heads("Q", of.heads), heads("K", of.key_heads), heads("V", of.key_heads)
    k_centred, v_mean = k - k.mean(axis=1, keepdims=True), v.mean(axis=1, keepdims=True)
    mixed = np.broadcast_to(v_mean, v.shape)
    if closure != "uniform":
        scaled = of.score_scale * q
        key_cov = k_centred.swapaxes(1, 2) @ k_centred / len(u)
        deviations = np.sqrt(np.maximum(((scaled @ key_cov) * scaled).sum(axis=2), 0.0))
        damping = 1.0 if closure == "gaussian" else 1 - concentrations(n, deviations)[..., None]
        if closure == "gaussian":
            _require_usable(float(np.sqrt(np.mean(deviations**2))), n)
        cross = k_centred.swapaxes(1, 2) @ (v - v_mean) / len(u)
        mixed = v_mean + damping * (scaled @ cross)
    flat = mixed.swapaxes(0, 1).reshape(len(u), -1)
    return flat @ np.asarray(own["W_O"])


def _require_usable(spread: float, n: int) -> None:
    limit = USABLE * math.sqrt(2 * math.log(n))
    if spread > limit:
        told = f"gaussian overshoots: scores spread {spread:.2f}, and it holds below {limit:.2f}"
        raise NoSuchLimitError("closure", told, "take closure='finite'")


def _beside(
    cloud: np.ndarray, mean: np.ndarray, cov: np.ndarray, x: np.ndarray
) -> tuple[float, float, float]:
    norms = np.linalg.norm(cloud, axis=1, keepdims=True)
    unit = np.divide(cloud, norms, out=np.zeros_like(cloud), where=norms > 0)
    own, true = x.mean(axis=0), np.cov(x.T, bias=True)
    return (
        float((unit.mean(axis=0) ** 2).sum()),
        float(np.linalg.norm(cov - true) / np.linalg.norm(true)),
        float(np.linalg.norm(mean - own) / np.linalg.norm(own)),
    )
