r"""Where a time step stands in the histories, and what the past weighs in it.

Parameters at t have received t updates. Under the heavy ball with momentum mu the update of time
t' counts in them

    omega(t - t') = (1 - mu^(t - t')) / (1 - mu)

times, so that every memory is a sum over the past with omega Delta: the optimiser is nowhere else.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key, named_key
from translimit.limits.dmft.histories import Index
from translimit.limits.dmft.plan import RESPONSES, Numbers, Plan
from translimit.limits.dmft.state import State
from translimit.limits.dmft.stream import Root
from translimit.limits.dmft.units import Site


@dataclass(frozen=True)
class TimeStep:
    """One time step of a pass.

    Attributes:
        plan: shape of the pass.
        numbers: its data and constants.
        t: evaluation.
        key: of the pass.
        start: first history row of this time, t times fields.
        past_chunks: filled chunks before this time.
        chunks: filled chunks with it.
        omega: what the update of every time counts in the parameters now [slots].
        memory: omega Delta of every field and time; omega where gradients carry the errors.
    """

    plan: Plan
    numbers: Numbers
    t: Int[Array, ""]
    key: Key
    start: Int[Array, ""]
    past_chunks: Int[Array, ""]
    chunks: Int[Array, ""]
    omega: Float[Array, " slots"]
    memory: Float[Array, " history"]

    def kept(self, response: str) -> Float[Array, ""]:
        """1, or 0 for a response that is switched off."""
        return self.numbers.keep[RESPONSES.index(response)]

    def site(
        self,
        direction: str,
        layer: Index,
        index: int,
        row: Float[Array, "fields history"],
        now: Float[Array, "fields fields"],
        root: Root,
        response: Float[Array, "fields history"],
    ) -> Site:
        """What sub-block `index` of a layer is given in one direction."""
        own_key = jax.random.fold_in(jax.random.fold_in(self.key, self.t), layer)
        return Site(
            layer=layer,
            start=self.start,
            past_chunks=self.past_chunks,
            chunks=self.chunks,
            key=named_key(own_key, direction, index),
            row=row,
            now=now,
            root_past=root.past,
            root_now=root.now,
            response=response,
            learned=self.numbers.c * self.memory * row,
            kappa=self.numbers.kappa,
            scale=self.numbers.scale,
            score_gain=self.numbers.score_gain,
            gain_memory=self.numbers.score_gain_rate * self.numbers.c * self.memory,
            norm_eps=self.numbers.norm_eps,
        )


def heavy_ball(momentum: Float[Array, ""], t: Int[Array, ""], slots: int) -> Float[Array, " slots"]:
    """omega(t - t') for every t' of the histories; 0 from now on."""
    gap = t - jnp.arange(slots)
    return jnp.where(gap > 0, (1 - momentum ** jnp.maximum(gap, 0)) / (1 - momentum), 0.0)


def time_step(plan: Plan, numbers: Numbers, state: State, t: Int[Array, ""], key: Key) -> TimeStep:
    """The time step t of a pass, after what its state says of the past."""
    omega = heavy_ball(numbers.momentum, t, plan.slots)
    return TimeStep(
        plan=plan,
        numbers=numbers,
        t=t,
        key=key,
        start=t * plan.fields,
        past_chunks=(t + plan.chunk_slots - 1) // plan.chunk_slots,
        chunks=t // plan.chunk_slots + 1,
        omega=omega,
        memory=(omega[:, None] * state.drive).reshape(-1),
    )
