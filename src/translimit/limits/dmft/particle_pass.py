r"""A whole pass with particles: embedding, blocks forward, readout, blocks backward, updates.

Kernels of the stream are Gram matrices of its coordinates at all times. Before anything more is
drawn on a population it must have room: innovations beyond half of its units leave the rest too
little, and a pass that needs them is refused with the size that it needs.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import ArgumentError, Key, Progress, named_key
from translimit.limits.dmft.conditioned import empty_population, first_draw
from translimit.limits.dmft.histories import matmul
from translimit.limits.dmft.particle_plan import ParticleNumbers, ParticlePlan
from translimit.limits.dmft.particles import (
    Block,
    Ends,
    Fields,
    Now,
    backward_block,
    forward_block,
    new_block,
    normalised,
    over_tokens,
)
from translimit.limits.dmft.passes import Trace


class Read(NamedTuple):
    """What the readout gives at one time.

    Attributes:
        f: outputs that the loss sees.
        error: weighted errors.
        features: what rows are read from.
        g: gradient at the last stream.
        drive: what multiplies gradients in updates, field by field.
        ntk: what the readout adds to the tangent kernel of one output.
    """

    f: Float[Array, "rows outputs"]
    error: Float[Array, "rows outputs"]
    features: Float[Array, "rows units"]
    g: Fields
    drive: Float[Array, " fields"]
    ntk: Float[Array, "rows rows"]


@partial(jax.jit, static_argnames="plan")
def new_ends(plan: ParticlePlan, numbers: ParticleNumbers, key: Key) -> Ends:
    """Embedding and readout at the start: innovations of the stream."""
    stream = empty_population(max(plan.innovations.values()), plan.units)
    count = plan.columns + (0 if plan.tied else plan.outputs)
    both, stream = first_draw(plan.rule, stream, key, count)
    E, w = both[: plan.columns], numbers.readout_std * both[plan.columns :]
    slots = tuple(tuple(jnp.zeros_like(x) for _ in range(plan.optimizer.slots)) for x in (E, w))
    return Ends(stream, E, w, slots, jnp.zeros(numbers.y.shape))  # pyright: ignore[reportArgumentType]


@partial(jax.jit, static_argnames="plan")
def readout(
    plan: ParticlePlan, numbers: ParticleNumbers, ends: Ends, h: Fields, t: Int[Array, ""]
) -> tuple[Read, Ends]:
    """Outputs, their errors, and the gradient that starts the way back."""
    norm = partial(normalised, (plan.norm or "rms") if plan.final_norm else None, numbers.norm_eps)
    hb, back = jax.vjp(norm, h)
    w = ends.embedding[: plan.outputs] if plan.tied else ends.readout
    features = matmul(numbers.features, hb)
    f = matmul(features, w.T) / plan.units / numbers.gamma0
    if plan.centred:
        ends = replace(ends, start=jnp.where(t == 0, f, ends.start))
    f = f - ends.start
    error = numbers.weights[t][:, None] * plan.loss.error(f, numbers.y)
    if plan.folded:
        drive, upper = jnp.ones(plan.fields), matmul(error, w)
    else:
        drive = jnp.repeat(error[:, 0], plan.tokens)
        upper = jnp.broadcast_to(w, features.shape)
    g = back(matmul(numbers.features.T, upper))[0]
    ntk = matmul(features, features.T) / plan.units
    return Read(f, error, features, g, drive, ntk), ends


@partial(jax.jit, static_argnames="plan", donate_argnames="ends")
def update_ends(
    plan: ParticlePlan,
    numbers: ParticleNumbers,
    ends: Ends,
    out: Read,
    g: Fields,
    t: Int[Array, ""],
) -> tuple[Ends, Float[Array, "inputs inputs"]]:
    """Embedding and readout after the update, and what the embedding adds to the tangent kernel."""
    phi, rates = numbers.phi, numbers.column_rates[:, None]
    of_words = matmul(out.error.T, out.features)
    of_columns = matmul(phi.T, out.drive[:, None] * g)
    if plan.tied:
        of_columns = of_columns.at[: plan.outputs].add(of_words)
        of_words = of_words[:0]
    factor = numbers.schedule[t]
    u_E, slots_E = plan.optimizer.update(of_columns, ends.slots[0], t)
    u_w, slots_w = plan.optimizer.update(of_words, ends.slots[1], t)
    step, loss = factor * numbers.outer_rate, factor * numbers.decay
    kernel = (phi * numbers.column_rates) @ phi.T * matmul(g, g.T) / plan.units
    moved = replace(
        ends,
        embedding=(1 - loss * rates) * ends.embedding + step * rates * u_E,
        readout=(1 - loss) * ends.readout + step * u_w,
        slots=(slots_E, slots_w),
    )
    return moved, over_tokens(plan, kernel)


def particle_pass(
    plan: ParticlePlan, numbers: ParticleNumbers, key: Key, progress: Progress | None = None
) -> Trace:
    """All time steps, in 64 bits; stops at the first output that is not finite.

    Raises:
        ArgumentError: more innovations than half of the units of a population.
    """
    with jax.enable_x64(True):
        numbers = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), numbers)
        require_room(plan, 0, {"stream": float(plan.columns + plan.outputs)})
        ends = new_ends(plan, numbers, named_key(key, "ends"))
        kinds = [(layer, kind) for layer in range(plan.layers) for kind in plan.kinds]
        blocks = {place: new_block(plan, place[1], numbers.score_gain) for place in kinds}
        records: list[dict[str, np.ndarray]] = []
        kept = 1.0
        for t in range(plan.steps):
            now = Now(t, key, kept)
            ends, record = _time(plan, numbers, ends, blocks, kinds, now)
            records.append(record)
            _check_room(plan, t, ends, blocks)
            if progress is not None:
                progress((t + 1) / plan.steps)
            if not np.isfinite(record["f"]).all():
                break
            kept *= float(1 - numbers.schedule[t] * numbers.decay)
    return _trace(plan, records)


def _time(
    plan: ParticlePlan,
    numbers: ParticleNumbers,
    ends: Ends,
    blocks: dict[tuple[int, str], Block],
    kinds: list[tuple[int, str]],
    now: Now,
) -> tuple[Ends, dict[str, np.ndarray]]:
    """One time step; the blocks are replaced in place."""
    h = matmul(numbers.phi, ends.embedding)
    stream, states, seen, scores = ends.stream, [h], {}, []
    for layer, kind in kinds:
        place = (layer, kind)
        h, blocks[place], stream, seen[place], own = forward_block(
            plan, place, numbers, blocks[place], stream, h, now
        )
        if kind == plan.kinds[0]:
            scores.append(own)
        if kind == plan.kinds[-1]:
            states.append(h)
    out, ends = readout(plan, numbers, replace(ends, stream=stream), h, jnp.asarray(now.t))
    g, stream, ntk, gradients = out.g, ends.stream, out.ntk, [out.g]
    squares, gains = np.zeros(plan.layers), np.full(plan.layers, float(numbers.score_gain))
    for layer, kind in reversed(kinds):
        place = (layer, kind)
        g, blocks[place], stream, left = backward_block(
            plan, place, numbers, blocks[place], stream, seen[place], g, out.drive, now
        )
        if not plan.folded:
            ntk = ntk + left.ntk
        if kind == "attention":
            squares[layer], gains[layer] = float(left.key_gradient), float(left.gain)
        if kind == plan.kinds[0]:
            gradients.append(g)
    ends, added = update_ends(
        plan, numbers, replace(ends, stream=stream), out, g, jnp.asarray(now.t)
    )
    ntk = np.full(out.ntk.shape, np.nan) if plan.folded else np.asarray(ntk + added)
    if not kinds:  # the stream is the embedding at all depths
        states, gradients = states * (plan.layers + 1), gradients * (plan.layers + 1)
        scores = [np.zeros((0, plan.inputs, plan.tokens, plan.tokens))] * plan.layers
    return ends, {
        "f": np.asarray(out.f),
        "ntk": ntk,
        "scores": np.stack(scores),
        "key_gradient": squares,
        "score_gain": gains,
        "h": np.stack(states),
        "g": np.stack(gradients[::-1]),
    }


def _check_room(
    plan: ParticlePlan, t: int, ends: Ends, blocks: dict[tuple[int, str], Block]
) -> None:
    """Refuse before populations are drawn upon that have too little room for one step more."""
    drawn = {"stream": float(ends.stream.drawn)}
    for (_, kind), block in blocks.items():
        name = "heads" if kind == "attention" else "neurons"
        drawn[name] = max(drawn.get(name, 0.0), float(block.own.drawn))
    require_room(plan, t + 1, drawn)


def require_room(plan: ParticlePlan, done: int, drawn: dict[str, float]) -> None:
    """Refuse more innovations than half of a population.

    Args:
        plan: the pass.
        done: time steps behind the counts.
        drawn: innovations on each population.

    Raises:
        ArgumentError: there are more.
    """
    if not plan.rule.matched:
        return
    for name, count in drawn.items():
        if round(count) > plan.units / 2:
            most = plan.innovations[name]
            raise ArgumentError(
                "units",
                f"got {plan.units} with {count:.0f} innovations on the {name} after {done} of "
                f"{plan.steps} evaluations, and they may be at most half of the units",
                f"take {2 * most} units, enough for all {most} that there can be, fewer steps, "
                "inputs, tokens or layers, or a larger tolerance",
            )


def _trace(plan: ParticlePlan, records: list[dict[str, np.ndarray]]) -> Trace:
    """The records of all times; NaN after the last."""
    missing = plan.steps - len(records)
    rows = {}
    for name in records[0]:
        found = np.stack([record[name] for record in records])
        rest = np.full((missing, *found.shape[1:]), np.nan)
        rows[name] = np.concatenate([found, rest])
    h, g = (np.moveaxis(rows.pop(x), 0, 1) for x in "hg")  # [layers + 1, steps, fields, units]
    size = plan.history
    flat = {x: y.reshape(len(y), size, -1) for x, y in (("residual", h), ("gradient", g))}
    kernels = {name: x @ x.swapaxes(1, 2) / x.shape[2] for name, x in flat.items()}
    if plan.kinds:
        residual = flat["residual"]
        added = np.concatenate([residual[1:] - residual[:-1], residual[-1:] - residual[:1]])
        kernels["motion"] = np.mean(added**2, axis=2)[:, None]
    finite = np.isfinite(rows["f"]).all(axis=(1, 2))
    shape = (plan.steps, plan.layers, len(plan.kinds), 2)
    return Trace(
        **rows,
        finite=np.broadcast_to(finite[:, None, None, None], shape).copy(),
        ranks=np.zeros((*shape[:3], 0), int),
        dropped=np.zeros(plan.steps),
        kernels=kernels,
    )
