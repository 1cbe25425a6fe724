"""Sampled heads and neurons with whole histories: the oracle of compressed ones.

Populations here keep every field of the past, [history, coordinates], and responses come from
regressions on whitened innovations with a control variate. Cost grows as the square of the steps.
They run in the pass that solves infinite heads, which knows nothing of directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from translimit.core import Key
from translimit.describe import Activation
from translimit.limits.dmft import LinearAlgebra, TrainingDynamics
from translimit.limits.dmft.heads import InfiniteHeads, softmax
from translimit.limits.dmft.histories import Buffer, Index, matmul
from translimit.limits.dmft.neurons import _of_neurons
from translimit.limits.dmft.passes import causal_pass
from translimit.limits.dmft.setup import numbers_of, plan_of
from translimit.limits.dmft.units import AbstractUnit, Backward, Buffers, Forward, Site

WRITTEN_OUT = 16


def trained(
    problem: TrainingDynamics, *, heads: int, neurons: int, seeds: int, omit: tuple[str, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Mean predictions [steps, rows, outputs] over populations, and their standard error."""
    equations = problem.equations
    a, method = equations.architecture, LinearAlgebra(omit=omit)
    plan = plan_of(equations, int(a.layers))
    size = {"inputs": plan.inputs, "tokens": plan.tokens, "slots": plan.slots}
    more = {"matched": True, "rows": plan.chunk_slots * plan.fields, "dtype": "float64"}
    units: list[AbstractUnit] = []
    if a.attention and np.isinf(a.head_dim):
        units.append(InfiniteHeads(**size, causal=a.causal, qk_norm=a.qk_norm is not None))
    elif a.attention:
        own = {"head_dim": int(a.head_dim), "causal": a.causal, "qk_norm": a.qk_norm}
        units.append(SampledHeads(**size, **more, **own, samples=heads, rotary=a.rotary))
    if a.mlp is not None:
        own = {"activation": a.mlp, "ratio": a.mlp_ratio}
        units.append(SampledNeurons(**size, **more, **own, samples=neurons))
    plan = replace(plan, units=tuple(units))
    numbers = numbers_of(equations, method, plan)
    keys = [jax.random.key(100 + seed) for seed in range(seeds)]
    f = np.stack([causal_pass(plan, numbers, equations.steps, key, 1).f for key in keys])
    return f.mean(axis=0), f.std(axis=0, ddof=1) / seeds**0.5


