"""How a solve ended: an enumeration whose members are the messages.

`Outcome` values are traceable (they may sit in a jitted or vmapped solution, one per batch
element). Finite-time blow-up and divergence are results with a time, not failures; the other
members besides `successful` are raised by `solve(..., throw=True)`.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np


class Outcome(eqx.Enumeration):  # pyright: ignore[reportGeneralTypeIssues]
    """How a solve ended; compare with `==`, read the message with `Outcome[...]`."""

    successful = ""
    blow_up = "the solution ceases to exist at `blow_up_time`; later states are NaN"
    divergence = (
        "the state grew beyond `growth_limit` without a finite-time singularity; "
        "later states are NaN: shorten t1 or raise growth_limit"
    )
    max_steps_reached = "the step limit was reached before t1: raise max_steps or the tolerances"
    not_converged = "an inner iteration did not converge: raise its iteration limit or tolerance"
    degenerate_update = "an update cancelled a token of the sphere: take a smaller step"
    non_finite = "a state became infinite or NaN: check the inputs, or shorten t1"


#: Outcomes that describe the mathematics rather than a failure of the method.
RESULTS = (Outcome.successful, Outcome.blow_up, Outcome.divergence)


#: Every outcome by its name.
NAMES = (
    "successful",
    "blow_up",
    "divergence",
    "max_steps_reached",
    "not_converged",
    "degenerate_update",
    "non_finite",
)


def outcome_words(outcome: Outcome) -> str:
    """How a solve ended, or a batch of them, in words."""
    found = np.asarray(outcome._value)
    ends = {name: int(np.sum(found == getattr(Outcome, name)._value)) for name in NAMES}
    ends = {name: count for name, count in ends.items() if count}
    if found.ndim == 0:
        (name,) = ends
        message = Outcome[getattr(Outcome, name)]
        return f"{name}: {message}" if message else name
    return ", ".join(f"{count} {name}" for name, count in ends.items())
