r"""The signal of a stack along depth, with every source of its error.

Values are those of `Recursion`, extrapolated in the number of sampled heads where scores are large:
with m_M from M pairs, 2 m_2M - m_M, and |m_2M - m_M| counts as an error. What a finite width
changes is n / D_eff of what the scores do, since it acts on them: it is measured by a recursion
without scores, or by the mean of simulated networks. The spread over networks comes from one
adjoint pass (`limits.signal.spread`) or from simulated networks.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from translimit.core import (
    Key,
    Progress,
    allowed_threads,
    named_key,
    part_of,
    side_by_side,
    standard_error,
)
from translimit.describe import LatentAttention, Stack, attentions, effective_dim, score_std
from translimit.limits.signal import (
    AT_ONCE,
    Chain,
    Recursion,
    SignalPropagation,
    Tops,
    Watched,
    copies_at_once,
    join_copies,
    spread,
    watch,
)
from translimit.predict.curves import NOT_TOLD, Curve, floats
from translimit.predict.measures import NOTHING_TOLD, Entered, Measure, looking, measure

#: Scores above this deviation are extrapolated in the number of pairs.
LARGE_SCORES = 0.5
#: Above this one softmax weight may decide, and heads differ much.
WIDE_SCORES = 1.2
#: Heads of more tokens than this are computed in single precision.
MANY_TOKENS = 128
#: Pairs of heads of the adjoint pass, for few tokens and for more than that.
SPREAD_PAIRS, FEW_PAIRS = 32, 8
#: What the adjoint pass tells, and how a spread of it becomes one of a curve.
ADJOINT = ("overlap", "mean_square", "effective_rank")


@dataclass(frozen=True)
class Effort:
    """How much is sampled.

    Attributes:
        pairs: antithetic pairs of heads in the first layer.
        copies: independent recursions.
        networks: simulated networks whose mean and spread are told; 0 for the adjoint pass.
    """

    pairs: int = 16
    copies: int = 6
    networks: int = 0

    @classmethod
    def of(cls, stack: Stack, networks: int = 0, tokens: int = 0) -> Effort:
        """More samples where scores are larger, fewer of more than 256 tokens.

        Args:
            stack: whose scores decide.
            networks: simulated networks.
            tokens: how many enter.
        """
        widest = max((score_std(one, stack.dim) for one in attentions(stack)), default=0.0)
        pairs = 4 if widest <= LARGE_SCORES else 16 if widest <= WIDE_SCORES else 48
        if tokens > AT_ONCE:
            # So many queries tell one head's average better, and what is left is extrapolated.
            return cls(pairs=min(pairs, 16), copies=3, networks=networks)
        return cls(pairs=pairs, networks=networks)


@dataclass(frozen=True)
class Signals:
    """What a stack does to tokens and to gradients.

    Attributes:
        curves: by name, see `measure`; gradients are those of the first at the top.
        others: gradients of the others at the top, by its name and then by that of the curve.
        cov: C after the last layer, mean over the copies that were passed first [n, n].
    """

    curves: Mapping[str, Curve]
    others: Mapping[str, Mapping[str, Curve]]
    cov: Float[np.ndarray, "n n"]


#: Independent unit gradients of all tokens at the top.
INDEPENDENT: Tops = MappingProxyType({"independent": lambda cov: np.eye(len(cov))})


def signals(
    stack: Stack,
    cov: Float[np.ndarray, "n n"],
    kinds: Int[np.ndarray, " n"],
    effort: Effort,
    key: Key,
    *,
    entered: Entered = NOTHING_TOLD,
    tops: Tops = INDEPENDENT,
    errors: bool = True,
    adjoint: bool = True,
    like: Mapping[str, Curve] | None = None,
    progress: Progress | None = None,
) -> Signals:
    """The signal of a stack along depth.

    Args:
        stack: the stack.
        cov: C of the tokens that enter [n, n].
        kinds: which of them are equal [n].
        effort: how much is sampled.
        key: of the sampling.
        entered: what tokens were made of, for the gradients of what makes them.
        tops: gradients at the top from C after the last layer; none for no way back.
        errors: whether width and spread are computed besides the sampling.
        adjoint: whether the spread is, where no networks are simulated.
        like: curves of the same stack whose width and spread are taken over.
        progress: called with the share that is done.
    """
    large = any(score_std(one, stack.dim) > LARGE_SCORES for one in attentions(stack))
    extrapolated = large and effort.pairs > 1
    late = 2.0 * (effort.copies > copies_at_once(effort.copies, len(cov)))
    parts = {"limit": 4.0 - late, "rest": late, "half": 2.0 * extrapolated}
    parts |= {"bare": 0.0, "networks": 0.0}
    if errors:
        parts |= {"bare": 0.5, "networks": 4.0 * (adjoint or effort.networks > 0)}
    ends = np.cumsum(list(parts.values())) / sum(parts.values())
    shares = dict(zip(parts, zip((0.0, *ends[:-1]), ends, strict=True), strict=True))
    # Those of the limit, for other solves as well.
    fixed: Tops = {name: _Once(top) for name, top in tops.items()}

    def solved(
        name: str,
        method: Recursion | Chain,
        progress: Progress | None,
        *,
        score_factor: float = 1.0,
        copies: range | None = None,
    ) -> Watched:
        problem = SignalPropagation(
            stack=stack, initial=cov, top_gradient=None, score_factor=score_factor
        )
        return watch(
            problem,
            method,
            key=named_key(key, name),
            look=looking(kinds, apart=len(cov) <= AT_ONCE or isinstance(method, Chain)),
            tops=fixed,
            copies=copies,
            progress=progress,
        )

    def told(first: str, last: str | None = None) -> Progress | None:
        return part_of(progress, float(shares[first][0]), float(shares[last or first][1]))

    single, many = len(cov) > MANY_TOKENS, len(cov) > AT_ONCE
    # Of many tokens one copy tells what is extrapolated (what it spreads counts as bias, on the
    # safe side), and all that is told without scores, where heads are alike.
    whole, one_copy = Recursion(effort.pairs, effort.copies, single), range(1) if many else None
    first = range(copies_at_once(effort.copies, len(cov)))
    limit = solved("limit", whole, told("limit"), copies=first)
    calls: dict[str, Callable[[Progress], Watched]] = {}
    if len(first) < effort.copies:
        rest = range(len(first), effort.copies)
        calls["limit"] = lambda report: solved("limit", whole, report, copies=rest)
    if extrapolated:
        few = replace(whole, pairs=effort.pairs // 2)
        calls["half"] = lambda report: solved("half", few, report, copies=one_copy)
    if errors and not effort.networks:
        alike = Recursion(1, 2, single)
        calls["bare"] = lambda report: solved(
            "bare", alike, report, score_factor=0.0, copies=one_copy
        )
    at_once = min(len(first), allowed_threads(), len(calls)) if many else 1
    others = side_by_side(list(calls.values()), max(at_once, 1), told("rest", "bare"))
    beside = dict(zip(calls, others, strict=True))
    if "limit" in beside:
        limit = join_copies(limit, beside["limit"])
    half, bare = beside.get("half"), beside.get("bare")
    drawn = None
    spreads: dict[str, np.ndarray] = {}
    if errors and effort.networks:
        drawn = solved("networks", Chain(effort.networks), told("networks"))
    elif errors and adjoint:
        found = measure(limit, stack)
        spreads = _adjoint(stack, cov, found, named_key(key, "spread"), told("networks"))
    named = tuple(tops) or ("",)
    ratio = len(cov) / effective_dim(stack)

    def curves_of(top: str, *, others: bool) -> dict[str, Curve]:
        every = [
            {} if one is None else measure(one, stack, top or None, entered)
            for one in (limit, half, bare, drawn)
        ]
        own = every[0]
        if others:
            own = {name: one for name, one in own.items() if "gradient" in name}
        few, without, finite = every[1:]
        return {
            name: _curve(
                one, few.get(name), without.get(name), finite.get(name), spreads.get(name), ratio
            )
            for name, one in own.items()
        }

    curves = curves_of(named[0], others=False)
    if like is not None:
        curves = {
            name: replace(one, width=like[name].width, spread=like[name].spread)
            if name in like
            else one
            for name, one in curves.items()
        }
    others = {top: curves_of(top, others=True) for top in named[1:]}
    return Signals(curves, others, limit.cov)


class _Once:
    """A gradient at the top, of the covariance that comes first."""

    def __init__(self, top: Callable[[np.ndarray], np.ndarray]):
        self._top = top
        self._found: np.ndarray | None = None

    def __call__(self, cov: np.ndarray) -> np.ndarray:
        if self._found is None:
            self._found = self._top(cov)
        return self._found


def _curve(
    own: Measure,
    half: Measure | None,
    bare: Measure | None,
    drawn: Measure | None,
    spread_of: np.ndarray | None,
    ratio: float,
) -> Curve:
    """A curve and its errors; see the module's docstring."""
    value = own.values.mean(axis=0)
    sampling = standard_error(own.values)
    if half is not None:
        gap = value - half.values.mean(axis=0)
        value, sampling = value + gap, np.sqrt((2 * sampling) ** 2 + gap**2)
    if drawn is not None:
        centre = drawn.values.mean(axis=0)
        return Curve(
            own.says,
            own.by,
            floats(value),
            floats(sampling),
            width=floats(np.abs(centre - value)),
            spread=floats(drawn.values.std(axis=0, ddof=1)),
            networks=floats(centre),
        )
    width = np.zeros_like(value)
    if bare is not None:
        width = ratio * np.abs(value - bare.values.mean(axis=0))
    return Curve(
        own.says,
        own.by,
        floats(value),
        floats(sampling),
        floats(width),
        NOT_TOLD if spread_of is None else floats(spread_of),
    )


def _adjoint(
    stack: Stack,
    cov: np.ndarray,
    found: Mapping[str, Measure],
    key: Key,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Standard deviations over networks by one adjoint pass; none for latents."""
    if any(isinstance(one, LatentAttention) for one in attentions(stack)):
        return {}
    problem = SignalPropagation(stack=stack, initial=cov, top_gradient=None)
    pairs = FEW_PAIRS if len(cov) > MANY_TOKENS else SPREAD_PAIRS
    told = spread(problem, key=key, observables=ADJOINT, pairs=pairs, progress=progress)
    rms = found["rms"].values.mean(axis=0)
    return {
        "overlap": told.std["overlap"],
        "effective_rank": told.std["effective_rank"],
        "overlap_all": told.std["overlap"] * (1 - 1 / len(cov)),
        "rms": told.std["mean_square"] / (2 * np.where(rms > 0, rms, np.inf)),
    }
