r"""The readout, its loss, and the gradient that starts the way back.

Rows r of outputs are read from features phi_r, means over fields of the last stream (normalised
where the architecture says so): the mean over the tokens of an input, or single tokens,

    f_ro = w_o . phi_r / gamma_0,   w_o = w_o(0) + eta_0 gamma_0 sum over the past of
                                          omega sum_r Delta_ro phi_r,

with Delta = -w dl/df. A tied readout is the embedding itself, and has its gradient as well. With
one output of each input Delta multiplies gradients in the update, so that they know the tangent
kernel; else gradients carry it (the folded form), since every output has a direction of its own:
the gradient that starts the way back is then sum_ro Delta_ro w_o dphi_r/dh.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.limits.dmft.blocks import normalised, through_norm
from translimit.limits.dmft.histories import put_columns, put_rows
from translimit.limits.dmft.state import State
from translimit.limits.dmft.stream import with_cov
from translimit.limits.dmft.time_step import TimeStep


class Readout(NamedTuple):
    """What the readout gives.

    Attributes:
        f: outputs that the loss sees [rows, outputs].
        g: coefficient rows of the gradient at the last stream [fields, sources].
        ntk: what the readout adds to the tangent kernel of one output [rows, rows].
        state: with the rows of this time.
    """

    f: Array
    g: Array
    ntk: Array
    state: State


def readout(step: TimeStep, state: State, h: Float[Array, "fields sources"]) -> Readout:
    """Outputs f = w . phi / gamma_0, their error, and g = gamma_0 n df/dh of the stream."""
    plan, numbers, t = step.plan, step.numbers, step.t
    hb, rho = normalised(step, h, state.cov, plan.final_norm)
    features = numbers.features @ hb
    w = readout_weights(step, state)
    features_cov = with_cov(plan, numbers, state.cov, features)
    f = features_cov @ w.T / numbers.gamma0
    start = jnp.where(t == 0, f, state.start) if plan.centred else state.start
    f = f - start
    error = numbers.error_weights[t][:, None] * plan.loss.error(f, numbers.y)
    if plan.folded:
        drive, upper = jnp.ones(plan.fields), error @ w
    else:
        drive = jnp.repeat(error[:, 0], plan.tokens)
        upper = jnp.broadcast_to(w, (plan.rows, plan.sources))
    g = numbers.features.T @ upper
    if plan.final_norm:
        g = through_norm(step, g, hb, rho, state.cov)
    state = replace(
        state,
        h_last=put_rows(state.h_last, h, step.start),
        features=put_rows(state.features, features, t * plan.rows),
        start=start,
        error=state.error.at[t].set(error),
        drive=state.drive.at[t].set(drive),
    )
    return Readout(f, g, features_cov @ features.T, state)


def readout_weights(step: TimeStep, state: State) -> Float[Array, "outputs sources"]:
    """Coefficient rows of w: its start, and what it has learned."""
    plan, numbers = step.plan, step.numbers
    first = 0 if plan.tied else plan.columns
    w = put_columns(jnp.zeros((plan.outputs, plan.sources)), jnp.eye(plan.outputs), first)
    w = w + numbers.rate * past_errors(step, state).T @ state.features
    if plan.tied:
        words = numbers.start[:, : plan.outputs]
        w = w + numbers.rate * (jnp.tile(words.T, plan.slots) * step.memory) @ state.g_first
    return w


def past_errors(step: TimeStep, state: State) -> Float[Array, "row_history outputs"]:
    """Omega Delta of every row and time."""
    return (step.omega[:, None, None] * state.error).reshape(-1, step.plan.outputs)
