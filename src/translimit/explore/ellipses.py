"""The Gaussian closure of the Transformer PDE: an ellipse that moves with depth.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from translimit.attention import Softmax
from translimit.core import solve
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line
from translimit.limits.meanfield import GaussianFlow

#: The value map: it turns, stretches the first direction and shrinks the second.
V = ((0.4, -0.6), (0.6, -1.2))
START = ((1.0, 0.3), (0.3, 0.6))
#: Depth at the end of the slider.
HORIZON = 3.0
CODE = """\
import numpy as np
from translimit import solve
from translimit.attention import Softmax
from translimit.limits.meanfield import GaussianFlow

scale = np.eye(2) / np.sqrt({temperature!r})  # scores <Qx, Ky> are divided by the temperature
attention = Softmax(Q=scale, K=scale, V={V})
flow = GaussianFlow(attention=attention, mean=np.zeros(2), cov={start}, t1={horizon})
solution = solve(flow)  # infinitely many tokens, in closed form; 101 depths
cov, blow_up_time = solution.cov, solution.blow_up_time
now = cov[{index}]  # at depth {depth:.3g}
"""


def shape(view: View) -> Hashable:
    """One program for every view."""
    del view
    return ()


def panel(view: View) -> Panel:
    """How attention moves the law of infinitely many tokens in the plane."""
    scale = np.eye(2) / np.sqrt(view.temperature)
    attention = Softmax(Q=scale, K=scale, V=V)
    flow = GaussianFlow(attention=attention, mean=np.zeros(2), cov=START, t1=HORIZON)
    solution = solve(flow)
    cov, blow_up = np.asarray(solution.cov), float(solution.blow_up_time)
    index = round(100 * view.time)
    depth = HORIZON * index / 100
    exists = np.isfinite(cov[index]).all()
    values = np.linalg.eigvalsh(cov[index]) if exists else np.full(2, np.nan)
    state = (
        f"At depth {depth:.3g} the eigenvalues of the covariance are {values[1]:.3g} and "
        f"{values[0]:.3g}"
        if exists
        else f"At depth {depth:.3g} the law exists no more"
    )
    ends = "no blow-up" if math.isinf(blow_up) else f"the law blows up at depth {blow_up:.4g}"
    return Panel(
        says=f"{state}; {ends} within depth {HORIZON:g}.",
        figures=(
            _ellipses(
                f"Ellipses of one standard deviation from depth 0 to {depth:.3g}, pale to dark; "
                f"{state[0].lower()}{state[1:]}.",
                cov[: index + 1],
            ),
            _eigenvalues(
                f"The two eigenvalues of the covariance against depth; {ends}.",
                np.asarray(solution.ts),
                cov,
                depth,
                blow_up,
            ),
        ),
        assumptions=(
            "Infinitely many tokens with a Gaussian law in the plane; softmax attention keeps it "
            "Gaussian exactly.",
            "The same weights at every depth: Q = K = 1/√temperature, and a value map that turns, "
            "stretches and shrinks. Weights drawn anew in every layer belong to the other panels.",
            "Blow-up belongs to the limit alone: finitely many tokens never fly apart in finite "
            "depth.",
        ),
        verified=(
            Verified(
                "castin2025/particles-and-closure",
                ("closure-*", "sampling-rate"),
                "clouds of tokens against the closure",
            ),
            Verified(
                "castin2025/past-blow-up",
                ("blow-up-time", "no-blow-up"),
                "blow-up belongs to the limit alone",
            ),
            Verified(
                "castin2025/blow-up-times", ("softmax-random",), "the blow-up time, independently"
            ),
            Verified(
                "castin2025/digits",
                ("digits-covariance-*",),
                "real tokens: holds for weak attention, refuted for strong",
            ),
        ),
        code=CODE.format(
            temperature=view.temperature,
            V=[list(row) for row in V],
            start=[list(row) for row in START],
            horizon=HORIZON,
            index=index,
            depth=depth,
        ),
        numbers={"cov": cov, "blow_up_time": blow_up, "now": cov[index]},
    )


def _ellipses(alt: str, covs: np.ndarray) -> Chart:
    exists = np.flatnonzero(np.isfinite(covs).all(axis=(1, 2)))
    turn = np.linspace(0, 2 * np.pi, 121)
    circle = np.stack([np.cos(turn), np.sin(turn)])

    def outline(cov: np.ndarray) -> np.ndarray:
        values, basis = np.linalg.eigh(cov)
        return basis @ (np.sqrt(np.maximum(values, 0.0))[:, None] * circle)

    picks = np.unique(np.linspace(0, exists[-1], 6).astype(int)[1:-1])
    between = [outline(covs[pick]) for pick in picks]
    first, last = outline(covs[0]), outline(covs[exists[-1]])
    reach = 1.1 * max(1.5, *(float(np.abs(one).max()) for one in (first, *between, last)))
    now = "now" if exists[-1] == len(covs) - 1 else "last before the blow-up"
    return Chart(
        alt=alt,
        title="ellipse of one standard deviation",
        x=ChartAxis("first component", -reach, reach),
        y=ChartAxis("second component", -reach, reach),
        square=True,
        marks=(
            Line(first[0], first[1], INK, "depth 0", "3 4", 1.5),
            *(
                Line(one[0], one[1], COLOURS[0], "" if k else "on the way", "", 1.2, 0.45)
                for k, one in enumerate(between)
            ),
            Line(last[0], last[1], COLOURS[1], now, "", 3.0),
        ),
    )


def _eigenvalues(alt: str, ts: np.ndarray, cov: np.ndarray, depth: float, blow_up: float) -> Chart:
    exists = np.isfinite(cov).all(axis=(1, 2))
    values = np.full((len(ts), 2), np.nan)
    values[exists] = np.linalg.eigvalsh(cov[exists])
    marks = [
        Line(ts, values[:, 1], COLOURS[0], "larger eigenvalue"),
        Line(ts, values[:, 0], COLOURS[2], "smaller eigenvalue", "7 4"),
        Line([depth] * 2, [1e-2, 1e3], COLOURS[1], "now", "", 1.6),
    ]
    if math.isfinite(blow_up):
        marks.append(Line([blow_up] * 2, [1e-2, 1e3], INK, "blow-up", "2 4", 1.6))
    return Chart(
        alt=alt,
        title="eigenvalues of the covariance",
        x=ChartAxis("depth t", 0.0, HORIZON),
        y=ChartAxis("eigenvalue", 1e-2, 1e3, log=True),
        marks=tuple(marks),
    )
