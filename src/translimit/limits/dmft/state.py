r"""What a pass keeps of its past, and what a time step reports.

A *history* has a row for every field at every time so far; rows of the future are zero. K = slots
times fields is its length.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from translimit.core import AnyArray
from translimit.limits.dmft.histories import Index, put_columns, put_rows
from translimit.limits.dmft.plan import Plan


class State(eqx.Module):
    """The histories of a pass.

    Attributes:
        h: coefficient rows of what sub-blocks read, normalised where the architecture does.
        g: coefficient rows of the gradients that they receive.
        Q_h, Q_g: the same whitened, L^+ h and L^+ g, where heads or neurons are sampled.
        H, G: kernels <h h> and <g g> of every sub-block, lower block triangles.
        S_x, S_p: regressions of what sub-blocks write on innovations.
        cov: V (place 0) and Pi (place 1), covariances of the sources of every sub-block.
        rho: norms by which what sub-blocks read was divided.
        g_first: coefficient rows of the gradient at the embedding.
        h_last: coefficient rows of the stream after the last block.
        features: what the rows of outputs are read from.
        start: outputs at the start, where they are subtracted.
        error: weighted errors Delta of all outputs.
        drive: what multiplies gradients in the update: Delta of the field's input; 1 where the
            gradients carry the errors.
        units: what the sub-blocks store themselves, by their own names [layers, history, x].
    """

    h: Float[Array, "layers units history sources"]
    g: Float[Array, "layers units history sources"]
    Q_h: Float[Array, "layers units history sources"]
    Q_g: Float[Array, "layers units history sources"]
    H: Float[Array, "layers units history history"]
    G: Float[Array, "layers units history history"]
    S_x: Float[Array, "layers units history history"]
    S_p: Float[Array, "layers units history history"]
    cov: Float[Array, "layers units 2 history history"]
    rho: Float[Array, "layers units history 1"]
    g_first: Float[Array, "history sources"]
    h_last: Float[Array, "history sources"]
    features: Float[Array, "row_history sources"]
    start: Float[Array, "rows outputs"]
    error: Float[Array, "slots rows outputs"]
    drive: Float[Array, "slots fields"]
    units: tuple[dict[str, Float[Array, "layers history _"]], ...]


class Record(NamedTuple):
    """What one time step reports besides its state.

    Attributes:
        f: outputs, less those at the start where they are centred.
        ntk: neural tangent kernel; NaN where gradients carry the errors.
        scores: attention scores of every layer [layers, heads, inputs, tokens, tokens].
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2 in every layer [layers].
        score_gain: factor of the scores in every layer.
        finite: whether kernels of sub-blocks are finite, forward and backward [layers, units, 2].
    """

    f: Float[AnyArray, "rows outputs"]
    ntk: Float[AnyArray, "rows rows"]
    scores: Float[AnyArray, "layers heads inputs tokens tokens"]
    key_gradient: Float[AnyArray, " layers"]
    score_gain: Float[AnyArray, " layers"]
    finite: Bool[AnyArray, "layers units 2"]


class ForwardRows(NamedTuple):
    """What a sub-block leaves of the forward half of a time step; a scan adds the layers in front.

    Attributes:
        h: coefficient rows of what it read [fields, sources].
        rho: norms that these were divided by [fields, 1].
        H: row of the kernel <h h> with the block of this time [fields, history].
        S_x: regression of what it wrote [fields, history].
        Q_h: whitened rows [fields, sources].
        V: row of the covariance of what it wrote [fields, history].
        H_now, V_now: the blocks of this time [fields, fields].
        stored: rows that the unit stores itself, by name.
        fields: what its backward half needs.
        scores: attention scores [heads, inputs, tokens, tokens].
        score_gain: their factor now.
        finite: whether V is.
    """

    h: Array
    rho: Array
    H: Array
    S_x: Array
    Q_h: Array
    V: Array
    H_now: Array
    V_now: Array
    stored: dict[str, Array]
    fields: tuple[Array, ...]
    scores: Array
    score_gain: Array
    finite: Array


class BackwardRows(NamedTuple):
    """What a sub-block leaves of the backward half of a time step.

    Attributes:
        g: coefficient rows of the gradient that it received [fields, sources].
        G: row of the kernel <g g> with the block of this time [fields, history].
        S_p: regression of its gradients [fields, history].
        Q_g: whitened rows [fields, sources].
        Pi: row of the covariance of its gradients [fields, history].
        stored: rows that the unit stores itself, by name.
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2.
        finite: whether Pi is.
    """

    g: Array
    G: Array
    S_p: Array
    Q_g: Array
    Pi: Array
    stored: dict[str, Array]
    key_gradient: Array
    finite: Array


def initial_state(plan: Plan) -> State:
    """Empty histories."""
    shape = (plan.layers, len(plan.units), plan.history)
    zeros = partial(jnp.zeros, dtype=jnp.float64)
    return State(
        **{name: zeros((*shape, plan.sources)) for name in ("h", "g", "Q_h", "Q_g")},
        **{name: zeros((*shape, plan.history)) for name in ("H", "G", "S_x", "S_p")},
        cov=zeros((*shape[:2], 2, plan.history, plan.history)),
        rho=zeros((*shape, 1)),
        g_first=zeros((plan.history, plan.sources)),
        h_last=zeros((plan.history, plan.sources)),
        features=zeros((plan.slots * plan.rows, plan.sources)),
        start=zeros((plan.rows, plan.outputs)),
        error=zeros((plan.slots, plan.rows, plan.outputs)),
        drive=zeros((plan.slots, plan.fields)),
        units=tuple(
            {
                name: jnp.zeros((plan.layers, *size), getattr(unit, "dtype", "float64"))
                for name, size in unit.buffers().items()
            }
            for unit in plan.units
        ),
    )


def with_forward(state: State, rows: tuple[ForwardRows, ...], start: Index) -> State:
    """The state with the rows of the forward half, of all layers [layers, ...]."""
    return replace(
        state,
        h=put_rows(state.h, _by_unit([one.h for one in rows]), start),
        rho=put_rows(state.rho, _by_unit([one.rho for one in rows]), start),
        H=put_rows(state.H, _by_unit([one.H for one in rows]), start),
        S_x=put_rows(state.S_x, _by_unit([one.S_x for one in rows]), start),
        Q_h=put_rows(state.Q_h, _by_unit([one.Q_h for one in rows]), start),
        units=_with_stored(state, [one.stored for one in rows], start),
    )


def with_backward(state: State, rows: tuple[BackwardRows, ...], start: Index) -> State:
    """The state with the rows of the backward half, of all layers [layers, ...]."""
    return replace(
        state,
        g=put_rows(state.g, _by_unit([one.g for one in rows]), start),
        G=put_rows(state.G, _by_unit([one.G for one in rows]), start),
        S_p=put_rows(state.S_p, _by_unit([one.S_p for one in rows]), start),
        Q_g=put_rows(state.Q_g, _by_unit([one.Q_g for one in rows]), start),
        units=_with_stored(state, [one.stored for one in rows], start),
    )


def _by_unit(rows: list[Array]) -> Array:
    return jnp.stack(rows, axis=1)


def _with_stored(
    state: State, stored: list[dict[str, Array]], start: Index
) -> tuple[dict[str, Array], ...]:
    """What the units store, with the rows of this time."""
    units = []
    for own, new in zip(state.units, stored, strict=True):
        filled = dict(own)
        for name, rows in new.items():
            filled[name] = put_rows(filled[name], rows, start)
            if name in ("H", "G"):  # kernels of linear units, kept symmetric
                filled[name] = put_columns(filled[name], rows.swapaxes(-1, -2), start)
        units.append(filled)
    return tuple(units)
