r"""The two halves of a sub-block: what it adds to the stream, and what it hands back.

With eps = beta_0 L^(-alpha_L), c = eta_0 gamma_0 beta_0 L^(alpha_L - 1), a sub-block that reads
hb = h / rho writes

    h <- h + eps (u^O + R^v g + c (omega Delta V) g),

where u^O is its own new source with covariance V, R^v g the regression on backward innovations, and
the last term what its output matrix has learned; backward, with zeta of covariance Pi,

    g <- g + eps (1 / rho) P (zeta + R^p h + c (omega Delta Pi) h),

P the projection of the normalisation away from hb. It adds beta_0^2 / L (G V + Pi_kappa H), summed
over tokens, to the tangent kernel, and a trained gain of the scores the product of its gradients.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from translimit.limits.dmft.histories import Index, put_columns
from translimit.limits.dmft.plan import Plan
from translimit.limits.dmft.state import (
    BackwardRows,
    ForwardRows,
    State,
    with_backward,
    with_forward,
)
from translimit.limits.dmft.stream import (
    Root,
    next_root,
    no_root,
    put_kernels,
    put_symmetric,
    with_cov,
)
from translimit.limits.dmft.time_step import TimeStep
from translimit.limits.dmft.units import AbstractUnit, Buffers

#: Coefficient rows of the fields of one time; covariances of all sources.
Rows = Float[Array, "fields sources"]
Cov = Float[Array, "layers units 2 history history"]


class Past(NamedTuple):
    """Rows of the past of one layer's sub-blocks [units, history, sources], as in `State`."""

    h: Array
    g: Array
    Q_h: Array
    Q_g: Array


class Seen(NamedTuple):
    """What the backward half of a sub-block needs of the forward one, as in `ForwardRows`."""

    fields: PyTree[Array]
    h: Array
    rho: Array
    H_now: Array
    V_now: Array


def forward_blocks(
    step: TimeStep, state: State, h: Rows
) -> tuple[Rows, State, tuple[ForwardRows, ...]]:
    """All layers forward: the stream after the last, and what every sub-block left."""
    plan = step.plan
    if not plan.units:
        return h, state, ()

    def layer(
        carry: tuple[Array, Array], xs: tuple[Index, Past, tuple[Buffers, ...]]
    ) -> tuple[tuple[Array, Array], tuple[ForwardRows, ...]]:
        h, cov = carry
        number, past, slices = xs
        rows = []
        for index in range(len(plan.units)):
            own = _own(plan, state, slices, index)
            h, cov, left = forward_block(step, number, index, own, past, h, cov)
            rows.append(left)
        return (h, cov), tuple(rows)

    (h, cov), rows = jax.lax.scan(layer, (h, state.cov), _layers(plan, state))
    state = with_forward(state, rows, step.start)
    if not plan.fresh:  # then the stream needs V for nothing else
        cov = put_kernels(cov, [one.V for one in rows], 0, step.start)
    return h, replace(state, cov=cov), rows


def backward_blocks(
    step: TimeStep,
    state: State,
    front: tuple[ForwardRows, ...],
    g: Rows,
) -> tuple[Rows, Float[Array, "inputs inputs"], State, tuple[BackwardRows, ...]]:
    """All layers backward: the gradient at the embedding, and the tangent kernel of the blocks."""
    plan = step.plan
    ntk = jnp.zeros((plan.inputs, plan.inputs))
    if not plan.units:
        return g, ntk, state, ()

    def layer(
        carry: tuple[Array, Array, Array],
        xs: tuple[Index, Past, tuple[Buffers, ...], tuple[Seen, ...]],
    ) -> tuple[tuple[Array, Array, Array], tuple[BackwardRows, ...]]:
        g, cov, ntk = carry
        number, past, slices, seen = xs
        rows = []
        for index in reversed(range(len(plan.units))):
            own = _own(plan, state, slices, index)
            g, cov, added, left = backward_block(
                step, number, index, own, past, seen[index], g, cov
            )
            ntk = ntk + added
            rows.append(left)
        return (g, cov, ntk), tuple(reversed(rows))

    seen = tuple(Seen(one.fields, one.h, one.rho, one.H_now, one.V_now) for one in front)
    (g, cov, ntk), rows = jax.lax.scan(
        layer, (g, state.cov, ntk), (*_layers(plan, state), seen), reverse=True
    )
    state = with_backward(state, rows, step.start)
    if not plan.fresh:
        cov = put_kernels(cov, [one.Pi for one in rows], 1, step.start)
    return g, ntk, replace(state, cov=cov), rows