def past_sums(
    coefficients: Sequence[Float[Array, "_ history"]],
    buffers: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
) -> tuple[Float[Array, "_ _"], ...]:
    """For each pair, sum over the history of coefficient times field: [fields, sampled rows]."""

    def body(c: Index, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        added = []
        for total, row, buffer in zip(sums, coefficients, buffers, strict=True):
            here = jax.lax.dynamic_slice_in_dim(row, c * rows, rows, axis=1)
            added.append(total + matmul(here.astype(buffer.dtype), _chunk(buffer, layer, c, rows)))
        return tuple(added)

    start = tuple(
        jnp.zeros((row.shape[0], buffer.shape[2]), buffer.dtype)
        for row, buffer in zip(coefficients, buffers, strict=True)
    )
    return jax.lax.fori_loop(0, chunks, body, start)


def past_moments(
    fields: Sequence[Float[Array, "_ _"]],
    buffers: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
) -> tuple[Float[Array, "_ history"], ...]:
    """For each pair, the mean over rows of field times past field: [fields, history], float64."""

    def body(c: Index, moments: tuple[Array, ...]) -> tuple[Array, ...]:
        filled = []
        for moment, field, buffer in zip(moments, fields, buffers, strict=True):
            here = matmul(field, _chunk(buffer, layer, c, rows).T) / buffer.shape[2]
            here = here.astype(moment.dtype)
            filled.append(jax.lax.dynamic_update_slice_in_dim(moment, here, c * rows, axis=1))
        return tuple(filled)

    start = tuple(
        jnp.zeros((field.shape[0], buffer.shape[1]), jnp.float64)
        for field, buffer in zip(fields, buffers, strict=True)
    )
    return jax.lax.fori_loop(0, chunks, body, start)


def innovations(
    key: Key,
    count: int,
    past: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
    matched: bool,
) -> Float[Array, "count columns"]:
    """New white fields [count, sampled rows].

    Matched ones are projected orthogonally to all innovations so far, of all families, and
    orthonormalised among themselves symmetrically: empirical second moments are then exact.
    Standard normal numbers are drawn in 32 bits, which moves no moment by more than rounding.
    """
    dtype, samples = past[0].dtype, past[0].shape[2]
    new = jax.random.normal(key, (count, samples), jnp.float32).astype(dtype)
    if not matched:
        return new

    def project(c: Index, rest: Array) -> Array:
        for buffer in past:
            chunk = _chunk(buffer, layer, c, rows)
            rest = rest - matmul(matmul(rest, chunk.T) / samples, chunk)
        return rest

    new = jax.lax.fori_loop(0, chunks, project, new)
    gram = matmul(new, new.T).astype(jnp.float64) / samples
    values, basis = jnp.linalg.eigh(gram)
    return matmul(((basis / jnp.sqrt(values)) @ basis.T).astype(dtype), new)


def _chunk(buffer: Buffer, layer: Index, c: Index, rows: int) -> Float[Array, "rows columns"]:
    size = (1, rows, buffer.shape[2])
    return jax.lax.dynamic_slice(buffer, (layer, c * rows, 0), size)[0]


@dataclass(frozen=True)
class AbstractSampledUnit(AbstractUnit):
    """A population: its buffers lie across layers and are read chunk by chunk.

    Attributes:
        samples: sampled heads, or neurons.
        matched: moment matching.
        rows: history rows in a chunk.
        dtype: name of the precision of the population.
    """

    samples: int
    matched: bool
    rows: int
    dtype: str

    def sums(
        self,
        site: Site,
        coefficients: Sequence[Float[Array, "_ history"]],
        buffers: Sequence[Buffer],
        chunks: Index,
    ) -> tuple[Float[Array, "_ _"], ...]:
        """Sums over the history, field by field."""
        return past_sums(coefficients, buffers, site.layer, self.rows, chunks)

    def moments(
        self,
        site: Site,
        fields: Sequence[Float[Array, "_ _"]],
        buffers: Sequence[Buffer],
        chunks: Index,
    ) -> tuple[Float[Array, "_ history"], ...]:
        """Moments with the history."""
        return past_moments(fields, buffers, site.layer, self.rows, chunks)

    def draw(
        self, site: Site, count: int, past: Sequence[Buffer], chunks: Index
    ) -> Float[Array, "count columns"]:
        """New innovations."""
        return innovations(site.key, count, past, site.layer, self.rows, chunks, self.matched)

    def source(
        self,
        site: Site,
        past: Float[Array, "fields columns"],
        new: Float[Array, "fields columns"],
    ) -> Float[Array, "fields columns"]:
        """Correlated sources now: the row of the square root on past and new innovations."""
        return past + matmul(site.root_now.astype(new.dtype), new)


def moment(
    a: Float[Array, "fields columns"], b: Float[Array, "fields columns"]
) -> Float[Array, "fields fields"]:
    """The mean over sampled rows of a b^T, in 64 bits."""
    return matmul(a, b.T).astype(jnp.float64) / a.shape[1]


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
class SampledNeurons(AbstractSampledUnit):
    """MLP neurons, scalar and sampled.

    Attributes:
        activation: phi.
        ratio: neurons for each coordinate of the stream.
    """

    activation: Activation
    ratio: float

    sampled: ClassVar[bool] = True

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Two families of innovations, phi(m) and its backward field."""
        return dict.fromkeys(("xi_u", "xi_z", "x", "p"), (self.history, self.samples))

    def forward(self, own: Buffers, site: Site) -> Forward:
        """Preactivations and what they write."""
        chunks = site.past_chunks
        new = self.draw(site, self.fields, (own["xi_u"], own["xi_z"]), chunks)
        source, memory = self.sums(
            site,
            (site.root_past, site.response + site.learned),
            (own["xi_u"], own["p"]),
            chunks,
        )
        free = self.source(site, source, new)
        x, slope = _with_slope(self.activation, free + memory)
        x_free, slope_free = _with_slope(self.activation, free)
        past, regression = self.moments(site, (x, x - x_free), (own["x"], own["xi_z"]), chunks)
        return Forward(
            past=past,
            now=moment(x, x),
            regression=self.ratio**0.5 * regression,
            stored={"xi_u": new, "x": x},
            fields=(slope, slope_free),
            scores=jnp.zeros((0, self.inputs, self.tokens, self.tokens), x.dtype),
            score_gain=jnp.ones(()),
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Gradients of the preactivations."""
        slope, slope_free = fields
        new = self.draw(site, self.fields, (own["xi_u"], own["xi_z"]), site.chunks)
        source, memory = self.sums(
            site,
            (site.root_past, (site.response + site.learned) / self.ratio),
            (own["xi_z"], own["x"]),
            site.chunks,
        )
        zeta = self.source(site, source, new) / self.ratio**0.5
        p = slope * (zeta + memory)
        past, regression = self.moments(
            site, (p, p - slope_free * zeta), (own["p"], own["xi_u"]), site.chunks
        )
        return _of_neurons(
            self.ratio, past, moment(p, p), regression, {"xi_z": new, "p": p}, self.fields
        )


def _with_slope(activation: Activation, x: Array) -> tuple[Array, Array]:
    return jax.jvp(activation, (x,), (jnp.ones_like(x),))


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
