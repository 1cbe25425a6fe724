r"""An initial matrix between two populations, conditioned on what it has been applied to.

The law of W(0), given its past uses, is the known part on the directions visited so far and an
independent copy on the rest. With directions q (in) and their images W q (out), directions p (out)
and their images W^T p (in), a new field x of the input population is split,

    x = c q + root q',    W x = c W q + root W q',    W q' = innovation + <q' W^T p> p,

and backward with the two sides exchanged. The last term is the regression that the responses of the
one general rule are: no response is formed. Innovations are orthogonal, over the population that
they are drawn on, to all innovations before them and to the p (q) of their own matrix, and have
exact second moments. With plain innovations this is a network of that width, in law.

The average over a population is <x y>, all fields are [fields, units]. A matrix of n_out rows and
n_in columns is used as n_in^(-1/2) W x and n_in^(-1/2) W^T g; ratio is n_out / n_in in the network,
whatever the sizes of the populations.

Reference: Gaussian conditioning (E. Bolthausen, arXiv 1201.2891); documentation, "Training
dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.histories import matmul, put_rows
from translimit.limits.dmft.optimizers import AbstractOptimizer, Slots

#: Relative eigenvalue below which visited directions span nothing new beside innovations.
_NESTED = 1e-10


class Rule(NamedTuple):
    """How fields are split; compiles into the program.

    Attributes:
        tolerance: directions of less variance than this, relative to the mean, are left out.
        matched: whether innovations are orthonormal over their population.
    """

    tolerance: float
    matched: bool


class Population(eqx.Module):
    """Innovations drawn on one population.

    Attributes:
        basis: of their span, orthonormal in <x y>; rows of the future are zero.
        filled: rows that are in use.
        drawn: innovations, directions that were left out not counted.
    """

    basis: Float[Array, "room units"]
    filled: Int[Array, ""]
    drawn: Float[Array, ""]

    @property
    def units(self) -> int:
        """Members of the population."""
        return self.basis.shape[1]


def empty_population(room: int, units: int) -> Population:
    """Nothing drawn yet."""
    return Population(jnp.zeros((room, units)), jnp.zeros((), jnp.int32), jnp.zeros(()))


def first_draw(
    rule: Rule, population: Population, key: Key, count: int
) -> tuple[Float[Array, "count units"], Population]:
    """The first innovations on a population."""
    new = _normals(key, count, population.units)
    everything = jnp.eye(count)
    return _put(population, _orthonormal(new, everything) if rule.matched else new, everything)


def draw(
    rule: Rule,
    population: Population,
    key: Key,
    span: Float[Array, "fields fields"],
    known: Float[Array, "history units"],
) -> tuple[Float[Array, "fields units"], Population]:
    """Innovations with the second moments `span`, a projector: new directions only.

    Args:
        rule: whether they are orthonormal.
        population: on which they are drawn.
        key: of this use alone.
        span: the projector on the new directions among the fields.
        known: directions on this population of which the matrix is known.
    """
    units = population.units
    new = matmul(span, _normals(key, len(span), units))
    basis = population.basis if rule.matched else population.basis[:0]
    coupling = matmul(known, basis.T) / units
    gram = matmul(known, known.T) / units
    outside = _pseudo_inverse(gram - coupling @ coupling.T, jnp.trace(gram) / len(gram))
    for _ in range(2):
        on_basis = matmul(new, basis.T) / units
        on_known = (matmul(new, known.T) / units - on_basis @ coupling.T) @ outside
        new = new - matmul(on_basis - on_known @ coupling, basis) - matmul(on_known, known)
    return _put(population, _orthonormal(new, span) if rule.matched else new, span)


def _normals(key: Key, count: int, units: int) -> Float[Array, "count units"]:
    """Standard normal numbers, drawn in 32 bits, which moves no moment by more than rounding."""
    return jax.random.normal(key, (count, units), jnp.float32).astype(jnp.float64)


def _orthonormal(
    new: Float[Array, "fields units"], span: Float[Array, "fields fields"]
) -> Float[Array, "fields units"]:
    """The same span with the second moments `span`, by the symmetric root."""
    moments = matmul(new, new.T) / new.shape[1] + jnp.eye(len(span)) - span
    values, vectors = jnp.linalg.eigh((moments + moments.T) / 2)
    return matmul((vectors / jnp.sqrt(values)) @ vectors.T @ span, new)


def _put(
    population: Population,
    new: Float[Array, "fields units"],
    span: Float[Array, "fields fields"],
) -> tuple[Float[Array, "fields units"], Population]:
    """The innovations, and the population with them."""
    return new, Population(
        put_rows(population.basis, new, population.filled),
        population.filled + len(span),
        population.drawn + jnp.trace(span),
    )


def _pseudo_inverse(
    matrix: Float[Array, "history history"], scale: Float[Array, ""]
) -> Float[Array, "history history"]:
    """Of what is not nested in the innovations."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > _NESTED * scale
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T


class Side(NamedTuple):
    """One side of a matrix: directions visited there, and the images of the other side's."""

    visited: Float[Array, "history units"]
    images: Float[Array, "history units"]


