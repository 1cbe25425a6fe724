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
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from translimit.core import named_key
from translimit.limits.dmft.histories import put_columns, put_rows
from translimit.limits.dmft.resume import Checkpoints
from translimit.limits.dmft.units import AbstractUnit, Site

#: The responses, by the symbols of the documentation; any may be switched off.
RESPONSES: tuple[str, ...] = ("R_v", "R_p", "R_h", "R_g")


@dataclass(frozen=True)
class Plan:
    """The shape of a pass; everything that compiles into the program.

    Attributes:
        inputs: P.
        tokens: S.
        outputs: predictions for an input.
        slots: time steps that histories have room for.
        chunk_slots: time steps in a chunk of a history.
        layers: blocks, or cells of the depth ODE.
        units: the sub-blocks of a block.
        norm: whether sub-blocks normalise their input.
        fresh: whether sub-blocks add fresh sources to the stream.
        folded: whether gradients carry the error, needed with several outputs.
        tol: eigenvalues of a new block below this, relative to its mean variance, are null.
    """

    inputs: int
    tokens: int
    outputs: int
    slots: int
    chunk_slots: int
    layers: int
    units: tuple[AbstractUnit, ...]
    norm: bool
    fresh: bool
    folded: bool
    tol: float

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def history(self) -> int:
        """Rows of a history."""
        return self.slots * self.fields

    @property
    def sources(self) -> int:
        """Length of a coefficient row."""
        fresh = 2 * self.layers * len(self.units) * self.history if self.fresh else 0
        return self.fields + self.outputs + fresh

    def column(self, layer: Any, unit: int, side: int) -> Any:
        """First column of the sources u^O (side 0) or zeta (side 1) of a sub-block."""
        block = (layer * len(self.units) + unit) * 2 + side
        return self.fields + self.outputs + block * self.history


class Numbers(NamedTuple):
    """Data and constants of a pass; another value compiles nothing.

    Attributes:
        kx: kernel of the inputs [fields, fields].
        y: targets [inputs, outputs].
        error_weights: what multiplies y - f in the update [slots, inputs].
        eps: beta_0 L^(-alpha_L).
        c: eta_0 gamma_0 beta_0 L^(alpha_L - 1).
        kappa: N^(-2 (1 - alpha_A)).
        scale: N^(-alpha_A).
        rate: eta_0 gamma_0.
        gamma0: richness.
        momentum: of the heavy ball.
        block_ntk: beta_0^2 / L.
        norm_eps: of the normalisation.
        keep: 1 for each response in the order of `RESPONSES`, 0 for one that is switched off.
    """

    kx: Any
    y: Any
    error_weights: Any
    eps: Any
    c: Any
    kappa: Any
    scale: Any
    rate: Any
    gamma0: Any
    momentum: Any
    block_ntk: Any
    norm_eps: Any
    keep: Any


class Record(NamedTuple):
    """What one time step reports besides its state.

    Attributes:
        f: predictions [inputs, outputs].
        ntk: neural tangent kernel [inputs, inputs]; of the unfolded form only.
        logits: attention logits of every layer [layers, heads, inputs, tokens, tokens].
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2 in every layer [layers].
        finite: whether kernels of sub-blocks are finite, forward and backward [layers, units, 2].
    """

    f: Array
    ntk: Array
    logits: Array
    key_gradient: Array
    finite: Array


State = dict[str, Any]


