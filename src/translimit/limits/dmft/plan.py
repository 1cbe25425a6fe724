"""The shape of a pass, its numbers, its state, and what a time step reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp

from translimit.limits.dmft.units import AbstractUnit

#: The responses, by the symbols of the documentation; any may be switched off.
RESPONSES: tuple[str, ...] = ("R_v", "R_p", "R_h", "R_g")


@dataclass(frozen=True)
class Plan:
    """The shape of a pass; everything that compiles into the program.

    Attributes:
        inputs: P.
        tokens: S.
        outputs: predictions for an input.
        slots: time steps that histories have room for.
        chunk_slots: time steps in a chunk of a history.
        layers: blocks, or cells of the depth ODE.
        units: the sub-blocks of a block.
        norm: whether sub-blocks normalise their input.
        fresh: whether sub-blocks add fresh sources to the stream.
        folded: whether gradients carry the error, needed with several outputs.
        tol: eigenvalues of a new block below this, relative to its mean variance, are null.
    """

    inputs: int
    tokens: int
    outputs: int
    slots: int
    chunk_slots: int
    layers: int
    units: tuple[AbstractUnit, ...]
    norm: bool
    fresh: bool
    folded: bool
    tol: float

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def history(self) -> int:
        """Rows of a history."""
        return self.slots * self.fields

    @property
    def sources(self) -> int:
        """Length of a coefficient row."""
        fresh = 2 * self.layers * len(self.units) * self.history if self.fresh else 0
        return self.fields + self.outputs + fresh

    def column(self, layer: Any, unit: int, side: int) -> Any:
        """First column of the sources u^O (side 0) or zeta (side 1) of a sub-block."""
        block = (layer * len(self.units) + unit) * 2 + side
        return self.fields + self.outputs + block * self.history


class Numbers(NamedTuple):
    """Data and constants of a pass; another value compiles nothing.

    Attributes:
        kx: kernel of the inputs [fields, fields].
        y: targets [inputs, outputs].
        error_weights: what multiplies y - f in the update [slots, inputs].
        eps: beta_0 L^(-alpha_L).
        c: eta_0 gamma_0 beta_0 L^(alpha_L - 1).
        kappa: N^(-2 (1 - alpha_A)).
        scale: N^(-alpha_A).
        rate: eta_0 gamma_0.
        gamma0: richness.
        momentum: of the heavy ball.
        block_ntk: beta_0^2 / L.
        norm_eps: of the normalisation.
        keep: 1 for each response in the order of `RESPONSES`, 0 for one that is switched off.
    """

    kx: Any
    y: Any
    error_weights: Any
    eps: Any
    c: Any
    kappa: Any
    scale: Any
    rate: Any
    gamma0: Any
    momentum: Any
    block_ntk: Any
    norm_eps: Any
    keep: Any


class Record(NamedTuple):
    """What one time step reports besides its state.

    Attributes:
        f: predictions [inputs, outputs].
        ntk: neural tangent kernel [inputs, inputs]; of the unfolded form only.
        scores: attention scores of every layer [layers, heads, inputs, tokens, tokens].
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2 in every layer [layers].
        finite: whether kernels of sub-blocks are finite, forward and backward [layers, units, 2].
    """

    f: Any
    ntk: Any
    scores: Any
    key_gradient: Any
    finite: Any


State = dict[str, Any]


def initial_state(plan: Plan) -> State:
    """Empty histories."""
    shape = (plan.layers, len(plan.units), plan.history)
    kernels = ("H", "G", "S_x", "S_p")
    rows = ("h", "g", "Q_h", "Q_g")
    zeros = partial(jnp.zeros, dtype=jnp.float64)
    return {
        **{name: zeros((*shape, plan.sources)) for name in rows},
        **{name: zeros((*shape, plan.history)) for name in kernels},
        "cov": zeros((*shape[:2], 2, plan.history, plan.history)),
        "rho": zeros((*shape, 1)),
        "g_first": zeros((plan.history, plan.sources)),
        "h_last": zeros((plan.history, plan.sources)),
        "pooled": zeros((plan.slots * plan.inputs, plan.sources)),
        "error": zeros((plan.slots, plan.inputs, plan.outputs)),
        "drive": zeros((plan.slots, plan.fields)),
        "units": tuple(
            {
                name: jnp.zeros((plan.layers, *size), getattr(unit, "dtype", "float64"))
                for name, size in unit.buffers().items()
            }
            for unit in plan.units
        ),
    }
