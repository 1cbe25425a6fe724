r"""Gaussian closures of attention with a checkpoint's own weights, token by token.

Attention of a query reads its keys' law. With scores s_j and values v_j of the keys that it sees,
their means s-, v-, sigma^2 the variance of the scores and shift = mean_j (s_j - s-)(v_j - v-),

    uniform      v-                                     no scores
    gaussian     v- + shift                             Gaussian keys, infinitely many
    finite       v- + (1 - I_m(sigma)) shift            Gaussian keys, m of them (Stein's lemma)
    atoms        some tokens as they are, the m others as `finite`: weights softmax over
                 [s_t of the atoms, s- + Phi_m(sigma)]

with I_m = E sum_j p_j^2 of m independent scores and Phi_m = log m + int_0^sigma s (1 - I_m(s)) ds
their mean log partition. `gaussian` holds while sigma^2 is far below 2 log m, beyond it overshoots
without bound. Under a mask a query's keys are those that it sees: one step of a closure, since mean
and covariance of a prefix do not close.

The branch that a closure predicts, heads summed after W_O, is held against the true one:

    R^2 = 1 - sum_i |e_i - e-|^2 / sum_i |a_i - a-|^2,     e = prediction - a,
    share = 1 - |C_pred - C|^2 / |C_in - C|^2     of the covariances of x + prediction, x + a, x.

Uniform attention has exactly 0 in both without a mask. Positions that turn keys are inside them.

Reference: Castin et al., arXiv 2501.18322 (Gaussian closures), derived here for finitely many keys;
documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import Layer
from translimit.diagnose.passing import doubled, in_layer, normalised, values_of, visible
from translimit.limits.signal import concentration

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

CLOSURES = ("uniform", "gaussian", "finite", "atoms")
#: Deviations at which I_m is tabulated; beyond the last, 1 - I_m falls like one over them.
KNOTS = np.concatenate([[0.0], np.geomspace(0.05, 25.0, 40)])


@dataclass(frozen=True)
class ClosureFit:
    """How far a closure explains the branch of attention of one sequence.

    Attributes:
        r2: of the branch, token by token; 1 at best, negative where the closure does harm.
        share: of the change of the covariance of the stream; NaN where it does not change.
    """

    r2: float
    share: float


def fit_closures(
    layer: Layer, tokens: Float[np.ndarray, "n D"], *, atoms: Sequence[int] | None = None
) -> dict[str, ClosureFit]:
    """All closures of one layer on one sequence, by name.

    Args:
        layer: with its weights.
        tokens: x, the stream before it.
        atoms: tokens that are kept as they are, negative ones from the end; by default token 0
            under a mask, the first and the last otherwise.

    Raises:
        NoSuchLimitError: capped scores, norms of queries and keys, a norm after the branch: no
            closure covers them.
        ArgumentError: atoms that leave fewer than two tokens, or are not there.
    """
    scores, values, x = _read(layer, tokens)
    kept = _kept(layer, atoms, len(x))
    seen = visible(layer.attention, layer.causal, len(x))
    branch = layer.blocks[0].branch * _written(
        layer, np.asarray(in_layer(layer, x).attention) @ values
    )
    found, many = {}, seen.sum(axis=1) > 1
    for name, mixed in _closed(scores, values, seen, kept).items():
        e = layer.blocks[0].branch * _written(layer, mixed)
        found[name] = ClosureFit(_r2(branch[many], e[many]), _share(layer, x, branch, e, many))
    return found


def closure_figures(
    checkpoint: Checkpoint,
    entries: Sequence[np.ndarray],
    *,
    atoms: Sequence[int] | None = None,
) -> dict[str, Float[np.ndarray, "sequences layers"]]:
    """R^2 of every closure in every layer, one step each: tokens are those of the true stream.

    Args:
        checkpoint: the network.
        entries: tokens that enter, of every sequence.
        atoms: tokens that are kept as they are; by default `Checkpoint.specials`.

    Raises:
        NoSuchLimitError: see `fit_closures`.
    """
    found = {name: np.empty((len(entries), len(checkpoint.layers))) for name in CLOSURES}
    atoms = checkpoint.specials if atoms is None else atoms
    streams = [np.asarray(one, np.float64) for one in entries]
    for place, layer in enumerate(map(doubled, checkpoint.layers)):
        for number, x in enumerate(streams):
            for name, fit in fit_closures(layer, x, atoms=atoms).items():
                found[name][number, place] = fit.r2
            streams[number] = np.asarray(in_layer(layer, x).exit)
    return found


def gaussian_concentration(layer: Layer, tokens: Float[np.ndarray, "n D"]) -> float:
    """`ipr` of independent Gaussian scores with the variances that these tokens have.

    Args:
        layer: with its weights.
        tokens: the stream before it.

    Raises:
        NoSuchLimitError: see `fit_closures`.
    """
    scores, _, x = _read(layer, tokens)
    seen = visible(layer.attention, layer.causal, len(x))
    _, deviations, counts = _moments(scores, seen)
    each = [concentrations(int(m), deviations[:, i]) for i, m in enumerate(counts)]
    return float(np.mean(each))


def require_covered(layer: Layer) -> None:
    """Refuse what no closure covers.

    Args:
        layer: whose attention it is.

    Raises:
        NoSuchLimitError: capped scores, norms of queries and keys, a norm after the branch.
    """
    refused = {
        "capped scores": layer.attention.scores.softcap is not None,
        "norms of queries and keys": layer.attention.qk_norm is not None,
        "a norm after the branch": layer.blocks[0].norm_out is not None,
    }
    for what, there in refused.items():
        if there:
            raise NoSuchLimitError("layer", f"not covered: {what}", "take the observables alone")


def concentrations(
    keys: int, deviations: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """I_m at several deviations of the scores, from a table.

    Args:
        keys: m, how many a query sees.
        deviations: sigma.
    """
    if keys == 1:
        return np.ones_like(deviations)
    last, ratio = KNOTS[-1], KNOTS[-1] / np.maximum(deviations, KNOTS[-1])
    inside = _table(keys)(np.minimum(deviations, last))
    return 1 - (1 - inside) * ratio


def log_partitions(
    keys: int, deviations: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Phi_m at several deviations of the scores.

    Args:
        keys: m, how many a query sees.
        deviations: sigma.
    """
    if keys == 1:
        return np.zeros_like(deviations)
    last = KNOTS[-1]
    inside = _partition(keys)(np.minimum(deviations, last))
    beyond = (1 - float(_table(keys)(last))) * last * np.maximum(deviations - last, 0.0)
    return math.log(keys) + inside + beyond


