"""What the target of the sliders takes, relative to a small base: starts and learning rates.

Beside the rules stand networks that were trained at all rates: how far the best one moved when they
grew, from the ledger of horizons that ships.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Scaling rules".
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, SHAPES, SUPERSCRIPTS, Chart, ChartAxis, Line, Points
from translimit.scaling import Horizon, rules_for, shipped_horizons

#: Where values were tuned.
BASE = "head_dim=16,heads=4,layers=2"
#: Roles that every decoder has, in the order of the forward pass.
ROLES = (
    "token_embedding",
    "position_embedding",
    "query",
    "key",
    "value",
    "attention_out",
    "mlp_in",
    "mlp_out",
    "block_norm_gain",
    "readout",
)
CODE = """\
import numpy as np
from translimit.scaling import rules_for

rules = rules_for(
    {base!r},
    {target!r},
    optimizer={optimizer!r},
    alpha_A={alpha_a!r},
    alpha_L={alpha_l!r},
)
roles = {roles}
rates = np.array([rules.role(role).lr for role in roles])  # target over base
starts = np.array([rules.role(role).init for role in roles], dtype=float)

from translimit.scaling import shipped_horizons  # networks that were swept

swept = [one for one in shipped_horizons() if one.optimizer == {optimizer!r}]
steps, drift, drift_error = (
    np.array([getattr(one, name) for one in swept], dtype=float)
    for name in ("steps", "optimum_drift", "optimum_drift_error")
)
"""


def shape(view: View) -> Hashable:
    """Nothing is compiled."""
    del view
    return None


def panel(view: View) -> Panel:
    """Learning rates and standard deviations that carry what was tuned at a small base over."""
    target = f"head_dim={view.head_dim},heads={view.heads},layers={view.layers}"
    rules = rules_for(
        BASE, target, optimizer=view.optimizer, alpha_A=view.alpha_a, alpha_L=view.alpha_l
    )
    rows = [rules.role(role) for role in ROLES]
    rates = np.array([row.lr for row in rows], dtype=float)
    starts = np.array([row.init for row in rows], dtype=float)

    swept = [one for one in shipped_horizons() if one.optimizer == view.optimizer]
    steps, drift, drift_error = (
        np.array([getattr(one, name) for one in swept], dtype=float)
        for name in ("steps", "optimum_drift", "optimum_drift_error")
    )
    hidden = rules.role("mlp_in").lr
    return Panel(
        says=f"From {BASE} to {target} with {view.optimizer}: hidden matrices take {hidden:.4g} "
        f"times the learning rate, the attention output {rules.role('attention_out').lr:.4g}; "
        f"scores are scaled by {rules.score_scale:.4g}. {_told(view.optimizer, swept)}",
        figures=(
            _chart(
                "Learning rate and standard deviation at the start, target over base, for "
                f"{len(ROLES)} kinds of parameters; hidden rates {hidden:.4g}.",
                rates,
                starts,
            ),
            *([_swept(view.optimizer, swept)] if swept else []),
        ),
        assumptions=(
            "Values were tuned at the base with the same batch, tokens, steps, schedule and data; "
            "what carries over is claimed where heads, their dimension or depth grow.",
            "Plain modules (style folded): the only multiplier is that of the scores.",
            "A described architecture enters by heads, head dimension and depth; its MLP ratio is "
            "that of the base.",
            "Swept networks start from alpha_A = alpha_L = 1 and grow along one axis at a time.",
            *(f"Note: {one}." for one in rules.warnings),
        ),
        verified=(
            Verified(
                "bordelon2024/transfer",
                ("*-rules-drift", "*-standard-drift", "*-regret"),
                "the best rate stays on digits, beside the standard parameterization",
            ),
            Verified("bordelon2024/lm-transfer", ("*-rules-drift", "*-regret"), "the same on text"),
            Verified(
                "bordelon2024/coordinates",
                ("*-stream_change", "control-*"),
                "exponents of every change, and controls that must fail",
            ),
        ),
        code=CODE.format(
            base=BASE,
            target=target,
            optimizer=view.optimizer,
            alpha_a=view.alpha_a,
            alpha_l=view.alpha_l,
            roles=list(ROLES),
        ),
        numbers={
            "rates": rates,
            "starts": starts,
            "steps": steps,
            "drift": drift,
            "drift_error": drift_error,
        },
        table=(
            ("parameter", "learning rate ×", "std at the start ×", "Adam's epsilon ×"),
            *(
                (role.replace("_", " "), *(_number(x) for x in (row.lr, row.init, row.eps)))
                for role, row in zip(ROLES, rows, strict=True)
            ),
        ),
    )


def _told(optimizer: str, swept: Sequence[Horizon]) -> str:
    """What swept networks say, in a sentence."""
    if not swept:
        return f"No networks were swept with {optimizer} yet."
    held = sum(one.supported for one in swept)
    grown = " and ".join(sorted({f"{one.multiple:g} times the {one.axis}" for one in swept}))
    return (
        f"Of {len(swept)} sweeps of networks with {optimizer}, grown to {grown}, the base's best "
        f"rate serves in {held}; {sum(one.refuted for one in swept)} are refuted."
    )


def _swept(optimizer: str, swept: Sequence[Horizon]) -> Chart:
    """How far the best rate of grown networks is from that of the base."""
    kinds = sorted({(one.data, one.axis, one.schedule) for one in swept})
    times = sorted({one.steps for one in swept})
    bound = max(0.3, *(abs(one.optimum_drift) + 2 * one.optimum_drift_error for one in swept))
    low, high = times[0] / 2, times[-1] * 2
    marks: list[Line | Points] = [Line([low, high], [0.0, 0.0], INK, width=1.0)]
    for place, kind in enumerate(kinds):
        own = [one for one in swept if (one.data, one.axis, one.schedule) == kind]
        apart = 1.12 ** (place - (len(kinds) - 1) / 2)  # beside each other, not one on another
        marks.append(
            Points(
                np.array([one.steps * apart for one in own]),
                np.array([one.optimum_drift for one in own]),
                COLOURS[place % len(COLOURS)],
                f"{kind[0]}, {kind[1]}, {kind[2]} rate",
                SHAPES[place % len(SHAPES)],
                error=np.array([2 * one.optimum_drift_error for one in own]),
            )
        )
    return Chart(
        alt=f"Drift of the best rate of networks swept with {optimizer}, with two standard "
        f"errors, against the number of updates: {len(swept)} sweeps.",
        x=ChartAxis("updates", low, high, log=True, ticks=tuple((float(t), f"{t}") for t in times)),
        y=ChartAxis("drift of the best rate, decades", -bound, bound),
        marks=tuple(marks),
    )


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"


def _power_of_two(k: int) -> str:
    """2 to the k as a page writes it."""
    return f"{2**k}" if 0 <= k <= 3 else f"2{str(k).translate(SUPERSCRIPTS)}"


def _chart(alt: str, rates: np.ndarray, starts: np.ndarray) -> Chart:
    places = np.arange(len(ROLES))[::-1].astype(float)
    finite = np.concatenate([rates, starts])
    finite = finite[np.isfinite(finite) & (finite > 0)]
    low = min(-2, math.floor(math.log2(finite.min())) - 1)
    high = max(1, math.ceil(math.log2(finite.max())) + 1)
    each = max(1, math.ceil((high - low) / 6))
    ticks = tuple((2.0**k, _power_of_two(k)) for k in range(low, high + 1) if k % each == 0)
    return Chart(
        alt=alt,
        x=ChartAxis("target over base", 2.0**low, 2.0**high, log=True, ticks=ticks),
        y=ChartAxis(
            "",
            -0.7,
            len(ROLES) - 0.3,
            ticks=tuple(
                (place, role.replace("_", " "))
                for place, role in zip(places.tolist(), ROLES, strict=True)
            ),
        ),
        left=136,
        marks=(
            Line([1.0, 1.0], [-0.7, len(ROLES) - 0.3], INK, width=1.0),
            Points(rates, places + 0.15, COLOURS[0], "learning rate", "disc", 5.0),
            Points(starts, places - 0.15, COLOURS[1], "standard deviation at the start", "square"),
        ),
    )
