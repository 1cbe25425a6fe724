r"""The causal pass with particles on both sides: coordinates of the stream, of heads, neurons.

Where coordinates of the stream are not linear in their sources (an activation on it, an update
that works entry by entry) they are sampled like heads and neurons. A pass is then written as a
network is, with every sum over a width replaced by the mean over a population, and every initial
matrix by a `ConditionedMatrix`. What a matrix learns is an explicit array Lambda between two
populations,

    y = W(0) x + <Lambda x>,    Lambda <- (1 - eta_0 lambda) Lambda + c u[sum_a g_a x_a],

with u that of the optimiser and

    c = eta_0 gamma_0 beta_0 L^(alpha_L - 1)  (gradient descent; times N^(-2 (1 - alpha_A)) for
        keys and queries),    c = eta_0 L^(alpha_L - 1)  (entry by entry; times N^(alpha_A - 1)).

Embedding and readout have one large side only; they learn at eta_0 gamma_0, or eta_0. With one
output of each input errors multiply gradients in the update, else gradients carry them.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; G. Yang and E. Littwin, arXiv
2308.01814, for updates that work entry by entry; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.limits.dmft.conditioned import (
    ConditionedMatrix,
    Population,
    Use,
    empty_population,
    new_matrix,
    updated,
)
from translimit.limits.dmft.histories import matmul
from translimit.limits.dmft.optimizers import Slots
from translimit.limits.dmft.particle_plan import ParticleNumbers, ParticlePlan
from translimit.limits.dmft.plan import RESPONSES

#: A field of every unit of a population.
Fields = Float[Array, "fields units"]
#: The responses of a matrix forward and backward: of those that write the stream, and the others.
_RESPONSES = {True: ("R_v", "R_g"), False: ("R_h", "R_p")}


class Ends(eqx.Module):
    """Embedding, readout and the stream's innovations.

    Attributes:
        stream: innovations on the stream.
        embedding: E_c of every coordinate.
        readout: w_o of every coordinate; no rows where it is tied.
        slots: what the optimiser keeps of both.
        start: outputs at the start, where they are subtracted.
    """

    stream: Population
    embedding: Float[Array, "columns units"]
    readout: Float[Array, "outputs units"]
    slots: tuple[Slots, Slots]
    start: Float[Array, "rows outputs"]


class Block(eqx.Module):
    """A sub-block: its matrices, the innovations on its own units, and the factor of its scores."""

    matrices: dict[str, ConditionedMatrix]
    own: Population
    gain: Float[Array, ""]
    gain_slots: Slots


class Seen(NamedTuple):
    """What the backward half of a sub-block needs: the stream, what was read, and its fields."""

    h: Fields
    x: Fields
    inner: tuple[Fields, ...]
    written: Fields


class Now(NamedTuple):
    """One time of a pass: the evaluation, the key of the pass, what decay has left of the start."""

    t: int
    key: Key
    kept: float


def read(plan: ParticlePlan, numbers: ParticleNumbers, h: Fields) -> Fields:
    """What sub-blocks read: the activation of the normalised stream."""
    x = normalised(plan.norm, numbers.norm_eps, h)
    return x if plan.activation is None else plan.activation(x)


def normalised(norm: str | None, eps: Float[Array, ""], h: Fields) -> Fields:
    """The stream over its root mean square, less its mean first where the norm says so."""
    if norm is None:
        return h
    if norm == "layer":
        h = h - h.mean(axis=1, keepdims=True)
    return h / jnp.sqrt(jnp.mean(h**2, axis=1, keepdims=True) + eps)


def attend(
    plan: ParticlePlan, numbers: ParticleNumbers, k: Fields, q: Fields, v: Fields, gain: Array
) -> tuple[Fields, Float[Array, "heads inputs tokens tokens"]]:
    """What heads write, v^sigma, and their scores (one row for each k_s)."""
    shape = (plan.inputs, plan.tokens, plan.head_dim, -1)
    k, q, v = (x.reshape(shape) for x in (k, q, v))
    k, q = (_turned(plan, _normed(plan, numbers, x)) for x in (k, q))
    scores = gain * numbers.scale * jnp.einsum("pshn,prhn->npsr", k, q)
    masked = scores
    if plan.causal:
        masked = jnp.where(np.tril(np.ones((plan.tokens, plan.tokens), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("npsr,prhn->pshn", jax.nn.softmax(masked, axis=-1), v)
    return mixed.reshape(plan.fields, -1), scores


def _normed(
    plan: ParticlePlan, numbers: ParticleNumbers, x: Float[Array, "P S N heads"]
) -> Float[Array, "P S N heads"]:
    if plan.qk_norm is None:
        return x
    if plan.qk_norm == "layer":
        x = x - x.mean(axis=2, keepdims=True)
    return x / jnp.sqrt(jnp.mean(x**2, axis=2, keepdims=True) + numbers.norm_eps)


def _turned(plan: ParticlePlan, x: Float[Array, "P S N heads"]) -> Float[Array, "P S N heads"]:
    """Rotary positions."""
    if plan.rotary is None:
        return x
    half = plan.head_dim // 2
    speeds = plan.rotary ** -(np.arange(half) / half)
    angles = np.outer(np.arange(plan.tokens), speeds)[None, :, :, None]
    a, b = x[:, :, :half], x[:, :, half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=2)


def new_block(plan: ParticlePlan, kind: str, gain: Float[Array, ""]) -> Block:
    """A sub-block at the start."""
    make = partial(new_matrix, plan.history, optimizer=plan.optimizer)
    names, ratio = ("KQVO", 1.0) if kind == "attention" else ("12", plan.ratio)
    matrices = {
        name: make(plan.units, plan.units, ratio=1 / ratio if name in "O2" else ratio)
        for name in names
    }
    room = max(plan.innovations.values())  # one shape, and with it one program, for all
    slots = tuple(jnp.zeros(()) for _ in range(plan.optimizer.slots))
    return Block(matrices, empty_population(room, plan.units), jnp.array(gain), slots)


def forward_block(
    plan: ParticlePlan,
    place: tuple[int, str],
    numbers: ParticleNumbers,
    block: Block,
    stream: Population,
    h: Fields,
    now: Now,
) -> tuple[Fields, Block, Population, Seen, Float[Array, "heads inputs tokens tokens"]]:
    """The stream h + eps W x, what its backward half needs, and the scores of heads."""
    layer, kind = place
    x, matrices, own = _read(plan, numbers, h), dict(block.matrices), block.own
    inner: list[Fields] = []
    for name in "KQV" if kind == "attention" else "1":
        use = _use(plan, numbers, now, layer, name, "forward")
        y, matrices[name], own = matrices[name].forward(plan.rule, x, own, use)
        inner.append(y)
    written, scores = _write(plan, kind, numbers, tuple(inner), block.gain)
    last = "O" if kind == "attention" else "2"
    use = _use(plan, numbers, now, layer, last, "forward")
    added, matrices[last], stream = matrices[last].forward(plan.rule, written, stream, use)
    block = replace(block, matrices=matrices, own=own)
    return h + numbers.eps * added, block, stream, Seen(h, x, tuple(inner), written), scores


_read = partial(jax.jit, static_argnames="plan")(read)


@partial(jax.jit, static_argnames=("plan", "kind"))
def _write(
    plan: ParticlePlan, kind: str, numbers: ParticleNumbers, inner: tuple[Fields, ...], gain: Array
) -> tuple[Fields, Float[Array, "heads inputs tokens tokens"]]:
    """What heads or neurons write, and the scores of heads that are reported."""
    if kind == "attention":
        k, q, v = inner
        written, scores = attend(plan, numbers, k, q, v, gain)
        return written, scores[: plan.kept_heads]
    assert plan.mlp is not None
    return plan.mlp(inner[0]), jnp.zeros((0, plan.inputs, plan.tokens, plan.tokens))


class Gradients(NamedTuple):
    """What the gradient of heads or neurons gives.

    Attributes:
        inner: p of keys, queries and values, or of preactivations.
        by_field: the gradient of the factor of the scores, field by field.
    """

    inner: tuple[Fields, ...]
    by_field: Float[Array, " fields"]


@partial(jax.jit, static_argnames=("plan", "kind"))
def _gradients(
    plan: ParticlePlan,
    kind: str,
    numbers: ParticleNumbers,
    inner: tuple[Fields, ...],
    gain: Array,
    r: Fields,
) -> Gradients:
    """The gradient r of what is written, through heads or neurons."""

    def write(inner: tuple[Fields, ...], gain: Array) -> Fields:
        return _write(plan, kind, numbers, inner, gain)[0]

    p = jax.vjp(lambda fields: write(fields, gain), inner)[1](r)[0]
    slope = jax.jvp(lambda one: write(inner, one), (gain,), (jnp.ones_like(gain),))[1]
    return Gradients(p, jnp.mean(slope * r, axis=1))


class Left(NamedTuple):
    """What the backward half of a sub-block reports.

    Attributes:
        ntk: what it adds to the tangent kernel of inputs.
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2.
        gain: factor of the scores that was used.
    """

    ntk: Float[Array, "inputs inputs"]
    key_gradient: Float[Array, ""]
    gain: Float[Array, ""]


def backward_block(
    plan: ParticlePlan,
    place: tuple[int, str],
    numbers: ParticleNumbers,
    block: Block,
    stream: Population,
    seen: Seen,
    g: Fields,
    drive: Float[Array, " fields"],
    now: Now,
) -> tuple[Fields, Block, Population, Left]:
    """The gradient before a sub-block, and the update of its matrices."""
    layer, kind = place
    matrices, own, last = dict(block.matrices), block.own, "O" if kind == "attention" else "2"
    use = _use(plan, numbers, now, layer, last, "backward")
    r, matrices[last], own = matrices[last].backward(plan.rule, g, own, use)
    found = _gradients(plan, kind, numbers, seen.inner, block.gain, r)
    names = "KQV" if kind == "attention" else "1"
    back = jnp.zeros_like(g)
    for name, p in zip(names, found.inner, strict=True):
        use = _use(plan, numbers, now, layer, name, "backward")
        z, matrices[name], stream = matrices[name].backward(plan.rule, p, stream, use)
        back = back + z
    before, left = _report(plan, kind, numbers, seen, g, back, found, block.gain)
    factor, t = numbers.schedule[now.t], jnp.asarray(now.t)
    used = [(last, seen.written, g)]
    used += [(name, seen.x, p) for name, p in zip(names, found.inner, strict=True)]
    for name, x, y in used:
        rate = factor * numbers.rate * (numbers.key_ratio if name in "KQ" else 1.0)
        one = matrices[name]
        learned, slots = updated(
            plan.optimizer,
            one.learned,
            one.slots,
            drive[:, None] * y,
            x,
            rate,
            1 - factor * numbers.decay,
            t,
        )
        matrices[name] = replace(one, learned=learned, slots=slots)
    u, slots = plan.optimizer.update(jnp.sum(drive * found.by_field), block.gain_slots, t)
    gain = block.gain + factor * numbers.gain_rate * u
    return before, Block(matrices, own, gain, slots), stream, left


@partial(jax.jit, static_argnames=("plan", "kind"))
def _report(
    plan: ParticlePlan,
    kind: str,
    numbers: ParticleNumbers,
    seen: Seen,
    g: Fields,
    back: Fields,
    found: Gradients,
    gain: Array,
) -> tuple[Fields, Left]:
    """The gradient of the stream before the sub-block, and what is reported."""
    before = g + numbers.eps * jax.vjp(partial(read, plan, numbers), seen.h)[1](back)[0]
    keys, p = numbers.ntk_keys, found.inner
    ratios = (keys, keys, 1.0) if kind == "attention" else (plan.ratio,)
    inward = sum(ratio * _moment(one) for ratio, one in zip(ratios, p, strict=True))
    ntk = over_tokens(plan, _moment(g) * _moment(seen.written) + inward * _moment(seen.x))
    by_input = found.by_field.reshape(plan.inputs, -1).sum(axis=1)
    ntk = ntk + numbers.ntk_gain * by_input[:, None] * by_input
    square = jnp.mean(p[0] ** 2 + p[1] ** 2) / 2 if kind == "attention" else jnp.zeros(())
    return before, Left(numbers.block_ntk * ntk, square, gain)


def _moment(fields: Fields) -> Float[Array, "fields fields"]:
    return matmul(fields, fields.T) / fields.shape[1]


def over_tokens(
    plan: ParticlePlan, kernel: Float[Array, "fields fields"]
) -> Float[Array, "inputs inputs"]:
    """The sum of a kernel over the tokens of both inputs."""
    return kernel.reshape(plan.inputs, plan.tokens, plan.inputs, plan.tokens).sum(axis=(1, 3))


def _use(
    plan: ParticlePlan, numbers: ParticleNumbers, now: Now, layer: int, name: str, direction: str
) -> Use:
    """One use of a matrix, in one direction."""
    backward = direction == "backward"
    response = _RESPONSES[name in "O2"][backward]
    return Use(
        key=now.key,
        place=jnp.asarray([now.t, layer, "KQVO12".index(name), int(backward)]),
        start=jnp.asarray(now.t * plan.fields),
        kept=jnp.asarray(now.kept),
        response=numbers.keep[RESPONSES.index(response)],
    )