@functools.lru_cache(maxsize=512)
def _table(m: int) -> PchipInterpolator:
    """I_m, monotone between the knots; of many keys between tables of half octaves in log m."""
    from scipy.interpolate import PchipInterpolator  # scipy is loaded when it is needed

    if m in _halves(m) or m <= 12:
        return PchipInterpolator(KNOTS, [concentration(m, float(one)) for one in KNOTS])
    low, high = _halves(m)
    share = math.log(m / low) / math.log(high / low)
    # n I_n varies slowly with log n at a small deviation, 1 - I_n at a large one.
    one, other = (np.log(_table(size)(KNOTS)) for size in (low, high))
    return PchipInterpolator(KNOTS, np.exp((1 - share) * one + share * other))


@functools.lru_cache(maxsize=512)
def _partition(m: int) -> PchipInterpolator:
    """int_0^sigma s (1 - I_m(s)) ds."""
    from scipy.interpolate import PchipInterpolator

    fine = np.concatenate([np.linspace(0, 1, 60), np.geomspace(1, KNOTS[-1], 240)[1:]])
    return PchipInterpolator(fine, fine * (1 - _table(m)(fine))).antiderivative()


def _halves(m: int) -> tuple[int, int]:
    """Numbers of a half-octave grid around m: 2^k and 3 2^(k - 1)."""
    grid = sorted({2**k for k in range(1, 24)} | {3 * 2**k for k in range(23)})
    place = int(np.searchsorted(grid, m))
    return (m, m) if grid[place] == m else (grid[place - 1], grid[place])


