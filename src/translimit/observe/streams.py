r"""Clouds of raw tokens: overlaps, shares, ranks, branches beside the stream.

Of n tokens x_i, whose norms may differ, with unit tokens u_i and R_ij = <u_i, u_j>:

    overlap         mean over pairs i != j of R_ij
    mean_share      |mean_i x_i|^2 / mean_i |x_i|^2
    participation   n^2 / sum_ij R_ij^2
    effective_rank  e^entropy of the eigenvalues of R / n
    ratio           (sum |a_i|^2 / sum |x_i|^2)^(1/2) of a branch a beside the stream x

A cosine with a zero token, a rank of one, a ratio over nothing are not defined: NaN.

The functions take arrays of NumPy and of JAX, traced ones included, and return their kind.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float

from translimit.core import AnyArray
from translimit.observe.namespaces import as_array, namespace
from translimit.observe.overlaps import mean_overlap_of


def cosines(
    tokens: Float[AnyArray, "*batch tokens dim"],
) -> Float[AnyArray, "*batch tokens tokens"]:
    """R, the cosines of all pairs; NaN with a token that is zero.

    Args:
        tokens: of any norms.
    """
    xp = namespace(tokens)
    norms = xp.sqrt((tokens**2).sum(axis=-1, keepdims=True))
    unit = tokens / xp.where(norms > 0, norms, xp.nan)
    return unit @ xp.swapaxes(unit, -1, -2)


def token_overlap(tokens: Float[AnyArray, "*batch tokens dim"]) -> Float[AnyArray, "*batch"]:
    """The overlap of raw tokens: the mean cosine of two different ones.

    Args:
        tokens: of any norms.
    """
    return mean_overlap_of(cosines(tokens))


def mean_share(tokens: Float[AnyArray, "*batch tokens dim"]) -> Float[AnyArray, "*batch"]:
    """|mean_i x_i|^2 / mean_i |x_i|^2 of raw tokens: 1 where all are equal.

    Args:
        tokens: of any norms.
    """
    common = (tokens.mean(axis=-2) ** 2).sum(axis=-1)
    return as_array(_over(common, (tokens**2).sum(axis=-1).mean(axis=-1)))


def participation(overlaps: Float[AnyArray, "*batch tokens tokens"]) -> Float[AnyArray, "*batch"]:
    """n^2 / sum_ij R_ij^2: 1 where all tokens are parallel, n where they are orthogonal.

    Args:
        overlaps: R, of `cosines`.
    """
    return as_array(overlaps.shape[-1] ** 2 / (overlaps**2).sum(axis=(-2, -1)))


def effective_rank_of(
    overlaps: Float[AnyArray, "*batch tokens tokens"],
) -> Float[AnyArray, "*batch"]:
    """`effective_rank` from all cosines R of the tokens: e^entropy of the eigenvalues of R / n.

    Args:
        overlaps: R, of `cosines`.
    """
    xp = namespace(overlaps)
    whole = xp.isfinite(overlaps).all(axis=(-2, -1))
    safe = xp.where(whole[..., None, None], overlaps, xp.eye(overlaps.shape[-1]))
    share = xp.maximum(xp.linalg.eigvalsh(safe), 0.0) / overlaps.shape[-1]
    logs = xp.log(xp.where(share > 0, share, 1.0))
    return as_array(xp.where(whole, xp.exp(-(share * logs).sum(axis=-1)), xp.nan))


def largest_share(tokens: Float[AnyArray, "*batch tokens dim"]) -> Float[AnyArray, "*batch"]:
    """The share of the largest token in sum_i |x_i|^2.

    Args:
        tokens: of any norms.
    """
    squares = (tokens**2).sum(axis=-1)
    return as_array(_over(squares.max(axis=-1), squares.sum(axis=-1)))


def branch_ratio(
    branch: Float[AnyArray, "*batch tokens dim"], stream: Float[AnyArray, "*batch tokens dim"]
) -> Float[AnyArray, "*batch"]:
    """(sum |a_i|^2 / sum |x_i|^2)^(1/2).

    Args:
        branch: a, what is added.
        stream: x, what it is added to.
    """
    squares = ((one**2).sum(axis=(-2, -1)) for one in (branch, stream))
    return as_array(_over(*squares) ** 0.5)


def varying_ratio(
    branch: Float[AnyArray, "*batch tokens dim"], stream: Float[AnyArray, "*batch tokens dim"]
) -> Float[AnyArray, "*batch"]:
    """`branch_ratio` of what varies from token to token: a - mean a beside x - mean x.

    Args:
        branch: a, what is added.
        stream: x, what it is added to.
    """
    centred = [one - one.mean(axis=-2, keepdims=True) for one in (branch, stream)]
    xp = namespace(stream)
    varies = (centred[1] ** 2).sum(axis=(-2, -1)) > 1e-24 * (stream**2).sum(axis=(-2, -1))
    return as_array(xp.where(varies, branch_ratio(*centred), xp.nan))


def median_ratio(
    branch: Float[AnyArray, "*batch tokens dim"], stream: Float[AnyArray, "*batch tokens dim"]
) -> Float[AnyArray, "*batch"]:
    """The median over tokens of |a_i| / |x_i|, which one huge token does not move.

    Args:
        branch: a, what is added.
        stream: x, what it is added to.
    """
    each = _over((branch**2).sum(axis=-1), (stream**2).sum(axis=-1)) ** 0.5
    return as_array(namespace(each).median(each, axis=-1))


def outliers(
    tokens: Float[AnyArray, "tokens dim"], times: float = 10.0
) -> tuple[list[int], list[int]]:
    """Tokens above so many medians of the squared norm, and entries above so many rms entries.

    Eight of 256 tokens with five times the norm hold 0.45 of the sum of squares, the largest 0.06:
    their squares are 25 medians, where a threshold on the largest share sees nothing.

    Args:
        tokens: the stream of one sequence.
        times: the threshold of both.

    Returns:
        Numbers of the tokens, and of the coordinates in which any token exceeds it.
    """
    xp = namespace(tokens)
    squares = (tokens**2).sum(axis=-1)
    large = squares > times * xp.median(squares)
    entries = (abs(tokens) > times * xp.sqrt((tokens**2).mean())).any(axis=-2)
    return [int(i) for i in xp.where(large)[0]], [int(i) for i in xp.where(entries)[0]]


def overlap_between(
    vectors: Float[AnyArray, "*batch inputs dim"],
) -> Float[AnyArray, "*batch"]:
    """The mean cosine between different inputs of one vector of each, as its mean token.

    Near 1, all inputs give one vector.

    Args:
        vectors: one a input.
    """
    return token_overlap(vectors)


def _over(top: Any, bottom: Any) -> Any:
    """A ratio; NaN over nothing."""
    bottom = as_array(bottom)
    xp = namespace(bottom)
    return top / xp.where(bottom > 0, bottom, xp.nan)
