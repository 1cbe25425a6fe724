r"""Noisy gradient descent in modes: the case in which best rates of every horizon are computed.

With curvatures lambda_k, squared errors v_k and noise s_k of the gradient, in the kernel limit,

    v_{k,t+1} = (1 - eta f_t lambda_k)^2 v_{k,t} + eta^2 f_t^2 s_k,
    loss(T) = 1/2 sum_k weight_k lambda_k v_{k,T}.

Power-law data has lambda_k = k^{-alpha}, lambda_k v_{k,0} = k^{-(alpha beta + 1)} and noise
s_k = c lambda_k. Bias then falls like (eta T)^{-beta} and noise like eta (eta T)^{-delta}, with

    delta = min(1 - 1/alpha, r / (1 + r))

for a schedule that vanishes at the end like (1 - t/T)^r: constant 0, linear and wsd 1, cosine 2.
So d log eta* / d log T = -(beta - delta) / (1 + beta - delta), or 0, at the edge of stability,
where beta < delta. Rates are searched up to 2 / lambda_1: no network survives more.

Reference: documentation, "Horizons"; fast transfer: Ghosh, Wu and Bietti, arXiv 2512.22768.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from translimit.checks import ScheduleName, schedule_factor

#: The power with which a schedule vanishes at its end.
POWERS: dict[str, int] = {"constant": 0, "linear": 1, "wsd": 1, "cosine": 2}
#: Rates of a scan, scans, each of two points of the one before, and the lowest rate over the edge.
_SCAN, _SCANS, _LOWEST = 25, 7, 1e-6


@dataclass(frozen=True)
class Modes:
    """A quadratic with noise of the gradient.

    Attributes:
        curvature: lambda_k.
        start: v_k at first.
        noise: s_k.
        weight: how many modes each stands for.
    """

    curvature: Float[np.ndarray, " modes"]
    start: Float[np.ndarray, " modes"]
    noise: Float[np.ndarray, " modes"]
    weight: Float[np.ndarray, " modes"]

    @property
    def edge(self) -> float:
        """The largest stable rate."""
        return 2 / float(self.curvature.max())

    def losses(
        self, rates: Float[np.ndarray, " rates"], factors: Float[np.ndarray, " steps"]
    ) -> Float[np.ndarray, " rates"]:
        """Losses at the end of runs, exactly.

        Args:
            rates: of the base.
            factors: what multiplies the rate at each step.
        """
        steps = rates[:, None] * self.curvature
        if np.all(factors == 1):
            kept = (1 - steps) ** (2 * len(factors))
            with np.errstate(divide="ignore", invalid="ignore"):
                settled = (1 - kept) / (1 - (1 - steps) ** 2)
            settled = np.where(np.isfinite(settled), settled, float(len(factors)))
            errors = kept * self.start + rates[:, None] ** 2 * self.noise * settled
        else:
            errors = np.broadcast_to(self.start, steps.shape).copy()
            added = rates[:, None] ** 2 * self.noise
            for factor in factors:
                errors *= (1 - factor * steps) ** 2
                errors += factor**2 * added
        return 0.5 * errors @ (self.weight * self.curvature)

    def log_loss(self, place: float, factors: Float[np.ndarray, " steps"]) -> float:
        """Log of the loss at one rate.

        Args:
            place: log10 of the rate.
            factors: what multiplies it.
        """
        return float(np.log(self.losses(np.array([10.0**place]), factors)[0]))

    def optimum(self, factors: Float[np.ndarray, " steps"]) -> float:
        """log10 of the best stable rate, by scans that close in on it.

        Args:
            factors: what multiplies the rate.
        """
        low, high = math.log10(_LOWEST * self.edge), math.log10(self.edge)
        for _ in range(_SCANS):
            places = np.linspace(low, high, _SCAN)
            best = int(np.argmin(self.losses(10**places, factors)))
            low, high = places[max(best - 1, 0)], places[min(best + 1, _SCAN - 1)]
        return float(0.5 * (low + high))

    def resized(self, x: float | int, *, noise_alone: bool = False) -> Modes:
        """The same at size n with 1/n corrections of curvatures, starts and noise.

        Args:
            x: 1/n.
            noise_alone: whether curvatures and starts are those of the limit.
        """
        k = np.arange(1, len(self.curvature) + 1)
        noisy = replace(self, noise=self.noise * (1 - 0.4 * x))
        if noise_alone:
            return noisy
        return replace(
            noisy,
            curvature=self.curvature * (1 + 0.6 * k**-0.3 * x),
            start=self.start * (1 + 0.5 * k**0.1 * x),
        )


def power_law(alpha: float, beta: float, c: float, modes: int) -> Modes:
    """Power-law data, one mode each.

    Args:
        alpha: exponent of the curvatures.
        beta: exponent with which the bias falls.
        c: noise over curvature.
        modes: how many.
    """
    return _spectrum(np.arange(1, modes + 1, dtype=float), np.ones(modes), alpha, beta, c)


def thinned_power_law(alpha: float, beta: float, c: float, modes: int, last: float) -> Modes:
    """Power-law data with modes spaced in the logarithm, each with the weight of its neighbours.

    Args:
        alpha: exponent of the curvatures.
        beta: exponent with which the bias falls.
        c: noise over curvature.
        modes: how many stand for all.
        last: the highest.
    """
    k = np.geomspace(1, last, modes)
    return _spectrum(k, np.gradient(k), alpha, beta, c)


def _spectrum(k: np.ndarray, weight: np.ndarray, alpha: float, beta: float, c: float) -> Modes:
    curvature = k**-alpha
    return Modes(curvature, k ** -(alpha * beta + 1) / curvature, c * curvature, weight)


def factors(schedule: ScheduleName, steps: int) -> Float[np.ndarray, " steps"]:
    """What multiplies the rate at every step; linear decay ends at 1/T, as in closed forms.

    Args:
        schedule: its name.
        steps: of the run.
    """
    if schedule == "linear":
        return 1 - np.arange(steps) / steps
    return np.array([schedule_factor(schedule, step, steps) for step in range(steps)])


def slope(alpha: float, beta: float, schedule: str) -> float:
    """What is predicted of d log eta* / d log T.

    Args:
        alpha: exponent of the curvatures.
        beta: exponent with which the bias falls.
        schedule: its name.
    """
    power = POWERS[schedule]
    delta = min(1 - 1 / alpha, power / (1 + power))
    return -(beta - delta) / (1 + beta - delta) if beta > delta else 0.0


@dataclass(frozen=True)
class FastTransfer:
    """What a drift and a regret come to at large sizes.

    Attributes:
        optimum: log10 of the best rate in the limit.
        drift: n times the drift from it.
        regret: n^2 times the regret of the limit's rate.
    """

    optimum: float
    drift: float
    regret: float


def fast_transfer(
    limit: Modes, schedule: ScheduleName, steps: int, *, noise_alone: bool = False
) -> FastTransfer:
    """Drift and regret in 1/n from derivatives of the limit's loss.

    Args:
        limit: the infinite size.
        schedule: of the rate.
        steps: of the run.
        noise_alone: whether only the noise depends on n.

    Equation: n drift = -a' / l'', n^2 regret = a'^2 / (2 l''), where l(x) is the limit's log loss
        and a(x) the coefficient of 1/n, at the limit's best log rate x.
    """
    told, h, small = factors(schedule, steps), 1e-3, 1e-5
    best = limit.optimum(told)

    def log_loss(place: float, x: float) -> float:
        return limit.resized(x, noise_alone=noise_alone).log_loss(place, told)

    def coefficient(place: float) -> float:
        return (log_loss(place, small) - log_loss(place, -small)) / (2 * small)

    around = [log_loss(best + shift * h, 0.0) for shift in (-1, 0, 1)]
    curvature = (around[0] - 2 * around[1] + around[2]) / h**2
    change = (coefficient(best + h) - coefficient(best - h)) / (2 * h)
    return FastTransfer(best, -change / curvature, change**2 / (2 * curvature))
