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

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from translimit.limits.dmft.compressed.directions import (
    Stack,
    chunks_of,
    combine,
    norms,
    overlaps,
)
from translimit.limits.dmft.histories import Index, matmul, put_columns

#: New directions in the eigenvectors of the rest: their images, given basis, kept and their count.
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
    chunks, back = chunks_of(own.rank), chunks_of(other.rank)
    coefficients = own.scale * overlaps(x, own.directions, layer, chunks)
    rest = x - combine(coefficients, own.directions, layer, chunks)
    gram = norms(x, own.scale)
    values, basis = jnp.linalg.eigh(norms(rest, own.scale))
    values, basis = values[::-1], basis[:, ::-1]
    variance = jnp.trace(gram)
    kept = values > jnp.maximum(tol * variance / len(x), jnp.finfo(jnp.float64).tiny)
    count = jnp.sum(kept)
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    lift = basis * jnp.where(kept, 1 / roots, 0.0)
    new, white = jax.lax.cond(
        count > 0,
        lambda: (
            _cleaned((lift.T.astype(rest.dtype) @ rest), own, layer, chunks),
            innovation(basis, kept, count),
        ),
        lambda: (jnp.zeros_like(rest), jnp.zeros((len(x), own.images.shape[2]), own.images.dtype)),
    )
    met = own.scale * overlaps(rest, other.images, layer, back)
    if initial is None:
        met = keep * met
    else:
        met = met - (1 - keep) * own.scale * overlaps(rest, initial, layer, back)
    regressed = combine(met, other.directions, layer, back)
    y = combine(coefficients, own.images, layer, chunks) + regressed
    y = y + matmul((basis * jnp.where(kept, roots, 0.0)).astype(y.dtype), white.astype(y.dtype))
    images = matmul(lift.T.astype(y.dtype), regressed) + white.astype(y.dtype)
    return Passed(
        y=y,
        coefficients=put_columns(coefficients, basis * jnp.where(kept, roots, 0.0), own.rank),
        new=new,
        images=images,
        white=white,
        entered=count,
        regression=lift.T @ met,
        gram=gram,
        dropped=jnp.sum(jnp.where(kept, 0.0, values)) / jnp.maximum(variance, 1e-300),
    )


def rotated(
    white: Float[Array, "rows width"], basis: Float[Array, "rows rows"], kept: Bool[Array, " rows"]
) -> Float[Array, "rows width"]:
    """White fields in the eigenvectors of a rest: with them its root is the symmetric one."""
    turned = (basis * kept).T.astype(white.dtype)
    return matmul(turned, white)


def _cleaned(
    new: Float[Array, "rows width"], own: Side, layer: Index, chunks: Index
) -> Float[Array, "rows width"]:
    """New directions once more away from the known ones, and among themselves.

    What is new is small beside what is old: without this the rounding of each generation would
    be amplified by the next.
    """
    again = own.scale * overlaps(new, own.directions, layer, chunks)
    new = new - combine(again, own.directions, layer, chunks)
    gram = norms(new, own.scale).astype(new.dtype)
    return 1.5 * new - 0.5 * matmul(gram, new)
