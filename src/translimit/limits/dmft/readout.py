r"""The readout, its loss, and the gradient that starts the way back.

With the pooled stream hbar = mean over tokens of h,

    f = w . hbar / gamma_0,   w = w_0 + eta_0 gamma_0 sum over the past of omega Delta hbar,

and the square loss gives Delta = weight (y - f). With one output Delta multiplies gradients in
the update; with several the gradients carry it (the folded form), since every output has a
direction of its own.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.limits.dmft.histories import put_columns, put_rows
from translimit.limits.dmft.state import State
from translimit.limits.dmft.stream import with_cov
from translimit.limits.dmft.time_step import TimeStep


class Readout(NamedTuple):
    """What the readout gives.

    Attributes:
        f: predictions [inputs, outputs].
        g: coefficient rows of the gradient at the last stream [fields, sources].
        ntk: what the readout adds to the tangent kernel [inputs, inputs].
        state: with the rows of this time.
    """

    f: Array
    g: Array
    ntk: Array
    state: State


def readout(step: TimeStep, state: State, h: Float[Array, "fields sources"]) -> Readout:
    """Predictions f = w . hbar / gamma_0, their error, and g = gamma_0 n df/dh of the stream."""
    plan, numbers, t = step.plan, step.numbers, step.t
    pooled = h.reshape(plan.inputs, plan.tokens, plan.sources).mean(axis=1)
    w = readout_weights(step, state)
    pooled_cov = with_cov(plan, numbers.kx, state.cov, pooled)
    f = pooled_cov @ w.T / numbers.gamma0
    error = square_loss_error(step, f)
    drive = jnp.ones(plan.fields) if plan.folded else jnp.repeat(error[:, 0], plan.tokens)
    upper = error @ w if plan.folded else jnp.broadcast_to(w, (plan.inputs, plan.sources))
    g = jnp.repeat(upper, plan.tokens, axis=0) / plan.tokens
    state = replace(
        state,
        h_last=put_rows(state.h_last, h, step.start),
        pooled=put_rows(state.pooled, pooled, t * plan.inputs),
        error=state.error.at[t].set(error),
        drive=state.drive.at[t].set(drive),
    )
    return Readout(f, g, pooled_cov @ pooled.T, state)


def readout_weights(step: TimeStep, state: State) -> Float[Array, "outputs sources"]:
    """Coefficient rows of w = w_0 + eta_0 gamma_0 sum over the past of omega Delta hbar."""
    plan = step.plan
    w = put_columns(jnp.zeros((plan.outputs, plan.sources)), jnp.eye(plan.outputs), plan.fields)
    learned = step.omega[:, None, None] * state.error
    return w + step.numbers.rate * learned.reshape(-1, plan.outputs).T @ state.pooled


def square_loss_error(
    step: TimeStep, f: Float[Array, "inputs outputs"]
) -> Float[Array, "inputs outputs"]:
    """Delta = weight (y - f), minus the derivative of the square loss by the predictions."""
    return step.numbers.error_weights[step.t][:, None] * (step.numbers.y - f)
