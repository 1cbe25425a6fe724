r"""One causal pass over training time: every order parameter is known when it is needed.

A residual coordinate is exactly linear in its Gaussian sources s = (e, w_0, u^O and zeta of every
sub-block): residual additions are linear and normalisation scales by numbers. It is carried as
coefficient rows B, with Cov(s) = blockdiag(K^x, 1, V, Pi, ...), so that

    Hbar = B_h Cov B_h^T,    G~ = B_g Cov B_g^T,    f = B_w Cov B_m^T / gamma_0,

and the responses R^h, R^g are blocks of B. Only heads and neurons are sampled. Square roots of
the growing kernels are sequential and rank-revealing: in the last block the gradient kernel has
rank one at every time.

In the depth ODE (alpha_L = 1, infinitely many layers) fresh sources leave the stream and R^h, R^g
vanish; the layers are then Euler cells.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from translimit.core import named_key
from translimit.limits.dmft.histories import put_columns, put_rows
from translimit.limits.dmft.plan import RESPONSES, Numbers, Plan, Record, State
from translimit.limits.dmft.stream import (
    Root,
    next_root,
    no_root,
    put_kernels,
    put_symmetric,
    store,
    with_cov,
)
from translimit.limits.dmft.units import AbstractUnit, Site


@partial(jax.jit, static_argnames="plan", donate_argnames="state")
def advance(
    plan: Plan, numbers: Numbers, state: State, t: Array, key: PRNGKeyArray
) -> tuple[State, Record]:
    """One time step: forward through all layers, readout, backward, histories."""
    m, P, start = plan.fields, plan.inputs, t * plan.fields
    state = dict(state)
    gap = t - jnp.arange(plan.slots)
    mu = numbers.momentum
    omega = jnp.where(gap > 0, (1 - mu ** jnp.maximum(gap, 0)) / (1 - mu), 0.0)
    memory = (omega[:, None] * state["drive"]).reshape(-1)  # omega Delta_b; omega in folded form
    past_chunks = (t + plan.chunk_slots - 1) // plan.chunk_slots
    chunks = t // plan.chunk_slots + 1
    product = partial(with_cov, plan, numbers.kx)
    kept_of: dict[str, Array] = dict(zip(RESPONSES, numbers.keep, strict=True))

    def site(direction: str, layer: Any, index: int, row: Any, now: Any, root: Any, response: Any):
        own_key = jax.random.fold_in(jax.random.fold_in(key, t), layer)
        return Site(
            layer=layer,
            start=start,
            past_chunks=past_chunks,
            chunks=chunks,
            key=named_key(own_key, direction, index),
            row=row,
            now=now,
            root_past=root.past,
            root_now=root.now,
            response=response,
            learned=numbers.c * memory * row,
            kappa=numbers.kappa,
            scale=numbers.scale,
        )

    def root_of(unit: AbstractUnit, weigh: Callable[[Array], Array], B: Array, Q: Array) -> Root:
        return next_root(plan, weigh, B, Q) if unit.sampled else no_root(plan)

    def read(rows: Array, layer: Any, index: int, side: int, name: str) -> Array:
        """A response: the coefficients of one sub-block's sources."""
        if not plan.fresh:
            return jnp.zeros((m, plan.history))
        column = plan.column(layer, index, side)
        block = jax.lax.dynamic_slice_in_dim(rows, column, plan.history, axis=1)
        return kept_of[name] * block

    def fresh(rows: Array, layer: Any, index: int, side: int) -> Array:
        """The rows plus this sub-block's own new source."""
        if not plan.fresh:
            return rows
        return put_columns(rows, jnp.eye(m), plan.column(layer, index, side) + start)

    def kernel_row(left: Array, rows: Array, past: Array) -> tuple[Array, Array]:
        now = left @ rows.T
        return left @ past.T, (now + now.T) / 2

    def own_buffers(index: int, slices: Any) -> dict[str, Array]:
        """Populations are read across layers, chunk by chunk; coefficients layer by layer."""
        return state["units"][index] if plan.units[index].sampled else slices[index]

    small = tuple(
        {} if unit.sampled else own for unit, own in zip(plan.units, state["units"], strict=True)
    )
    names = ("h", "g", "Q_h", "Q_g")
    layers = {name: state[name] for name in names}

    def forward(carry: Any, xs: Any) -> Any:
        h, cov = carry
        layer, view, slices = xs
        kept = []
        for index, unit in enumerate(plan.units):
            rho = jnp.ones(m)
            if plan.norm:
                rho = jnp.sqrt(jnp.sum(product(cov, h) * h, axis=1) + numbers.norm_eps)
            hb = h / rho[:, None]
            row, now = kernel_row(product(cov, hb), hb, view["h"][index])
            root = root_of(unit, partial(product, cov), hb, view["Q_h"][index])
            response = read(hb, layer, index, 1, "R_h")
            given = site("forward", layer, index, row, now, root, response)
            out = unit.forward(own_buffers(index, slices), given)
            regression = kept_of["R_v"] * out.regression
            past = view["Q_g" if unit.sampled else "g"][index]
            step = regression @ past + numbers.c * (memory * out.past) @ view["g"][index]
            h = h + numbers.eps * fresh(step, layer, index, 0)
            V_now = (out.now + out.now.T) / 2
            if plan.fresh:
                cov = put_symmetric(cov, layer, index, 0, out.past, V_now, start)
            kept.append(
                {
                    "h": hb,
                    "rho": rho[:, None],
                    "H": put_columns(row, now, start),
                    "S_x": regression,
                    "Q_h": root.white,
                    "V": put_columns(out.past, V_now, start),
                    "H_now": now,
                    "V_now": V_now,
                    "stored": out.stored,
                    "fields": out.fields,
                    "scores": out.scores,
                    "finite": jnp.all(jnp.isfinite(V_now)) & jnp.all(jnp.isfinite(out.past)),
                }
            )
        return (h, cov), tuple(kept)

    h = put_columns(jnp.zeros((m, plan.sources)), jnp.eye(m), 0)
    h = h + numbers.rate * (jnp.tile(numbers.kx, plan.slots) * memory) @ state["g_first"]
    cov = state["cov"]
    indices = jnp.arange(plan.layers)
    kept: tuple[dict[str, Any], ...] = ()
    if plan.units:
        (h, cov), kept = jax.lax.scan(forward, (h, cov), (indices, layers, small))
        state = store(state, kept, ("h", "rho", "H", "S_x", "Q_h"), start)
    if plan.units and not plan.fresh:  # then the stream needs V for nothing else
        cov = put_kernels(cov, kept, "V", 0, start)

    pooled = h.reshape(P, plan.tokens, plan.sources).mean(axis=1)
    w = put_columns(jnp.zeros((plan.outputs, plan.sources)), jnp.eye(plan.outputs), m)
    learned = omega[:, None, None] * state["error"]
    w = w + numbers.rate * learned.reshape(-1, plan.outputs).T @ state["pooled"]
    pooled_cov = product(cov, pooled)
    f = pooled_cov @ w.T / numbers.gamma0
    error = numbers.error_weights[t][:, None] * (numbers.y - f)
    drive = jnp.ones(m) if plan.folded else jnp.repeat(error[:, 0], plan.tokens)
    upper = error @ w if plan.folded else jnp.broadcast_to(w, (P, plan.sources))
    g = jnp.repeat(upper, plan.tokens, axis=0) / plan.tokens
    state["h_last"] = put_rows(state["h_last"], h, start)
    state["pooled"] = put_rows(state["pooled"], pooled, t * P)
    state["error"] = state["error"].at[t].set(error)
    state["drive"] = state["drive"].at[t].set(drive)

    def over_tokens(kernel: Array) -> Array:
        return kernel.reshape(P, plan.tokens, P, plan.tokens).sum(axis=(1, 3))

    layers = {name: state[name] for name in names}
    small = tuple(
        {} if unit.sampled else own for unit, own in zip(plan.units, state["units"], strict=True)
    )

    def backward(carry: Any, xs: Any) -> Any:
        g, cov, ntk = carry
        layer, view, slices, front = xs
        kept: list[Any] = [None] * len(plan.units)
        for index in reversed(range(len(plan.units))):
            unit, seen = plan.units[index], front[index]
            row, now = kernel_row(product(cov, g), g, view["g"][index])
            root = root_of(unit, partial(product, cov), g, view["Q_g"][index])
            response = read(g, layer, index, 0, "R_g")
            given = site("backward", layer, index, row, now, root, response)
            out = unit.backward(own_buffers(index, slices), given, seen["fields"])
            regression = kept_of["R_p"] * out.regression
            past = view["Q_h" if unit.sampled else "h"][index]
            back = regression @ past
            back = back + numbers.c * (memory * out.past_kappa) @ view["h"][index]
            back = fresh(back, layer, index, 1)
            Pi_now = (out.now + out.now.T) / 2
            if plan.fresh:
                cov = put_symmetric(cov, layer, index, 1, out.past, Pi_now, start)
            if plan.norm:
                hb = seen["h"]
                chi = jnp.sum(product(cov, back) * hb, axis=1, keepdims=True)
                back = (back - hb * chi) / seen["rho"]
            block = now * seen["V_now"] + out.now_kappa * seen["H_now"]
            ntk = ntk + numbers.block_ntk * over_tokens(block)
            kept[index] = {
                "g": g,
                "G": put_columns(row, now, start),
                "S_p": regression,
                "Q_g": root.white,
                "Pi": put_columns(out.past, Pi_now, start),
                "stored": out.stored,
                "key_gradient": out.key_gradient,
                "finite": jnp.all(jnp.isfinite(Pi_now)) & jnp.all(jnp.isfinite(out.past)),
            }
            g = g + numbers.eps * back
        return (g, cov, ntk), tuple(kept)

    ntk = pooled_cov @ pooled.T
    back: tuple[dict[str, Any], ...] = ()
    if plan.units:
        front = tuple(
            {name: one[name] for name in ("fields", "h", "rho", "H_now", "V_now")} for one in kept
        )
        (g, cov, ntk), back = jax.lax.scan(
            backward, (g, cov, ntk), (indices, layers, small, front), reverse=True
        )
        state = store(state, back, ("g", "G", "S_p", "Q_g"), start)
    if plan.units and not plan.fresh:
        cov = put_kernels(cov, back, "Pi", 1, start)
    state["cov"] = cov
    state["g_first"] = put_rows(state["g_first"], g, start)
    ntk = ntk + over_tokens(numbers.kx * (product(cov, g) @ g.T))
    finite = [
        jnp.stack([a["finite"], b["finite"]], axis=-1) for a, b in zip(kept, back, strict=True)
    ]
    heads = kept[0]["scores"] if kept else jnp.zeros((plan.layers, 0, P, plan.tokens, plan.tokens))
    record = Record(
        f=f,
        ntk=ntk,
        scores=heads,
        key_gradient=back[0]["key_gradient"] if back else jnp.zeros(plan.layers),
        finite=jnp.stack(finite, axis=1) if finite else jnp.ones((plan.layers, 0, 2), bool),
    )
    return state, record
