r"""A stack by two numbers a layer: the mean square q of its tokens and their one overlap R.

Tokens are exchangeable, as without a mask; under one, attention mixes like as many tokens as its
weights without scores look at, n' = 1 / (n^-1 sum w^2). Attention whose scores have deviation sigma
= beta_s k (1 - R)^(1/2) returns gamma_A k times

    S_ii = R + (1 - R) F,     S_ij = R + (1 - R) G,     F = F_n'(sigma),   G = F^R n'^(R - 1).

A gradient has two numbers too, B_ii = d and B_ij = o. Values pass F d + (n' - 1) G o on, with the
sum of B kept, and scores add 2 sigma^2 (1 - R) F (1 - F) d. Feed-forward blocks and experts are
tabulated against the angle arccos R. It is made for many evaluations in a
row: what comes out of it is checked by `SignalPropagation`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import Key, in_float64
from translimit.describe import (
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Stack,
    SubBlock,
)
from translimit.limits.signal.concentration import LARGEST, concentration
from translimit.limits.signal.depth_laws import mixing
from translimit.limits.signal.experts import routing_overlap, shared_units
from translimit.limits.signal.feed_forward import units
from translimit.limits.signal.heads import Mixer, entry_variances, value_gain
from translimit.limits.signal.norms import square_scale
from translimit.limits.signal.sub_blocks import ROUTERS

#: Angles of the tables of blocks, and deviations of scores of the table of concentrations.
ANGLES, DEVIATIONS = 33, 24


@dataclass(frozen=True)
class ScaleFactors:
    """What the reduced stack is changed by; all 1 for the stack as it is.

    Attributes:
        embedding: times what enters the first layer.
        attention: times what attention adds.
        feed_forward: times what feed-forward blocks and experts add.
        scores: times the scores.
    """

    embedding: float = 1.0
    attention: float = 1.0
    feed_forward: float = 1.0
    scores: float = 1.0


@dataclass(frozen=True)
class Course:
    """The reduced stack along its layers.

    Attributes:
        mean_square: q by level [levels].
        overlap: R by level [levels].
        gradient: tr B / n by level over that at the top [levels].
        keys: 1 / F, how many keys a query looks at, by layer with attention.
    """

    mean_square: Float[np.ndarray, " levels"]
    overlap: Float[np.ndarray, " levels"]
    gradient: Float[np.ndarray, " levels"]
    keys: Float[np.ndarray, " mixers"]


class Reduced:
    """The reduced recursion of a stack for so many tokens.

    Args:
        stack: the stack.
        n: tokens.
        key: of routers.
    """

    def __init__(self, stack: Stack, n: int, key: Key):
        self.stack, self.n, self.key = stack, n, key

    def course(self, mean_square: float, overlap: float, changes: ScaleFactors) -> Course:
        """Pass all layers.

        Args:
            mean_square: q of the tokens that enter, before `changes`.
            overlap: R of different ones.
            changes: of the stack.
        """
        q, r = mean_square * changes.embedding**2, overlap
        squares, overlaps, returns, keys = [q], [r], [], []
        for layer in self.stack.layers:
            back = np.eye(2)
            for block in layer:
                q, r, passed, looked = self._pass(block, q, r, changes)
                back = back @ passed
                keys += looked
            squares.append(q)
            overlaps.append(r)
            returns.append(back)
        grad = [np.array([1.0, 0.0])]
        for back in reversed(returns):
            grad.append(back @ grad[-1])
        gradient = np.array([one[0] for one in reversed(grad)])
        return Course(np.array(squares), np.array(overlaps), gradient, np.array(keys))

    def _pass(
        self, block: SubBlock, q: float, r: float, changes: ScaleFactors
    ) -> tuple[float, float, Float[np.ndarray, "2 2"], list[float]]:
        """Mean square, overlap, what (d, o) is multiplied with, and keys looked at."""
        a, b = block.residual**2, block.branch**2
        s_in = square_scale(block.norm_in, q)
        k, own, cross, back, keys = s_in * q, 0.0, 0.0, np.zeros((2, 2)), []
        for branch in block.branches:
            if isinstance(branch, FeedForward | Experts):
                more = changes.feed_forward**2
                one, two, *slopes = self._block(branch, k, r)
                passed = np.diag(slopes)
            else:
                more = changes.attention**2
                one, two, passed, looked = self._attention(branch, k, r, changes.scores)
                keys.append(looked)
            own, cross, back = own + more * one, cross + more * two, back + more * passed
        if block.norm_out is not None:  # it takes every factor away: the norm's gain is changed
            b *= (changes.attention if keys else changes.feed_forward) ** 2
        s_out = square_scale(block.norm_out, own)
        total = a * q + b * s_out * own
        s_post = square_scale(block.norm_post, total)
        overlap = (a * q * r + b * s_out * cross) / total if total > 0 else r
        return s_post * total, overlap, s_post * (a * np.eye(2) + b * s_out * s_in * back), keys

    def _attention(
        self, mixer: Mixer, k: float, r: float, scores: float
    ) -> tuple[float, float, Float[np.ndarray, "2 2"], float]:
        """U_ii, U_ij, what (d, o) is multiplied with before the norm, and keys looked at."""
        seen = mixing(mixer, self.n, causal=self.stack.causal)
        count = max(round(seen.kept / seen.squares), 1)
        latent = isinstance(mixer, LatentAttention)
        sigma = scores * score_std(mixer, self.stack.dim, k) * math.sqrt(max(1.0 - r, 0.0))
        f = _concentrated(count, sigma)
        g = f ** max(r, 0.0) * count ** (max(r, 0.0) - 1.0)
        gain = value_gain(mixer, self.stack.dim) * seen.kept
        size = gain if latent else gain * k
        other = max(count - 1, 1)
        back = np.array([[f, other * g], [(1 - f) / other, 1 - g]])
        back[0, 0] += 2 * sigma**2 * f * (1 - f) * (1 - r)
        back *= gain / (k if latent else 1.0)
        return size * (r + (1 - r) * f), size * (r + (1 - r) * g), back, 1.0 / f

    def _block(self, branch: FeedForward | Experts, k: float, r: float) -> tuple[float, ...]:
        """U_ii, U_ij, and what d and o are multiplied with, between two tabulated sizes."""
        place = math.log2(max(k, 1e-30))
        if abs(place - round(place)) < 1e-4:  # behind a norm
            return self._tabulated(branch, round(place), r)
        low = math.floor(place)
        one, two = (
            np.log(np.maximum(self._tabulated(branch, at, r), 1e-300)) for at in (low, low + 1)
        )
        return tuple(float(v) for v in np.exp(one + (place - low) * (two - one)))

    def _tabulated(self, branch: FeedForward | Experts, place: int, r: float) -> tuple[float, ...]:
        angles, values, slopes = _table(branch, self.stack.dim, place, _seed(self.key))
        angle = math.acos(min(max(r, 0.0), 1.0))
        cross, passed = (float(np.interp(angle, angles, one)) for one in (values, slopes))
        return float(values[0]), cross, float(slopes[0]), passed


def score_std(mixer: Mixer, dim: int, mean_square: float) -> float:
    """beta_s: the deviation of the scores of two unrelated tokens of this mean square.

    Args:
        mixer: the attention.
        dim: of the tokens.
        mean_square: of what attention reads.
    """
    entries = math.sqrt(mixer.head_dim)
    if isinstance(mixer, Attention) and mixer.qk_norm is not None:
        return mixer.score_scale * entries * mixer.qk_norm.gain**2
    query, key = entry_variances(mixer, dim)
    sizes = (mean_square, mean_square)
    if isinstance(mixer, LatentAttention):
        turned = np.arange(mixer.head_dim) < mixer.rope_dim
        key = np.where(turned, mean_square, 1.0) * key
        sizes = (mean_square if mixer.query_rank is None else 1.0, 1.0)
    return float(mixer.score_scale * np.sqrt(np.sum(query * key) * sizes[0] * sizes[1]))


@functools.lru_cache(maxsize=64)
def _concentrations(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Log F_n at deviations that grow denser towards 0."""
    stds = min(LARGEST, 8.0 * math.sqrt(math.log(max(n, 2)))) * np.linspace(0, 1, DEVIATIONS) ** 1.5
    return stds, np.log([concentration(n, one) for one in stds])


