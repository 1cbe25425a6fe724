"""Every variant at one size, and its field by definition in dense NumPy."""

import numpy as np

from translimit.attention import (
    L2,
    FeedForward,
    FixedSinkhorn,
    Linear,
    MultiHead,
    Normalisation,
    Sigmoid,
    Sinkhorn,
    Softmax,
    Unnormalized,
)

DIM, HEAD_DIM = 3, 2
RNG = np.random.default_rng(2025)
QKV = {
    "Q": RNG.normal(size=(HEAD_DIM, DIM)) / 2,
    "K": RNG.normal(size=(HEAD_DIM, DIM)) / 2,
    "V": RNG.normal(size=(DIM, DIM)) / 2,
}
HEADS = {
    "Q": RNG.normal(size=(2, HEAD_DIM, DIM)) / 2,
    "K": RNG.normal(size=(2, HEAD_DIM, DIM)) / 2,
    "V": RNG.normal(size=(2, 1, DIM)) / 2,
    "W": RNG.normal(size=(2, DIM, 1)),
}
DRIFT = {"W": RNG.normal(size=(DIM, DIM)) / 3, "b": RNG.normal(size=DIM)}

PLAIN = {
    "softmax": lambda **o: Softmax(**QKV, score_scale=0.8, **o),
    "multi-head": lambda **o: MultiHead(**HEADS, score_scale=0.7, **o),
    "l2": lambda **o: L2(**QKV, score_scale=0.6, key_scale=0.9, **o),
    "sigmoid": lambda **o: Sigmoid(**QKV, score_scale=0.8, bias=0.5, **o),
    "linear": lambda **o: Linear(**QKV, score_scale=0.8, **o),
    "unnormalized": lambda **o: Unnormalized(**QKV, score_scale=0.5, **o),
    "feed-forward": lambda **o: FeedForward(Sigmoid(**QKV, bias=-0.5, **o), **DRIFT),
}
PREFIX = {"causal": True, "normalisation": Normalisation.PREFIX}
VARIANTS = (
    {name: make() for name, make in PLAIN.items()}
    | {f"{name}, causal": make(causal=True) for name, make in PLAIN.items()}
    | {f"{n}, prefix": PLAIN[n](**PREFIX) for n in ("sigmoid", "linear", "unnormalized")}
    | {
        "sinkhorn": Sinkhorn(**QKV, score_scale=0.7),
        "fixed sinkhorn": FixedSinkhorn(**QKV, iterations=3),
    }
)


def dense_field(attention, x, cloud, weights=None, x_positions=None, positions=None):
    """Gamma(x) by its definition, every score at once."""
    weights = np.full(len(cloud), 1 / len(cloud)) if weights is None else weights
    seen = np.ones((len(x), len(cloud)))
    if positions is not None:
        seen = (positions[None, :] <= x_positions[:, None]).astype(float)
    if isinstance(attention, FeedForward):
        inner = dense_field(attention.attention, x, cloud, weights, x_positions, positions)
        return inner + x @ attention.W.T + attention.b
    if isinstance(attention, MultiHead):
        total = np.zeros_like(x)
        for q, k, v, w in zip(attention.Q, attention.K, attention.V, attention.W, strict=True):
            kernel = np.exp(attention.score_scale * (x @ q.T) @ (cloud @ k.T).T) * weights * seen
            total += kernel / kernel.sum(axis=1, keepdims=True) @ cloud @ v.T @ w.T
        return total
    queries, keys = x @ attention.Q.T, cloud @ attention.K.T
    scores = attention.score_scale * queries @ keys.T
    if isinstance(attention, L2):
        # e^{-c |Qx - Ky|^2} with an independent factor of |Ky|^2.
        squares = attention.score_scale * np.sum((queries[:, None] - keys[None]) ** 2, axis=2)
        surplus = (attention.key_scale - attention.score_scale) * np.sum(keys**2, axis=1)
        kernel = np.exp(-squares - surplus)
    elif isinstance(attention, Sigmoid):
        kernel = 1 / (1 + np.exp(-scores - attention.bias))
    elif isinstance(attention, Linear):
        kernel = scores
    else:
        kernel = np.exp(scores)
    kernel = kernel * weights * seen
    if isinstance(attention, Softmax | L2):
        kernel /= kernel.sum(axis=1, keepdims=True)
    elif attention.normalisation is Normalisation.PREFIX:
        kernel /= (weights * seen).sum(axis=1, keepdims=True)
    return kernel @ cloud @ attention.V.T
