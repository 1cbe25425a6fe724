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

from translimit.limits.dmft.compressed.directions import overlaps
from translimit.limits.dmft.compressed.known import learned, sent, side_of
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
    read, unit, columns = sent(step, layer, index, unit, columns, "h", hb)
    out = site.forward(read.y, numbers, unit.gain)
    written, unit, columns = sent(step, layer, index, unit, columns, "x", out.x)
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
        gain=unit.gain,
        finite=jnp.all(jnp.isfinite(written.gram)),
        dropped=jnp.maximum(read.dropped, written.dropped),
    )
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
    received, unit, columns = sent(step, layer, index, unit, columns, "g", g)
    p, gradient = site.backward(received.y, seen.saved, numbers, seen.gain)
    back, unit, columns = sent(step, layer, index, unit, columns, "p", p)
    below = through_norm(back.y, seen.hb, seen.rho) if shape.norm else back.y
    moving = site.learning(p, numbers)
    h, p_side, x, from_above = (side_of(step, index, unit, kind) for kind in ("h", "p", "x", "g"))
    c_p, slow_gram = back.coefficients, back.gram
    if site.slow:
        c_p = site.scale * overlaps(moving, p_side.directions, p_side.rank)
        slow_gram = site.scale * matmul(moving, p.T).astype(jnp.float64)
    unit = replace(
        unit,
        h=learned(step, unit.h, seen.c_h, drive, moving, h.rank),
        p=learned(step, unit.p, c_p, drive, seen.hb, p_side.rank),
        x=learned(step, unit.x, seen.c_x, drive, g, x.rank),
        g=learned(step, unit.g, received.coefficients, drive, seen.x, from_above.rank),
    )
    moved = numbers.score_gain_rate * numbers.c * jnp.sum(drive * gradient[:, 0])
    velocity = numbers.momentum * unit.gain_velocity + moved
    unit = replace(unit, gain=unit.gain + velocity, gain_velocity=velocity)
    added = over_tokens(step, received.gram * seen.V + slow_gram * seen.H)
    slope = gradient.reshape(shape.inputs, -1).sum(axis=1)
    added = numbers.block_ntk * (added + numbers.score_gain_rate * slope[:, None] * slope)
    left = Left(
        key_gradient=site.key_gradient(p),
        finite=jnp.all(jnp.isfinite(back.gram)),
        dropped=jnp.maximum(received.dropped, back.dropped),
    )
    return g + numbers.eps * below, unit, columns, added, left


def over_tokens(step: Step, kernel: Float[Array, "fields fields"]) -> Float[Array, "inputs inputs"]:
    """The sum of a kernel over the tokens of both inputs."""
    P, S = step.shape.inputs, step.shape.tokens
    return kernel.reshape(P, S, P, S).sum(axis=(1, 3))
