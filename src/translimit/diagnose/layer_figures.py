r"""All observables of one sequence in one layer.

Every definition is that of `observe`; here they are put together, once for NumPy and for JAX.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from jaxtyping import Bool, Float

from translimit import observe
from translimit.core import AnyArray
from translimit.diagnose.passing import Passed

#: Figures of the stream after a layer, and of the tokens that enter.
STREAM = (
    *("overlap", "mean_share", "effective_rank", "participation", "mean_square"),
    *("mean_square_median", "largest_share"),
)
#: Figures of what happens in a layer.
INSIDE = (
    *("overlap_mid", "ratio_a", "ratio_f", "ratio_a_median", "ratio_f_median", "ratio_var"),
    *("act_median", "entropy", "tv", "score_spread", "ipr", "one_hot", "sink", "first"),
    *("head_var", "head_cos", "head_pair", "head_eff", "head_map"),
    *("overlap_drift", "overlap_coherent", "overlap_independent", "z_flip"),
)
#: All of them: the last axis of `Measured.values` is the place after 0, 1, ..., L layers.
NAMES = (*STREAM, *INSIDE)
#: Keys and pairs of heads that a layer names.
PLACES = ("sink_keys", "pairs", "same_maps")


def stream_figures(x: Float[AnyArray, "n D"]) -> dict[str, AnyArray]:
    """The figures of `STREAM`.

    Args:
        x: the tokens of one sequence.
    """
    xp = x.__array_namespace__()
    overlaps = observe.cosines(x)
    return {
        "overlap": observe.mean_overlap_of(overlaps),
        "mean_share": observe.mean_share(x),
        "effective_rank": observe.effective_rank_of(overlaps),
        "participation": observe.participation(overlaps),
        "mean_square": (x**2).mean(),
        "mean_square_median": xp.median((x**2).mean(axis=1)),
        "largest_share": observe.largest_share(x),
    }


def layer_figures(
    seen: Bool[AnyArray, "n n"],
    kept: Bool[AnyArray, " n"],
    x: Float[AnyArray, "n D"],
    passed: Passed,
) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """The figures of `INSIDE` and those of the stream after the layer, and what they name.

    Args:
        seen: which keys each query sees.
        kept: keys that count where maps are compared.
        x: the stream before the layer.
        passed: what it left in the layer.

    Returns:
        The figures; the keys and pairs of heads of `PLACES`.
    """
    xp = x.__array_namespace__()
    p, z, nan = passed.attention, passed.heads, xp.asarray(xp.nan)
    heads = len(p)
    alike, largest = observe.head_alikeness(z)
    update = observe.overlap_update(x, z)
    below = x if passed.middle is None else passed.middle
    apart = observe.map_distances(p, seen, kept) if heads > 1 else xp.full((1, 1), xp.nan)
    known = xp.where(xp.isnan(apart), xp.inf, apart)
    least, f = xp.min(known), passed.mlp
    found = {
        "overlap_mid": nan if passed.middle is None else observe.token_overlap(passed.middle),
        "ratio_a": observe.branch_ratio(passed.branch, x),
        "ratio_f": nan if f is None else observe.branch_ratio(f, below),
        "ratio_a_median": observe.median_ratio(passed.branch, x),
        "ratio_f_median": nan if f is None else observe.median_ratio(f, below),
        "ratio_var": observe.varying_ratio(passed.branch, x),
        "act_median": observe.median_ratio(passed.free, x),
        "entropy": observe.relative_entropy_of_maps(p, seen),
        "tv": observe.uniform_distance(p, seen),
        "score_spread": observe.score_spread(passed.scores, seen),
        "ipr": observe.inverse_participation(p),
        "one_hot": observe.one_hot_share(p, seen),
        "sink": observe.sink(p),
        "first": observe.first_key(p),
        "head_var": observe.head_variance(p, seen),
        "head_cos": alike,
        "head_pair": largest,
        "head_eff": observe.effective_heads(z),
        "head_map": xp.where(xp.isfinite(least), least, xp.nan),
        "overlap_drift": update.overlap_drift,
        "overlap_coherent": update.coherent,
        "overlap_independent": update.independent,
        "z_flip": update.z_flip,
        **stream_figures(passed.exit),
    }
    cosines = abs(observe.head_cosines(z)) * (1 - xp.eye(heads))
    places = {
        "sink_keys": observe.sink_keys(p),
        "pairs": _pair(xp.where(xp.isnan(cosines), 0.0, cosines)),
        "same_maps": _pair(-known),
    }
    return found, places


def _pair(matrix: Float[AnyArray, "heads heads"]) -> AnyArray:
    """Row and column of the largest entry."""
    xp, place = matrix.__array_namespace__(), matrix.argmax()
    return xp.stack([place // len(matrix), place % len(matrix)])
