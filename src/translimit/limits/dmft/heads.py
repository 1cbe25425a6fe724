"""Attention heads: sampled at finite dimension, linear and exact at infinite dimension.

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
import numpy as np
from jaxtyping import Array, Float, PyTree

from translimit.limits.dmft.units import (
    AbstractSampledUnit,
    AbstractUnit,
    Backward,
    Buffers,
    Forward,
    Site,
    moment,
    symmetric,
    unit_rows,
    with_block,
)

#: Sums over tokens or head coordinates up to this length are written out (and fuse).
WRITTEN_OUT = 16


@dataclass(frozen=True)
class SampledHeads(AbstractSampledUnit):
    """Attention heads with `head_dim` key, query and value coordinates each, sampled.

    Attributes:
        head_dim: N.
        causal: whether tokens see only themselves and those before them.
        qk_norm: "rms" or "layer" of keys and queries over the head, or None.
        rotary: base of the angles by which they are turned, or None.
    """

    head_dim: int
    causal: bool
    qk_norm: str | None
    rotary: float | None

    sampled: ClassVar[bool] = True

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Four families of innovations, v^sigma, three backward fields, and one of the gain."""
        names = ("xi_k", "xi_q", "xi_v", "xi_r", "p_k", "p_q", "p_v", "mixed")
        wide = dict.fromkeys(names, (self.history, self.head_dim * self.samples))
        return wide | {"gain": (self.history, 1)}

    def forward(self, own: Buffers, site: Site) -> Forward:
        """Keys, queries and values, attention, and what it writes."""
        m, chunks = self.fields, site.past_chunks
        families = [own[name] for name in ("xi_k", "xi_q", "xi_v", "xi_r")]
        new = self.draw(site, 3 * m, families, chunks)
        keys = site.response + site.kappa * site.learned
        values = site.response + site.learned
        *sources, memory_k, memory_q, memory_v = self.sums(
            site,
            (site.root_past,) * 3 + (keys, keys, values),
            (*families[:3], own["p_k"], own["p_q"], own["p_v"]),
            chunks,
        )
        new = [new[:m], new[m : 2 * m], new[2 * m :]]
        free = [self.source(site, past, xi) for past, xi in zip(sources, new, strict=True)]
        moving = [free[0] + memory_k, free[1] + memory_q, free[2] + memory_v]
        gain = site.score_gain + site.gain_memory @ own["gain"][site.layer, :, 0]
        scores, weights, mixed = self._attend(*moving, site=site, gain=gain)
        _, weights_free, mixed_free = self._attend(*free, site=site, gain=gain)
        past, regression = self.moments(
            site, (mixed, mixed - mixed_free), (own["mixed"], own["xi_r"]), chunks
        )
        return Forward(
            past=past,
            now=moment(mixed, mixed),
            regression=regression,
            stored={"xi_k": new[0], "xi_q": new[1], "xi_v": new[2], "mixed": mixed},
            fields=(moving, weights, mixed, free, weights_free, mixed_free, gain),
            scores=jnp.moveaxis(scores, -1, 0),
            score_gain=gain,
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Gradients of queries, keys and values."""
        m = self.fields
        moving, weights, mixed, free, weights_free, mixed_free, gain = fields
        families = [own[name] for name in ("xi_k", "xi_q", "xi_v", "xi_r")]
        new = self.draw(site, m, families, site.chunks)
        source, memory = self.sums(
            site,
            (site.root_past, site.response + site.learned),
            (own["xi_r"], own["mixed"]),
            site.chunks,
        )
        zeta = self.source(site, source, new)
        *p, gradient = self._gradients(moving, weights, mixed, zeta + memory, site, gain)
        *p_free, _ = self._gradients(free, weights_free, mixed_free, zeta, site, gain)
        moved = [a - b for a, b in zip(p, p_free, strict=True)]
        *pasts, s_k, s_q, s_v = self.moments(
            site,
            (*p, *moved),
            (own["p_k"], own["p_q"], own["p_v"], *families[:3]),
            site.chunks,
        )
        now = [moment(x, x) for x in p]
        return Backward(
            past=pasts[0] + pasts[1] + pasts[2],
            now=now[0] + now[1] + now[2],
            past_kappa=site.kappa * (pasts[0] + pasts[1]) + pasts[2],
            now_kappa=site.kappa * (now[0] + now[1]) + now[2],
            regression=s_k + s_q + s_v,
            stored={"xi_r": new, "p_k": p[0], "p_q": p[1], "p_v": p[2], "gain": gradient},
            key_gradient=jnp.trace(now[0] + now[1]) / (2 * m),
            gain_gradient=gradient,
        )

    def _split(self, x: Array) -> Array:
        return x.reshape(self.inputs, self.tokens, self.head_dim, self.samples)

    def _attend(
        self, k: Array, q: Array, v: Array, site: Site, gain: Array
    ) -> tuple[Array, Array, Array]:
        """Scores, weights [inputs, row, column, heads], and v^sigma [fields, rows]."""
        kh, qh = (self._turned(self._normed(x, site)[0]) for x in (k, q))
        scores = (gain * site.scale).astype(k.dtype) * _dots(kh, qh)
        weights = softmax(scores, self.causal)
        return scores, weights, _mix(weights, self._split(v)).reshape(v.shape)

    def _gradients(
        self,
        fields: tuple[Array, Array, Array] | list[Array],
        weights: Array,
        mixed: Array,
        r: Array,
        site: Site,
        gain: Array,
    ) -> tuple[Array, Array, Array, Array]:
        """p^K, p^Q and p^V = sigma^T r; and M0 a summed over columns, the mean over heads."""
        k, q, v = fields
        (k_unit, k_norm), (q_unit, q_norm) = self._normed(k, site), self._normed(q, site)
        kh, qh = self._turned(k_unit), self._turned(q_unit)
        v, mixed, r = map(self._split, (v, mixed, r))
        own = jnp.sum(r * mixed, axis=2)
        M0 = site.scale.astype(v.dtype) * weights * (_dots(r, v) - own[:, :, None])
        P_k, P_q = _mix(M0, qh), _mix(M0.swapaxes(1, 2), kh)
        gradient = jnp.mean(kh * P_k, axis=(2, 3)).astype(jnp.float64).reshape(-1, 1)
        gain = gain.astype(v.dtype)
        parts = (
            self._through_norm(gain * self._turned(P_k, -1), k_unit, k_norm),
            self._through_norm(gain * self._turned(P_q, -1), q_unit, q_norm),
            _mix(weights.swapaxes(1, 2), r),
        )
        p_k, p_q, p_v = (part.reshape(self.fields, -1) for part in parts)
        return p_k, p_q, p_v, gradient

    def _normed(self, x: Array, site: Site) -> tuple[Array, Array | None]:
        """Keys or queries of [inputs, tokens, N, heads] over their norms, and these."""
        x = self._split(x)
        if self.qk_norm is None:
            return x, None
        if self.qk_norm == "layer":
            x = x - x.mean(axis=2, keepdims=True)
        square = jnp.mean(x**2, axis=2, keepdims=True)
        norm = jnp.sqrt(square + site.norm_eps.astype(x.dtype))
        return x / norm, norm

    def _through_norm(self, P: Array, unit: Array, norm: Array | None) -> Array:
        """Gradients through the normalisation of keys or queries."""
        if norm is None:
            return P
        if self.qk_norm == "layer":
            P = P - P.mean(axis=2, keepdims=True)
        return (P - unit * jnp.mean(unit * P, axis=2, keepdims=True)) / norm

    def _turned(self, x: Array, sign: int = 1) -> Array:
        """Rotary positions: pairs of coordinates turned by angles that grow with the position."""
        if self.rotary is None:
            return x
        half = self.head_dim // 2
        angles = np.outer(np.arange(self.tokens), self.rotary ** -(np.arange(half) / half))
        cos = jnp.asarray(np.cos(angles), x.dtype)[None, :, :, None]
        sin = jnp.asarray(sign * np.sin(angles), x.dtype)[None, :, :, None]
        a, b = x[:, :, :half], x[:, :, half:]
        return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=2)


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


def _dots(a: Array, b: Array) -> Array:
    """a_s . b_r over head coordinates, [inputs, s, r, heads] of [inputs, tokens, dim, heads]."""
    if a.shape[2] > WRITTEN_OUT:
        return jnp.einsum("psnh,prnh->psrh", a, b, precision=jax.lax.Precision.HIGHEST)
    terms = [a[:, :, None, n] * b[:, None, :, n] for n in range(a.shape[2])]
    return sum(terms[1:], terms[0])


def _mix(weights: Array, x: Array) -> Array:
    """Sum over columns of weights times x, [inputs, row, dim, heads]."""
    if x.shape[1] > WRITTEN_OUT:
        return jnp.einsum("psrh,prnh->psnh", weights, x, precision=jax.lax.Precision.HIGHEST)
    terms = [weights[:, :, r, None] * x[:, None, r] for r in range(x.shape[1])]
    return sum(terms[1:], terms[0])
