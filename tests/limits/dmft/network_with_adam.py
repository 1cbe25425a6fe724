"""Finite networks under updates that work entry by entry, by automatic differentiation.

Independent of translimit and of the other networks: a forward pass and a loss in hat variables
(every matrix starts with N(0, 1) entries), gradients of JAX, and Adam in raw units with the rates
and epsilons of docs/theory/dmft.md. Also gradient descent, and an activation on the stream. Data
are columns phi [inputs, tokens, columns]. Batched over seeds, each with its readout of both signs.
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
    """Sizes and ingredients; `update` is "adam", "sign" or "sgd", `tokens` a language model."""

    N: int
    H: int
    outputs: int = 1
    L: int = 1
    beta0: float = 1.0
    gamma0: float = 1.0
    eta0: float = 0.1
    attention: bool = True
    mlp: str | None = None
    norm: str | None = "rms"
    activation: str | None = None
    causal: bool = False
    tokens: bool = False
    update: str = "adam"
    b1: float = 0.5
    b2: float = 0.8
    eps: float = 0.05
    decay: float = 0.0

    @property
    def n(self) -> int:
        return self.N * self.H

    def start(self, key: Any, columns: int) -> dict[str, Any]:
        shapes = {"E": (self.n, columns), "w": (self.n, self.outputs)}
        for layer in range(self.L):
            names = "KQVO" * self.attention + "12" * (self.mlp is not None)
            shapes |= {f"{z}{layer}": (self.n, self.n) for z in names}
        keys = jax.random.split(key, len(shapes))
        pairs = zip(keys, shapes.items(), strict=True)
        return {name: jax.random.normal(k, shape) for k, (name, shape) in pairs}

    def normed(self, h: Any, kind: str | None) -> Any:
        if kind is None:
            return h
        if kind == "layer":
            h = h - h.mean(axis=-1, keepdims=True)
        return h / jnp.sqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-5)

    def read(self, h: Any) -> Any:
        h = self.normed(h, self.norm)
        return jax.nn.gelu(h, approximate=False) if self.activation == "gelu" else h

    def forward(self, params: dict[str, Any], phi: Any) -> Any:
        """Outputs [rows, outputs]."""
        P, S, _ = phi.shape
        root, eps = self.n**-0.5, self.beta0 / self.L
        h = phi @ params["E"].T
        for layer in range(self.L):
            if self.attention:
                x = root * self.read(h)
                k, q, v = (
                    (x @ params[f"{z}{layer}"].T).reshape(P, S, self.H, self.N) for z in "KQV"
                )
                A = jnp.einsum("pshn,prhn->phsr", k, q) / self.N
                if self.causal:
                    A = jnp.where(jnp.tril(jnp.ones((S, S), bool)), A, -jnp.inf)
                mixed = jnp.einsum("phsr,prhn->pshn", jax.nn.softmax(A, axis=-1), v)
                h = h + eps * root * mixed.reshape(P, S, -1) @ params[f"O{layer}"].T
            if self.mlp:
                inner = root * self.read(h) @ params[f"1{layer}"].T
                act = {"linear": lambda z: z, "tanh": jnp.tanh}.get(
                    self.mlp, partial(jax.nn.gelu, approximate=False)
                )
                h = h + eps * root * act(inner) @ params[f"2{layer}"].T
        h = self.normed(h, "rms").reshape(P * S, -1) if self.tokens else h.mean(axis=1)
        return h @ params["w"] / (self.gamma0 * self.n)

    def loss(self, params: dict[str, Any], phi: Any, y: Any) -> Any:
        f = self.forward(params, phi)
        if self.tokens:
            own = jnp.take_along_axis(jax.nn.log_softmax(f), y.reshape(-1, 1), axis=-1)
            return -own.mean(), f
        return jnp.mean(jnp.sum((y - f) ** 2, axis=-1)) / 2, f

    def step(self, params: dict[str, Any], slots: Any, slopes: Any, t: Any) -> Any:
        """One update; rates and epsilons of hat weights in raw units."""
        moved, kept = {}, {}
        for name, x in params.items():
            outer = name in ("E", "w")
            raw = 1 / (self.gamma0 * self.n)
            raw *= 1.0 if outer else self.beta0 / self.L * self.n**-0.5
            rate, eps = (self.eta0 if outer else self.eta0 * self.n**-0.5), self.eps * raw
            g = -slopes[name]
            m, v = slots[name]
            if self.update == "adam":
                m, v = self.b1 * m + (1 - self.b1) * g, self.b2 * v + (1 - self.b2) * g**2
                mean, square = m / (1 - self.b1 ** (t + 1)), v / (1 - self.b2 ** (t + 1))
                u = mean / (jnp.sqrt(square) + eps)
            elif self.update == "sign":
                u = jnp.sign(g)
            else:  # one rate for all hat weights at depth 1
                u, rate = g, self.eta0 * self.gamma0**2 * self.n
                rate *= self.L ** (-1 if outer else 1)
            moved[name] = (1 - self.eta0 * self.decay) * x + rate * u
            kept[name] = (m, v)
        return moved, kept

    @partial(jax.jit, static_argnames=("self", "steps", "seeds"))
    def train(self, key: Any, phi: Any, y: Any, *, steps: int, seeds: int) -> Any:
        """Outputs [seeds, evaluations, rows, outputs]."""

        def one(params: Any) -> Any:
            def step(carry: Any, t: Any) -> Any:
                params, slots = carry
                slopes, f = jax.grad(self.loss, has_aux=True)(params, phi, y)
                return self.step(params, slots, slopes, t), f

            zeros = {name: (jnp.zeros_like(x),) * 2 for name, x in params.items()}
            return jax.lax.scan(step, (params, zeros), jnp.arange(steps))[1]

        def both(key: Any) -> Any:
            params = self.start(key, phi.shape[-1])
            turned = params | {"w": -params["w"]}
            return (one(params) + one(turned)) / 2

        return jax.lax.map(both, jax.random.split(key, seeds), batch_size=20)


def two_layer_linear(
    phi: np.ndarray,
    y: np.ndarray,
    *,
    eta0: float,
    steps: int,
    b1: float,
    b2: float,
    eps: float,
    nodes: int = 90,
) -> np.ndarray:
    """Adam on two linear layers at infinite width, by Gauss-Hermite quadrature over one site.

    One coordinate is (E_1 .. E_c, w) ~ N(0, 1); all of its updates are functions of itself and of
    the errors, and f = <w phi E>. Squared loss, equal weights, gamma_0 = 1.
    """
    x, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    axes = phi.shape[1] + 1
    site = np.stack(np.meshgrid(*[x] * axes, indexing="ij")).reshape(axes, -1)
    mass = np.prod(np.stack(np.meshgrid(*[weight] * axes, indexing="ij")).reshape(axes, -1), 0)
    m, v, f = np.zeros_like(site), np.zeros_like(site), []
    for t in range(steps):
        h = phi @ site[:-1]
        f.append((h * site[-1]) @ mass)
        error = (y - f[-1]) / len(y)
        g = np.concatenate([phi.T @ (error[:, None] * site[-1]), (error @ h)[None]])
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        root = np.sqrt(v / (1 - b2 ** (t + 1)))
        site = site + eta0 * m / (1 - b1 ** (t + 1)) / (root + eps)
    return np.array(f)
