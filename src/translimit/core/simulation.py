"""What finite systems did: the face of a solution, for what is simulated and not solved."""

from __future__ import annotations

import equinox as eqx

from translimit.core.outcome import Outcome
from translimit.core.solution import AbstractSolution, NotEstimated
from translimit.core.types import Numbers


class AbstractSimulation(AbstractSolution):
    """States of finite networks after the layers that are kept.

    A network ends after its last layer or is refused, and its steps are its layers: end and error
    are the same for all.

    Attributes:
        ts: the layers kept, or their times [times].
        samples: independent networks.
        outcome: `successful`.
        discretisation: none.
    """

    samples: int = eqx.field(static=True, kw_only=True)
    outcome: Outcome = eqx.field(kw_only=True, default_factory=lambda: Outcome.successful)
    discretisation: Numbers | NotEstimated = eqx.field(
        static=True, kw_only=True, default=NotEstimated("a network has no steps but its layers")
    )