def forward_block(
    step: TimeStep, layer: Index, index: int, own: Buffers, past: Past, h: Rows, cov: Cov
) -> tuple[Rows, Cov, ForwardRows]:
    """Forward: h + eps (u^O + R^v g + c (omega Delta V) g), and what is kept of it."""
    plan, numbers, start = step.plan, step.numbers, step.start
    unit, product = plan.units[index], partial(with_cov, plan, numbers, cov)
    hb, rho = normalised(step, h, cov, step.plan.norm)
    row, now = kernel_row(product(hb), hb, past.h[index])
    root = _root(plan, unit, cov, step, hb, past.Q_h[index])
    response = stream_response(step, hb, layer, index, 1, "R_h")
    out = unit.forward(own, step.site("forward", layer, index, row, now, root, response))
    regression = step.kept("R_v") * out.regression
    written = regression @ (past.Q_g if unit.sampled else past.g)[index]
    written = written + numbers.c * (step.memory * out.past) @ past.g[index]
    h = h + numbers.eps * with_own_source(step, written, layer, index, 0)
    V_now = (out.now + out.now.T) / 2
    if plan.fresh:
        cov = put_symmetric(cov, layer, index, 0, out.past, V_now, start)
    left = ForwardRows(
        h=hb,
        rho=rho,
        H=put_columns(row, now, start),
        S_x=regression,
        Q_h=root.white,
        V=put_columns(out.past, V_now, start),
        H_now=now,
        V_now=V_now,
        stored=out.stored,
        fields=out.fields,
        scores=out.scores,
        score_gain=out.score_gain,
        finite=jnp.all(jnp.isfinite(V_now)) & jnp.all(jnp.isfinite(out.past)),
    )
    return h, cov, left


def backward_block(
    step: TimeStep,
    layer: Index,
    index: int,
    own: Buffers,
    past: Past,
    seen: Seen,
    g: Rows,
    cov: Cov,
) -> tuple[Rows, Cov, Float[Array, "inputs inputs"], BackwardRows]:
    """Backward: g + eps P (zeta + R^p h + c (omega Delta Pi) h) / rho; and the tangent kernel."""
    plan, numbers, start = step.plan, step.numbers, step.start
    unit, product = plan.units[index], partial(with_cov, plan, numbers, cov)
    row, now = kernel_row(product(g), g, past.g[index])
    root = _root(plan, unit, cov, step, g, past.Q_g[index])
    response = stream_response(step, g, layer, index, 0, "R_g")
    given = step.site("backward", layer, index, row, now, root, response)
    out = unit.backward(own, given, seen.fields)
    regression = step.kept("R_p") * out.regression
    back = regression @ (past.Q_h if unit.sampled else past.h)[index]
    back = back + numbers.c * (step.memory * out.past_kappa) @ past.h[index]
    back = with_own_source(step, back, layer, index, 1)
    Pi_now = (out.now + out.now.T) / 2
    if plan.fresh:
        cov = put_symmetric(cov, layer, index, 1, out.past, Pi_now, start)
    if plan.norm:
        back = through_norm(step, back, seen.h, seen.rho, cov)
    added = over_tokens(plan, now * seen.V_now + out.now_kappa * seen.H_now)
    gain = out.gain_gradient.reshape(plan.inputs, -1).sum(axis=1)
    added = numbers.block_ntk * (added + numbers.score_gain_rate * gain[:, None] * gain)
    left = BackwardRows(
        g=g,
        G=put_columns(row, now, start),
        S_p=regression,
        Q_g=root.white,
        Pi=put_columns(out.past, Pi_now, start),
        stored=out.stored,
        key_gradient=out.key_gradient,
        finite=jnp.all(jnp.isfinite(Pi_now)) & jnp.all(jnp.isfinite(out.past)),
    )
    return g + numbers.eps * back, cov, added, left


