"""Finite networks by automatic differentiation, with everything that the limit may have.

Independent of translimit and of the NumPy network: only a forward pass and a loss are written, in
hat variables (every matrix starts with N(0, 1) entries), and gradient descent takes the gradients
of JAX with the rates of docs/theory/dmft.md. Batched over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Net:
    """Sizes and ingredients, in the symbols of docs/theory/dmft.md; data are token ids."""

    N: int
    H: int
    vocabulary: int
    L: int = 1
    alpha_A: float = 1.0
    alpha_L: float = 1.0
    beta0: float = 1.5
    gamma0: float = 1.0
    mlp: bool = True
    mlp_ratio: int = 1
    norm: str | None = "rms"
    qk_norm: str | None = None
    score_gain: float = 1.0
    score_gain_rate: float = 0.0
    rotary: float | None = None
    group: int = 1  # heads of queries (rows here called K) that share keys and values (Q and V)
    position_std: float = 1.0
    position_rate: float = 1.0
    tied: bool = False
    centred: bool = False

    @property
    def n(self) -> int:
        return self.N * self.H

    def start(self, key: Any, tokens: int) -> dict[str, Any]:
        shapes = {"E": (self.n, self.vocabulary), "P": (self.n, tokens)}
        if not self.tied:
            shapes["w"] = (self.n, self.vocabulary)
        for layer in range(self.L):
            shapes |= {f"{z}{layer}": (self.n, self.n) for z in "KO"}
            shapes |= {f"{z}{layer}": (self.n // self.group, self.n) for z in "QV"}
            if self.mlp:
                wide = self.mlp_ratio * self.n
                shapes |= {f"1{layer}": (wide, self.n), f"2{layer}": (self.n, wide)}
        keys = jax.random.split(key, len(shapes))
        params = {
            name: jax.random.normal(k, shape)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        gains = {f"t{layer}": jnp.asarray(self.score_gain) for layer in range(self.L)}
        return params | gains

    def rates(self, params: dict[str, Any], eta0: float) -> dict[str, float]:
        """One rate for all raw parameters, in hat variables."""
        plain = eta0 * self.gamma0**2 * self.L ** (2 * self.alpha_L - 1)
        kappa = self.N ** (-2 * (1 - self.alpha_A))
        outer = self.L ** (1 - 2 * self.alpha_L)
        found = {}
        for name in params:
            rate = plain * self.n
            if name[0] in "KQ":
                rate *= kappa
            elif name in ("E", "w"):
                rate *= outer
            elif name == "P":
                rate *= outer * self.position_rate
            elif name[0] == "t":
                rate = self.score_gain_rate * plain
            found[name] = rate
        return found

    def normed(self, h: Any, kind: str | None = "rms") -> Any:
        if kind is None:
            return h
        if kind == "layer":
            h = h - h.mean(axis=-1, keepdims=True)
        return h / jnp.sqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-5)

    def turned(self, x: Any) -> Any:
        """Keys or queries [inputs, tokens, heads, N] as complex pairs, turned."""
        if self.rotary is None:
            return x
        half = self.N // 2
        speed = self.rotary ** (-np.arange(half) / half)
        phase = np.exp(1j * np.arange(x.shape[1])[:, None] * speed)[None, :, None]
        pairs = (x[..., :half] + 1j * x[..., half:]) * phase
        return jnp.concatenate([pairs.real, pairs.imag], axis=-1)

    def outputs(self, params: dict[str, Any], ids: Any) -> Any:
        """Logits [inputs, tokens, words]: causal, with a final norm."""
        P, S = ids.shape
        root, eps = self.n**-0.5, self.beta0 * self.L**-self.alpha_L
        h = params["E"].T[ids] + self.position_std * params["P"].T[None]
        for layer in range(self.L):
            hb = self.normed(h, self.norm)
            k, q, v = (
                (root * hb @ params[f"{z}{layer}"].T).reshape(P, S, -1, self.N) for z in "KQV"
            )
            q, v = (jnp.repeat(x, self.group, axis=2) for x in (q, v))
            k, q = (self.turned(self.normed(x, self.qk_norm)) for x in (k, q))
            A = params[f"t{layer}"] * self.N**-self.alpha_A * jnp.einsum("pshn,prhn->phsr", k, q)
            A = jnp.where(jnp.tril(jnp.ones((S, S), bool)), A, -jnp.inf)
            mixed = jnp.einsum("phsr,prhn->pshn", jax.nn.softmax(A, axis=-1), v)
            h = h + eps * root * mixed.reshape(P, S, -1) @ params[f"O{layer}"].T
            if self.mlp:
                inner = jnp.tanh(root * self.normed(h, self.norm) @ params[f"1{layer}"].T)
                wide = self.mlp_ratio * self.n
                h = h + eps * wide**-0.5 * inner @ params[f"2{layer}"].T
        w = params["E"] if self.tied else params["w"]
        return self.normed(h) @ w / (self.gamma0 * self.n)

    @partial(jax.jit, static_argnames=("self", "steps", "seeds"))
    def train(
        self, key: Any, ids: Any, targets: Any, *, eta0: float, steps: int, seeds: int
    ) -> Any:
        """Logits [seeds, evaluations, inputs, tokens, words] under mean cross-entropy."""

        def one(key: Any) -> Any:
            params = self.start(key, ids.shape[1])
            first = self.outputs(params, ids) if self.centred else 0.0
            rates = self.rates(params, eta0)

            def loss(params: Any) -> Any:
                f = self.outputs(params, ids) - first
                own = jnp.take_along_axis(jax.nn.log_softmax(f), targets[..., None], axis=-1)
                return -own.mean(), f

            def step(params: Any, _: Any) -> Any:
                slopes, f = jax.grad(loss, has_aux=True)(params)
                moved = {name: x - rates[name] * slopes[name] for name, x in params.items()}
                return moved, f

            return jax.lax.scan(step, params, None, length=steps)[1]

        return jax.lax.map(one, jax.random.split(key, seeds), batch_size=10)
