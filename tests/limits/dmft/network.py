"""Finite multi-head transformers in NumPy, trained by the exact field-level update.

Independent of translimit and of the solver's oracle: weights exist as matrices, everything is
batched over seeds (first axis). The error is folded into the backward fields, so that any number
of outputs is served. Hat convention: every matrix starts with N(0, 1) entries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

RING4 = np.array([[1, 0.5, 0.2, 0], [0.5, 1, 0, 0.3], [0.2, 0, 1, 0.4], [0, 0.3, 0.4, 1]])
RING4_Y = np.array([[1.0], [-1.25]])


def inputs_with_kernel(kx: np.ndarray, tokens: int) -> np.ndarray:
    """Inputs [P, S, D], D = m, whose kernel x_a . x_b / D is kx."""
    m = len(kx)
    return (np.sqrt(m) * np.linalg.cholesky(kx)).reshape(m // tokens, tokens, m)


@dataclass(frozen=True)
class Network:
    """Sizes, exponents and training, in the symbols of docs/theory/dmft.md.

    `norm` is None, "rms" or "layer".
    """

    N: int
    H: int
    L: int = 1
    alpha_A: float = 1.0
    alpha_L: float = 1.0
    beta0: float = 2.0
    gamma0: float = 2.0
    eta0: float = 0.03
    attention: bool = True
    mlp: str | None = None
    norm: str | None = None
    causal: bool = False
    momentum: float = 0.0
    norm_eps: float = 1e-5

    @property
    def n(self) -> int:
        return self.N * self.H

    @property
    def eps(self) -> float:
        return self.beta0 * self.L**-self.alpha_L

    @property
    def c(self) -> float:
        return self.eta0 * self.gamma0 * self.beta0 * self.L ** (self.alpha_L - 1)

    @property
    def kappa(self) -> float:
        return self.N ** (-2 * (1 - self.alpha_A))

    def names(self) -> list[str]:
        inner = ["K", "Q", "V", "O"] if self.attention else []
        inner += ["1", "2"] if self.mlp else []
        return [f"{layer}{name}" for layer in range(self.L) for name in inner]

    def random(self, seed: int, seeds: int, dim: int, outputs: int = 1) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        n = self.n
        params = {name: rng.standard_normal((seeds, n, n)) for name in self.names()}
        params["E"] = rng.standard_normal((seeds, n, dim))
        params["w"] = rng.standard_normal((seeds, outputs, n))
        return params

    def deterministic(self, dim: int) -> dict[str, np.ndarray]:
        """The weights of the acceptance rows A1."""
        n = self.n
        which = {"K": 0, "Q": 1, "V": 2, "O": 3, "1": 4, "2": 5}
        params = {}
        for name in [*self.names(), "E", "w"]:
            shape = {"E": (n, dim), "w": (1, n)}.get(name, (n, n))
            iota = {"E": 0, "w": 1}.get(name)
            if iota is None:
                iota = 2 + 6 * int(name[:-1]) + which[name[-1]]
            i = np.arange(shape[0] * shape[1]).reshape(shape)
            params[name] = np.sqrt(2) * np.sin(0.37 * i**2 + 1.3 * i + 5 * iota)[None]
        return params

    def heads(self, x: np.ndarray, P: int) -> np.ndarray:
        """Fields [seeds, n, m] as [seeds, H, N, P, S]."""
        return x.reshape(len(x), self.H, self.N, P, -1)

    def normed(self, h: np.ndarray) -> tuple[np.ndarray, Any]:
        if self.norm is None:
            return h, None
        if self.norm == "layer":
            h = h - h.mean(axis=1, keepdims=True)
        rho = np.sqrt(np.mean(h**2, axis=1, keepdims=True) + self.norm_eps)
        return h / rho, rho

    def norm_back(self, g: np.ndarray, hb: np.ndarray, rho: Any) -> np.ndarray:
        if self.norm is None:
            return g
        back = g - hb * np.mean(hb * g, axis=1, keepdims=True)
        if self.norm == "layer":
            back = back - g.mean(axis=1, keepdims=True)
        return back / rho

    def activation(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.mlp == "linear":
            return m, np.ones_like(m)
        return np.tanh(m), 1 - np.tanh(m) ** 2

    def forward(self, params: dict[str, np.ndarray], x: np.ndarray) -> dict[str, Any]:
        """All fields of one evaluation; x [P, S, D]."""
        P, S, D = x.shape
        root = self.n**-0.5
        h = params["E"] @ x.reshape(P * S, D).T / D**0.5
        tape: list[dict[str, Any]] = []
        for layer in range(self.L):
            if self.attention:
                hb, rho = self.normed(h)
                k, q, v = (self.heads(root * params[f"{layer}{z}"] @ hb, P) for z in "KQV")
                A = self.N**-self.alpha_A * np.einsum("zhnps,zhnpr->zhpsr", k, q)
                masked = np.where(np.tril(np.ones((S, S), bool)), A, -np.inf) if self.causal else A
                sigma = np.exp(masked - masked.max(axis=-1, keepdims=True))
                sigma /= sigma.sum(axis=-1, keepdims=True)
                vs = np.einsum("zhpsr,zhnpr->zhnps", sigma, v)
                flat = vs.reshape(h.shape)
                h = h + self.eps * root * params[f"{layer}O"] @ flat
                entry = {"hb": hb, "rho": rho, "k": k, "q": q, "v": v, "A": A, "sigma": sigma}
                tape.append({**entry, "kind": "attention", "vs": vs, "flat": flat})
            if self.mlp:
                hb, rho = self.normed(h)
                x_now, slope = self.activation(root * params[f"{layer}1"] @ hb)
                h = h + self.eps * root * params[f"{layer}2"] @ x_now
                tape.append({"kind": "mlp", "hb": hb, "rho": rho, "x": x_now, "slope": slope})
        mean = h.reshape(len(h), self.n, P, S).mean(axis=-1)
        f = np.einsum("zon,znp->zpo", params["w"], mean) / (self.gamma0 * self.n)
        return {"tape": tape, "h": h, "mean": mean, "f": f}

    def increments(
        self, params: dict[str, np.ndarray], fields: dict[str, Any], x: np.ndarray, error: Any
    ) -> dict[str, np.ndarray]:
        """Of every parameter, for the weighted errors Delta [seeds, P, outputs]."""
        P, S, D = x.shape
        root, scale = self.n**-0.5, self.c * self.n**-0.5
        g = np.einsum("zpo,zon->znp", error, params["w"]).repeat(S, axis=-1) / S
        rate = self.eta0 * self.gamma0
        change = {"w": rate * np.einsum("zpo,znp->zon", error, fields["mean"])}
        tape = list(fields["tape"])
        for layer in reversed(range(self.L)):
            if self.mlp:
                e = tape.pop()
                p = e["slope"] * (root * params[f"{layer}2"].swapaxes(1, 2) @ g)
                change[f"{layer}2"] = scale * g @ e["x"].swapaxes(1, 2)
                change[f"{layer}1"] = scale * p @ e["hb"].swapaxes(1, 2)
                back = root * params[f"{layer}1"].swapaxes(1, 2) @ p
                g = g + self.eps * self.norm_back(back, e["hb"], e["rho"])
            if self.attention:
                e = tape.pop()
                r = self.heads(root * params[f"{layer}O"].swapaxes(1, 2) @ g, P)
                spread = np.einsum("zhnps,zhnpr->zhpsr", r, e["v"])
                spread -= np.einsum("zhnps,zhnps->zhps", r, e["vs"])[..., None]
                M = self.N**-self.alpha_A * e["sigma"] * spread
                p = {
                    "K": np.einsum("zhpsr,zhnpr->zhnps", M, e["q"]).reshape(g.shape),
                    "Q": np.einsum("zhpsr,zhnps->zhnpr", M, e["k"]).reshape(g.shape),
                    "V": np.einsum("zhpsr,zhnps->zhnpr", e["sigma"], r).reshape(g.shape),
                }
                change[f"{layer}O"] = scale * g @ e["flat"].swapaxes(1, 2)
                back = 0.0
                for z in "KQV":
                    factor = scale if z == "V" else self.kappa * scale
                    change[f"{layer}{z}"] = factor * p[z] @ e["hb"].swapaxes(1, 2)
                    back = back + root * params[f"{layer}{z}"].swapaxes(1, 2) @ p[z]
                g = g + self.eps * self.norm_back(back, e["hb"], e["rho"])
        change["E"] = rate * D**-0.5 * g @ x.reshape(P * S, D)
        return change

    def train(
        self,
        params: dict[str, np.ndarray],
        x: np.ndarray,
        y: np.ndarray,
        steps: int,
        weights: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Predictions [seeds, T, P, outputs], last residual states and the scores of all times."""
        params = dict(params)
        velocity: dict[str, Any] = dict.fromkeys(params, 0.0)
        f, h, scores = [], [], []
        for t in range(steps):
            fields = self.forward(params, x)
            f.append(fields["f"])
            h.append(fields["h"])
            scores.append([e["A"] for e in fields["tape"] if e["kind"] == "attention"])
            if t == steps - 1:
                break
            w = np.full(len(x), 1 / len(x)) if weights is None else weights[t]
            change = self.increments(params, fields, x, w[:, None] * (y - fields["f"]))
            for name, delta in change.items():
                velocity[name] = self.momentum * velocity[name] + delta
                params[name] = params[name] + velocity[name]
        h = np.stack(h, axis=1)  # [seeds, T, n, m]
        kernel = np.einsum("ztna,zunb->ztaub", h, h, optimize=True) / self.n
        return {"f": np.stack(f, axis=1), "kernel": kernel, "scores": scores}

    def ensemble(
        self, x: np.ndarray, y: np.ndarray, steps: int, seeds: int, seed: int, **options: Any
    ) -> dict[str, Any]:
        """Many networks, a chunk at a time."""
        chunk = max(1, int(2e7 / (self.n**2 * (len(self.names()) + 1))))
        parts = []
        for start in range(0, seeds, chunk):
            count = min(chunk, seeds - start)
            params = self.random(seed * 100_003 + start, count, x.shape[-1], y.shape[1])
            parts.append(self.train(params, x, y, steps, **options))
        result = {name: np.concatenate([p[name] for p in parts]) for name in ("f", "kernel")}
        if self.attention:
            result["last_scores"] = np.concatenate([p["scores"][-1][0] for p in parts])
        return result


def extrapolated(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2 mean(second) - mean(first), second at twice the heads, and its standard error."""
    value = 2 * second.mean(axis=0) - first.mean(axis=0)
    variance = 4 * second.var(axis=0, ddof=1) / len(second) + first.var(axis=0, ddof=1) / len(first)
    return value, np.sqrt(variance)


def rms_z(first: np.ndarray, second: np.ndarray, limit: np.ndarray, floor: Any = 0.0) -> float:
    """Rms over entries of the z-score of the extrapolated mean against a limit."""
    value, stderr = extrapolated(first, second)
    return float(np.sqrt(np.mean((value - limit) ** 2 / (stderr**2 + floor**2))))


__all__ = ["RING4", "RING4_Y", "Network", "extrapolated", "inputs_with_kernel", "replace", "rms_z"]
