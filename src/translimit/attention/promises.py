r"""The promises of a variant of attention, one function each.

A variant is a field of a measure, so that Gamma_mu(x) depends on nothing but x and mu (and, where
it is causal, on the part of mu at or before the position of x). Most checks are identities that
follow from this; its own formula enters through an optional dense evaluation. Expectations under a
Gaussian are those under the weighted nodes of a product of Gauss-Hermite rules, which is a cloud.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.attention.base import AbstractAttention
from translimit.attention.measured import in_units
from translimit.attention.moments import AbstractMomentField
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    SolveError,
    following_inputs,
)

Points = Float[np.ndarray, "points dim"]
Weights = Float[np.ndarray, " points"]
Positions = Float[np.ndarray, " points"]
#: The velocity by its definition: x, cloud, weights, positions of x and of the cloud (None where
#: the field is not causal).
DenseField = Callable[[Points, Points, Weights, Positions | None, Positions | None], Points]

#: Tokens of most checks, and of the one that needs more than one tile of scores.
TOKENS, MANY = 37, 1030
#: The most nodes of a Gaussian cloud, and the largest deviation of its law along an axis.
NODES, SPREAD = 1400, 0.4


class ViolationError(Exception):
    """A promise that does not hold."""


class NotApplicableError(Exception):
    """Why a check says nothing about a variant."""


@dataclass(frozen=True)
class Case:
    """A variant with a cloud: positions tie, some weights are zero, scores are of order one."""

    attention: AbstractAttention
    cloud: Points
    weights: Weights
    positions: Positions
    seed: int

    @classmethod
    def drawn(cls, attention: AbstractAttention, seed: int, tokens: int = TOKENS) -> Case:
        """A cloud of normal tokens.

        Args:
            attention: the variant.
            seed: of the draw.
            tokens: how many.
        """
        rng = np.random.default_rng(seed)
        cloud = rng.normal(size=(tokens, attention.dim))
        positions = np.sort(rng.integers(0, 6, tokens)) / 5
        weights = rng.random(tokens) * (rng.random(tokens) < 0.7)
        weights[positions == positions[0]] += 0.1
        return cls(attention, cloud, weights / weights.sum(), positions, seed)

    def rng(self) -> np.random.Generator:
        """What draws beside the cloud."""
        return np.random.default_rng(self.seed + 1)

    def at(self, positions: Any, x_positions: Any = None) -> dict[str, Any]:
        """The positions as arguments, where the variant takes them."""
        if not self.attention.causal:
            return {}
        return {
            "positions": positions,
            "x_positions": positions if x_positions is None else x_positions,
        }

    def field(self) -> Points:
        """The velocity of the tokens themselves."""
        return np.asarray(
            self.attention(self.cloud, self.cloud, weights=self.weights, **self.at(self.positions))
        )


def _agree(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Relative to the largest entry of what is expected."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        raise ViolationError(f"{what} has shape {found.shape}, not {expected.shape}")
    gap = np.abs(found - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-300)
    if not gap <= tolerance:
        raise ViolationError(f"{what} differs by {gap:.2g} (allowed: {tolerance:.2g})")


def _precision(case: Case) -> None:
    """NumPy gives NumPy and JAX gives JAX, in the precision of the tokens."""
    attention, found = case.attention, case.field()
    if found.shape != case.cloud.shape or not np.isfinite(found).all():
        raise ViolationError(f"the velocity has shape {found.shape}, or is not finite")
    for dtype in (np.float64, np.float32):
        cloud = case.cloud.astype(dtype)
        velocity = attention(cloud, cloud, weights=case.weights, **case.at(case.positions))
        if not isinstance(velocity, np.ndarray) or velocity.dtype != dtype:
            raise ViolationError(f"NumPy tokens of {np.dtype(dtype)} give {velocity.dtype}")
        _agree(velocity, found, 1e-4 if dtype == np.float32 else 0.0, f"in {np.dtype(dtype)} it")
    tokens = jnp.asarray(case.cloud, jnp.float32)
    velocity = attention(tokens, tokens, **case.at(case.positions))
    if not isinstance(velocity, jax.Array) or velocity.dtype != jnp.float32:
        raise ViolationError(f"JAX tokens of float32 give {type(velocity)} of {velocity.dtype}")


def _measure(case: Case) -> None:
    """Two copies of a token of half its weight are that token; weight zero is no token."""
    attention, found = case.attention, case.field()
    twice, at = np.repeat(case.cloud, 2, axis=0), np.repeat(case.positions, 2)
    halves = np.repeat(case.weights / 2, 2)
    split = attention(case.cloud, twice, weights=halves, **case.at(at, case.positions))
    _agree(split, found, 1e-9, "with every token in two halves it")
    absent = np.where((case.weights == 0)[:, None], 3.0 - case.cloud, case.cloud)
    other = attention(case.cloud, absent, weights=case.weights, **case.at(case.positions))
    _agree(other, found, 1e-9, "with other tokens of weight zero it")


def _permutations(case: Case) -> None:
    """The order of the tokens does not matter; causal: of those at one position."""
    order = case.rng().permutation(len(case.cloud))
    if case.attention.causal:
        order = order[np.argsort(case.positions[order], kind="stable")]
    cloud = case.cloud[order]
    moved = case.attention(
        cloud, cloud, weights=case.weights[order], **case.at(case.positions[order])
    )
    _agree(moved, case.field()[order], 1e-9, "in another order it")


def _tiles(case: Case) -> None:
    """The velocity of a query does not depend on the others, which share its tiles."""
    many = Case.drawn(case.attention, case.seed, MANY)
    found = many.field()
    few = slice(500, 530)
    alone = case.attention(
        many.cloud[few],
        many.cloud,
        weights=many.weights,
        **case.at(many.positions, many.positions[few]),
    )
    _agree(alone, found[few], 1e-9, "of a few of many queries it")


def _mask(case: Case) -> None:
    """Earlier tokens do not see later ones; without a mask there are no positions."""
    attention, positions = case.attention, case.positions
    if not attention.causal:
        try:
            attention(case.cloud, case.cloud, positions=positions, x_positions=positions)
        except ArgumentTypeError:
            return
        raise ViolationError("positions are taken, and the field is not causal")
    later = positions > 0.4
    other = np.where(later[:, None], -3.0 * case.cloud[::-1], case.cloud)
    changed = attention(other, other, weights=case.weights, **case.at(positions))
    _agree(
        changed[~later], case.field()[~later], 1e-12, "of earlier tokens, with other later ones,"
    )
    last, together = case.at(positions), case.at(np.ones_like(positions))
    last["x_positions"] = np.ones_like(positions)
    whole = attention(case.cloud, case.cloud, weights=case.weights, **last)
    tied = attention(case.cloud, case.cloud, weights=case.weights, **together)
    _agree(whole, tied, 1e-9, "seen from the end it")


def _transforms(case: Case) -> None:
    """A variant is a pytree: jit takes it as an argument, vmap goes over clouds."""
    clouds = np.stack([case.cloud, 0.5 - case.cloud[::-1]])

    @jax.jit
    def fields(attention: AbstractAttention, clouds: jax.Array) -> jax.Array:
        def one(cloud: jax.Array) -> Any:
            return attention(cloud, cloud, weights=case.weights, **case.at(case.positions))

        return jax.vmap(one)(clouds)

    with jax.enable_x64(True):
        batch = np.asarray(fields(case.attention, jnp.asarray(clouds, jnp.float64)))
    for row, cloud in zip(batch, clouds, strict=True):
        alone = case.attention(cloud, cloud, weights=case.weights, **case.at(case.positions))
        _agree(row, alone, 1e-9, "under jit of vmap it")


def _round_trip(case: Case) -> None:
    """Numbers are leaves, everything else is structure that hashes and compares."""
    leaves, structure = jax.tree.flatten(case.attention)
    odd = [leaf for leaf in leaves if not hasattr(leaf, "dtype") and not isinstance(leaf, float)]
    if odd:
        raise ViolationError(f"the leaf {odd[0]!r} is no array: mark its field as static")
    if hash(structure) != hash(jax.tree.structure(jax.tree.unflatten(structure, leaves))):
        raise ViolationError("its structure changes in a round trip")
    again = Case(
        jax.tree.unflatten(structure, leaves), case.cloud, case.weights, case.positions, case.seed
    )
    _agree(again.field(), case.field(), 0.0, "after flattening it")


def _gradient(case: Case) -> None:
    """Derivatives in tokens and parameters are those of central differences."""
    rng, cloud = case.rng(), case.cloud
    leaves, structure = jax.tree.flatten(case.attention)
    with jax.enable_x64(True):
        leaves = [jnp.asarray(np.array(leaf), jnp.float64) for leaf in leaves]
        along = [jnp.asarray(rng.normal(size=leaf.shape), jnp.float64) for leaf in leaves]
        direction, probe = (
            jnp.asarray(rng.normal(size=cloud.shape), jnp.float64) for _ in range(2)
        )

        @jax.jit
        def loss(step: jax.Array) -> jax.Array:
            moved = [leaf * (1 + 0.1 * step * a) for leaf, a in zip(leaves, along, strict=True)]
            attention: AbstractAttention = jax.tree.unflatten(structure, moved)
            tokens = jnp.asarray(cloud, jnp.float64) + step * direction
            return jnp.sum(probe * attention(tokens, tokens, **case.at(case.positions)))

        h = 1e-5
        difference = (loss(jnp.asarray(h)) - loss(jnp.asarray(-h))) / (2 * h)
        _agree(jax.jit(jax.grad(loss))(jnp.asarray(0.0)), difference, 1e-5, "the derivative")


def _bounded(case: Case) -> None:
    """Where no finite cloud is said to blow up, threefold tokens have a threefold velocity."""
    if not case.attention.bounded:
        raise NotApplicableError("it does not say that it is bounded")
    try:
        sizes = [
            np.abs(
                Case(case.attention, c * case.cloud, case.weights, case.positions, 0).field()
            ).max()
            for c in (5.0, 15.0)
        ]
    except SolveError as error:
        raise NotApplicableError("its iteration does not converge for such large tokens") from error
    if not sizes[1] < 4 * sizes[0]:
        raise ViolationError(f"threefold tokens have a {sizes[1] / sizes[0]:.3g}-fold velocity")


def _units(case: Case) -> None:
    """In other units of tokens and of depth the field is the same."""
    try:
        scaled = in_units(case.attention, 4.0, 0.5)
    except ArgumentError as error:
        raise NotApplicableError("it does not say how it scales") from error
    found = Case(scaled, case.cloud / 4.0, case.weights, case.positions, case.seed).field()
    _agree(found, case.field() * 0.5 / 4.0, 1e-9, "in other units it")


def _gaussian(case: Case) -> None:
    """The affine field is the velocity in the cloud of quadrature nodes of a Gaussian."""
    mean, cov = _law(case)
    try:
        g, M = case.attention.gaussian_field(mean, cov)
    except NoSuchLimitError as error:
        raise NotApplicableError(f"there is none: {error.problem}") from error
    nodes, weights = _nodes(mean, cov)
    x = mean + case.cloud[:9] * SPREAD
    found = case.attention(x, nodes, weights=weights)
    expected = np.asarray(g) + (x - mean) @ np.asarray(M).T
    _agree(found, expected, 1e-5, "of a cloud of quadrature nodes it")


def _factor(case: Case) -> None:
    """From a factor of the covariance the field is the same, of singular ones too."""
    mean, cov = _law(case)
    try:
        case.attention.gaussian_field(mean, cov)
    except NoSuchLimitError as error:
        raise NotApplicableError("there is no field of a Gaussian") from error
    factor = np.linalg.cholesky(cov) @ np.linalg.qr(case.rng().normal(size=cov.shape))[0]
    for columns in (factor, factor[:, : max(1, len(mean) - 1)]):
        expected = case.attention.gaussian_field(mean, columns @ columns.T)
        found = following_inputs(_field_of_factor, (mean, columns), case.attention)
        for name, one, other in zip("gM", found, expected, strict=True):
            _agree(one, other, 1e-7, f"{name} of a factor")


@eqx.filter_jit
def _field_of_factor(
    law: tuple[jax.Array, jax.Array], attention: AbstractAttention
) -> tuple[jax.Array, jax.Array]:
    return attention.factor_field(*law)


def _moments(case: Case) -> None:
    """The projection on affine fields: g = E Gamma, M = E[Gamma (x - mean)^T] cov^{-1}."""
    attention = case.attention
    if not isinstance(attention, AbstractMomentField) or attention.causal:
        raise NotApplicableError("it has no closure of moments")
    mean, cov = _law(case)
    try:
        g, M = attention.moment_field(mean, cov)
    except NoSuchLimitError as error:
        raise NotApplicableError(f"there is none: {error.problem}") from error
    nodes, weights = _nodes(mean, cov)
    velocity = np.asarray(attention(nodes, nodes, weights=weights))
    _agree(g, weights @ velocity, 1e-5, "E Gamma")
    slope = (weights[:, None] * velocity).T @ (nodes - mean) @ np.linalg.inv(cov)
    _agree(M, slope, 1e-5, "E grad Gamma")


def _law(case: Case) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"]]:
    rng, dim = case.rng(), case.attention.dim
    root = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * np.linspace(0.5, 1.0, dim)
    return rng.normal(size=dim) / 2, SPREAD**2 * root @ root.T


def _nodes(
    mean: Float[np.ndarray, " dim"], cov: Float[np.ndarray, "dim dim"]
) -> tuple[Points, Weights]:
    """A product of Gauss-Hermite rules for N(mean, cov), as a weighted cloud."""
    dim = len(mean)
    each = int(NODES ** (1 / dim))
    if each < 5:
        raise NotApplicableError(f"quadrature in dimension {dim} takes too many nodes")
    node, weight = np.polynomial.hermite_e.hermegauss(min(each, 40))
    grid = np.array(list(itertools.product(node, repeat=dim)))
    weights = np.prod(list(itertools.product(weight / weight.sum(), repeat=dim)), axis=1)
    return mean + grid @ np.linalg.cholesky(cov).T, weights / weights.sum()


def definition(case: Case, dense: DenseField) -> None:
    """The velocity is its dense evaluation.

    Args:
        case: the variant with its cloud.
        dense: the velocity by its definition.
    """
    at = case.positions if case.attention.causal else None
    expected = dense(case.cloud, case.cloud, case.weights, at, at)
    _agree(case.field(), expected, 1e-10, "the velocity")


CHECKS: Mapping[str, Callable[[Case], None]] = {
    "precision": _precision,
    "a field of a measure": _measure,
    "permutations": _permutations,
    "tiles": _tiles,
    "mask": _mask,
    "jit and vmap": _transforms,
    "pytree": _round_trip,
    "gradient": _gradient,
    "bounded": _bounded,
    "units": _units,
    "field of a Gaussian": _gaussian,
    "field of a factor": _factor,
    "closure of moments": _moments,
}
