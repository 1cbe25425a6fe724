r"""The two halves of a sub-block, through its input and its output matrix.

With eps = beta_0 L^(-alpha_L) and c = eta_0 gamma_0 beta_0 L^(alpha_L - 1), a sub-block reads
hb = h / rho, and

    forward:   y = W hb,  x of the site,  h <- h + eps W_O x,
    backward:  r = W_O^T g,  p of the site,  g <- g + eps (1 / rho) P W^T p,
    update:    W <- W + c sum_a Delta_a p_a hb_a^T,  W_O <- W_O + c sum_a Delta_a g_a x_a^T,

P the projection of the normalisation away from hb. It adds beta_0^2 / L (G V + Pi_kappa H), summed
over tokens, to the tangent kernel, and a trained gain of the scores the product of its gradients.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from translimit.limits.dmft.compressed.directions import overlaps, put
from translimit.limits.dmft.compressed.known import (
    learned,
    on_population,
    on_stream,
    sides,
    with_directions,
    with_own_fields,
    with_velocity,
    with_white,
)
from translimit.limits.dmft.compressed.matrix import through
from translimit.limits.dmft.compressed.state import UnitState
from translimit.limits.dmft.compressed.step import Rows, Step, normalised, through_norm
from translimit.limits.dmft.histories import Index, matmul


class Seen(NamedTuple):
    """What the backward half of a sub-block needs of the forward one, and what is reported."""

    hb: Array
    rho: Array
    c_h: Array
    x: Array
    c_x: Array
    H: Array
    V: Array
    saved: PyTree[Array]
    scores: Array
    gain: Array
    finite: Array
    dropped: Array


class Left(NamedTuple):
    """What the backward half reports."""

    key_gradient: Float[Array, ""]
    finite: Bool[Array, ""]
    dropped: Float[Array, ""]


def forward_block(
    step: Step, layer: Index, index: int, unit: UnitState, columns: Int[Array, ""], h: Rows
) -> tuple[Rows, UnitState, Int[Array, ""], Seen]:
    """Forward: the stream behind the sub-block, and what it knows now."""
    shape, numbers, site = step.shape, step.numbers, step.shape.sites[index]
    hb, rho = normalised(shape.norm, numbers, h)
    known = sides(step, index, unit, layer)
    read = through(
        hb,
        known.h,
        known.p,
        layer,
        tol=numbers.tol,
        keep=step.kept("R_h"),
        innovation=on_population(step, layer, index, unit, "forward", known.p),
    )
    unit = with_white(step, index, with_directions(unit, "h", read, layer), read, layer)
    if shape.apart(index):
        unit = replace(unit, initial=put(unit.initial, read.images, layer, known.h.rank))
    gain = unit.gain[layer]
    out = site.forward(read.y, numbers, gain)
    known = sides(step, index, unit, layer)
    written = through(
        out.x,
        known.x,
        known.g,
        layer,
        tol=numbers.tol,
        keep=step.kept("R_v"),
        innovation=on_stream(step, columns),
    )
    unit = with_own_fields(step, index, with_directions(unit, "x", written, layer), written, layer)
    seen = Seen(
        hb=hb,
        rho=rho,
        c_h=read.coefficients,
        x=out.x,
        c_x=written.coefficients,
        H=read.gram,
        V=written.gram,
        saved=out.saved,
        scores=out.scores,
        gain=gain,
        finite=jnp.all(jnp.isfinite(written.gram)),
        dropped=jnp.maximum(read.dropped, written.dropped),
    )
    columns = columns + (written.entered if shape.fresh else 0)
    return h + numbers.eps * written.y, unit, columns, seen


def backward_block(
    step: Step,
    layer: Index,
    index: int,
    unit: UnitState,
    columns: Int[Array, ""],
    seen: Seen,
    g: Rows,
    drive: Float[Array, " fields"],
) -> tuple[Rows, UnitState, Int[Array, ""], Float[Array, "inputs inputs"], Left]:
    """Backward, and what the sub-block learns; also its part of the tangent kernel."""
    shape, numbers, site = step.shape, step.numbers, step.shape.sites[index]
    known = sides(step, index, unit, layer)
    received = through(
        g,
        known.g,
        known.x,
        layer,
        tol=numbers.tol,
        keep=step.kept("R_g"),
        innovation=on_population(step, layer, index, unit, "backward", known.x),
    )
    unit = with_white(step, index, with_directions(unit, "g", received, layer), received, layer)
    p, gradient = site.backward(received.y, seen.saved, numbers, seen.gain)
    known = sides(step, index, unit, layer)
    sent = through(
        p,
        known.p,
        known.h,
        layer,
        tol=numbers.tol,
        keep=step.kept("R_p"),
        innovation=on_stream(step, columns),
        initial=unit.initial if shape.apart(index) else None,
    )
    unit = with_own_fields(step, index, with_directions(unit, "p", sent, layer), sent, layer)
    columns = columns + (sent.entered if shape.fresh else 0)
    back = through_norm(sent.y, seen.hb, seen.rho) if shape.norm else sent.y
    moving = site.learning(p, numbers)
    known = sides(step, index, unit, layer)
    if site.slow:
        c_p = site.scale * overlaps(moving, known.p.directions, layer, known.p.rank)
        slow_gram = site.scale * matmul(moving, p.T).astype(jnp.float64)
        unit = with_velocity(step, index, unit, sent, layer)
    else:
        c_p, slow_gram = sent.coefficients, sent.gram
    unit = replace(
        unit,
        h=learned(step, unit.h, seen.c_h, drive, moving, layer, known.h.rank),
        p=learned(step, unit.p, c_p, drive, seen.hb, layer, known.p.rank),
        x=learned(step, unit.x, seen.c_x, drive, g, layer, known.x.rank),
        g=learned(step, unit.g, received.coefficients, drive, seen.x, layer, known.g.rank),
    )
    moved = numbers.score_gain_rate * numbers.c * jnp.sum(drive * gradient[:, 0])
    velocity = numbers.momentum * unit.gain_velocity[layer] + moved
    unit = replace(
        unit,
        gain=unit.gain.at[layer].add(velocity),
        gain_velocity=unit.gain_velocity.at[layer].set(velocity),
    )
    added = over_tokens(step, received.gram * seen.V + slow_gram * seen.H)
    slope = gradient.reshape(shape.inputs, -1).sum(axis=1)
    added = numbers.block_ntk * (added + numbers.score_gain_rate * slope[:, None] * slope)
    left = Left(
        key_gradient=site.key_gradient(p),
        finite=jnp.all(jnp.isfinite(sent.gram)),
        dropped=jnp.maximum(received.dropped, sent.dropped),
    )
    return g + numbers.eps * back, unit, columns, added, left


def over_tokens(step: Step, kernel: Float[Array, "fields fields"]) -> Float[Array, "inputs inputs"]:
    """The sum of a kernel over the tokens of both inputs."""
    P, S = step.shape.inputs, step.shape.tokens
    return kernel.reshape(P, S, P, S).sum(axis=(1, 3))
