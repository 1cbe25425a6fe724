r"""Single sites: what a head, or a neuron, does with its Gaussian sources.

Each unit is one side of the cavity: forward it turns kernels of the residual stream into the
covariance V of what it writes and the regression S_x of that on backward innovations; backward it
returns Pi, its kappa-weighted form, and the regression S_p on forward innovations. Units here are
linear and carry coefficient rows: S is the response itself.

Attention matrices have one row per query and one column per key: the paper's k_s, which indexes
rows, is what others call the query.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from translimit.core import Key
from translimit.limits.dmft.histories import (
    Index,
    put_columns,
    put_rows,
)

#: What a sub-block stores, by its own names: of one layer, or across layers where it is sampled.
Buffers = dict[str, Array]


class Site(NamedTuple):
    """What a unit is given at one time in one layer.

    Attributes:
        layer: its index.
        start: first history row of this time, t times fields.
        past_chunks: filled chunks before this time.
        chunks: filled chunks with it.
        key: of this time, layer and direction.
        row: kernel of the source against its past [fields, history], zero from now on.
        now: kernel of the source with itself now [fields, fields].
        root_past: row of the square root of that kernel [fields, history].
        root_now: its diagonal block [fields, fields].
        response: of the stream to this unit's output [fields, history].
        learned: c omega Delta times `row` [fields, history].
        kappa: ratio of the key and query learning rate to the others.
        scale: head_dim^(-alpha_A).
        score_gain: factor of the scores at the start.
        gain_memory: what gradients of the past weigh in that factor, its rate times c omega Delta.
        norm_eps: of the normalisation of keys and queries.
    """

    layer: Index
    start: Index
    past_chunks: Index
    chunks: Index
    key: Key
    row: Float[Array, "fields history"]
    now: Float[Array, "fields fields"]
    root_past: Float[Array, "fields history"]
    root_now: Float[Array, "fields fields"]
    response: Float[Array, "fields history"]
    learned: Float[Array, "fields history"]
    kappa: Float[Array, ""]
    scale: Float[Array, ""]
    score_gain: Float[Array, ""]
    gain_memory: Float[Array, " history"]
    norm_eps: Float[Array, ""]


class Forward(NamedTuple):
    """V against the past and now, the regression on backward innovations, rows to store.

    Besides: what the backward half needs, attention scores and their factor (1 without).
    """

    past: Float[Array, "fields history"]
    now: Float[Array, "fields fields"]
    regression: Float[Array, "fields history"]
    stored: Buffers
    fields: PyTree[Array]
    scores: Float[Array, "heads inputs tokens tokens"]
    score_gain: Float[Array, ""]


class Backward(NamedTuple):
    """Pi and its kappa-weighted form against the past and now, S_p, rows to store.

    Besides: the mean square gradient of keys and queries, and the gradient of the factor of the
    scores, field by field.
    """

    past: Float[Array, "fields history"]
    now: Float[Array, "fields fields"]
    past_kappa: Float[Array, "fields history"]
    now_kappa: Float[Array, "fields fields"]
    regression: Float[Array, "fields history"]
    stored: Buffers
    key_gradient: Float[Array, ""]
    gain_gradient: Float[Array, "fields 1"]


@dataclass(frozen=True)
class AbstractUnit(abc.ABC):
    """A sub-block's site; frozen and hashable: a shape, no numbers.

    Attributes:
        inputs: P.
        tokens: S.
        slots: time steps that histories have room for.
    """

    inputs: int
    tokens: int
    slots: int

    #: Whether its sites are sampled (else it is linear and exact).
    sampled: ClassVar[bool]

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def history(self) -> int:
        """Rows of a history."""
        return self.slots * self.fields

    @abc.abstractmethod
    def buffers(self) -> dict[str, tuple[int, int]]:
        """Names and shapes [history, x] of what a layer stores."""

    @abc.abstractmethod
    def forward(self, own: Buffers, site: Site) -> Forward:
        """The forward half of a time step."""

    @abc.abstractmethod
    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """The backward half; `fields` are those that `forward` passed on."""


def unit_rows(
    fields: int, families: int, history: int, family: int, start: Index
) -> Float[Array, "fields columns"]:
    """Rows of the sources of one family now: ones in [fields, families * history]."""
    zeros = jnp.zeros((fields, families * history))
    return put_columns(zeros, jnp.eye(fields), family * history + start)


def with_block(site: Site) -> Float[Array, "fields history"]:
    """The kernel's row with its diagonal block, [fields, history]."""
    return put_columns(site.row, site.now, site.start)


def symmetric(
    kernel: Float[Array, "history history"], site: Site
) -> Float[Array, "history history"]:
    """The stored kernel with this time's row and column."""
    row = with_block(site)
    return put_columns(put_rows(kernel, row, site.start), row.T, site.start)