def _concentrated(n: int, sigma: float) -> float:
    if n == 1:
        return 1.0
    stds, logs = _concentrations(n)
    return math.exp(float(np.interp(sigma, stds, logs)))


def _seed(key: Key) -> tuple[int, ...]:
    return tuple(int(one) for one in np.asarray(jax.random.key_data(key)).ravel())


@functools.lru_cache(maxsize=256)
def _table(
    branch: FeedForward | Experts, dim: int, place: int, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U and what a gradient is multiplied with, against the angle of inputs of square 2^place."""
    angles = np.linspace(0.0, math.pi / 2, ANGLES)
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cov = 2.0**place * (plane @ plane.T)
    key = jax.random.wrap_key_data(jnp.array(seed, jnp.uint32))
    out, slope = in_float64(functools.partial(_first_row, branch, dim), cov, key)
    return angles, np.asarray(out), np.asarray(slope)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _first_row(
    branch: FeedForward | Experts, dim: int, cov: Float[Array, "n n"], key: Key
) -> tuple[Array, Array]:
    blocks = [(branch, jnp.ones(()))] if isinstance(branch, FeedForward) else []
    out = slope = jnp.zeros_like(cov)
    if isinstance(branch, Experts):
        blocks = [(branch.expert, routing_overlap(branch, dim, cov, key, ROUTERS))]
        beside = shared_units(branch, dim, cov)
        if beside is not None and branch.shared is not None:
            blocks.append((branch.shared, beside[1].out))
            slope = beside[1].through_in * beside[0].out
    for block, chosen in blocks:
        told = units(block, dim, cov)
        out = out + chosen * told.out
        slope = slope + chosen * (told.through_in + told.through_up)
    return out[0], slope[0]
