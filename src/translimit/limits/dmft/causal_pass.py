r"""One causal pass over training time: every order parameter is known when it is needed.

A residual coordinate is exactly linear in its Gaussian sources s = (e, w_0, u^O and zeta of every
sub-block): residual additions are linear and normalisation scales by numbers. It is carried as
coefficient rows B, with Cov(s) = blockdiag(K^x, readout_std^2, V, Pi, ...), so that

    Hbar = B_h Cov B_h^T,    G~ = B_g Cov B_g^T,    f = B_w Cov B_phi^T / gamma_0,

and the responses R^h, R^g are blocks of B. Only heads and neurons are sampled. Square roots of
the growing kernels are sequential and rank-revealing: in the last block the gradient kernel has
rank one at every time.

In the depth ODE (alpha_L = 1, infinitely many layers) fresh sources leave the stream and R^h, R^g
vanish; the layers are then Euler cells.

A time step is the embedding, the blocks forward, the readout with its loss, and the blocks
backward: one function each.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.blocks import Rows, backward_blocks, forward_blocks, over_tokens
from translimit.limits.dmft.histories import put_columns, put_rows
from translimit.limits.dmft.plan import Numbers, Plan
from translimit.limits.dmft.readout import past_errors, readout
from translimit.limits.dmft.state import BackwardRows, ForwardRows, Record, State
from translimit.limits.dmft.stream import with_cov
from translimit.limits.dmft.time_step import TimeStep, time_step


@partial(jax.jit, static_argnames="plan", donate_argnames="state")
def advance(
    plan: Plan, numbers: Numbers, state: State, t: Int[Array, ""], key: Key
) -> tuple[State, Record]:
    """One time step: forward through all layers, readout, backward, histories."""
    step = time_step(plan, numbers, state, t, key)
    h, state, front = forward_blocks(step, state, embedding(step, state))
    out = readout(step, state, h)
    g, added, state, back = backward_blocks(step, out.state, front, out.g)
    state = replace(state, g_first=put_rows(state.g_first, g, step.start))
    if plan.folded:  # the gradients of single outputs are not known
        ntk = jnp.full((plan.rows, plan.rows), jnp.nan)
    else:
        ntk = out.ntk + added + embedding_ntk(step, state, g)
    return state, _record(plan, numbers, front, back, out.f, ntk)


def embedding(step: TimeStep, state: State) -> Rows:
    """h^0 = e + eta_0 gamma_0 (K^lr omega Delta) g^0: the embedding and what it has learned.

    A tied embedding has learned as the readout too.
    """
    plan, numbers = step.plan, step.numbers
    h = put_columns(jnp.zeros((plan.fields, plan.sources)), numbers.start, 0)
    h = h + numbers.rate * (jnp.tile(numbers.kx, plan.slots) * step.memory) @ state.g_first
    if plan.tied:
        words = numbers.start[:, : plan.outputs]
        h = h + numbers.rate * (words @ past_errors(step, state).T) @ state.features
    return h


def embedding_ntk(step: TimeStep, state: State, g: Rows) -> Float[Array, "inputs inputs"]:
    """What the embedding adds to the tangent kernel: K^lr G^0, summed over tokens."""
    plan, numbers = step.plan, step.numbers
    return over_tokens(plan, numbers.kx * (with_cov(plan, numbers, state.cov, g) @ g.T))


def _record(
    plan: Plan,
    numbers: Numbers,
    front: tuple[ForwardRows, ...],
    back: tuple[BackwardRows, ...],
    f: Float[Array, "rows outputs"],
    ntk: Float[Array, "rows rows"],
) -> Record:
    """What is reported; without blocks there are no scores, and nothing can cease to be finite."""
    if not front:
        return Record(
            f=f,
            ntk=ntk,
            scores=jnp.zeros((plan.layers, 0, plan.inputs, plan.tokens, plan.tokens)),
            key_gradient=jnp.zeros(plan.layers),
            score_gain=jnp.full(plan.layers, numbers.score_gain),
            finite=jnp.ones((plan.layers, 0, 2), bool),
        )
    finite = [jnp.stack([a.finite, b.finite], axis=-1) for a, b in zip(front, back, strict=True)]
    return Record(
        f=f,
        ntk=ntk,
        scores=front[0].scores,
        key_gradient=back[0].key_gradient,
        score_gain=front[0].score_gain,
        finite=jnp.stack(finite, axis=1),
    )
