"""What solutions of ordinary differential equations share: nothing is drawn, and steps adapt."""

from __future__ import annotations

import equinox as eqx

from translimit.core import AbstractSolution, NotEstimated, Numbers
from translimit.integrate.ode import STEPS_NOT_ESTIMATED


class AbstractFlowSolution(AbstractSolution):
    """A solution of an ODE; members add their times, states and outcome.

    Attributes:
        discretisation: not estimated; the reason says how to see it.
        samples: one: nothing is drawn.
    """

    discretisation: Numbers | NotEstimated = eqx.field(
        kw_only=True, static=True, default=STEPS_NOT_ESTIMATED
    )
    samples: int = eqx.field(kw_only=True, static=True, default=1)
