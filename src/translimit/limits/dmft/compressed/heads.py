"""Attention heads: sampled at finite dimension, coefficient rows at infinite dimension.

With kh = k / rho^k and qh alike, where the architecture normalises them (rho^2 = |k|^2 / N +
norm_eps, for each head and token), scores are A = gain a, a = N^(-alpha_A) kh . qh, and backward

    M = gain M0,  M0 = N^(-alpha_A) sigma r . (v - v^sigma),  P^K = M qh,
    p^K = (P^K - kh (kh . P^K) / N) / rho^k.

At infinite dimension (alpha_A = 1) scores are means over coordinates, A = <k q>, all heads are
the same, and (kh . P^K) / N = sum M a.

Attention matrices have one row per query and one column per key: the paper's k_s, which indexes
rows, is what others call the query.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from translimit.limits.dmft.compressed.sites import (
    AbstractSampledSite,
    AbstractSite,
    Gradients,
    Written,
)
from translimit.limits.dmft.heads import softmax
from translimit.limits.dmft.plan import Numbers

T = TypeVar("T")

#: Sums over tokens or head coordinates up to this length are written out (and fuse).
WRITTEN_OUT = 16


@dataclass(frozen=True)
class Heads(AbstractSampledSite):
    """Attention heads with `head_dim` key, query and value coordinates each, sampled.

    Attributes:
        head_dim: N.
        causal: whether tokens see only themselves and those before them.
        qk_norm: "rms" or "layer" of keys and queries over the head, or None.
        rotary: base of the angles by which they are turned, or None.
        group: heads of queries that share keys and values.
        slow_keys: whether keys and queries learn at a rate of their own (alpha_A < 1).
    """

    head_dim: int
    causal: bool
    qk_norm: str | None
    rotary: float | None
    group: int
    slow_keys: bool

    @property
    def families(self) -> int:
        """What others call queries, of every head of a group, then keys and values."""
        return self.group + 2

    @property
    def written(self) -> int:
        """v^sigma of every head of a group."""
        return self.group

    @property
    def width(self) -> int:
        """Coordinates of one head of every group."""
        return self.head_dim * self.samples

    @property
    def scale(self) -> float:
        """The mean over heads and coordinates."""
        return 1 / (self.group * self.width)

    @property
    def slow(self) -> bool:
        """Whether keys and queries learn at a rate of their own."""
        return self.slow_keys

    def forward(
        self, y: Float[Array, "fields stacked"], numbers: Numbers, gain: Float[Array, ""]
    ) -> Written:
        """v^sigma."""
        *own, q, v = jnp.split(y, self.families, axis=1)
        qh, v = self._turned(self._normed(q, numbers)[0]), self._split(v)
        factor = (gain * numbers.scale).astype(y.dtype)
        scores = [factor * _dots(self._turned(self._normed(k, numbers)[0]), qh) for k in own]
        scores = _once(scores)
        weights = _once(tuple(_weights(one, self.causal) for one in scores))
        mixed = _once([_mix(one, v) for one in weights])
        written = jnp.concatenate([one.reshape(self.fields, -1) for one in mixed], axis=1)
        found = jnp.concatenate([jnp.moveaxis(one, -1, 0) for one in scores])
        return Written(written, found, (y, weights, written))

    def backward(
        self,
        r: Float[Array, "fields width"],
        saved: PyTree[Array],
        numbers: Numbers,
        gain: Float[Array, ""],
    ) -> Gradients:
        """p^K, p^Q and p^V = sigma^T r; and M0 a summed over columns, the mean over heads.

        What heads of a group share has the sum of their gradients.
        """
        y, weights, written = saved
        *own, q, v = jnp.split(y, self.families, axis=1)
        (q_unit, q_norm), v = self._normed(q, numbers), self._split(v)
        qh, scale, factor = (
            self._turned(q_unit),
            numbers.scale.astype(v.dtype),
            gain.astype(v.dtype),
        )
        parts, P_q, p_v, gradient = [], [], [], []
        received = jnp.split(r, self.group, axis=1)
        for k, back, mixed, sigma in zip(
            own, received, jnp.split(written, self.group, axis=1), weights, strict=True
        ):
            k_unit, k_norm = self._normed(k, numbers)
            kh, back = self._turned(k_unit), self._split(back)
            away = _over_head(back * self._split(mixed))
            M0 = _once(scale * sigma * (_dots(back, v) - away[:, :, None]))
            P_k = _mix(M0, qh)
            gradient.append(jnp.mean(kh * P_k, axis=(2, 3)))
            parts.append(self._through_norm(factor * self._turned(P_k, -1), k_unit, k_norm))
            P_q.append(_mix(M0.swapaxes(1, 2), kh))
            p_v.append(_mix(sigma.swapaxes(1, 2), back))
        shared = factor * self._turned(_total(P_q), -1)
        parts += [self._through_norm(shared, q_unit, q_norm), _total(p_v)]
        p = jnp.concatenate([part.reshape(self.fields, -1) for part in _once(parts)], axis=1)
        slope = _total(gradient) / self.group
        return Gradients(p, slope.astype(jnp.float64).reshape(-1, 1))

    def learning(
        self, p: Float[Array, "fields stacked"], numbers: Numbers
    ) -> Float[Array, "fields stacked"]:
        """Kappa times the gradients of keys and queries."""
        if not self.slow:
            return p
        place = jnp.arange(p.shape[1]) < (self.group + 1) * self.width
        return jnp.where(place, numbers.kappa.astype(p.dtype), 1) * p

    def key_gradient(self, p: Float[Array, "fields stacked"]) -> Float[Array, ""]:
        """The mean of ((p^K)^2 + (p^Q)^2) / 2."""
        wide = self.group * self.width
        own, shared = p[:, :wide], p[:, wide : wide + self.width]
        return ((jnp.mean(own**2) + jnp.mean(shared**2)) / 2).astype(jnp.float64)

    def _split(self, x: Array) -> Array:
        return x.reshape(self.inputs, self.tokens, self.head_dim, self.samples)

    def _normed(self, x: Array, numbers: Numbers) -> tuple[Array, Array | None]:
        """Keys or queries of [inputs, tokens, N, heads] over their norms, and these."""
        x = self._split(x)
        if self.qk_norm is None:
            return x, None
        if self.qk_norm == "layer":
            x = x - x.mean(axis=2, keepdims=True)
        square = jnp.mean(x**2, axis=2, keepdims=True)
        norm = jnp.sqrt(square + numbers.norm_eps.astype(x.dtype))
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
class LinearHeads(AbstractSite):
    """Heads of infinite dimension at alpha_A = 1: coordinates linear in their sources.

    Attributes:
        columns: room for sources.
        causal: whether tokens see only themselves and those before them.
        qk_norm: whether keys and queries are normalised over the head; with or without a mean
            is the same.
    """

    columns: int
    causal: bool
    qk_norm: bool

    sampled: ClassVar[bool] = False

    @property
    def families(self) -> int:
        """Keys, queries and values."""
        return 3

    @property
    def width(self) -> int:
        """Sources."""
        return self.columns

    @property
    def scale(self) -> float:
        """The sum over white sources is the mean over coordinates."""
        return 1.0

    def forward(
        self, y: Float[Array, "fields stacked"], numbers: Numbers, gain: Float[Array, ""]
    ) -> Written:
        """Attention concentrates: A = <k q>."""
        k, q, v = jnp.split(y, 3, axis=1)
        (kh, k_norm), (qh, q_norm) = (self._normed(x, numbers) for x in (k, q))
        a = self._per_input(kh @ qh.T)
        scores = gain * a
        weights = softmax(scores[..., None], self.causal)[..., 0]
        mixed = self._mix(weights, v)
        saved = (kh, k_norm, qh, q_norm, v, weights, mixed, a)
        return Written(mixed, scores[None], saved)

    def backward(
        self,
        r: Float[Array, "fields width"],
        saved: PyTree[Array],
        numbers: Numbers,
        gain: Float[Array, ""],
    ) -> Gradients:
        """M concentrates: M0 = sigma (<r v> - <r v^sigma>)."""
        kh, k_norm, qh, q_norm, v, weights, mixed, a = saved
        away = jnp.sum(r * mixed, axis=1).reshape(self.inputs, self.tokens, 1)
        M0 = weights * (self._per_input(r @ v.T) - away)
        M = gain * M0
        p_k, p_q = self._mix(M, qh), self._mix(M.swapaxes(1, 2), kh)
        if self.qk_norm:
            p_k = (p_k - kh * jnp.sum(M * a, axis=2).reshape(-1, 1)) / k_norm
            p_q = (p_q - qh * jnp.sum(M * a, axis=1).reshape(-1, 1)) / q_norm
        p_v = self._mix(weights.swapaxes(1, 2), r)
        gradient = jnp.sum(M0 * a, axis=2).reshape(-1, 1)
        return Gradients(jnp.concatenate([p_k, p_q, p_v], axis=1), gradient)

    def key_gradient(self, p: Float[Array, "fields stacked"]) -> Float[Array, ""]:
        """The mean of ((p^K)^2 + (p^Q)^2) / 2."""
        return jnp.sum(p[:, : 2 * self.columns] ** 2) / (2 * self.fields)

    def _normed(self, x: Array, numbers: Numbers) -> tuple[Array, Array]:
        """Rows of keys or queries over their norms, and these [fields, 1]."""
        if not self.qk_norm:
            return x, jnp.ones((len(x), 1))
        norm = jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True) + numbers.norm_eps)
        return x / norm, norm

    def _per_input(self, kernel: Array) -> Array:
        blocks = kernel.reshape(self.inputs, self.tokens, self.inputs, self.tokens)
        return jnp.moveaxis(jnp.diagonal(blocks, axis1=0, axis2=2), -1, 0)

    def _mix(self, weights: Array, rows: Array) -> Array:
        mixed = jnp.einsum("psr,prd->psd", weights, rows.reshape(self.inputs, self.tokens, -1))
        return mixed.reshape(rows.shape)


def _once(x: T) -> T:
    """What is computed once, and not again in everything that is made of it."""
    return jax.lax.optimization_barrier(x)


def _total(parts: list[Array]) -> Array:
    """Sum of arrays of one shape."""
    return sum(parts[1:], parts[0])


def _dots(a: Array, b: Array) -> Array:
    """a_s . b_r over head coordinates, [inputs, s, r, heads] of [inputs, tokens, dim, heads]."""
    if a.shape[2] > WRITTEN_OUT:
        return jnp.einsum("psnh,prnh->psrh", a, b, precision=jax.lax.Precision.HIGHEST)
    terms = [a[:, :, None, n] * b[:, None, :, n] for n in range(a.shape[2])]
    return _total(terms)


def _weights(scores: Array, causal: bool) -> Array:
    """Softmax over columns of [inputs, row, column, heads]; causal: column <= row."""
    columns = scores.shape[2]
    if columns > WRITTEN_OUT:
        return softmax(scores, causal)
    if causal:
        allowed = jnp.tril(jnp.ones((columns, columns), bool))[None, :, :, None]
        scores = jnp.where(allowed, scores, -jnp.inf)
    largest = functools.reduce(jnp.maximum, [scores[:, :, r] for r in range(columns)])
    weights = jnp.exp(scores - largest[:, :, None])
    total = _total([weights[:, :, r] for r in range(columns)])
    return weights / total[:, :, None]


def _over_head(x: Array) -> Array:
    """Sum over head coordinates of [inputs, tokens, dim, heads]."""
    if x.shape[2] > WRITTEN_OUT:
        return jnp.sum(x, axis=2)
    return _total([x[:, :, n] for n in range(x.shape[2])])


def _mix(weights: Array, x: Array) -> Array:
    """Sum over columns of weights times x, [inputs, row, dim, heads]."""
    if x.shape[1] > WRITTEN_OUT:
        return jnp.einsum("psrh,prnh->psnh", weights, x, precision=jax.lax.Precision.HIGHEST)
    terms = [weights[:, :, r, None] * x[:, None, r] for r in range(x.shape[1])]
    return _total(terms)
