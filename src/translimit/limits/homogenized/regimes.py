r"""Which limit a network of random heads is in: the numbers, the regime, and what may go wrong.

The paper's statements are asymptotic; the thresholds (`tolerance`, 0.05 by default) are a
convention of this library. Rows are tested from top to bottom, the first match wins:

| mean effect b | test | regime |
|---|---|---|
| b = 0 | tau_L <= tolerance | frozen |
| b = 0 | tau_L > tolerance, diffusive step <= tolerance | diffusive |
| b = 0 | diffusive step > tolerance | discrete |
| b != 0 | alpha eta L <= tolerance, eta^2 L <= tolerance | ballistic |
| b != 0 | alpha eta L <= tolerance, eta^3 L <= tolerance | modified |
| b != 0 | alpha eta L > tolerance, eta^3 L <= tolerance | diffusive |
| b != 0 | eta^3 L > tolerance | discrete |

alpha = step * variance_proxy / heads.

!!! warning "Erratum"
    The paper's rate eta max(eta, alpha) holds at the times l eta of the layers only: between
    them the chain, constant on every layer, is off by O(eta). For the two deterministic limits
    the noise itself contributes O(alpha t) to means, so that the rate has the form
    (t + 1) max(eta, alpha).

Reference: arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import enum
import math
from dataclasses import asdict, dataclass

from translimit.core import (
    POSITIVE,
    ArgumentTypeError,
    Bounds,
    brief,
    require_count,
    require_number,
    require_real,
)
from translimit.describe import AbstractHeads, AbstractIsotropicHeads, diffusive_step

#: Below this a small parameter counts as small.
TOLERANCE = 0.05
#: Paper times beyond which a bound with e^{C t} says nothing.
LONG_TIME = 10.0


class Regime(enum.Enum):
    """What the chain looks like; the value is the limit to use."""

    FROZEN = "nothing moves: X(t) = X(0)"
    BALLISTIC = "the ordinary differential equation X' = b(X)"
    MODIFIED = "the modified equation, with the drift of second order in the step"
    DIFFUSIVE = "the stochastic equation with noise common to all tokens"
    DISCRETE = "no limit: keep the chain"


@dataclass(frozen=True)
class Classification:
    """The regime of a network and the numbers that decide it.

    Attributes:
        regime: which limit applies.
        error: the size of the error of that limit, in words; its constants are unknown.
        paper_time: t_L = layers * step.
        alpha: step * variance_proxy / heads, the strength of the noise per unit of paper time.
        noise: alpha * step * layers, the noise in all.
        diffusive_time: tau_L.
        diffusive_step: unit diffusive time of one layer.
        second_order: step^2 * layers.
        third_order: step^3 * layers.
        score_std: standard deviation of a score of two unit tokens; None for laws without one.
        beta_operator: the scale of beta |A x|; None for laws without one.
        tolerance: what counted as small.
        warnings: what lies outside of what theory or our checks cover, in words.
    """

    regime: Regime
    error: str
    paper_time: float
    alpha: float
    noise: float
    diffusive_time: float
    diffusive_step: float
    second_order: float
    third_order: float
    score_std: float | None
    beta_operator: float | None
    tolerance: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """All of it as plain data: the regime by name, the limit in words, infinity as a string."""
        told: dict[str, object] = asdict(self)
        plain: dict[str, object] = {
            name: "infinity" if one == math.inf else one for name, one in told.items()
        }
        plain["warnings"] = list(self.warnings)
        plain["regime"], plain["limit"] = self.regime.name.lower(), self.regime.value
        return plain


def classify(
    law: AbstractHeads,
    *,
    tokens: int,
    layers: int,
    step: float,
    heads: int,
    tolerance: float = TOLERANCE,
) -> Classification:
    """Which limit a network of random heads is in.

    Args:
        law: of the heads; concrete numbers only.
        tokens: number of tokens, at least 1.
        layers: number of layers, not negative.
        step: residual step, positive.
        heads: heads of a layer, at least 1.
        tolerance: what counts as small, in (0, 1); a convention, not a theorem.

    Raises:
        ArgumentError: a number out of range.
        ArgumentTypeError: a size that is no integer, a law that is none.

    Examples:
        >>> from translimit.describe import GaussianHeads
        >>> from translimit.limits.homogenized import classify
        >>> law = GaussianHeads(dim=64, beta=1.0, sigma_v=1 / 8, sigma_a=64**-0.25)
        >>> found = classify(law, tokens=16, layers=1000, step=0.1, heads=8)
        >>> found.regime.name, round(found.diffusive_time, 6)
        ('DIFFUSIVE', 1.25)
    """
    if not isinstance(law, AbstractHeads):
        raise ArgumentTypeError("law", f"got {brief(law)}", "pass a law of heads")
    tokens, heads = require_count(tokens, "tokens", 1), require_count(heads, "heads", 1)
    layers = require_count(layers, "layers", 0)
    step = float(require_number(step, "step", POSITIVE))
    tolerance = require_real(tolerance, "tolerance", Bounds(0.0, 1.0, "()"))
    alpha = step * float(law.variance_proxy) / heads
    each = float(diffusive_step(law, step=step, heads=heads))
    noise, second, third = alpha * step * layers, step**2 * layers, step**3 * layers
    if law.centred:
        regime = _centred(each * layers, each, tolerance)
    else:
        regime = _drifting(noise, second, third, tolerance)
    isotropic = isinstance(law, AbstractIsotropicHeads)
    return Classification(
        regime=regime,
        error=_error(regime, law.centred),
        paper_time=layers * step,
        alpha=alpha,
        noise=noise,
        diffusive_time=each * layers,
        diffusive_step=each,
        second_order=second,
        third_order=third,
        score_std=float(law.score_std) if isotropic else None,
        beta_operator=float(law.beta_operator) if isotropic else None,
        tolerance=tolerance,
        warnings=tuple(_warnings(law, regime, tokens, layers * step, each)),
    )


def _centred(time: float, each: float, tolerance: float) -> Regime:
    if time <= tolerance:
        return Regime.FROZEN
    return Regime.DIFFUSIVE if each <= tolerance else Regime.DISCRETE


def _drifting(noise: float, second: float, third: float, tolerance: float) -> Regime:
    if noise <= tolerance and second <= tolerance:
        return Regime.BALLISTIC
    if third > tolerance:
        return Regime.DISCRETE
    return Regime.MODIFIED if noise <= tolerance else Regime.DIFFUSIVE


def _error(regime: Regime, centred: bool) -> str:
    """The size of the error; t, tau and eta are the paper time, diffusive time and step."""
    if regime is Regime.DISCRETE:
        return "none: nothing is approximated"
    if regime is Regime.FROZEN:
        return "O(tau^(1/2)) path by path, O(tau) in means"
    if regime is Regime.DIFFUSIVE and centred:
        return "in means O(C(tau) diffusive_step)"
    return {
        Regime.BALLISTIC: "C e^(C t) (t + 1) max(eta, alpha)",
        Regime.MODIFIED: "C e^(C t) (t + 1) max(eta^2, alpha), at the times of the layers",
        Regime.DIFFUSIVE: "C e^(C t) eta (t + 1) max(eta, alpha), at the times of the layers",
    }[regime]


def _warnings(
    law: AbstractHeads, regime: Regime, tokens: int, time: float, each: float
) -> list[str]:
    found = []
    if regime is not Regime.DISCRETE:
        found.append("the constants C of the error statement are unknown")
    if not law.centred and time > LONG_TIME:
        found.append(
            f"paper time {time:.3g} with a mean effect: the bound carries e^(C t), and the drift "
            "dominates the noise"
        )
    if regime is Regime.DISCRETE and law.centred:
        found.append(f"one layer advances the unit diffusive time by {each:.3g}: no small step")
    if law.dim < 16:
        found.append(f"dim = {law.dim}: closures for large dimension were not checked below 16")
    if tokens > law.dim:
        found.append("more tokens than dimensions: they can not start orthogonal to each other")
    return found
