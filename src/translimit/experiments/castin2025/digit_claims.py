"""Digit patches and the closure with their moments: sizes, cells and claims (see `digits`).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import data
from translimit.core import ConfigError, Estimate
from translimit.experiments.castin2025.digit_clouds import (
    WRONG,
    Draw,
    anisotropy_error,
    attentions,
    closures,
    clouds,
    covariance_error,
    measure,
    wrong_closures,
)
from translimit.experiments.checked import CheckedConfig, Count, Positive, Positives, Within

#: Seconds for one pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2.5e-9
#: The largest relative error that the claims call agreement.
TOLERANCE = 0.05
#: The largest strength at which it is expected.
WEAK = 0.3


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        patch: side of a patch; tokens live in R^(patch^2), and an image gives (8 / patch)^2.
        images: images in a group; its patches are one cloud.
        groups: disjoint groups, the replicates behind every error bar.
        draws: random draws of (Q, K, V).
        strengths: largest eigenvalues of Sigma A^T Sigma A; Q, K are scaled to have them.
        t1: final depth. With ||V|| = 1 the closure of centred tokens can not blow up before
            1 / (2 sqrt(strength)).
        steps: Runge-Kutta steps of the clouds to t1.
        saves: times kept, the first and the last included.
    """

    patch: Count = 2
    images: Count = 80
    groups: Annotated[int, Within(3)] = 6
    draws: Annotated[int, Within(1, 1000)] = 4
    strengths: Positives = (0.1, 0.3, 1.0)
    t1: Positive = 0.45
    steps: Count = 8
    saves: Annotated[int, Within(2)] = 5

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if 8 % self.patch:
            raise ConfigError("patch", f"{self.patch} does not divide 8", "pass 1, 2, 4 or 8")
        if self.images * self.groups > data.DIGITS:
            raise ConfigError(
                "images",
                f"{self.images} in groups = {self.groups} are more than the {data.DIGITS} digits",
                "pass fewer images or groups",
            )

    @property
    def tokens(self) -> int:
        """Tokens of one cloud."""
        return self.images * (8 // self.patch) ** 2

    @property
    def weak(self) -> tuple[float, ...]:
        """The strengths at which the closure is said to hold."""
        return tuple(one for one in self.strengths if one <= WEAK)

    @property
    def strongest(self) -> float:
        """The last strength, whose tokens are drawn."""
        return self.strengths[-1]


def compute(config: Config, draw: int, keys: ex.Keys) -> Draw:
    """All groups and strengths; the clouds are the same in every cell."""
    patches, gaussian = clouds(keys.shared("clouds"), config.groups, config.images, config.patch)
    maps = attentions(keys.own, patches, config.strengths)
    ts = np.linspace(0.0, config.t1, config.saves)
    mean, cov = closures(maps, patches, ts)
    return Draw(
        strength=np.array(config.strengths),
        time=ts,
        closure_mean=mean,
        closure_cov=cov,
        wrong_cov=wrong_closures(maps, patches, config.t1),
        **measure(maps, patches, ts, config.steps).named("digits"),
        **measure(maps, gaussian, ts, config.steps).named("surrogate"),
    )


def _cost(config: Config, draw: int) -> ex.Cost:
    """A share of compilation, and pairs of tokens."""
    pairs = 2 * config.groups * len(config.strengths) * config.tokens**2 * 6 * config.steps
    return ex.Cost(30.0 / config.draws + SECONDS_PER_PAIR * pairs, 8e8)


DRAW = ex.Part("draw={draw}", Draw, compute, grid=lambda c: range(c.draws), cost=_cost)


def draws_of(found: ex.Found[Config]) -> list[Draw]:
    """All draws, in order."""
    return [one for _, one in found.each(DRAW)]


def _error(found: ex.Found[Config], at: tuple[str, float], wrong: str = "") -> Estimate:
    """Of the covariance at final depth."""
    kind, strength = at
    place = found.config.strengths.index(strength)
    return covariance_error(draws_of(found), kind, place, -1, wrong)


def _missed(found: ex.Found[Config], kind: str, strength: float) -> Estimate:
    """Minus the error."""
    error = _error(found, (kind, strength))
    return Estimate(-error.value, error.stderr, error.count)


def _anisotropy(found: ex.Found[Config], strength: float, law: str = "") -> Estimate:
    return anisotropy_error(draws_of(found), found.config.strengths.index(strength), law)


WORDS = {"digits": "digit patches", "surrogate": "as many Gaussian tokens with the same moments"}

CLAIMS = (
    ex.Claims(
        "{kind}-covariance-{strength:g}",
        lambda found, at: (
            f"The closure predicts the covariance of {WORDS[at[0]]} at $t = {found.config.t1:g}$ "
            f"within {TOLERANCE:.0%} (attention of strength {at[1]:g})."
        ),
        estimate=_error,
        prediction=0.0,
        tol=TOLERANCE,
        over=lambda c: [
            *(("digits", strength) for strength in c.weak),
            *(("surrogate", strength) for strength in c.strengths),
        ],
        rivals=tuple(
            ex.Rival(name, estimate=lambda found, at, name=name: _error(found, at, name))
            for name in WRONG
        ),
    ),
    ex.Claims(
        "digits-departure-{strength:g}",
        lambda found, strength: (
            f"Under strong attention (strength {strength:g}) the closure misses the covariance of "
            f"digit patches by more than {TOLERANCE:.0%} (minus the error lies below that)."
        ),
        estimate=lambda found, strength: _missed(found, "digits", strength),
        prediction=-TOLERANCE,
        tol=0.0,
        over=lambda c: [one for one in c.strengths if one not in c.weak],
        one_sided=True,
        rivals=(
            ex.Rival[Config, float](
                "as close as to Gaussian tokens",
                estimate=lambda found, strength: _missed(found, "surrogate", strength),
            ),
        ),
    ),
    ex.Claims(
        "digits-anisotropy-{strength:g}",
        lambda found, strength: (
            "The closure carries the anisotropy $\\lambda_{\\max} / \\mathrm{tr}\\,\\Sigma$ of "
            f"digit patches: it misses at most a quarter of its change (rms over draws, strength "
            f"{strength:g})."
        ),
        estimate=_anisotropy,
        prediction=0.0,
        tol=0.25,
        over=lambda c: c.weak,
        rivals=(
            ex.Rival(
                "it stays constant",
                estimate=lambda found, strength: _anisotropy(found, strength, "start"),
            ),
            ex.Rival(
                "it is 1: a line",
                estimate=lambda found, strength: _anisotropy(found, strength, "line"),
            ),
        ),
    ),
)