def _read(
    layer: Layer, tokens: Float[np.ndarray, "n D"]
) -> tuple[Float[np.ndarray, "H n n"], Float[np.ndarray, "H n d"], Float[np.ndarray, "n D"]]:
    """Scores, values and tokens of a layer that the closures cover."""
    require_covered(layer)
    of, first = layer.attention, layer.blocks[0]
    x = np.asarray(tokens, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ArgumentError("tokens", f"have shape {x.shape}", "pass [n, D] with n of 2 at least")
    own = doubled(layer).parameters
    read = np.asarray(normalised(first.norm_in, own, "attention_in", x))
    return np.asarray(in_layer(layer, x).scores), np.asarray(values_of(of, own, read)), x


def _closed(
    scores: Float[np.ndarray, "H n n"],
    values: Float[np.ndarray, "H n d"],
    seen: Bool[np.ndarray, "n n"],
    kept: Bool[np.ndarray, " n"],
) -> Mapping[str, Float[np.ndarray, "H n d"]]:
    """What every closure mixes for every query, before W_O."""
    mean, shift, damping = _tilted(scores, values, seen)[:3]
    found = {"uniform": mean, "gaussian": mean + shift, "finite": mean + damping * shift}
    rest = seen & ~kept[None, :]
    some = np.asarray(rest.any(axis=1))
    mean, shift, damping, level = _tilted(scores, values, np.where(some[:, None], rest, seen))
    atoms = np.where(seen & kept[None, :], scores, -np.inf)
    level = np.where(some[:, None], level, -np.inf)
    top = np.maximum(atoms.max(axis=2, keepdims=True), level)
    weights, others = np.exp(atoms - top), np.exp(level - top)
    mixed = weights @ values + others * (mean + damping * shift)
    found["atoms"] = mixed / (weights.sum(axis=2, keepdims=True) + others)
    return found


def _tilted(
    scores: Float[np.ndarray, "H n n"],
    values: Float[np.ndarray, "H n d"],
    seen: Bool[np.ndarray, "n n"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """v-, shift, 1 - I_m and s- + Phi_m of every head and query."""
    centred, deviations, counts = _moments(scores, seen)
    mean = np.where(seen, 1.0 / counts[:, None], 0.0) @ values
    # The centred scores of a query sum to zero over its keys, so that v- drops out.
    shift = (centred / counts[:, None]) @ values
    damping, partition = np.empty_like(deviations), np.empty_like(deviations)
    for m in np.unique(counts).tolist():
        rows = counts == m
        damping[:, rows] = 1 - concentrations(m, deviations[:, rows])
        partition[:, rows] = log_partitions(m, deviations[:, rows])
    level = np.where(seen, scores, 0.0).sum(axis=2) / counts + partition
    return mean, shift, damping[..., None], level[..., None]


def _moments(
    scores: Float[np.ndarray, "H n n"], seen: Bool[np.ndarray, "n n"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores less their mean over the keys of a query, their deviations, and how many keys."""
    counts = seen.sum(axis=1)
    mean = np.where(seen, scores, 0.0).sum(axis=2, keepdims=True) / counts[:, None]
    centred = np.where(seen, scores - mean, 0.0)
    return centred, np.sqrt((centred**2).sum(axis=2) / counts), counts


def _written(layer: Layer, mixed: Float[np.ndarray, "H n d"]) -> Float[np.ndarray, "n D"]:
    """The heads after W_O, summed."""
    flat = np.asarray(mixed).swapaxes(0, 1).reshape(mixed.shape[1], -1)
    return flat @ np.asarray(layer.parameters["W_O"], np.float64)


def _r2(branch: Float[np.ndarray, "n D"], found: Float[np.ndarray, "n D"]) -> float:
    e = found - branch
    left, whole = (((one - one.mean(axis=0)) ** 2).sum() for one in (e, branch))
    return float(1 - left / whole) if whole > 0 else math.nan


def _share(
    layer: Layer, x: np.ndarray, branch: np.ndarray, found: np.ndarray, many: np.ndarray
) -> float:
    before = layer.blocks[0].residual * x[many]
    start, true, closed = (
        np.cov(one.T, bias=True) for one in (before, before + branch[many], before + found[many])
    )
    change = ((start - true) ** 2).sum()
    return float(1 - ((closed - true) ** 2).sum() / change) if change > 0 else math.nan


def _kept(layer: Layer, atoms: Sequence[int] | None, n: int) -> Bool[np.ndarray, " n"]:
    """Which tokens are atoms."""
    kept = np.zeros(n, bool)
    default = (0,) if layer.causal else (0, -1)
    for one in default if atoms is None else atoms:
        if not -n <= one < n:
            raise ArgumentError("atoms", f"has {one}, of {n} tokens", "name tokens that are there")
        kept[one] = True
    if n - kept.sum() < 2 and atoms is not None:
        raise ArgumentError("atoms", f"leave {n - kept.sum()} tokens", "leave two at least")
    return kept if n - kept.sum() > 1 else np.zeros(n, bool)
