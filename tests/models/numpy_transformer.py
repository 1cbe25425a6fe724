"""Forward passes in NumPy, float64, written from the formulas: oracles of the transformer.

`forward` has every ingredient; `image_trainer` and `language_trainer` are the networks of the
official trainers of Bordelon et al. in their own terms. Nothing of translimit is called.
"""

import math
from typing import Any

import numpy as np
from scipy.special import erf


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / math.sqrt(2))) / 2


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def normed(x: np.ndarray, kind: str | None, eps: float) -> np.ndarray:
    if kind is None:
        return x
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def turned(x: np.ndarray, base: float) -> np.ndarray:
    """Token i of [tokens, N]: coordinates j and j + N / 2 turn by i base^(-2 j / N)."""
    y, half = x.copy(), x.shape[1] // 2
    for i in range(len(x)):
        for j in range(half):
            angle = i * base ** (-j / half)
            c, s = math.cos(angle), math.sin(angle)
            y[i, j] = x[i, j] * c - x[i, j + half] * s
            y[i, j + half] = x[i, j + half] * c + x[i, j] * s
    return y


ACTIVE = {"gelu": gelu, "tanh": np.tanh, "linear": lambda x: x}


def forward(
    shape: Any, mult: dict[str, float], score: float, branch: float, w: dict[str, Any], x: Any
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs of one sequence, and the scores of all layers [heads, tokens, tokens]."""
    eps, N = shape.norm_eps, shape.head_dim
    if shape.vocabulary is None:
        h = x @ (mult["patch_embedding"] * w["patch_embedding"]).T
    else:
        h = mult["token_embedding"] * w["token_embedding"][x]
    S = len(h)
    if shape.positions in ("learned", "both"):
        h = h + mult["position_embedding"] * w["position_embedding"][:S]
    seen = np.tril(np.ones((S, S), bool)) if shape.causal else np.ones((S, S), bool)
    act = ACTIVE[shape.stream_activation.value] if shape.stream_activation else lambda u: u
    recorded = []
    for layer in range(shape.layers):
        one = {name: mult[name] * w[name][layer] for name in ("query", "key", "value")}
        gain = mult["score_gain"] * w["score_gain"][layer] if shape.score_gain else 1.0
        u = act(normed(h, shape.norm, eps))
        mixed, scores = [], []
        for head in range(shape.heads):
            shared = head * (shape.kv_heads or shape.heads) // shape.heads
            q, k, v = (
                u @ one[name][which * N : (which + 1) * N].T
                for name, which in (("query", head), ("key", shared), ("value", shared))
            )
            q, k = (normed(y, shape.qk_norm, eps) for y in (q, k))
            if shape.positions in ("rotary", "both"):
                q, k = (turned(y, shape.rotary_base) for y in (q, k))
            A = score * gain * q @ k.T
            scores.append(np.where(seen, A, 0))
            mixed.append(softmax(np.where(seen, A, -np.inf)) @ v)
        recorded.append(np.stack(scores))
        out = mult["attention_out"] * w["attention_out"][layer]
        h = h + branch * np.concatenate(mixed, axis=1) @ out.T
        if shape.mlp_ratio:
            into, back = (mult[n] * w[n][layer] for n in ("mlp_in", "mlp_out"))
            hidden = act(normed(h, shape.norm, eps)) @ into.T
            h = h + branch * ACTIVE[shape.activation.value](hidden) @ back.T
    last = normed(h, shape.readout_norm, eps)
    if shape.pooled:
        last = last.mean(axis=0)
    readout = w["token_embedding"] if shape.tied else w["readout"]
    return last @ (mult["readout"] * readout).T, recorded


def image_trainer(w: dict[str, Any], x: np.ndarray, sizes: Any) -> np.ndarray:
    """The vision transformer: norms without gains, q and k over sqrt(2), mean of normed tokens.

    Depth counts relative to beta_0 in the first and the last layer.
    """
    N, H, L, alpha_A, alpha_L, beta0, gamma0 = sizes
    n, outer = N * H, (L / beta0) ** (0.5 - alpha_L)
    h = outer * x @ w["patch_embedding"].T / math.sqrt(x.shape[1])
    h = h + outer * w["position_embedding"]
    for layer in range(L):
        u = normed(h, "layer", 1e-6)
        scale = N ** (alpha_A - 1.5) * H**-0.5 / math.sqrt(2)
        q, k = (scale * u @ w[name][layer].T for name in ("query", "key"))
        v = n**-0.5 * u @ w["value"][layer].T
        heads = [slice(i * N, (i + 1) * N) for i in range(H)]
        mixed = [softmax(N**-alpha_A * q[:, one] @ k[:, one].T) @ v[:, one] for one in heads]
        step = beta0 * L**-alpha_L * n**-0.5
        h = h + step * np.concatenate(mixed, axis=1) @ w["attention_out"][layer].T
        inner = gelu(n**-0.5 * normed(h, "layer", 1e-6) @ w["mlp_in"][layer].T)
        h = h + step * inner @ w["mlp_out"][layer].T
    pooled = normed(h, "layer", 1e-6).mean(axis=0)
    return outer * w["readout"] @ pooled / (gamma0 * n)


def language_trainer(w: dict[str, Any], ids: np.ndarray, sizes: Any) -> np.ndarray:
    """The language model: GELU before every sub-block, q and k with LayerNorm over the head.

    Its readout has a bias inside the multiplier.
    """
    N, H, L, alpha_A, alpha_L, beta0, gamma0 = sizes
    n, outer, S = N * H, (L / beta0) ** (0.5 - alpha_L), len(ids)
    h = outer * (w["token_embedding"][ids] + w["position_embedding"][:S])
    mask = np.tril(np.ones((S, S), bool))
    for layer in range(L):
        u = gelu(normed(h, "layer", 1e-6))
        scale = N ** (alpha_A - 1.5) * H**-0.5
        mixed = []
        for i in range(H):
            one = slice(i * N, (i + 1) * N)
            both = (scale * u @ w[name][layer][one].T for name in ("query", "key"))
            q, k = (normed(x, "layer", 1e-6) for x in both)
            rows = softmax(np.where(mask, N**-alpha_A * q @ k.T, -np.inf))
            mixed.append(rows @ (n**-0.5 * u @ w["value"][layer][one].T))
        step = beta0 * L**-alpha_L * n**-0.5
        h = h + step * np.concatenate(mixed, axis=1) @ w["attention_out"][layer].T
        inner = gelu(n**-0.5 * gelu(normed(h, "layer", 1e-6)) @ w["mlp_in"][layer].T)
        h = h + step * inner @ w["mlp_out"][layer].T
    last = normed(h, "layer", 1e-6)
    return outer * (last @ w["readout"].T + w["readout_bias"]) / (gamma0 * n)
