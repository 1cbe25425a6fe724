"""Compressed histories in plain NumPy: what `benchmarks/dmft.py` measures the solver against.

The same algorithm, written for NumPy: stacks of directions that grow as they are needed, whole
matrix products, only as many innovations as there are new directions, no loop over heads. It knows
nothing of translimit. Attention, optionally a tanh MLP and RMS norms; squared error, one output.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Setting:
    """A problem: the kernel of the inputs [m, m], targets [P], and sizes."""

    kx: np.ndarray
    y: np.ndarray
    steps: int
    tokens: int
    head_dim: int
    layers: int = 1
    beta0: float = 1.0
    gamma0: float = 1.0
    eta0: float = 0.1
    mlp: bool = False
    norm: bool = False
    norm_eps: float = 1e-5


class Stack:
    """Rows that are appended to, in an array that doubles."""

    def __init__(self, width: int, dtype: Any = np.float64) -> None:
        self.rows, self.count = np.zeros((16, width), dtype), 0

    @property
    def all(self) -> np.ndarray:
        """The rows so far."""
        return self.rows[: self.count]

    def append(self, new: np.ndarray) -> None:
        """More rows."""
        if self.count + len(new) > len(self.rows):
            size = 2 * (self.count + len(new))
            more = np.zeros((size, self.rows.shape[1]), self.rows.dtype)
            more[: self.count] = self.all
            self.rows = more
        self.rows[self.count : self.count + len(new)] = new
        self.count += len(new)


class Stream:
    """The stream: white columns, used one after another."""

    def __init__(self, width: int, used: int) -> None:
        self.width, self.used = width, used

    def innovations(self, count: int) -> np.ndarray:
        """Fresh columns."""
        rows = np.zeros((count, self.width))
        rows[np.arange(count), self.used + np.arange(count)] = 1
        self.used += count
        return rows

    def inner(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Sums over the columns in use."""
        return a[:, : self.used] @ b[:, : self.used].T

    def seen(self, new: np.ndarray) -> None:
        """Nothing to do: columns are fresh."""


