"""Attention heads of infinite dimension, linear in their sources and exact.

With kh = k / rho^k and qh alike, where the architecture normalises them (rho^2 = |k|^2 / N +
norm_eps, for each head and token), scores are A = gain a, a = N^(-alpha_A) kh . qh, and backward

    M = gain M0,  M0 = N^(-alpha_A) sigma r . (v - v^sigma),  P^K = M qh,
    p^K = (P^K - kh (kh . P^K) / N) / rho^k.

A trained gain is shared by the heads of a layer: it learns from the mean over them of M0 a.

Attention matrices have one row per query and one column per key: the paper's k_s, which indexes
rows, is what others call the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from translimit.limits.dmft.units import (
    AbstractUnit,
    Backward,
    Buffers,
    Forward,
    Site,
    symmetric,
    unit_rows,
    with_block,
)


@dataclass(frozen=True)
class InfiniteHeads(AbstractUnit):
    """Heads of infinite dimension at alpha_A = 1: coordinates linear in their sources, exact.

    Attributes:
        causal: whether tokens see only themselves and those before them.
        qk_norm: whether keys and queries are normalised over the head; with or without a mean
            is the same.
    """

    causal: bool
    qk_norm: bool

    sampled: ClassVar[bool] = False

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Coefficient rows on (u^K, u^Q, u^V, zeta^O), and the two kernels of the sources."""
        K = self.history
        wide, square = ("mixed", "p_k", "p_q", "p_v"), ("H", "G")
        rows = {name: (K, 4 * K) for name in wide} | {name: (K, K) for name in square}
        return rows | {"gain": (K, 1)}

    def forward(self, own: Buffers, site: Site) -> Forward:
        """Attention concentrates: A = <k q>."""
        H, G = symmetric(own["H"], site), own["G"]
        memory = site.response + site.learned
        k, q, v = (
            unit_rows(self.fields, 4, self.history, family, site.start) + memory @ own[name]
            for family, name in enumerate(("p_k", "p_q", "p_v"))
        )
        (kh, k_norm), (qh, q_norm) = (self._normed(x, H, G, site) for x in (k, q))
        a = self._per_input(self._with_cov(kh, H, G) @ qh.T)
        gain = site.score_gain + site.gain_memory @ own["gain"][:, 0]
        scores = gain * a
        weights = softmax(scores[..., None], self.causal)[..., 0]
        mixed = self._mix(weights, v)
        mixed_cov = self._with_cov(mixed, H, G)
        return Forward(
            past=mixed_cov @ own["mixed"].T,
            now=mixed_cov @ mixed.T,
            regression=mixed[:, 3 * self.history :],
            stored={"mixed": mixed, "H": with_block(site)},
            fields=(kh, k_norm, qh, q_norm, v, weights, mixed, a, gain),
            scores=scores[None],
            score_gain=gain,
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """M concentrates: M0 = sigma (<r v> - <r v^sigma>), and (kh . P^K) / N = sum M a."""
        kh, k_norm, qh, q_norm, v, weights, mixed, a, gain = fields
        H, G = own["H"], symmetric(own["G"], site)
        r = unit_rows(self.fields, 4, self.history, 3, site.start)
        r = r + (site.response + site.learned) @ own["mixed"]
        r_cov = self._with_cov(r, H, G)
        away = jnp.sum(r_cov * mixed, axis=1).reshape(self.inputs, self.tokens, 1)
        M0 = weights * (self._per_input(r_cov @ v.T) - away)
        gradient = jnp.sum(M0 * a, axis=2).reshape(-1, 1)
        M = gain * M0
        p_k, p_q = self._mix(M, qh), self._mix(M.swapaxes(1, 2), kh)
        if self.qk_norm:
            p_k = (p_k - kh * jnp.sum(M * a, axis=2).reshape(-1, 1)) / k_norm
            p_q = (p_q - qh * jnp.sum(M * a, axis=1).reshape(-1, 1)) / q_norm
        p = {
            "p_k": p_k,
            "p_q": p_q,
            "p_v": self._mix(weights.swapaxes(1, 2), r),
        }
        covs = {name: self._with_cov(x, H, G) for name, x in p.items()}
        past = sum((covs[name] @ own[name].T for name in p), jnp.zeros_like(site.row))
        nows = {name: covs[name] @ x.T for name, x in p.items()}
        now = nows["p_k"] + nows["p_q"] + nows["p_v"]
        blocks = [slice(i * self.history, (i + 1) * self.history) for i in range(3)]
        regression = sum(
            (x[:, block] for x, block in zip(p.values(), blocks, strict=True)),
            jnp.zeros_like(site.row),
        )
        return Backward(
            past=past,
            now=now,
            past_kappa=past,
            now_kappa=now,
            regression=regression,
            stored={**p, "G": with_block(site), "gain": gradient},
            key_gradient=jnp.trace(nows["p_k"] + nows["p_q"]) / (2 * self.fields),
            gain_gradient=gradient,
        )

    def _normed(self, x: Array, H: Array, G: Array, site: Site) -> tuple[Array, Array]:
        """Rows of keys or queries over their norms, and these [fields, 1]."""
        if not self.qk_norm:
            return x, jnp.ones((len(x), 1))
        square = jnp.sum(self._with_cov(x, H, G) * x, axis=1, keepdims=True)
        norm = jnp.sqrt(square + site.norm_eps)
        return x / norm, norm

    def _with_cov(self, rows: Array, H: Array, G: Array) -> Array:
        parts = rows.reshape(len(rows), 4, self.history)
        left = jnp.einsum("aik,kj->aij", parts[:, :3], H)
        right = parts[:, 3] @ G
        return jnp.concatenate([left, right[:, None]], axis=1).reshape(rows.shape)

    def _per_input(self, kernel: Array) -> Array:
        blocks = kernel.reshape(self.inputs, self.tokens, self.inputs, self.tokens)
        return jnp.moveaxis(jnp.diagonal(blocks, axis1=0, axis2=2), -1, 0)

    def _mix(self, weights: Array, rows: Array) -> Array:
        mixed = jnp.einsum("psr,prd->psd", weights, rows.reshape(self.inputs, self.tokens, -1))
        return mixed.reshape(rows.shape)


def softmax(
    scores: Float[Array, "inputs tokens tokens heads"], causal: bool
) -> Float[Array, "inputs tokens tokens heads"]:
    """Softmax over columns of [inputs, row, column, heads]; causal: column <= row."""
    if causal:
        allowed = jnp.tril(jnp.ones(scores.shape[1:3], bool))[None, :, :, None]
        scores = jnp.where(allowed, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=2)