class Use(NamedTuple):
    """One use of a matrix.

    Attributes:
        key: of the pass.
        place: what tells this use from all others of the pass: time, layer, matrix, direction.
        start: history row of this time.
        kept: what weight decay has left of the start.
        response: 1, or 0 to leave the regression out, wrong on purpose.
    """

    key: Key
    place: Int[Array, " 4"]
    start: Int[Array, ""]
    kept: Float[Array, ""]
    response: Float[Array, ""]


class ConditionedMatrix(eqx.Module):
    """A matrix: its start, conditioned on its uses, and what it has learned.

    Attributes:
        inner: the side that it reads; directions q, and W^T p.
        outer: the side that it writes; directions p, and W q.
        learned: what updates have added, entry by entry.
        slots: what the optimiser keeps.
        ratio: n_out / n_in of the network.
    """

    inner: Side
    outer: Side
    learned: Float[Array, "out in"]
    slots: Slots
    ratio: float = eqx.field(static=True)

    def forward(
        self, rule: Rule, x: Float[Array, "fields in"], outer: Population, use: Use
    ) -> tuple[Float[Array, "fields out"], ConditionedMatrix, Population]:
        """n_in^(-1/2) W x; innovations are drawn on the population that is written."""
        first, inner, written, outer = _initial(
            rule, x, self.inner, self.outer, outer, use, self.ratio**-0.5
        )
        y = _with_learned(first, x, self.learned, use.kept, True)
        return y, replace(self, inner=inner, outer=written), outer

    def backward(
        self, rule: Rule, g: Float[Array, "fields out"], inner: Population, use: Use
    ) -> tuple[Float[Array, "fields in"], ConditionedMatrix, Population]:
        """n_in^(-1/2) W^T g; innovations are drawn on the population that is read."""
        first, outer, read, inner = _initial(
            rule, g, self.outer, self.inner, inner, use, self.ratio**0.5
        )
        root = self.ratio**0.5
        z = root * _with_learned(first, g, root * self.learned, use.kept, False)
        return z, replace(self, inner=read, outer=outer), inner


def new_matrix(
    history: int, inner: int, outer: int, optimizer: AbstractOptimizer, ratio: float = 1.0
) -> ConditionedMatrix:
    """A matrix that was not used yet, between populations of these sizes."""
    sides = [Side(jnp.zeros((history, n)), jnp.zeros((history, n))) for n in (inner, outer)]
    nothing = jnp.zeros((outer, inner))
    slots = tuple(jnp.zeros_like(nothing) for _ in range(optimizer.slots))
    return ConditionedMatrix(sides[0], sides[1], nothing, slots, ratio)


@partial(jax.jit, static_argnames="optimizer", donate_argnames=("learned", "slots"))
def updated(
    optimizer: AbstractOptimizer,
    learned: Float[Array, "out in"],
    slots: Slots,
    g: Float[Array, "fields out"],
    x: Float[Array, "fields in"],
    rate: Float[Array, ""],
    decay: Float[Array, ""],
    t: Int[Array, ""],
) -> tuple[Float[Array, "out in"], Slots]:
    """What a matrix has learned, after the update with the gradient sum_a g_a x_a^T."""
    u, slots = optimizer.update(matmul(g.T, x), slots, t)
    return decay * learned + rate * u, slots


@partial(jax.jit, static_argnames="forward")
def _with_learned(
    first: Float[Array, "fields there"],
    x: Float[Array, "fields here"],
    learned: Float[Array, "out in"],
    kept: Float[Array, ""],
    forward: bool,
) -> Float[Array, "fields there"]:
    """What is left of the start, and the mean over the population of what was learned."""
    return kept * first + matmul(x, learned.T if forward else learned) / x.shape[1]


@partial(jax.jit, static_argnames="rule", donate_argnames=("here", "there", "population"))
def _initial(
    rule: Rule,
    x: Float[Array, "fields here"],
    here: Side,
    there: Side,
    population: Population,
    use: Use,
    factor: float | Float[Array, ""],
) -> tuple[Float[Array, "fields there"], Side, Side, Population]:
    """The initial matrix on a field; one program for both directions of all matrices."""
    key = use.key
    for number in use.place:
        key = jax.random.fold_in(key, number)
    units = x.shape[1]
    rest, on_past = x, jnp.zeros((len(x), len(here.visited)))
    for _ in range(2):
        again = matmul(rest, here.visited.T) / units
        on_past, rest = on_past + again, rest - matmul(again, here.visited)
    moments = matmul(rest, rest.T) / units
    values, vectors = jnp.linalg.eigh((moments + moments.T) / 2)
    kept = values > rule.tolerance * jnp.mean(x**2)
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    # The symmetric root: eigenvectors of nearly equal eigenvalues may turn.
    root = (vectors * jnp.where(kept, roots, 0.0)) @ vectors.T
    directions = matmul((vectors * jnp.where(kept, 1 / roots, 0.0)) @ vectors.T, rest)
    span = (vectors * kept) @ vectors.T
    new, population = draw(rule, population, key, span, there.visited)
    regression = use.response * factor * matmul(directions, here.images.T) / units
    images = new + matmul(regression, there.visited)
    y = matmul(on_past, there.images) + matmul(root, images)
    here = Side(put_rows(here.visited, directions, use.start), here.images)
    return y, here, Side(there.visited, put_rows(there.images, images, use.start)), population