class Population:
    """Coordinates of heads, or neurons; fields may have several families side by side."""

    def __init__(self, size: int, families: int, rng: Any, dtype: Any) -> None:
        self.size, self.families, self.rng, self.dtype = size, families, rng, dtype
        self.basis = Stack(size, dtype)

    def innovations(self, count: int, families: int) -> np.ndarray:
        """Orthonormal, away from all that was drawn or seen."""
        white = self.rng.standard_normal((families * count, self.size), np.float32)
        white = white.astype(self.dtype)
        white -= (white @ self.basis.all.T / self.size) @ self.basis.all
        root = np.linalg.cholesky((white @ white.T).astype(float) / self.size)
        white = np.linalg.inv(root).astype(self.dtype) @ white
        self.basis.append(white)
        return white.reshape(families, count, self.size).swapaxes(0, 1).reshape(count, -1)

    def inner(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Means over coordinates, summed over families."""
        return (a @ b.T).astype(float) / self.size

    def seen(self, new: np.ndarray) -> None:
        """New directions of own fields join the basis."""
        rows = np.concatenate(np.split(new, new.shape[1] // self.size, axis=1))
        size = np.mean(np.sum(rows**2, axis=1)) / self.size
        rest = rows - (rows @ self.basis.all.T / self.size) @ self.basis.all
        values, turn = np.linalg.eigh((rest @ rest.T).astype(float) / self.size)
        kept = values > 1e-9 * size
        lift = (turn[:, kept] / np.sqrt(values[kept])).T.astype(self.dtype)
        rest = lift @ rest
        rest -= (rest @ self.basis.all.T / self.size) @ self.basis.all
        gram = (rest @ rest.T) / self.size
        self.basis.append(1.5 * rest - 0.5 * gram @ rest)


class Matrix:
    """One initial matrix between two sides, and what it has learned."""

    def __init__(self, near: Any, far: Any, widths: tuple[int, int], families: int, tol: float):
        self.sides, self.tol, self.families = (near, far), tol, families
        types = [getattr(side, "dtype", np.float64) for side in (near, far)]
        self.directions = [Stack(w, t) for w, t in zip(widths, types, strict=True)]
        self.images = [Stack(w, t) for w, t in zip(widths[::-1], types[::-1], strict=True)]
        self.coefficients: list[Any] = [None, None]

    def apply(self, x: np.ndarray, way: int) -> np.ndarray:
        """W x (way 0) or W^T x (way 1)."""
        near, far = self.sides[way], self.sides[1 - way]
        q, T = self.directions[way], self.images[way]
        p, Z = self.directions[1 - way], self.images[1 - way]
        c = near.inner(x, q.all)
        rest = x - c.astype(x.dtype) @ q.all
        gram = near.inner(rest, rest)
        values, basis = np.linalg.eigh((gram + gram.T) / 2)
        kept = values > max(self.tol * np.trace(near.inner(x, x)) / len(x), 1e-300)
        met = near.inner(rest, Z.all)
        moved = met.astype(p.rows.dtype) @ p.all
        y = c.astype(T.rows.dtype) @ T.all + moved
        if kept.any():
            roots, basis = np.sqrt(values[kept]), basis[:, kept]
            lift = (basis / roots).T
            new = lift.astype(rest.dtype) @ rest
            new -= near.inner(new, q.all).astype(rest.dtype) @ q.all
            again = near.inner(new, new).astype(rest.dtype)
            new = 1.5 * new - 0.5 * again @ new
            if isinstance(far, Stream):
                white = far.innovations(len(roots))
            else:
                white = far.innovations(len(roots), self.families)
            y = y + (basis * roots).astype(y.dtype) @ white
            q.append(new)
            T.append(lift.astype(y.dtype) @ moved + white)
            near.seen(new)
            c = np.concatenate([c, basis * roots], axis=1)
        self.coefficients[way] = c
        return y

    def learn(self, rate: np.ndarray, x: np.ndarray, g: np.ndarray) -> None:
        """W <- W + sum_a rate_a g_a x_a^T."""
        for way, fields in ((0, g), (1, x)):
            c = (rate[:, None] * self.coefficients[way]).T
            self.images[way].all[...] += c.astype(fields.dtype) @ fields


def solve(
    s: Setting, heads: int, neurons: int, seed: int, tol: float = 1e-4, dtype: Any = np.float64
) -> tuple[np.ndarray, list[float]]:
    """Predictions [T, P], and seconds after every step."""
    rng = np.random.default_rng(seed)
    m, P, S, N = len(s.kx), len(s.y), s.tokens, s.head_dim
    values, basis = np.linalg.eigh(s.kx)
    start = basis * np.sqrt(np.maximum(values, 0))
    width = m + 1 + 4 * (1 + s.mlp) * s.layers * min(m * s.steps, 40 * m)
    stream = Stream(width, m + 1)
    eps, c = s.beta0 / s.layers, s.eta0 * s.gamma0 * s.beta0
    blocks = []
    for _ in range(s.layers):
        for mlp in (False, True)[: 1 + s.mlp]:
            size, families = (neurons, 1) if mlp else (N * heads, 3)
            site = Population(size, families, rng, dtype)
            inner = Matrix(stream, site, (width, families * size), families, tol)
            outer = Matrix(site, stream, (size, width), 1, tol)
            blocks.append((mlp, inner, outer))
    learned, w_learned = np.zeros((m, width)), np.zeros(width)
    pool = np.eye(P).repeat(S, axis=1) / S
    outputs, seconds, begin = [], [], time.perf_counter()

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(P, S, N, heads)

    def normed(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rho = np.ones((m, 1))
        if s.norm:
            rho = np.sqrt(np.sum(h * h, axis=1, keepdims=True) + s.norm_eps)
        return h / rho, rho

    for _ in range(s.steps):
        h = s.eta0 * s.gamma0 * s.kx @ learned
        h[:, :m] += start
        seen = []
        for mlp, inner, outer in blocks:
            hb, rho = normed(h)
            y = inner.apply(hb, 0)
            if mlp:
                x = np.tanh(y)
                saved: Any = 1 - x**2
            else:
                k, q, v = (split(part) for part in np.split(y, 3, axis=1))
                A = np.einsum("psnh,prnh->psrh", k, q) / N
                weights = np.exp(A - A.max(axis=2, keepdims=True))
                weights /= weights.sum(axis=2, keepdims=True)
                mixed = np.einsum("psrh,prnh->psnh", weights, v)
                x, saved = mixed.reshape(m, -1), (k, q, v, weights, mixed)
            h = h + eps * outer.apply(x, 0)
            seen.append((hb, rho, x, saved))
        phi = pool @ h
        w = s.eta0 * s.gamma0 * w_learned
        w[m] += 1
        f = phi @ w / s.gamma0
        outputs.append(f)
        error = (s.y - f) / P
        drive = np.repeat(error, S)
        g = pool.T @ np.broadcast_to(w, (P, width))
        for (mlp, inner, outer), (hb, rho, x, saved) in zip(blocks[::-1], seen[::-1], strict=True):
            r = outer.apply(g, 1)
            if mlp:
                p = saved * r
            else:
                k, q, v, weights, mixed = saved
                r = split(r)
                away = np.einsum("psnh,psnh->psh", r, mixed)
                M = weights * (np.einsum("psnh,prnh->psrh", r, v) - away[:, :, None]) / N
                parts = (
                    np.einsum("psrh,prnh->psnh", M, q),
                    np.einsum("psrh,psnh->prnh", M, k),
                    np.einsum("psrh,psnh->prnh", weights, r),
                )
                p = np.concatenate([part.reshape(m, -1) for part in parts], axis=1)
            back = inner.apply(p, 1)
            if s.norm:
                back = (back - hb * np.sum(back * hb, axis=1, keepdims=True)) / rho
            inner.learn(c * drive, hb, p)
            outer.learn(c * drive, x, g)
            g = g + eps * back
        learned = learned + drive[:, None] * g
        w_learned = w_learned + error @ phi
        seconds.append(time.perf_counter() - begin)
    return np.array(outputs), seconds
