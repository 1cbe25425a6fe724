"""A transformer with infinitely many heads learns three inputs: its loss, step by step.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable

import numpy as np

from translimit.core import solve
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line
from translimit.limits.dmft import Architecture, TrainingDynamics

#: Updates, learning rate, and the depth beyond which the panel does not go.
STEPS, RATE, DEEPEST = 16, 0.2, 8
TARGETS = (1.0, -1.0, 1.0)
CODE = """\
import math
import numpy as np
from translimit import solve
from translimit.limits.dmft import Architecture, TrainingDynamics

architecture = Architecture(head_dim=math.inf, layers={layers}, alpha_L={alpha_l!r})
inputs = np.random.default_rng(0).standard_normal((3, 2, 8))  # 3 inputs of 2 tokens
training = TrainingDynamics(
    architecture=architecture, inputs=inputs, targets={targets}, steps={steps}, eta0={rate}
)
solution = solve(training)  # infinitely many heads, gradient descent
loss, sharpness = solution.loss, solution.sharpness
"""


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the layers."""
    return min(view.layers, DEEPEST)


def panel(view: View) -> Panel:
    """How the loss falls in the limit of infinitely many heads."""
    layers = min(view.layers, DEEPEST)
    architecture = Architecture(head_dim=math.inf, layers=layers, alpha_L=view.alpha_l)
    inputs = np.random.default_rng(0).standard_normal((3, 2, 8))
    training = TrainingDynamics(
        architecture=architecture,
        inputs=inputs,
        targets=np.array(TARGETS),
        steps=STEPS,
        eta0=RATE,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve(training)
    loss, sharpness = np.asarray(solution.loss), np.asarray(solution.sharpness)
    cut = "" if layers == view.layers else f" (of {view.layers}; deeper ones cost too long)"
    return Panel(
        says=f"With {layers} layers{cut} the loss falls from {loss[0]:.3g} to {loss[-1]:.3g} in "
        f"{STEPS - 1} updates; the tangent kernel's sharpness goes from {sharpness[0]:.3g} to "
        f"{sharpness[-1]:.3g}.",
        figures=(
            _chart(
                f"Loss against the update, from {loss[0]:.3g} to {loss[-1]:.3g}.",
                "loss",
                loss,
                COLOURS[0],
            ),
            _chart(
                f"Sharpness against the update, from {sharpness[0]:.3g} to {sharpness[-1]:.3g}.",
                "sharpness of the tangent kernel",
                sharpness,
                COLOURS[1],
            ),
        ),
        assumptions=(
            "Infinitely many heads of infinite dimension, attention blocks alone, gradient descent "
            f"at rate {RATE:g} on the square loss.",
            "A tiny problem: three inputs of two tokens in eight dimensions, fixed once; the limit "
            "is solved, no network is trained.",
            f"Branches are scaled by L^-α_L with α_L = {view.alpha_l:g}.",
            *dict.fromkeys(f"Note: {one.message}" for one in caught),
        ),
        verified=(
            Verified(
                "bordelon2024/dmft-networks",
                ("rate", "predictions", "kernel"),
                "trained networks of growing size on bytes of a text",
            ),
            Verified(
                "bordelon2024/dmft-depth", ("ode", "learned", "frozen"), "the exponent of depth"
            ),
        ),
        code=CODE.format(
            layers=layers,
            alpha_l=view.alpha_l,
            targets=f"np.array({list(TARGETS)})",
            steps=STEPS,
            rate=RATE,
        ),
        numbers={"loss": loss, "sharpness": sharpness},
    )


def _chart(alt: str, label: str, values: np.ndarray, colour: str) -> Chart:
    finite = values[np.isfinite(values)]
    high = 1.1 * float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    updates = np.arange(len(values))
    return Chart(
        alt=alt,
        title=label,
        x=ChartAxis("update", 0, len(values) - 1),
        y=ChartAxis(label if len(label) < 12 else "sharpness", 0.0, high),
        marks=(
            Line([0, len(values) - 1], [0.0, 0.0], INK, width=1.0),
            Line(updates, values, colour, "infinitely many heads"),
        ),
    )