def initial_state(plan: Plan) -> State:
    """Empty histories."""
    shape = (plan.layers, len(plan.units), plan.history)
    kernels = ("H", "G", "S_x", "S_p", "root_h", "root_g")
    rows = ("h", "g", "Q_h", "Q_g")
    zeros = partial(jnp.zeros, dtype=jnp.float64)
    return {
        **{name: zeros((*shape, plan.sources)) for name in rows},
        **{name: zeros((*shape, plan.history)) for name in kernels},
        "cov": zeros((*shape[:2], 2, plan.history, plan.history)),
        "rho": zeros((*shape, 1)),
        "g_first": zeros((plan.history, plan.sources)),
        "h_last": zeros((plan.history, plan.sources)),
        "pooled": zeros((plan.slots * plan.inputs, plan.sources)),
        "error": zeros((plan.slots, plan.inputs, plan.outputs)),
        "drive": zeros((plan.slots, plan.fields)),
        "units": tuple(
            {
                name: jnp.zeros((plan.layers, *size), getattr(unit, "dtype", "float64"))
                for name, size in unit.buffers().items()
            }
            for unit in plan.units
        ),
    }


def with_cov(plan: Plan, kx: Array, cov: Array, rows: Array) -> Array:
    """Coefficient rows times the covariance of the sources."""
    first = plan.fields + plan.outputs
    done = [rows[:, : plan.fields] @ kx, rows[:, plan.fields : first]]
    if plan.fresh and plan.units:
        blocks = rows[:, first:].reshape(len(rows), -1, plan.history)
        stacked = cov.reshape(-1, plan.history, plan.history)
        moved = jnp.einsum("abk,bkj->abj", blocks, stacked)
        done.append(moved.reshape(len(rows), -1))
    return jnp.concatenate(done, axis=1)


class _Root(NamedTuple):
    """The new block row of a sequential square root L L^T = C and of its inverse."""

    past: Array  # L_t,<t [fields, history]
    now: Array  # L_tt [fields, fields]
    white: Array  # L^+ B [fields, sources]
    inverse: Array  # row t of L^+ [fields, history]


