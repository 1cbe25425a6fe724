r"""Outputs of the heads of a layer, z [H, n, D] after W_O: how alike, and what they do.

With the token mean taken from each z_h, e_h = |z_h|^2 and G_hh' = <z_h, z_h'>:

    head_cos    mean over pairs of |G_hh'| / (e_h e_h')^(1/2)
    head_pair   the largest of them
    head_eff    (sum_h e_h)^2 / sum_hh' G_hh'^2, an effective number of heads

A head without output is left out. The mean over pairs i != j of <x_i, x_j> changes in a layer by

    sum_h t_h                overlap_drift    t_h = <x_i, z_jh> + <z_ih, x_j>
    sum_{h != h'} c_hh'      coherent         c_hh' = <z_ih, z_jh'>
    sum_h c_hh               independent

all divided by mean |x|^2. If the joint law of the heads does not change with the sign of one of
them, then given the sizes of the terms T = sum t_h + sum_{h != h'} c_hh' has mean 0 and variance
sum t_h^2 + 2 sum_{h != h'} c_hh'^2: `z_flip` is T over its root.

The functions take arrays of NumPy and of JAX, traced ones included, and return their kind.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978 (independent random heads);
documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float

from translimit.core import AnyArray
from translimit.observe.namespaces import as_array, namespace

Heads = Float[AnyArray, "heads tokens dim"]


class OverlapUpdate(NamedTuple):
    """What heads add to the mean product of two tokens, over the mean square of one.

    Attributes:
        overlap_drift: linear in the heads.
        coherent: products of different heads.
        independent: of each head with itself.
        z_flip: of the sign-flip test; NaN where all terms are zero.
    """

    overlap_drift: AnyArray
    coherent: AnyArray
    independent: AnyArray
    z_flip: AnyArray


def head_cosines(outputs: Heads) -> Float[AnyArray, "heads heads"]:
    """Cosines of the outputs of all pairs of heads; NaN with a head that is zero.

    Args:
        outputs: z.
    """
    xp, gram = namespace(outputs), _gram(outputs)
    size = xp.diagonal(gram) ** 0.5
    size = xp.where(size > 0, size, xp.nan)
    return gram / (size[:, None] * size[None, :])


def head_alikeness(outputs: Heads) -> tuple[Float[AnyArray, ""], Float[AnyArray, ""]]:
    """`head_cos` and `head_pair`: mean and largest |cosine| over pairs; NaN without a pair.

    Args:
        outputs: z.
    """
    xp, heads = namespace(outputs), len(outputs)
    sizes = abs(head_cosines(outputs))
    pairs = xp.isfinite(sizes) & ~xp.eye(heads, dtype=bool)
    count = pairs.sum()
    mean = xp.where(pairs, sizes, 0.0).sum() / xp.where(count > 0, count, 1)
    largest = xp.where(pairs, sizes, 0.0).max()
    found = [xp.where(count > 0, one, xp.nan) for one in (mean, largest)]
    return as_array(found[0]), as_array(found[1])


def effective_heads(outputs: Heads) -> Float[AnyArray, ""]:
    """`head_eff`: the effective number of heads; NaN where all are zero.

    Args:
        outputs: z.
    """
    xp, gram = namespace(outputs), _gram(outputs)
    below = (gram**2).sum()
    return as_array(xp.diagonal(gram).sum() ** 2 / xp.where(below > 0, below, xp.nan))


def overlap_update(stream: Float[AnyArray, "tokens dim"], outputs: Heads) -> OverlapUpdate:
    """Drift, coherent and independent part of the change of the overlap, and the sign-flip test.

    Args:
        stream: x, to which the heads are added.
        outputs: z.
    """
    xp, (heads, n, _) = namespace(outputs), outputs.shape
    unit = n * (n - 1) * (stream**2).sum(axis=-1).mean()
    flat = outputs.reshape(heads, -1)
    sums, own = outputs.sum(axis=1), flat @ flat.T
    with_stream = sums @ stream.sum(axis=0) - flat @ stream.reshape(-1)
    t = 2 * with_stream / unit
    c = (sums @ sums.T - own) / unit
    apart = c * (1 - xp.eye(heads))
    variance = (t**2).sum() + 2 * (apart**2).sum()
    total = t.sum() + apart.sum()
    z = total / xp.where(variance > 0, variance, xp.nan) ** 0.5
    return OverlapUpdate(*map(as_array, (t.sum(), apart.sum(), xp.trace(c), z)))


def _gram(outputs: Heads) -> Float[AnyArray, "heads heads"]:
    centred = (outputs - outputs.mean(axis=1, keepdims=True)).reshape(len(outputs), -1)
    return centred @ centred.T
