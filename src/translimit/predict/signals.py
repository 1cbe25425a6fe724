r"""The signal of a stack along depth, with every source of its error.

Values are those of `Recursion`, extrapolated in the number of sampled heads where scores are large:
with m_M from M pairs, 2 m_2M - m_M, and |m_2M - m_M| counts as an error. What a finite width
changes is n / D_eff of what the scores do, since it acts on them: it is measured by a recursion
without scores, or by the mean of simulated networks. The spread over networks comes from one
adjoint pass (`limits.signal.spread`) or from simulated networks.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from translimit.core import ArrayInput, Key, Progress, named_key, part_of, solve, standard_error
from translimit.describe import LatentAttention, Stack, attentions, effective_dim, score_std
from translimit.limits.signal import Chain, Recursion, SignalPropagation, SignalSolution, spread
from translimit.predict.curves import NOT_TOLD, Curve, floats
from translimit.predict.measures import Measure, measure

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
    def of(cls, stack: Stack, networks: int = 0) -> Effort:
        """More samples where scores are larger.

        Args:
            stack: whose scores decide.
            networks: simulated networks.
        """
        widest = max((score_std(one, stack.dim) for one in attentions(stack)), default=0.0)
        pairs = 4 if widest <= LARGE_SCORES else 16 if widest <= WIDE_SCORES else 48
        return cls(pairs=pairs, networks=networks)


@dataclass(frozen=True)
class Signals:
    """What a stack does to tokens and to a gradient.

    Attributes:
        curves: by name, see `measure`.
        cov: C after the last layer [n, n].
        solution: of the recursion.
        effort: how much was sampled.
    """

    curves: Mapping[str, Curve]
    cov: Float[np.ndarray, "n n"]
    solution: SignalSolution
    effort: Effort


def signals(
    stack: Stack,
    cov: Float[np.ndarray, "n n"],
    kinds: Int[np.ndarray, " n"],
    effort: Effort,
    key: Key,
    *,
    top_gradient: ArrayInput | Literal["identity"] | None = "identity",
    errors: bool = True,
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
        top_gradient: B at the top; None for no way back.
        errors: whether width and spread are computed besides the sampling.
        like: curves of the same stack whose width and spread are taken over.
        progress: called with the share that is done.
    """

    def solved(name: str, method: Recursion | Chain, score_factor: float = 1.0) -> SignalSolution:
        problem = SignalPropagation(
            stack=stack, initial=cov, top_gradient=top_gradient, score_factor=score_factor
        )
        return solve(problem, method, key=named_key(key, name), progress=told(name))

    shares = {"limit": (0.0, 0.4), "half": (0.4, 0.6), "bare": (0.6, 0.7), "networks": (0.7, 1.0)}

    def told(name: str) -> Progress | None:
        return part_of(progress, *shares[name])

    single = len(cov) > MANY_TOKENS
    limit = solved("limit", Recursion(effort.pairs, effort.copies, single))
    found = measure(limit, stack, kinds)
    large = any(score_std(one, stack.dim) > LARGE_SCORES for one in attentions(stack))
    half: dict[str, Measure] = {}
    if large and effort.pairs > 1:
        few = solved("half", Recursion(effort.pairs // 2, effort.copies, single))
        half = measure(few, stack, kinds)
    bare: dict[str, Measure] = {}
    drawn: dict[str, Measure] = {}
    spreads: dict[str, np.ndarray] = {}
    if errors and effort.networks:
        drawn = measure(solved("networks", Chain(effort.networks)), stack, kinds)
    elif errors:
        bare = measure(solved("bare", Recursion(1, 2, single), 0.0), stack, kinds)
        spreads = _adjoint(stack, cov, found, named_key(key, "spread"), told("networks"))
    ratio = len(cov) / effective_dim(stack)
    curves = {
        name: _curve(one, half.get(name), bare.get(name), drawn.get(name), spreads.get(name), ratio)
        for name, one in found.items()
    }
    if like is not None:
        curves = {
            name: replace(one, width=like[name].width, spread=like[name].spread)
            if name in like
            else one
            for name, one in curves.items()
        }
    return Signals(curves, limit.cov[-1], limit, effort)


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