def normalised(
    step: TimeStep, h: Rows, cov: Cov, norm: bool
) -> tuple[Rows, Float[Array, "fields 1"]]:
    """The stream that is read, h / rho with rho = (<h h> + norm_eps)^(1/2), 1 without norm; rho."""
    rho = jnp.ones(step.plan.fields)
    if norm:
        square = jnp.sum(with_cov(step.plan, step.numbers, cov, h) * h, axis=1)
        rho = jnp.sqrt(square + step.numbers.norm_eps)
    return h / rho[:, None], rho[:, None]


def through_norm(
    step: TimeStep, back: Rows, hb: Rows, rho: Float[Array, "fields 1"], cov: Cov
) -> Rows:
    """The gradient through the normalisation: (back - hb <back hb>) / rho."""
    product = with_cov(step.plan, step.numbers, cov, back)
    chi = jnp.sum(product * hb, axis=1, keepdims=True)
    return (back - hb * chi) / rho


def kernel_row(
    left: Rows, rows: Rows, past: Float[Array, "history sources"]
) -> tuple[Float[Array, "fields history"], Float[Array, "fields fields"]]:
    """Kernel of rows, times the covariance in `left`, with their past and with themselves."""
    now = left @ rows.T
    return left @ past.T, (now + now.T) / 2


def stream_response(
    step: TimeStep, rows: Rows, layer: Index, index: int, side: int, name: str
) -> Float[Array, "fields history"]:
    """R^h or R^g: the coefficients of one sub-block's sources; none in the depth ODE."""
    plan = step.plan
    if not plan.fresh:
        return jnp.zeros((plan.fields, plan.history))
    column = plan.column(layer, index, side)
    block = jax.lax.dynamic_slice_in_dim(rows, column, plan.history, axis=1)
    return step.kept(name) * block


def with_own_source(step: TimeStep, rows: Rows, layer: Index, index: int, side: int) -> Rows:
    """The rows plus the sub-block's own new source, u^O (side 0) or zeta (side 1)."""
    plan = step.plan
    if not plan.fresh:
        return rows
    column = plan.column(layer, index, side) + step.start
    return put_columns(rows, jnp.eye(plan.fields), column)


def over_tokens(plan: Plan, kernel: Float[Array, "fields fields"]) -> Float[Array, "inputs inputs"]:
    """The sum of a kernel over the tokens of both inputs."""
    return kernel.reshape(plan.inputs, plan.tokens, plan.inputs, plan.tokens).sum(axis=(1, 3))


def _root(
    plan: Plan,
    unit: AbstractUnit,
    cov: Cov,
    step: TimeStep,
    B: Rows,
    Q: Float[Array, "history sources"],
) -> Root:
    """Root of the kernel of the rows, where a unit draws its sources."""
    if not unit.sampled:
        return no_root(plan)
    return next_root(plan, partial(with_cov, plan, step.numbers, cov), B, Q)


def _layers(plan: Plan, state: State) -> tuple[Array, Past, tuple[Buffers, ...]]:
    """What is read layer by layer: numbers, rows of the past, coefficients of linear units."""
    small = tuple(
        {} if unit.sampled else own for unit, own in zip(plan.units, state.units, strict=True)
    )
    return jnp.arange(plan.layers), Past(state.h, state.g, state.Q_h, state.Q_g), small


def _own(plan: Plan, state: State, slices: tuple[Buffers, ...], index: int) -> Buffers:
    """Populations are read across layers, chunk by chunk; coefficients layer by layer."""
    return state.units[index] if plan.units[index].sampled else slices[index]
