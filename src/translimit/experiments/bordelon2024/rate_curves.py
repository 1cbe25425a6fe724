"""One problem at many learning rates: the limit, and networks that are trained at the same rates.

The limit's best rate is that of `limits.dmft.best_rate`. That of networks is found here: the first
minimum of the mean over seeds of the loss after training, a parabola between points of the grid.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, data, limits, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.bordelon2024.limit_and_networks import (
    network_numbers,
    weighted_loss,
)

if TYPE_CHECKING:
    from translimit.core import Key

#: How much a curve rises after a minimum that counts.
RISE = 1.02
#: Steps of the grid within which two divergences are one.
STEP = 1.02
#: Seeds that are trained at a time, each at all rates.
AT_ONCE = 8
#: Resamples of seeds behind the error of a swept rate.
RESAMPLES = 200


@dataclass(frozen=True)
class Curves(ex.Arrays):
    """Losses after training of the limit and of networks, at the same rates."""

    rate: Float[np.ndarray, " rate"]
    limit: Annotated[Float[np.ndarray, "population rate"], "small populations"]
    large: Annotated[Float[np.ndarray, "large_population rate"], "large populations"]
    networks: Float[np.ndarray, "size seed rate"]
    size: Int[np.ndarray, " size"]
    start: Annotated[float, "loss of the limit before training"]
    edge: Annotated[float, "edge of stability at the start"]
    steps: int
    sampled: bool
    predicted: Annotated[float, "best rate of the limit"]
    predicted_decades: Annotated[float, "its error, in decades"]
    diverging: Annotated[float, "first rate at which the limit ends above its start; or infinite"]

    def found(self, losses: Float[np.ndarray, "_ rate"]) -> limits.dmft.BestRate:
        """What the limit says from these populations."""
        return limits.dmft.BestRate(
            self.rate, losses, self.start, self.steps, self.edge, {}, self.sampled
        )

    @property
    def best(self) -> limits.dmft.BestRate:
        """The prediction: the robust rule on small populations."""
        return self.found(self.limit)

    @property
    def plain(self) -> float:
        """The plain minimum of large populations."""
        return self.found(self.large).plain

    def swept(self, size: int) -> Estimate:
        """log10 of the best rate of networks of a size, with a bootstrap over seeds."""
        losses = self.networks[self.size.tolist().index(size)]
        draws = np.random.default_rng(0).integers(len(losses), size=(RESAMPLES, len(losses)))
        places = [lowest(self.rate, mean_loss(losses[draw])) for draw in draws]
        value = lowest(self.rate, mean_loss(losses))
        return Estimate(value, float(np.std(places, ddof=1)), len(losses))

    def ratio(self, size: int, predicted: float | None = None) -> Estimate:
        """log10 of a predicted best rate over that of networks; the robust one by default."""
        swept, best = self.swept(size), self.best
        value = math.log10(best.rate if predicted is None else predicted) - swept.value
        return replace(swept, value=value, stderr=math.hypot(swept.stderr, best.stderr))

    def networks_diverging(self, size: int) -> float:
        """The first rate at which networks end above the start of the limit; infinite if none."""
        mean = mean_loss(self.networks[self.size.tolist().index(size)])
        over = ~(mean <= self.start)
        return float(self.rate[int(np.argmax(over))]) if over.any() else math.inf

    def divergence_gap(self, size: int, factor: float) -> float:
        """log10 of the diverging rate of the limit over that of networks; NaN where not known.

        One that does not diverge on the grid does so at the next rate at the earliest: the
        difference is at least what that tells. Where that is a step, or neither diverges, nothing
        is known.

        Args:
            size: of the networks.
            factor: between two rates.
        """
        both = (self.diverging, self.networks_diverging(size))
        beyond = factor * float(self.rate[-1])
        gap = math.log10(min(both[0], beyond) / min(both[1], beyond))
        known = all(map(math.isfinite, both)) or abs(gap) > STEP * math.log10(factor)
        return gap if known else math.nan


def mean_loss(losses: Float[np.ndarray, "seed rate"]) -> Float[np.ndarray, " rate"]:
    """The mean over seeds; infinite where a network diverged."""
    finite = np.all(np.isfinite(losses), axis=0)
    return np.where(finite, np.where(finite, losses, 0.0).mean(axis=0), math.inf)


def lowest(rates: Float[np.ndarray, " rate"], curve: Float[np.ndarray, " rate"]) -> float:
    """log10 of the rate where a curve first has a minimum; a parabola in both logarithms."""
    place = 0
    while place + 1 < len(curve):
        rest = curve[place + 1 :]
        lower = np.flatnonzero(rest < curve[place])
        if not lower.size or np.any(rest[: lower[0]] > RISE * curve[place]):
            break
        place += 1 + int(lower[0])
    near = slice(max(place - 1, 0), place + 2)
    x, y = np.log10(rates[near]), np.log10(curve[near])
    if len(x) < 3 or not np.all(np.isfinite(y)):
        return float(np.log10(rates[place]))
    # The middle is below the left and not above the right: the vertex is nearer to it than to both.
    bend, slope, _ = np.polyfit(x - x[1], y, 2)
    return float(x[1] - slope / (2 * bend))


def compute_curves(
    problem: Problem,
    keys: ex.Keys,
    *,
    heads: Sequence[int],
    seeds: int,
    factor: float,
    large: int,
) -> Curves:
    """The limit in small and in large populations, then networks of every size.

    Args:
        problem: data, architecture and gradient descent.
        keys: of the cell.
        heads: H of networks.
        seeds: networks of each size, at every rate.
        factor: between two rates.
        large: heads, and half as many neurons, of a population of the plain minimum.
    """
    dynamics = problem.limit()
    sampled = limits.dmft.LinearAlgebra not in dynamics.methods
    key = keys.shared("limit") if sampled else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rates beyond the edge, which are the point
        best = limits.dmft.best_rate(dynamics, key=key, factor=factor)
        more = best.losses
        if sampled:
            history = problem.steps * dynamics.fields
            method = limits.dmft.CausalSampling(
                heads=max(large, 4 * history + 1),
                neurons=max(large, 3 * history + 1),
                populations=2,
                heads_kept=1,
            )
            more = limits.dmft.best_rate(
                dynamics, key=keys.shared("large"), method=method, rates=best.rates
            ).losses
    swept = [
        network_losses(
            problem, core.named_key(keys.own, size), heads=size, seeds=seeds, rates=best.rates
        )
        for size in heads
    ]
    return Curves(
        rate=best.rates,
        limit=best.losses,
        large=more,
        networks=np.stack(swept) if swept else np.zeros((0, seeds, len(best.rates))),
        size=np.array(heads, dtype=np.int64),
        start=best.start,
        edge=best.edge,
        steps=problem.steps,
        sampled=sampled,
        predicted=best.rate,
        predicted_decades=best.decades,
        diverging=replace(best, losses=more).divergence[1],
    )


def network_losses(
    problem: Problem, key: Key, *, heads: int, seeds: int, rates: Float[np.ndarray, " rate"]
) -> Float[np.ndarray, "seed rate"]:
    """Losses after training of networks of one size, every seed at every rate.

    Args:
        problem: data, architecture and gradient descent.
        key: of the starts, which are the same at all rates.
        heads: H.
        seeds: how many networks.
        rates: eta_0.
    """
    factors = tuple(float(rate) / problem.eta0 for rate in rates)
    weights, pooled = problem.row_weights(), problem.shape(heads).pooled
    observed = (train.ProbeLoss(),)
    if weights is not None:
        observed = (*observed, train.Predictions(per_token=not pooled))
    source, blocks = problem.source(), []
    for first in range(0, seeds, AT_ONCE):
        own, count = core.named_key(key, "block", first), min(AT_ONCE, seeds - first)
        history = trained(problem, own, heads, count, observed, source, factors)
        losses = np.asarray(history["probe_loss"], np.float64)[-1]
        if weights is not None:
            f = np.asarray(history["predictions"])[-1][:, :, None]
            losses = weighted_loss(problem, f, weights[-1:])[..., 0]
        blocks.append(losses)
    losses = np.concatenate(blocks)
    return np.where(np.isfinite(losses), losses, math.inf)


def trained(
    problem: Problem,
    key: Key,
    heads: int,
    seeds: int,
    observe: Sequence[train.AbstractObservable],
    source: data.AbstractSource,
    factors: tuple[float, ...] = (1.0,),
    probe: int | None = None,
) -> train.History:
    """Networks of one size, observed at the start, after every update of one rate, and at the end.

    Args:
        problem: architecture and gradient descent.
        key: of the starts.
        heads: H.
        seeds: how many networks.
        observe: what to record.
        source: of what is trained and observed.
        factors: of the learning rate.
        probe: inputs that are observed; those that are trained by default.
    """
    shape = problem.shape(heads)
    run = train.Training(
        steps=problem.steps - 1,
        rates=factors,
        seeds=seeds,
        batch=problem.inputs,
        optimizer=problem.network_optimizer,
        loss=problem.network_loss,
        schedule=problem.network_schedule,
        centred=problem.network_centred,
    )
    every = range(problem.steps) if len(factors) == 1 else (run.steps,)
    return train.train(
        shape,
        network_numbers(problem, shape),
        source,
        run,
        key=key,
        observe=observe,
        observe_at=tuple(every),
        probe=problem.inputs if probe is None else probe,
    )


def curves_cost(
    problem: Problem, *, heads: Sequence[int], seeds: int, factor: float, large: int
) -> ex.Cost:
    """Roughly what `compute_curves` needs."""
    points = math.ceil(math.log(40) / math.log(factor)) + 1
    history, depth = problem.steps * problem.fields(), problem.layers
    blocks = depth * (int(problem.attention) + int(problem.mlp != "none"))
    each = history**2 * blocks * (6e-9 * problem.head_dim + 2e-9)
    pass_seconds = 4 * max(600, 4 * history) * each + 2 * max(large, 4 * history) * each
    trained = sum(problem.networks_seconds(size, seeds * points) for size in heads)
    bytes_of = [problem.networks_bytes(size, AT_ONCE * points) for size in heads]
    rows = 8 * history * max(large, 4 * history) * (problem.head_dim + 1)
    limit = problem.limit_bytes() + 1.4 * 8 * depth * rows
    return ex.Cost(30 + points * pass_seconds + trained, max([*bytes_of, limit]))


def curve_rows(curves: Curves) -> list[tuple[str, float, float, float]]:
    """Who, at what rate, the loss and two standard errors; of what has not exploded."""
    named = {"limit": curves.large, "limit, small populations": curves.limit}
    named |= {
        f"networks, H = {size}": losses
        for size, losses in zip(curves.size, curves.networks, strict=True)
    }
    rows = []
    for name, losses in named.items():
        for place, rate in enumerate(curves.rate):
            column = losses[:, place]
            if np.all(np.isfinite(column)) and column.mean() < 3 * curves.start:
                error = float(column.std(ddof=1) / len(column) ** 0.5) if len(column) > 1 else 0.0
                rows.append((name, float(rate), float(column.mean()), 2 * error))
    return rows
