"""Attention heads: sampled at finite dimension, linear and exact at infinite dimension.

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
    """

    head_dim: int
    causal: bool

    sampled: ClassVar[bool] = True

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Four families of innovations, v^sigma and the three backward fields."""
        names = ("xi_k", "xi_q", "xi_v", "xi_r", "p_k", "p_q", "p_v", "mixed")
        return dict.fromkeys(names, (self.history, self.head_dim * self.samples))

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
        scores, weights, mixed = self._attend(*moving, scale=site.scale)
        _, weights_free, mixed_free = self._attend(*free, scale=site.scale)
        past, regression = self.moments(
            site, (mixed, mixed - mixed_free), (own["mixed"], own["xi_r"]), chunks
        )
        return Forward(
            past=past,
            now=moment(mixed, mixed),
            regression=regression,
            stored={"xi_k": new[0], "xi_q": new[1], "xi_v": new[2], "mixed": mixed},
            fields=(moving, weights, mixed, free, weights_free, mixed_free),
            scores=jnp.moveaxis(scores, -1, 0),
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Gradients of queries, keys and values."""
        m = self.fields
        moving, weights, mixed, free, weights_free, mixed_free = fields
        families = [own[name] for name in ("xi_k", "xi_q", "xi_v", "xi_r")]
        new = self.draw(site, m, families, site.chunks)
        source, memory = self.sums(
            site,
            (site.root_past, site.response + site.learned),
            (own["xi_r"], own["mixed"]),
            site.chunks,
        )
        zeta = self.source(site, source, new)
        k, q, v = moving
        p = self._gradients(k, q, v, weights, mixed, zeta + memory, site.scale)
        k, q, v = free
        p_free = self._gradients(k, q, v, weights_free, mixed_free, zeta, site.scale)
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
            stored={"xi_r": new, "p_k": p[0], "p_q": p[1], "p_v": p[2]},
            key_gradient=jnp.trace(now[0] + now[1]) / (2 * m),
        )

    def _split(self, x: Array) -> Array:
        return x.reshape(self.inputs, self.tokens, self.head_dim, self.samples)

    def _attend(self, k: Array, q: Array, v: Array, scale: Array) -> tuple[Array, Array, Array]:
        """Scores, weights [inputs, row, column, heads], and v^sigma [fields, rows]."""
        scores = scale.astype(k.dtype) * _dots(self._split(k), self._split(q))
        weights = softmax(scores, self.causal)
        return scores, weights, _mix(weights, self._split(v)).reshape(v.shape)

    def _gradients(
        self, k: Array, q: Array, v: Array, weights: Array, mixed: Array, r: Array, scale: Array
    ) -> tuple[Array, Array, Array]:
        """p^K = M q, p^Q = M^T k and p^V = sigma^T r."""
        k, q, v, mixed, r = map(self._split, (k, q, v, mixed, r))
        own = jnp.sum(r * mixed, axis=2)
        M = scale.astype(k.dtype) * weights * (_dots(r, v) - own[:, :, None])
        parts = (_mix(M, q), _mix(M.swapaxes(1, 2), k), _mix(weights.swapaxes(1, 2), r))
        p_k, p_q, p_v = (part.reshape(self.fields, -1) for part in parts)
        return p_k, p_q, p_v


@dataclass(frozen=True)
class InfiniteHeads(AbstractUnit):
    """Heads of infinite dimension at alpha_A = 1: coordinates linear in their sources, exact.

    Attributes:
        causal: whether tokens see only themselves and those before them.
    """

    causal: bool

    sampled: ClassVar[bool] = False

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Coefficient rows on (u^K, u^Q, u^V, zeta^O), and the two kernels of the sources."""
        K = self.history
        wide, square = ("mixed", "p_k", "p_q", "p_v"), ("H", "G")
        return {name: (K, 4 * K) for name in wide} | {name: (K, K) for name in square}

    def forward(self, own: Buffers, site: Site) -> Forward:
        """Attention concentrates: A = <k q>."""
        H, G = symmetric(own["H"], site), own["G"]
        memory = site.response + site.learned
        k, q, v = (
            unit_rows(self.fields, 4, self.history, family, site.start) + memory @ own[name]
            for family, name in enumerate(("p_k", "p_q", "p_v"))
        )
        scores = self._per_input(self._with_cov(k, H, G) @ q.T)
        weights = softmax(scores[..., None], self.causal)[..., 0]
        mixed = self._mix(weights, v)
        mixed_cov = self._with_cov(mixed, H, G)
        return Forward(
            past=mixed_cov @ own["mixed"].T,
            now=mixed_cov @ mixed.T,
            regression=mixed[:, 3 * self.history :],
            stored={"mixed": mixed, "H": with_block(site)},
            fields=(k, q, v, weights, mixed),
            scores=scores[None],
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """M concentrates: sigma (<r v> - <r v^sigma>)."""
        k, q, v, weights, mixed = fields
        H, G = own["H"], symmetric(own["G"], site)
        r = unit_rows(self.fields, 4, self.history, 3, site.start)
        r = r + (site.response + site.learned) @ own["mixed"]
        r_cov = self._with_cov(r, H, G)
        away = jnp.sum(r_cov * mixed, axis=1).reshape(self.inputs, self.tokens, 1)
        M = weights * (self._per_input(r_cov @ v.T) - away)
        p = {
            "p_k": self._mix(M, q),
            "p_q": self._mix(M.swapaxes(1, 2), k),
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
        gradient = jnp.trace(nows["p_k"] + nows["p_q"]) / (2 * self.fields)
        stored = {**p, "G": with_block(site)}
        return Backward(past, now, past, now, regression, stored, gradient)

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
