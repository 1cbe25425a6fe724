"""A stack in plain NumPy, token by token and head by head, from given weights.

Positions turn queries and keys as complex phases of the difference i - j, experts are chosen by
sorting, and every token passes alone: nothing is shared with `translimit.models`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erf

from translimit.describe import (
    Activation,
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Norm,
    Scores,
    Stack,
)

PHI = {
    Activation.GELU: lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    Activation.SILU: lambda x: x / (1 + np.exp(-x)),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.RELU_SQUARED: lambda x: np.maximum(x, 0) ** 2,
    Activation.TANH: np.tanh,
}


def norm(of: Any, x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    if of is None:
        return x
    if of.kind is Norm.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    return of.gain * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + of.norm_eps)


def t5_row(scores: Scores, ahead: int, causal: bool) -> int:
    """The row of the table of relative positions, by the formula that T5 is written in."""
    rows, start = scores.bias_buckets, 0
    if not causal:
        rows //= 2
        start, ahead = (rows if ahead > 0 else 0), -abs(ahead)
    behind = max(-ahead, 0)
    exact = rows // 2
    if behind < exact:
        return start + behind
    share = math.log(behind / exact) / math.log(scores.bias_reach / exact)
    return start + min(exact + int(share * (rows - exact) + 1e-9), rows - 1)


def product(q: np.ndarray, k: np.ndarray, apart: int, rotary: Any) -> float:
    """<q, k> with positions: of each pair the real part of q conj(k) e^{i apart theta}."""
    if rotary is None:
        return float(q @ k)
    half = len(rotary.thetas)
    total = float(q[2 * half :] @ k[2 * half :])
    for p in range(half):
        pair = complex(q[p], q[half + p]) * complex(k[p], -k[half + p])
        total += rotary.factor**2 * (pair * np.exp(1j * apart * rotary.thetas[p])).real
    return total


def attention(branch: Any, w: Any, y: np.ndarray, causal: bool) -> tuple[np.ndarray, list[float]]:
    """What is added to the stream, and the mean entropy of every head."""
    n = len(y)
    w = {name: np.asarray(one, float) for name, one in w.items()}
    if isinstance(branch, Attention):
        groups, values = branch.key_heads, branch.values
        q = (y @ w["query"]).reshape(n, branch.heads, -1)
        k = (y @ w["key"]).reshape(n, groups, -1)
        v = (y @ w["value"]).reshape(n, groups, values)
        of = branch.qk_norm
        # Positions come last here, in `product`: they keep norms over entries.
        if of is not None and of.over == "all":
            q = norm(of, q.reshape(n, -1)).reshape(q.shape)
            k = norm(of, k.reshape(n, -1)).reshape(k.shape)
        elif of is not None:
            q, k = norm(of, q), norm(of, k)
    else:
        assert isinstance(branch, LatentAttention)
        groups, values = branch.heads, branch.value_dim

        def unit(x: np.ndarray) -> np.ndarray:
            return x / np.sqrt((x**2).mean(axis=1, keepdims=True))

        asks = y if branch.query_rank is None else unit(y @ w["query_latent"])
        reads = unit(y @ w["kv_latent"])
        q = (asks @ w["query"]).reshape(n, branch.heads, -1)
        nope = (reads @ w["nope_key"]).reshape(n, groups, -1)
        k = np.stack([np.hstack([y @ w["rope_key"], nope[:, h]]) for h in range(groups)], axis=1)
        v = (reads @ w["value"]).reshape(n, groups, values)
    if isinstance(branch, Attention):
        v = branch.value_scale * v
    of, mixed, entropies = branch.scores, np.zeros((n, branch.heads, values)), []
    for h in range(branch.heads):
        g, told = h * groups // branch.heads, []
        for i in range(n):
            seen, e = [], []
            for j in range(n):
                far = of.window is not None and abs(i - j) >= of.window
                other = of.chunk is not None and i // of.chunk != j // of.chunk
                if far or other or (causal and j > i):
                    continue
                s = branch.score_scale * product(q[i, h], k[j, g], i - j, branch.rotary)
                s = s if of.softcap is None else of.softcap * math.tanh(s / of.softcap)
                s += of.slopes[h] * (j - i) if of.slopes else 0.0
                s += w["table"][t5_row(of, j - i, causal), h] if "table" in w else 0.0
                seen.append(j)
                e.append(math.exp(s))
            p = np.array(e) / (sum(e) + (1.0 if of.sink else 0.0))
            mixed[i, h] = p @ v[seen, g]
            if len(seen) > 1:
                told.append(-(p * np.log(p)).sum())
        entropies.append(float(np.mean(told)) if told else 0.0)
    return mixed.reshape(n, -1) @ w["out"], entropies


def units(branch: FeedForward, w: Any, y: np.ndarray) -> np.ndarray:
    hidden = PHI[branch.activation](y @ w["in"])
    if branch.gated:
        hidden = hidden * (y @ w["up"] + branch.shift)
    return hidden @ w["out"]


def experts(branch: Experts, w: Any, y: np.ndarray) -> np.ndarray:
    w = {name: np.asarray(one, float) for name, one in w.items()}
    out = np.zeros_like(y)
    for i, x in enumerate(y):
        logits = x @ w["router"] + w.get("router_bias", 0.0)
        scores = 1 / (1 + np.exp(-logits)) if branch.routing == "sigmoid" else logits
        size = branch.count // branch.groups
        groups = [range(g * size, (g + 1) * size) for g in range(branch.groups)]
        groups.sort(key=lambda one: -sum(sorted(scores[list(one)])[-2:]))
        allowed = [e for one in groups[: branch.open_groups] for e in one]
        if branch.groups == 1:
            allowed = list(range(branch.count))
        chosen = sorted(allowed, key=lambda e: -scores[e])[: branch.active]
        if branch.routing == "sigmoid":
            share = {e: scores[e] / sum(scores[c] for c in chosen) for e in chosen}
        else:
            among = {
                "softmax": range(branch.count),
                "softmax_renormalised": chosen,
                "softmax_top": chosen,
            }[branch.routing]
            total = sum(math.exp(logits[e]) for e in among)
            share = {e: math.exp(logits[e]) / total for e in chosen}
        for e in chosen:
            own = {name: w[name][e] for name in ("in", "out", "up") if name in w}
            out[i] += branch.factor * share[e] * units(branch.expert, own, x[None])[0]
    if branch.shared is not None:
        own = {name[7:]: one for name, one in w.items() if name.startswith("shared_")}
        out = out + units(branch.shared, own, y)
    return out


def passed(stack: Stack, index: int, weights: Any, x: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Tokens after a layer, and the entropy of every head."""
    entropies: list[float] = []
    for block, ofs in zip(stack.layers[index], weights, strict=True):
        y, added = norm(block.norm_in, x), np.zeros_like(x)
        for branch, w in zip(block.branches, ofs, strict=True):
            w = {name: np.asarray(one, float) for name, one in w.items()}
            if isinstance(branch, (Attention, LatentAttention)):
                part, told = attention(branch, w, y, stack.causal)
                entropies += told
            elif isinstance(branch, FeedForward):
                part = units(branch, w, y)
            else:
                part = experts(branch, w, y)
            added = added + part
        x = block.residual * x + block.branch * norm(block.norm_out, added)
        x = norm(block.norm_post, x)
    return x, entropies


def cov(stack: Stack, x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True) if stack.centred else x
    return x @ x.T / stack.dim