def _root(
    plan: Plan, row: Array, now: Array, B: Array, inverse: Array, Q: Array, start: Any
) -> _Root:
    past = row @ inverse.T
    schur = now - past @ past.T
    values, basis = jnp.linalg.eigh((schur + schur.T) / 2)
    kept = values > plan.tol * jnp.trace(now) / plan.fields
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    L_now = basis * jnp.where(kept, roots, 0.0)
    L_inverse = (basis * jnp.where(kept, 1 / roots, 0.0)).T
    return _Root(
        past=past,
        now=L_now,
        white=L_inverse @ (B - past @ Q),
        inverse=put_columns(-L_inverse @ (past @ inverse), L_inverse, start),
    )


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
    names = ("h", "g", "Q_h", "Q_g", "root_h", "root_g")
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
            root = _root(plan, row, now, hb, view["root_h"][index], view["Q_h"][index], start)
            response = read(hb, layer, index, 1, "R_h")
            given = site("forward", layer, index, row, now, root, response)
            out = unit.forward(own_buffers(index, slices), given)
            regression = kept_of["R_v"] * out.regression
            past = view["Q_g" if unit.sampled else "g"][index]
            step = regression @ past + numbers.c * (memory * out.past) @ view["g"][index]
            h = h + numbers.eps * fresh(step, layer, index, 0)
            V_now = (out.now + out.now.T) / 2
            if plan.fresh:
                cov = _put_symmetric(cov, layer, index, 0, out.past, V_now, start)
            kept.append(
                {
                    "h": hb,
                    "rho": rho[:, None],
                    "H": put_columns(row, now, start),
                    "S_x": regression,
                    "Q_h": root.white,
                    "root_h": root.inverse,
                    "V": put_columns(out.past, V_now, start),
                    "H_now": now,
                    "V_now": V_now,
                    "stored": out.stored,
                    "fields": out.fields,
                    "logits": out.logits,
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
        state = _store(state, kept, ("h", "rho", "H", "S_x", "Q_h", "root_h"), start)
    if plan.units and not plan.fresh:  # then the stream needs V for nothing else
        cov = _put_kernels(cov, kept, "V", 0, start)

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
            root = _root(plan, row, now, g, view["root_g"][index], view["Q_g"][index], start)
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
                cov = _put_symmetric(cov, layer, index, 1, out.past, Pi_now, start)
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
                "root_g": root.inverse,
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
        state = _store(state, back, ("g", "G", "S_p", "Q_g", "root_g"), start)
    if plan.units and not plan.fresh:
        cov = _put_kernels(cov, back, "Pi", 1, start)
    state["cov"] = cov
    state["g_first"] = put_rows(state["g_first"], g, start)
    ntk = ntk + over_tokens(numbers.kx * (product(cov, g) @ g.T))
    finite = [
        jnp.stack([a["finite"], b["finite"]], axis=-1) for a, b in zip(kept, back, strict=True)
    ]
    heads = kept[0]["logits"] if kept else jnp.zeros((plan.layers, 0, P, plan.tokens, plan.tokens))
    record = Record(
        f=f,
        ntk=ntk,
        logits=heads,
        key_gradient=back[0]["key_gradient"] if back else jnp.zeros(plan.layers),
        finite=jnp.stack(finite, axis=1) if finite else jnp.ones((plan.layers, 0, 2), bool),
    )
    return state, record


def _put_symmetric(
    cov: Array, layer: Any, index: int, side: int, past: Array, now: Array, start: Any
) -> Array:
    """The covariance of one family of sources with the row and column of this time."""
    row = put_columns(past, now, start)
    zero = jnp.zeros_like(start)
    where = (layer, zero + index, zero + side)
    cov = jax.lax.dynamic_update_slice(cov, row[None, None, None], (*where, start, zero))
    return jax.lax.dynamic_update_slice(cov, row.T[None, None, None], (*where, zero, start))


def _put_kernels(cov: Array, kept: Any, name: str, side: int, start: Any) -> Array:
    """Rows and columns of this time in the kernels of all sub-blocks."""
    rows = jnp.stack([one[name] for one in kept], axis=1)
    kernel = put_rows(cov[:, :, side], rows, start)
    return cov.at[:, :, side].set(put_columns(kernel, rows.swapaxes(-1, -2), start))


def _store(state: State, kept: Any, names: tuple[str, ...], start: Any) -> State:
    """The state with the rows of this time in every history."""
    state = dict(state)
    for name in names:
        rows = jnp.stack([one[name] for one in kept], axis=1)
        state[name] = put_rows(state[name], rows, start)
    units = []
    for own, one in zip(state["units"], kept, strict=True):
        filled = dict(own)
        for name, rows in one["stored"].items():
            filled[name] = put_rows(filled[name], rows, start)
            if name in ("H", "G"):  # kernels of linear units, kept symmetric
                filled[name] = put_columns(filled[name], rows.swapaxes(-1, -2), start)
        units.append(filled)
    state["units"] = tuple(units)
    return state


class Trace(NamedTuple):
    """A pass in NumPy: records of all times, and the kernels it leaves.

    Attributes:
        f: [steps, inputs, outputs].
        ntk: [steps, inputs, inputs].
        logits: [steps, layers, heads, inputs, tokens, tokens].
        key_gradient: [steps, layers].
        finite: [steps, layers, units, 2].
        kernels: "residual" [layers + 1, K, K] with K = steps * fields, "gradient" alike, "V",
            "Pi", "S_x", "S_p", "R_h", "R_g" [layers, units, K, K].
    """

    f: np.ndarray
    ntk: np.ndarray
    logits: np.ndarray
    key_gradient: np.ndarray
    finite: np.ndarray
    kernels: dict[str, np.ndarray]


def causal_pass(
    plan: Plan,
    numbers: Numbers,
    steps: int,
    key: PRNGKeyArray,
    heads_kept: int,
    progress: Callable[[float], object] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trace:
    """All time steps, in 64 bits; stops at the first kernel that is not finite."""
    if checkpoints is not None and (whole := checkpoints.finished(_empty_trace(plan))):
        return whole
    with jax.enable_x64(True):
        numbers = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), numbers)
        state = initial_state(plan)
        records: list[Record] = []
        if checkpoints is not None:
            empty = Record(*[np.zeros(0)] * len(Record._fields))
            done, state, past = checkpoints.load(state, empty)
            state = jax.tree.map(jnp.asarray, state)
            records = [jax.tree.map(lambda x, t=t: x[t], past) for t in range(done)]
        for t in range(len(records), steps):
            state, record = advance(plan, numbers, state, jnp.asarray(t), key)
            record = record._replace(logits=record.logits[:, :heads_kept])
            records.append(jax.tree.map(np.asarray, record))
            if progress is not None:
                progress((t + 1) / steps)
            if not (records[-1].finite.all() and np.isfinite(records[-1].f).all()):
                break
            if checkpoints is not None and t + 1 < steps:
                checkpoints.save(t + 1, state, Record(*map(np.stack, zip(*records, strict=True))))
        kernels = {k: np.asarray(v) for k, v in _kernels(plan, numbers, state).items()}
    size = steps * plan.fields
    kernels = {name: np.ascontiguousarray(x[..., :size, :size]) for name, x in kernels.items()}
    missing = steps - len(records)
    rows = [np.stack(field) for field in zip(*records, strict=True)]
    filled = [
        np.concatenate([x, np.full((missing, *x.shape[1:]), _absent(x))]) if missing else x
        for x in rows
    ]
    f, ntk, logits, key_gradient, finite = filled
    trace = Trace(f, ntk, logits, key_gradient, finite, kernels)
    if checkpoints is not None:
        checkpoints.finish(steps, trace)
    return trace


def _empty_trace(plan: Plan) -> Trace:
    """A trace of the right structure."""
    names = ("residual", "gradient")
    names += ("V", "Pi", "S_x", "S_p") if plan.units else ()
    names += ("R_h", "R_g") if plan.units and plan.fresh else ()
    nothing = np.zeros(0)
    return Trace(*[nothing] * 5, dict.fromkeys(names, nothing))


def _absent(x: np.ndarray) -> Any:
    return False if x.dtype == bool else np.nan


@partial(jax.jit, static_argnames="plan")
def _kernels(plan: Plan, numbers: Numbers, state: State) -> dict[str, Array]:
    """Kernels of residual states and gradients by layer, and the responses."""
    product = partial(with_cov, plan, numbers.kx, state["cov"])

    def gram(rows: Array) -> Array:
        return product(rows) @ rows.T

    def symmetric(kernel: Array) -> Array:
        return jnp.tril(kernel) + jnp.tril(kernel, -1).swapaxes(-1, -2)

    if not plan.units:
        residual = jnp.broadcast_to(gram(state["h_last"]), (plan.layers + 1, *[plan.history] * 2))
        gradient = jnp.broadcast_to(gram(state["g_first"]), residual.shape)
        return {"residual": residual, "gradient": gradient}
    rho = state["rho"]
    scaled = state["H"] * rho * rho.swapaxes(-1, -2)
    residual = jnp.concatenate([symmetric(scaled[:, 0]), gram(state["h_last"])[None]])
    gradient = jnp.concatenate([gram(state["g_first"])[None], symmetric(state["G"][:, -1])])
    kernels = {
        "residual": residual,
        "gradient": gradient,
        "V": state["cov"][:, :, 0],
        "Pi": state["cov"][:, :, 1],
        "S_x": state["S_x"],
        "S_p": state["S_p"],
    }
    if plan.fresh:
        shape = (plan.layers, len(plan.units), plan.history, plan.layers, len(plan.units), 2, -1)
        first = plan.fields + plan.outputs
        h = state["h"][..., first:].reshape(shape)
        g = state["g"][..., first:].reshape(shape)
        own = jnp.einsum("abkabsj->abksj", h), jnp.einsum("abkabsj->abksj", g)
        kernels |= {"R_h": own[0][..., 1, :], "R_g": own[1][..., 0, :]}
    return kernels
