r"""Single sites: what a head, or a neuron, does with its Gaussian sources.

Each unit is one side of the cavity: forward it turns kernels of the residual stream into the
covariance V of what it writes and the regression S_x of that on backward innovations; backward it
returns Pi, its kappa-weighted form, and the regression S_p on forward innovations. Sampled units
regress by Gaussian integration by parts, E[x xi^T] = R L with zeta = L xi, minus the same with all
memory switched off (exactly zero in expectation, and it carries most of the noise). Linear units
carry coefficient rows instead: then S is the response itself.

Attention matrices have one row per query and one column per key; the note's k_s, which indexes
rows, is what other papers call the query.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from translimit.limits.dmft.histories import (
    innovations,
    matmul,
    past_moments,
    past_sums,
    put_columns,
    put_rows,
)


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
    """

    layer: Any
    start: Any
    past_chunks: Any
    chunks: Any
    key: PRNGKeyArray
    row: Array
    now: Array
    root_past: Array
    root_now: Array
    response: Array
    learned: Array
    kappa: Array
    scale: Array


class Forward(NamedTuple):
    """V against the past and now, the regression on backward innovations, rows to store."""

    past: Array
    now: Array
    regression: Array
    stored: dict[str, Array]
    fields: Any
    scores: Array


class Backward(NamedTuple):
    """Pi and its kappa-weighted form against the past and now, S_p, rows to store."""

    past: Array
    now: Array
    past_kappa: Array
    now_kappa: Array
    regression: Array
    stored: dict[str, Array]
    key_gradient: Array


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
    def forward(self, own: dict[str, Array], site: Site) -> Forward:
        """The forward half of a time step."""

    @abc.abstractmethod
    def backward(self, own: dict[str, Array], site: Site, fields: Any) -> Backward:
        """The backward half; `fields` are those that `forward` passed on."""


@dataclass(frozen=True)
class AbstractSampledUnit(AbstractUnit):
    """A population: its buffers lie across layers and are read chunk by chunk.

    Attributes:
        samples: sampled heads, or neurons.
        matched: moment matching.
        rows: history rows in a chunk.
        dtype: name of the precision of the population.
    """

    samples: int
    matched: bool
    rows: int
    dtype: str

    def sums(self, site: Site, coefficients: Any, buffers: Any, chunks: Any) -> tuple[Array, ...]:
        """Sums over the history, field by field."""
        return past_sums(coefficients, buffers, site.layer, self.rows, chunks)

    def moments(self, site: Site, fields: Any, buffers: Any, chunks: Any) -> tuple[Array, ...]:
        """Moments with the history."""
        return past_moments(fields, buffers, site.layer, self.rows, chunks)

    def draw(self, site: Site, count: int, past: Any, chunks: Any) -> Array:
        """New innovations."""
        return innovations(site.key, count, past, site.layer, self.rows, chunks, self.matched)

    def source(self, site: Site, past: Array, new: Array) -> Array:
        """Correlated sources now: the row of the square root on past and new innovations."""
        return past + matmul(site.root_now.astype(new.dtype), new)


def moment(a: Array, b: Array) -> Array:
    """The mean over sampled rows of a b^T, in 64 bits."""
    return matmul(a, b.T).astype(jnp.float64) / a.shape[1]


def unit_rows(fields: int, families: int, history: int, family: int, start: Any) -> Array:
    """Rows of the sources of one family now: ones in [fields, families * history]."""
    zeros = jnp.zeros((fields, families * history))
    return put_columns(zeros, jnp.eye(fields), family * history + start)


def with_block(site: Site) -> Array:
    """The kernel's row with its diagonal block, [fields, history]."""
    return put_columns(site.row, site.now, site.start)


def symmetric(kernel: Array, site: Site) -> Array:
    """The stored kernel with this time's row and column."""
    row = with_block(site)
    return put_columns(put_rows(kernel, row, site.start), row.T, site.start)
