r"""The training dynamics of an infinite transformer in plain NumPy: one causal pass, line by line.

The baseline of `benchmarks/dmft.py` and the oracle of the compiled solver in the tests. It shares
no code with translimit, follows the recursion of the page "Training dynamics" of the documentation
literally (sequential square root by block substitution, histories that grow), and samples heads and
neurons only.

It is written to be fast in NumPy: histories hold the samples in their last axis, heads fastest, so
that the past is one block, and a step takes one stacked product of it for each purpose, in either
precision. Nothing loops over heads.

Fields are flattened over inputs and tokens, a = (mu, s) with s fastest, m = P S of them; a history
over T evaluations has K = T m rows. A residual coordinate is a linear form in the Gaussian sources
(e, w_0, and per sub-block u^O and zeta): it is stored as its row of coefficients.

Reference: Bordelon, Chaudhry, Pehlevan, arXiv 2405.15712.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Activations of neurons and their derivatives.
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "linear": (lambda x: x, np.ones_like),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}


@dataclass(frozen=True)
class Setting:
    """The network, its data, and how it is trained, in the symbols of that page."""

    kx: np.ndarray  # [m, m]
    y: np.ndarray  # [P, outputs]
    steps: int  # T, evaluations
    eta0: float
    layers: int = 1
    head_dim: float = 2
    alpha_A: float = 1.0
    alpha_L: float = 1.0
    beta0: float = 2.0
    gamma0: float = 2.0
    attention: bool = True
    mlp: str | None = None
    norm: bool = False
    causal: bool = False
    momentum: float = 0.0
    weights: np.ndarray | None = None  # [T, P]; 1 / P without
    depth_ode: bool = False
    folded: bool = False  # always with several outputs
    norm_eps: float = 1e-5

    @property
    def inputs(self) -> int:
        """P."""
        return len(self.y)

    @property
    def outputs(self) -> int:
        """How many numbers the network predicts for an input."""
        return self.y.shape[1]

    @property
    def fields(self) -> int:
        """M = P S."""
        return len(self.kx)

    @property
    def tokens(self) -> int:
        """S."""
        return self.fields // self.inputs

    @property
    def eps(self) -> float:
        """beta_0 L^(-alpha_L)."""
        return self.beta0 * self.layers**-self.alpha_L

    @property
    def c(self) -> float:
        """eta_0 gamma_0 beta_0 L^(alpha_L - 1)."""
        return self.eta0 * self.gamma0 * self.beta0 * self.layers ** (self.alpha_L - 1)

    @property
    def kappa(self) -> float:
        """N^(-2 (1 - alpha_A))."""
        return 1.0 if math.isinf(self.head_dim) else self.head_dim ** (-2 * (1 - self.alpha_A))


@dataclass
class Solved:
    """What the pass leaves behind.

    Attributes:
        f: predictions [T, P, outputs].
        kernel_out: <h h> of the last residual state [T, m, T, m].
        scores: per attention sub-block, A over heads [T][heads, P, S, S].
        ntk: neural tangent kernel at every time [T, P, P]; of the unfolded form only.
        p_squared: per attention sub-block and time, mean of ((p^K)^2 + (p^Q)^2) / 2.
    """

    f: np.ndarray
    kernel_out: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scores: list[list[np.ndarray]] = field(default_factory=list)
    ntk: np.ndarray = field(default_factory=lambda: np.zeros(0))
    p_squared: list[list[float]] = field(default_factory=list)


class Root:
    """Sequential rank-revealing square root L of a growing covariance, and L^+ B of its rows."""

    def __init__(self, fields: int, steps: int, sources: int, tol: float):
        self.m, self.tol = fields, tol
        self.L = np.zeros((steps * fields, steps * fields))
        self.inverse: list[np.ndarray] = []  # L_tt^+
        self.Q = np.zeros((steps * fields, sources))

    def append(self, t: int, row: np.ndarray, coefficients: np.ndarray) -> None:
        """Add block row t: `row` is C[t, 0..t], `coefficients` the linear forms themselves."""
        m, L = self.m, self.L
        here = slice(t * m, (t + 1) * m)
        for u in range(t):
            past = slice(u * m, (u + 1) * m)
            rest = row[:, past] - L[here, : u * m] @ L[past, : u * m].T
            L[here, past] = rest @ self.inverse[u].T
        schur = row[:, here] - L[here, : t * m] @ L[here, : t * m].T
        values, basis = np.linalg.eigh((schur + schur.T) / 2)
        kept = values > self.tol * np.trace(row[:, here]) / m
        roots = np.sqrt(np.where(kept, values, 0.0))
        L[here, here] = basis * roots
        self.inverse.append((basis * np.where(kept, 1 / np.where(kept, roots, 1.0), 0.0)).T)
        self.Q[here] = self.inverse[t] @ (coefficients - L[here, : t * m] @ self.Q[: t * m])


def draw(rng: np.random.Generator, past: np.ndarray, count: int, matched: bool) -> np.ndarray:
    """New innovations [count, samples]; matched ones have exact second moments, with `past` too.

    `past` is a stack of histories [kinds, times, samples]; rows still to be drawn are zero.
    """
    samples = past.shape[-1]
    new = rng.standard_normal((count, samples), dtype=past.dtype)
    if not matched:
        return new
    for _ in range(2):
        if past.size:
            moments = past @ new.T / samples
            new -= (moments.swapaxes(1, 2) @ past).sum(axis=0)
        values, basis = np.linalg.eigh((new @ new.T / samples).astype(float))
        new = ((basis / np.sqrt(values)) @ basis.T).astype(past.dtype) @ new
    return new


class Neurons:
    """MLP sub-block: scalar fields of sampled neurons."""

    def __init__(
        self, s: Setting, neurons: int, rng: np.random.Generator, matched: bool, dtype: Any
    ):
        self.s, self.rng, self.matched = s, rng, matched
        self.phi, self.slope = ACTIVATIONS[str(s.mlp)]
        self.samples, K = neurons, s.steps * s.fields
        self.xi = np.zeros((2, K, neurons), dtype)  # u, zeta
        self.x, self.p = np.zeros((2, K, neurons), dtype)

    def forward(self, t: int, root: Root, response: np.ndarray, learned: np.ndarray) -> Any:
        """V row, and the Stein regression of x on the backward innovations."""
        m, dtype = self.s.fields, self.xi.dtype
        here, now, n = slice(t * m, (t + 1) * m), (t + 1) * m, t * m
        self.xi[0, here] = draw(self.rng, self.xi[:, :n], m, self.matched)
        self.free = root.L[here, :now].astype(dtype) @ self.xi[0, :now]
        self.m_now = self.free + (response + learned).astype(dtype) @ self.p[:n]
        self.x[here] = self.phi(self.m_now)
        moved = self.x[here] - self.phi(self.free)
        V = self.x[here] @ self.x[:now].T / self.samples
        return V, moved @ self.xi[1, :n].T / self.samples

    def backward(self, t: int, root: Root, response: np.ndarray, learned: np.ndarray) -> Any:
        """Pi row, the same with kappa, and the Stein regression of p on the forward innovations."""
        m, dtype = self.s.fields, self.xi.dtype
        here, now = slice(t * m, (t + 1) * m), (t + 1) * m
        self.xi[1, here] = draw(self.rng, self.xi[:, :now], m, self.matched)
        free = root.L[here, :now].astype(dtype) @ self.xi[1, :now]
        z = free + with_past(response, learned).astype(dtype) @ self.x[:now]
        self.p[here] = self.slope(self.m_now) * z
        moved = self.p[here] - self.slope(self.free) * free
        row = self.p[here] @ self.p[:now].T / self.samples
        return row, row, moved @ self.xi[0, :now].T / self.samples


class Heads:
    """Attention sub-block with N key, query and value coordinates in each sampled head.

    Stacks are of keys, queries and values, in this order; samples are coordinates times heads.
    """

    def __init__(self, s: Setting, heads: int, rng: np.random.Generator, matched: bool, dtype: Any):
        self.s, self.rng, self.matched, self.heads = s, rng, matched, heads
        self.N = int(s.head_dim)
        self.samples, K = heads * self.N, s.steps * s.fields
        self.xi = np.zeros((4, K, self.samples), dtype)  # those of the outputs are the last
        self.p = np.zeros((3, K, self.samples), dtype)
        self.v = np.zeros((K, self.samples), dtype)  # v^sigma
        self.scores: list[np.ndarray] = []
        self.p_squared: list[float] = []

    def _split(self, x: np.ndarray) -> np.ndarray:
        """The coordinates [..., P, S, N, heads] of fields [..., m, samples]."""
        return x.reshape(*x.shape[:-2], self.s.inputs, self.s.tokens, self.N, self.heads)

    def _attend(self, coordinates: np.ndarray) -> Any:
        """A and sigma [P, S, S, heads], and v^sigma."""
        k, q, v = self._split(coordinates)
        scores = np.einsum("psnh,prnh->psrh", k, q) * self.N**-self.s.alpha_A
        sigma = softmax(scores, self.s.causal)
        vs = np.einsum("psrh,prnh->psnh", sigma, v)
        return scores, sigma, vs.reshape(coordinates.shape[1:])

    def _back(
        self, coordinates: np.ndarray, sigma: np.ndarray, vs: np.ndarray, r: np.ndarray
    ) -> np.ndarray:
        """p^K, p^Q and p^V."""
        (k, q, v), vs, r = self._split(coordinates), self._split(vs), self._split(r)
        own = np.einsum("psnh,psnh->psh", r, vs)
        M = np.einsum("psnh,prnh->psrh", r, v) - own[:, :, None]
        M *= self.N**-self.s.alpha_A * sigma
        p = (
            np.einsum("psrh,prnh->psnh", M, q),
            np.einsum("psrh,psnh->prnh", M, k),
            np.einsum("psrh,psnh->prnh", sigma, r),
        )
        return np.stack(p).reshape(coordinates.shape)

    def forward(self, t: int, root: Root, response: np.ndarray, learned: np.ndarray) -> Any:
        """V row, and the Stein regression of v^sigma on the backward innovations."""
        m, kappa, dtype = self.s.fields, self.s.kappa, self.xi.dtype
        here, now, n = slice(t * m, (t + 1) * m), (t + 1) * m, t * m
        new = draw(self.rng, self.xi[:, :n], 3 * m, self.matched)
        self.xi[:3, here] = new.reshape(3, m, self.samples)
        self.free = root.L[here, :now].astype(dtype) @ self.xi[:3, :now]
        keys, values = response + kappa * learned, response + learned
        self.now = self.free + np.stack([keys, keys, values]).astype(dtype) @ self.p[:, :n]
        scores, self.sigma, self.vs = self._attend(self.now)
        _, self.sigma_free, self.vs_free = self._attend(self.free)
        self.scores.append(np.moveaxis(scores, -1, 0))
        self.v[here] = self.vs
        V = self.vs @ self.v[:now].T / self.samples
        return V, (self.vs - self.vs_free) @ self.xi[3, :n].T / self.samples

    def backward(self, t: int, root: Root, response: np.ndarray, learned: np.ndarray) -> Any:
        """Pi row, the same with kappa, and the Stein regressions of the three p."""
        m, kappa, dtype = self.s.fields, self.s.kappa, self.xi.dtype
        here, now = slice(t * m, (t + 1) * m), (t + 1) * m
        self.xi[3, here] = draw(self.rng, self.xi[:, :now], m, self.matched)
        free = root.L[here, :now].astype(dtype) @ self.xi[3, :now]
        r = free + with_past(response, learned).astype(dtype) @ self.v[:now]
        p = self._back(self.now, self.sigma, self.vs, r)
        moved = p - self._back(self.free, self.sigma_free, self.vs_free, free)
        self.p[:, here] = p
        rows = p @ self.p[:, :now].swapaxes(1, 2) / self.samples
        S = (moved @ self.xi[:3, :now].swapaxes(1, 2)).sum(axis=0) / self.samples
        self.p_squared.append(float(np.mean(p[0] ** 2 + p[1] ** 2) / 2))
        keys = rows[0] + rows[1]
        return keys + rows[2], kappa * keys + rows[2], S


def with_past(response: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """`response` [m, now] with `learned` [m, n], which is of earlier times only, added."""
    total = response.copy()
    total[:, : learned.shape[1]] += learned
    return total


class InfiniteHeads:
    """Attention sub-block at N = infinity, alpha_A = 1: coordinates are linear, no sampling."""

    def __init__(self, s: Setting):
        self.s = s
        self.K = s.steps * s.fields
        self.H, self.G = np.zeros((self.K, self.K)), np.zeros((self.K, self.K))
        self.rows = {x: np.zeros((self.K, 4 * self.K)) for x in ("v", "K", "Q", "V")}
        self.scores: list[np.ndarray] = []
        self.p_squared: list[float] = []

    def _product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        blocks = [slice(i * self.K, (i + 1) * self.K) for i in range(4)]
        covs = (self.H, self.H, self.H, self.G)
        terms = [a[:, i] @ cov @ b[:, i].T for i, cov in zip(blocks, covs, strict=True)]
        return np.sum(terms, axis=0)

    def _per_input(self, x: np.ndarray) -> np.ndarray:
        """The blocks [P, S, S] of one input each of a matrix [m, m]."""
        P, S = self.s.inputs, self.s.tokens
        return np.stack([x[p * S : (p + 1) * S, p * S : (p + 1) * S] for p in range(P)])

    def _on(self, matrices: np.ndarray, rows: np.ndarray) -> np.ndarray:
        P, S = self.s.inputs, self.s.tokens
        return np.einsum("psr,prd->psd", matrices, rows.reshape(P, S, -1)).reshape(P * S, -1)

    def forward(self, t: int, row: np.ndarray, response: np.ndarray, learned: np.ndarray) -> Any:
        """V row, and R^v-zeta itself."""
        m, n, now, K = self.s.fields, t * self.s.fields, (t + 1) * self.s.fields, self.K
        here = slice(n, now)
        self.H[here, :now], self.H[:now, here] = row, row.T
        self.now = {}
        for i, x in enumerate("KQV"):
            unit = np.zeros((m, 4 * K))
            unit[:, i * K + n : i * K + now] = np.eye(m)
            self.now[x] = unit + (response + learned) @ self.rows[x][:n]
        scores = self._per_input(self._product(self.now["K"], self.now["Q"]))
        self.sigma = softmax(scores[..., None], self.s.causal)[..., 0]
        self.scores.append(scores[None])
        self.rows["v"][here] = self._on(self.sigma, self.now["V"])
        V = self._product(self.rows["v"][here], self.rows["v"][:now])
        return V, self.rows["v"][here, 3 * K : 3 * K + n]

    def backward(self, t: int, row: np.ndarray, response: np.ndarray, learned: np.ndarray) -> Any:
        """Pi row (twice), and R^pu itself."""
        m, n, now, K = self.s.fields, t * self.s.fields, (t + 1) * self.s.fields, self.K
        here = slice(n, now)
        self.G[here, :now], self.G[:now, here] = row, row.T
        r = np.zeros((m, 4 * K))
        r[:, 3 * K + n : 3 * K + now] = np.eye(m)
        r += response @ self.rows["v"][:now] + learned @ self.rows["v"][:n]
        vs = self.rows["v"][here]
        own = np.diagonal(self._product(r, vs)).reshape(self.s.inputs, -1)
        M = self.sigma * (self._per_input(self._product(r, self.now["V"])) - own[..., None])
        self.rows["K"][here] = self._on(M, self.now["Q"])
        self.rows["Q"][here] = self._on(M.swapaxes(1, 2), self.now["K"])
        self.rows["V"][here] = self._on(self.sigma.swapaxes(1, 2), r)
        pairs = {x: self._product(self.rows[x][here], self.rows[x][:now]) for x in "KQV"}
        Pi = pairs["K"] + pairs["Q"] + pairs["V"]
        diagonal = np.trace(pairs["K"][:, here] + pairs["Q"][:, here])
        self.p_squared.append(float(diagonal / (2 * m)))
        S = sum(self.rows[x][here, i * K : i * K + now] for i, x in enumerate("KQV"))
        return Pi, Pi, S


def softmax(scores: np.ndarray, causal: bool) -> np.ndarray:
    """Row softmax of scores [..., rows, columns, heads]; causal: column <= row."""
    if causal:
        allowed = np.tril(np.ones(scores.shape[-3:-1], bool))
        scores = np.where(allowed[..., None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-2, keepdims=True))
    return weights / weights.sum(axis=-2, keepdims=True)


def solve(
    s: Setting,
    heads: int = 1000,
    neurons: int = 1000,
    seed: int = 0,
    matched: bool = True,
    dtype: Any = np.float64,
    drop: frozenset[str] = frozenset(),
    tol: float = 1e-9,
) -> Solved:
    """The causal pass.

    Args:
        s: the setting.
        heads: sampled heads of each attention sub-block.
        neurons: sampled neurons of each MLP sub-block.
        seed: of the innovations.
        matched: moment matching.
        dtype: of the populations; moments of the sources are float64 always.
        drop: responses to switch off, of "v_zeta", "p_u", "h", "g".
        tol: eigenvalues of a new block below this, relative to its mean variance, are null.
    """
    rng = np.random.default_rng(seed)
    T, m, P, O = s.steps, s.fields, s.inputs, s.outputs
    K = T * m
    kinds = (["attention"] if s.attention else []) + (["mlp"] if s.mlp else [])
    kinds = kinds * s.layers
    infinite = math.isinf(s.head_dim)
    units: list[Any] = [
        Neurons(s, neurons, rng, matched, dtype)
        if kind == "mlp"
        else InfiniteHeads(s)
        if infinite
        else Heads(s, heads, rng, matched, dtype)
        for kind in kinds
    ]
    deterministic = [isinstance(unit, InfiniteHeads) for unit in units]
    n_sub = len(units)
    fresh = not s.depth_ode
    D = m + O + (2 * n_sub * K if fresh else 0)
    block_u = [m + O + 2 * i * K for i in range(n_sub)]
    block_z = [m + O + (2 * i + 1) * K for i in range(n_sub)]
    V, Pi, PiK, H, G = (np.zeros((n_sub, K, K)) for _ in range(5))
    hb, gt = np.zeros((n_sub, K, D)), np.zeros((n_sub, K, D))
    g1, out, mean = np.zeros((K, D)), np.zeros((K, D)), np.zeros((T * P, D))
    roots_h = [Root(m, T, D, tol) for _ in units]
    roots_g = [Root(m, T, D, tol) for _ in units]
    error, drive = np.zeros((T, P, O)), np.zeros((T, m))
    result = Solved(np.zeros((T, P, O)))
    result.ntk = np.zeros((T, P, P))
    folded = s.folded or O > 1

    def with_cov(rows: np.ndarray) -> np.ndarray:
        """Rows of coefficients times the covariance of the sources."""
        done = rows.copy()
        done[:, :m] = rows[:, :m] @ s.kx
        for i in range(n_sub if fresh else 0):
            for start, cov in ((block_u[i], V[i]), (block_z[i], Pi[i])):
                done[:, start : start + K] = rows[:, start : start + K] @ cov
        return done

    def pooled(kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(P, s.tokens, P, s.tokens).sum(axis=(1, 3))

    for t in range(T):
        n, now = t * m, (t + 1) * m
        here = slice(n, now)
        gap = t - np.arange(t)
        omega = (1 - s.momentum**gap) / (1 - s.momentum) if s.momentum else np.ones(t)
        memory = (omega[:, None] * drive[:t]).ravel()  # omega Delta_b, or omega in the folded form
        rate = s.eta0 * s.gamma0

        h = np.zeros((m, D))
        h[:, :m] = np.eye(m)
        h += rate * (np.tile(s.kx, t) * memory) @ g1[:n] if t else 0.0
        scale = []
        for i, unit in enumerate(units):
            rho = np.ones(m)
            if s.norm:
                rho = np.sqrt(np.einsum("ad,ad->a", with_cov(h), h) + s.norm_eps)
            scale.append(rho)
            hb[i, here] = h / rho[:, None]
            row = with_cov(hb[i, here]) @ hb[i, :now].T
            H[i, here, :now], H[i, :now, here] = row, row.T
            response = np.zeros((m, n))
            if fresh and "h" not in drop:
                response = hb[i, here, block_z[i] : block_z[i] + n]
            learned = s.c * memory * row[:, :n]
            roots_h[i].append(t, row, hb[i, here])
            given = row if deterministic[i] else roots_h[i]
            V_row, stein = unit.forward(t, given, response, learned)
            V[i, here, :now], V[i, :now, here] = V_row, V_row.T
            past = gt[i, :n] if deterministic[i] else roots_g[i].Q[:n]
            step = (stein @ past if "v_zeta" not in drop else 0.0) + s.c * (
                memory * V_row[:, :n]
            ) @ gt[i, :n]
            if fresh:
                step[:, block_u[i] + n : block_u[i] + now] += np.eye(m)
            h = h + s.eps * step
        out[here] = h

        mean[t * P : (t + 1) * P] = h.reshape(P, s.tokens, D).mean(axis=1)
        w = np.zeros((O, D))
        w[:, m : m + O] = np.eye(O)
        for u in range(t):
            w += rate * omega[u] * error[u].T @ mean[u * P : (u + 1) * P]
        with_mean = with_cov(mean[t * P : (t + 1) * P])
        result.f[t] = with_mean @ w.T / s.gamma0
        weights = np.full(P, 1 / P) if s.weights is None else s.weights[t]
        error[t] = weights[:, None] * (s.y - result.f[t])
        drive[t] = 1.0 if folded else np.repeat(error[t, :, 0], s.tokens)

        upper = error[t] @ w if folded else np.repeat(w, P, axis=0)
        g = np.repeat(upper, s.tokens, axis=0) / s.tokens
        ntk = with_mean @ mean[t * P : (t + 1) * P].T
        for i in reversed(range(n_sub)):
            unit = units[i]
            gt[i, here] = g
            row = with_cov(g) @ gt[i, :now].T
            G[i, here, :now], G[i, :now, here] = row, row.T
            response = np.zeros((m, now))
            if fresh and "g" not in drop:
                response = g[:, block_u[i] : block_u[i] + now]
            learned = s.c * memory * row[:, :n]
            roots_g[i].append(t, row, g)
            given = row if deterministic[i] else roots_g[i]
            Pi_row, PiK_row, stein = unit.backward(t, given, response, learned)
            Pi[i, here, :now], Pi[i, :now, here] = Pi_row, Pi_row.T
            PiK[i, here, :now], PiK[i, :now, here] = PiK_row, PiK_row.T
            past = hb[i, :now] if deterministic[i] else roots_h[i].Q[:now]
            back = (stein @ past if "p_u" not in drop else 0.0) + s.c * (
                memory * PiK_row[:, :n]
            ) @ hb[i, :n]
            if fresh:
                back[:, block_z[i] + n : block_z[i] + now] += np.eye(m)
            if s.norm:
                chi = np.einsum("ad,ad->a", with_cov(back), hb[i, here])
                back = (back - hb[i, here] * chi[:, None]) / scale[i][:, None]
            ntk += s.beta0**2 / s.layers * pooled(G[i, here, here] * V[i, here, here])
            ntk += s.beta0**2 / s.layers * pooled(PiK[i, here, here] * H[i, here, here])
            g = g + s.eps * back
        g1[here] = g
        result.ntk[t] = ntk + pooled(s.kx * (with_cov(g) @ g.T))
    result.kernel_out = (with_cov(out) @ out.T).reshape(T, m, T, m)
    result.scores = [unit.scores for unit in units if not isinstance(unit, Neurons)]
    result.p_squared = [unit.p_squared for unit in units if not isinstance(unit, Neurons)]
    return result
