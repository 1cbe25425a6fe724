"""A whole pass: one time step after another, checkpoints on the way, and its trace at the end."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from translimit.core import Key, Progress
from translimit.limits.dmft.causal_pass import advance
from translimit.limits.dmft.plan import Numbers, Plan
from translimit.limits.dmft.resume import Checkpoints
from translimit.limits.dmft.state import Record, State, initial_state
from translimit.limits.dmft.stream import with_cov

#: Held while a program is compiled: of passes that run side by side only one compiles it.
_COMPILING = threading.Lock()

#: Kernels over training time by name; their shapes are those of `Trace`.
Kernels = dict[str, Float[np.ndarray, "..."]]


class Trace(NamedTuple):
    """A pass in NumPy: records of all times, and the kernels it leaves.

    Attributes:
        f: [steps, rows, outputs].
        ntk: [steps, rows, rows].
        scores: [steps, layers, heads, inputs, tokens, tokens].
        key_gradient: [steps, layers].
        score_gain: [steps, layers].
        finite: [steps, layers, units, 2].
        ranks: directions of each kind [steps, layers, units, kinds]; no kinds without compression.
        dropped: largest variance left out of a field, relative to its own [steps].
        kernels: "residual" [layers + 1, K, K] with K = steps * fields, "gradient" alike, "V",
            "Pi", "S_x", "S_p", "R_h", "R_g" [layers, units, K, K], "motion" [layers + 1, 1, K]
            (mean squares of what each block adds to the stream, and of what all of them add).
    """

    f: Float[np.ndarray, "steps rows outputs"]
    ntk: Float[np.ndarray, "steps rows rows"]
    scores: Float[np.ndarray, "steps layers heads inputs tokens tokens"]
    key_gradient: Float[np.ndarray, "steps layers"]
    score_gain: Float[np.ndarray, "steps layers"]
    finite: Bool[np.ndarray, "steps layers units 2"]
    ranks: Int[np.ndarray, "steps layers units kinds"]
    dropped: Float[np.ndarray, " steps"]
    kernels: Kernels


def causal_pass(
    plan: Plan,
    numbers: Numbers,
    steps: int,
    key: Key,
    heads_kept: int,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trace:
    """All time steps, in 64 bits; stops at the first kernel that is not finite."""
    if checkpoints is not None and (whole := checkpoints.finished(_empty_trace(plan))):
        if progress is not None:
            progress(1.0)
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
            with _COMPILING if not records else contextlib.nullcontext():
                state, record = advance(plan, numbers, state, jnp.asarray(t), key)
            record = record._replace(scores=record.scores[:, :heads_kept])
            records.append(jax.tree.map(np.asarray, record))
            if progress is not None:
                progress((t + 1) / steps)
            if not (records[-1].finite.all() and np.isfinite(records[-1].f).all()):
                break
            if checkpoints is not None and t + 1 < steps:
                checkpoints.save(t + 1, state, Record(*map(np.stack, zip(*records, strict=True))))
        with _COMPILING:
            last = _kernels(plan, numbers, state)
        kernels = {k: np.asarray(v) for k, v in last.items()}
    size = steps * plan.fields
    kernels = {name: np.ascontiguousarray(x[..., :size, :size]) for name, x in kernels.items()}
    missing = steps - len(records)
    rows = [np.stack(field) for field in zip(*records, strict=True)]
    filled = [
        np.concatenate([x, np.full((missing, *x.shape[1:]), _absent(x))]) if missing else x
        for x in rows
    ]
    f, ntk, scores, key_gradient, score_gain, finite = filled
    ranks = np.zeros((steps, plan.layers, len(plan.units), 0), int)
    trace = Trace(f, ntk, scores, key_gradient, score_gain, finite, ranks, np.zeros(steps), kernels)
    if checkpoints is not None:
        checkpoints.finish(steps, trace)
    return trace


def first_ntk(plan: Plan, numbers: Numbers, key: Key) -> Float[np.ndarray, "rows rows"]:
    """The tangent kernel of the first evaluation alone."""
    with jax.enable_x64(True), _COMPILING:
        numbers = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), numbers)
        _, record = advance(plan, numbers, initial_state(plan), jnp.asarray(0), key)
        return np.asarray(record.ntk)


def _empty_trace(plan: Plan) -> Trace:
    """A trace of the right structure."""
    names = ("residual", "gradient")
    names += ("V", "Pi", "S_x", "S_p", "motion") if plan.units else ()
    names += ("R_h", "R_g") if plan.units and plan.fresh else ()
    nothing = np.zeros(0)
    kernels = dict.fromkeys(names, nothing)
    others = [name for name in Trace._fields if name != "kernels"]
    return Trace(**dict.fromkeys(others, nothing), kernels=kernels)


def _absent(x: np.ndarray) -> float | bool:
    return False if x.dtype == bool else np.nan


@partial(jax.jit, static_argnames="plan")
def _kernels(plan: Plan, numbers: Numbers, state: State) -> dict[str, Array]:
    """Kernels of residual states and gradients by layer, and the responses."""
    product = partial(with_cov, plan, numbers, state.cov)

    def gram(rows: Array) -> Array:
        return product(rows) @ rows.T

    def symmetric(kernel: Array) -> Array:
        return jnp.tril(kernel) + jnp.tril(kernel, -1).swapaxes(-1, -2)

    if not plan.units:
        residual = jnp.broadcast_to(gram(state.h_last), (plan.layers + 1, *[plan.history] * 2))
        gradient = jnp.broadcast_to(gram(state.g_first), residual.shape)
        return {"residual": residual, "gradient": gradient}
    rho = state.rho
    scaled = state.H * rho * rho.swapaxes(-1, -2)
    residual = jnp.concatenate([symmetric(scaled[:, 0]), gram(state.h_last)[None]])
    gradient = jnp.concatenate([gram(state.g_first)[None], symmetric(state.G[:, -1])])
    stream = jnp.concatenate([state.h[:, 0] * rho[:, 0], state.h_last[None]])
    added = jnp.concatenate([stream[1:] - stream[:-1], stream[-1:] - stream[:1]])
    motion = jax.lax.map(lambda rows: jnp.sum(product(rows) * rows, axis=-1)[None], added)
    kernels = {
        "residual": residual,
        "gradient": gradient,
        "motion": motion,
        "V": state.cov[:, :, 0],
        "Pi": state.cov[:, :, 1],
        "S_x": state.S_x,
        "S_p": state.S_p,
    }
    if plan.fresh:
        shape = (plan.layers, len(plan.units), plan.history, plan.layers, len(plan.units), 2, -1)
        h = state.h[..., plan.first :].reshape(shape)
        g = state.g[..., plan.first :].reshape(shape)
        own = jnp.einsum("abkabsj->abksj", h), jnp.einsum("abkabsj->abksj", g)
        kernels |= {"R_h": own[0][..., 1, :], "R_g": own[1][..., 0, :]}
    return kernels
