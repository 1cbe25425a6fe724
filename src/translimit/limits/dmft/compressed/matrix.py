r"""One initial matrix between two populations, conditioned on what it was applied to.

From one side, W has orthonormal directions q with images T = W q, and from the other p with images
Z = W^T p. A field x is split into what the directions span and a rest,

    x = c q + rest,    rest = roots q' (variance above tol times that of x) + what is dropped,
    W x = c T + <rest Z> p + roots innovation,

the Gaussian conditioning of Bolthausen: what is new of x meets W^T p where that is known already
(the regression; no response is formed) and is white elsewhere. The regression is that of the whole
rest, dropped directions included, so that <g W x> = <W^T g x> holds for every field g that p
spans; dropping leaves out white noise of relative variance tol, and nothing else.

Gradient descent adds c sum_a <x_a q> g_a to T and c sum_a <g_a p> x_a to Z. Directions that enter
later have seen nothing of it, but for <rest Z> p, which holds what earlier rests have learned.

Reference: Bolthausen, arXiv 1201.2891; Yang, arXiv 2009.10685; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.compressed.directions import (
    Stack,
    apart,
    combine,
    norms,
    overlaps,
)
from translimit.limits.dmft.compressed.entering import for_first
from translimit.limits.dmft.compressed.state import Images
from translimit.limits.dmft.histories import matmul, put_columns


class Side(NamedTuple):
    """What is known of a matrix from one side.

    Attributes:
        directions: orthonormal in the metric of the side.
        images: of these, initial and learned.
        rank: how many there are.
        scale: of the metric: <x y> is scale times the sum over the width.
    """

    directions: Stack
    images: Stack
    rank: Int[Array, ""]
    scale: float


class Kept(NamedTuple):
    """What new directions of a kind are added to.

    Attributes:
        images: of the kind.
        basis: of the population.
        rank: of the basis, or of the sources of linear sites.
        initial: images without what they have learned, where they are kept.
    """

    images: Images
    basis: Stack
    rank: Int[Array, ""]
    initial: Stack


class New(NamedTuple):
    """Directions that enter.

    Attributes:
        directions: in the first `entered` rows.
        images: of these.
        white: the innovations in the images.
        regression: of the images on the directions of the other side.
        entered: how many of them there are.
    """

    directions: Float[Array, "rows width"]
    images: Float[Array, "rows image"]
    white: Float[Array, "rows image"]
    regression: Float[Array, "rows back"]
    entered: Int[Array, ""]


#: New directions in the eigenvectors of the rest: their images, given a key, what is kept, the
#: first eigenvectors, which of them are large, and how many.
Innovation = Callable[[Key, Kept, Array, Array, Array], Float[Array, "rows width"]]


class Given(NamedTuple):
    """What new directions are made of."""

    rest: Float[Array, "rows width"]
    basis: Float[Array, "rows rows"]
    lift: Float[Array, "rows rows"]
    raised: Float[Array, "rows rows"]
    met: Float[Array, "rows back"]
    regressed: Float[Array, "rows image"]
    key: Key


class Passed(NamedTuple):
    """A field sent through a matrix.

    Attributes:
        y: its image.
        kept: with the directions that enter.
        coefficients: of the field on directions, new ones included.
        entered: how many directions are new.
        gram: <x x>.
        dropped: variance of what is left out, relative to that of the field.
    """

    y: Float[Array, "rows image"]
    kept: Kept
    coefficients: Float[Array, "rows places"]
    entered: Int[Array, ""]
    gram: Float[Array, "rows rows"]
    dropped: Float[Array, ""]


def through(
    x: Float[Array, "rows width"],
    own: Side,
    other: Side,
    *,
    tol: Float[Array, ""],
    keep: Float[Array, ""],
    key: Key,
    innovation: Innovation,
    kept: Kept,
    sizes: tuple[int, ...],
    store: Callable[[Kept, New], Kept],
    initial: Stack | None = None,
) -> Passed:
    """Send fields through a matrix.

    Args:
        x: the fields.
        own: what is known from their side.
        other: what is known from the side where they go.
        tol: variance of a direction, relative to the mean of the fields, below which it is
            left out.
        keep: 1, or 0 without the regression.
        key: of the innovation.
        innovation: images of the new directions beside the regression.
        kept: what new directions are added to.
        sizes: numbers of rows that work on new directions is compiled for.
        store: that with new directions.
        initial: images from the other side without what they have learned, which is kept where
            the regression is not; needed only where what was learned is not in the span of the
            directions.
    """
    m = len(x)
    rest, coefficients = apart(x, own.directions, own.rank, own.scale)
    gram = norms(x, own.scale)
    values, basis = jnp.linalg.eigh(norms(rest, own.scale))
    values, basis = values[::-1], basis[:, ::-1]
    variance = jnp.trace(gram)
    large = values > jnp.maximum(tol * variance / m, jnp.finfo(jnp.float64).tiny)
    count = jnp.sum(large)
    roots = jnp.sqrt(jnp.where(large, values, 1.0))
    lift = basis * jnp.where(large, 1 / roots, 0.0)
    raised = basis * jnp.where(large, roots, 0.0)
    met = own.scale * overlaps(rest, other.images, other.rank)
    if initial is None:
        met = keep * met
    else:
        met = met - (1 - keep) * own.scale * overlaps(rest, initial, other.rank)
    regressed = combine(met, other.directions, other.rank)
    y = combine(coefficients, own.images, own.rank, regressed)

    def entering(first: int, given: Given, there: tuple[Array, Kept]) -> tuple[Array, Kept]:
        y, kept = there
        up, known = given.lift[:, :first].T, own._replace(directions=kept.images.directions)
        new = _cleaned(matmul(up.astype(x.dtype), given.rest), known)
        white = innovation(given.key, kept, given.basis[:, :first], large[:first], count)
        white = white.astype(y.dtype)
        images = matmul(up.astype(y.dtype), given.regressed) + white
        y = y + matmul(given.raised[:, :first].astype(y.dtype), white)
        return y, store(kept, New(new, images, white, up @ given.met, count))

    given = Given(rest, basis, lift, raised, met, regressed, key)
    y, kept = for_first(count, sizes, entering, given, (y, kept))
    return Passed(
        y=y,
        kept=kept,
        coefficients=put_columns(coefficients, raised, own.rank),
        entered=count,
        gram=gram,
        dropped=jnp.sum(jnp.where(large, 0.0, values)) / jnp.maximum(variance, 1e-300),
    )


def _cleaned(new: Float[Array, "rows width"], own: Side) -> Float[Array, "rows width"]:
    """New directions once more away from the known ones, and among themselves.

    What is new is small beside what is old: without this the rounding of each generation would
    be amplified by the next.
    """
    new, _ = apart(new, own.directions, own.rank, own.scale)
    gram = norms(new, own.scale).astype(new.dtype)
    return 1.5 * new - 0.5 * matmul(gram, new)
