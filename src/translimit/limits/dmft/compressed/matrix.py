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

from translimit.limits.dmft.compressed.directions import (
    Stack,
    combine,
    norms,
    overlaps,
)
from translimit.limits.dmft.compressed.entering import for_first, with_zeros
from translimit.limits.dmft.histories import Index, matmul, put_columns

#: New directions in the eigenvectors of the rest: their images, given the first eigenvectors, which
#: of them are kept, and how many.
Innovation = Callable[[Array, Array, Array], Float[Array, "rows width"]]


class Side(NamedTuple):
    """What is known of a matrix from one side.

    Attributes:
        directions: orthonormal in the metric of the side.
        images: of these, initial and learned.
        rank: how many there are in the layer.
        scale: of the metric: <x y> is scale times the sum over the width.
    """

    directions: Stack
    images: Stack
    rank: Int[Array, ""]
    scale: float


class Passed(NamedTuple):
    """A field sent through a matrix.

    Attributes:
        y: its image.
        coefficients: of the field on directions, new ones included.
        new: directions that enter, in the first `entered` rows.
        images: of these.
        white: the innovations in the images.
        entered: how many of them there are.
        regression: of their images on the directions of the other side.
        gram: <x x>.
        dropped: variance of what is left out, relative to that of the field.
    """

    y: Float[Array, "rows image"]
    coefficients: Float[Array, "rows places"]
    new: Float[Array, "rows width"]
    images: Float[Array, "rows image"]
    white: Float[Array, "rows image"]
    entered: Int[Array, ""]
    regression: Float[Array, "rows back"]
    gram: Float[Array, "rows rows"]
    dropped: Float[Array, ""]


def through(
    x: Float[Array, "rows width"],
    own: Side,
    other: Side,
    layer: Index,
    *,
    tol: Float[Array, ""],
    keep: Float[Array, ""],
    innovation: Innovation,
    initial: Stack | None = None,
) -> Passed:
    """Send fields through a matrix.

    Args:
        x: the fields.
        own: what is known from their side.
        other: what is known from the side where they go.
        layer: whose.
        tol: variance of a direction, relative to the mean of the fields, below which it is
            left out.
        keep: 1, or 0 without the regression.
        innovation: images of the new directions beside the regression.
        initial: images from the other side without what they have learned, which is kept where
            the regression is not; needed only where what was learned is not in the span of the
            directions.
    """
    m = len(x)
    coefficients = own.scale * overlaps(x, own.directions, layer, own.rank)
    rest = x - combine(coefficients, own.directions, layer, own.rank)
    gram = norms(x, own.scale)
    values, basis = jnp.linalg.eigh(norms(rest, own.scale))
    values, basis = values[::-1], basis[:, ::-1]
    variance = jnp.trace(gram)
    kept = values > jnp.maximum(tol * variance / m, jnp.finfo(jnp.float64).tiny)
    count = jnp.sum(kept)
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    lift = basis * jnp.where(kept, 1 / roots, 0.0)
    raised = basis * jnp.where(kept, roots, 0.0)
    met = own.scale * overlaps(rest, other.images, layer, other.rank)
    if initial is None:
        met = keep * met
    else:
        met = met - (1 - keep) * own.scale * overlaps(rest, initial, layer, other.rank)
    regressed = combine(met, other.directions, layer, other.rank)

    def entering(first: int) -> tuple[Array, Array, Array, Array]:
        up = lift[:, :first].T
        new = _cleaned(matmul(up.astype(rest.dtype), rest), own, layer)
        white = innovation(basis[:, :first], kept[:first], count).astype(regressed.dtype)
        images = matmul(up.astype(white.dtype), regressed) + white
        more = matmul(raised[:, :first].astype(white.dtype), white)
        return with_zeros(new, m), with_zeros(images, m), with_zeros(white, m), more

    new, images, white, more = for_first(count, m, entering)
    y = combine(coefficients, own.images, layer, own.rank) + regressed + more
    return Passed(
        y=y,
        coefficients=put_columns(coefficients, raised, own.rank),
        new=new,
        images=images,
        white=white,
        entered=count,
        regression=lift.T @ met,
        gram=gram,
        dropped=jnp.sum(jnp.where(kept, 0.0, values)) / jnp.maximum(variance, 1e-300),
    )


def _cleaned(
    new: Float[Array, "rows width"], own: Side, layer: Index
) -> Float[Array, "rows width"]:
    """New directions once more away from the known ones, and among themselves.

    What is new is small beside what is old: without this the rounding of each generation would
    be amplified by the next.
    """
    again = own.scale * overlaps(new, own.directions, layer, own.rank)
    new = new - combine(again, own.directions, layer, own.rank)
    gram = norms(new, own.scale).astype(new.dtype)
    return 1.5 * new - 0.5 * matmul(gram, new)
