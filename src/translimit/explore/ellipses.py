"""The Gaussian closure of the Transformer PDE: an ellipse that moves with depth, and clouds.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from translimit.core import solve
from translimit.explore.maps import Maps, attention, maps_of
from translimit.explore.networks import mean_and_error
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line, Mark, Points
from translimit.limits.meanfield import AdaptiveODE, GaussianFlow, MomentClosure, ParticleFlow

START = ((1.0, 0.3), (0.3, 0.6))
#: Depth at the end of the slider.
HORIZON = 3.0
VERIFIED = (
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
    Verified("castin2025/blow-up-times", ("softmax-random",), "the blow-up time, independently"),
    Verified(
        "castin2025/digits",
        ("digits-covariance-*",),
        "real tokens: holds for weak attention, refuted for strong",
    ),
)
#: Clouds of tokens beside the limit, tokens of each, and depths at which they are kept.
CLOUDS, TOKENS, TIMES = 4, 128, 51
CODE = """\
import numpy as np
from translimit import solve
from translimit.explore.ellipses import clouds
from translimit.explore.maps import attention
from translimit.limits.meanfield import {closure}

maps = {maps}  # Q, K, V by rows
of = attention({variant!r}, maps, {score_temperature!r})  # scores <Qx, Ky> over the temperature
flow = {closure}(attention=of, mean=np.zeros(2), cov={start}, t1={horizon})
solution = solve(flow)  # infinitely many tokens; 101 depths
cov, blow_up_time = solution.cov, solution.blow_up_time
now = cov[{index}]  # at depth {depth:.3g}
tokens = clouds({variant!r}, maps, {score_temperature!r})  # {clouds} clouds of {tokens} tokens
"""


def shape(view: View) -> Hashable:
    """One program for every variant of attention."""
    return view.variant


def panel(view: View) -> Panel:
    """How attention moves the law of infinitely many tokens in the plane, and finite clouds."""
    maps = maps_of(view.maps, view.maps_text)
    of = attention(view.variant, maps, view.score_temperature)
    closure = MomentClosure if view.variant == "sigmoid" else GaussianFlow
    flow = closure(attention=of, mean=np.zeros(2), cov=START, t1=HORIZON)
    solution = solve(flow)
    cov, blow_up = np.asarray(solution.cov), float(solution.blow_up_time)
    tokens = clouds(view.variant, maps, view.score_temperature)
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
    seen = tokens[0, round((TIMES - 1) * view.time)]
    return Panel(
        says=f"{state}; {ends} within depth {HORIZON:g}.",
        figures=(
            _ellipses(
                f"Ellipses of one standard deviation from depth 0 to {depth:.3g}, pale to dark, "
                f"and a cloud of {TOKENS} tokens; {state[0].lower()}{state[1:]}.",
                cov[: index + 1],
                seen,
            ),
            _eigenvalues(
                "The two eigenvalues of the covariance against depth, in the limit and in clouds; "
                f"{ends}.",
                np.asarray(solution.ts),
                cov,
                depth,
                blow_up,
                tokens,
            ),
        ),
        assumptions=(
            _closed(view.variant),
            "The same weights at every depth. Weights drawn anew in every layer belong to the "
            "other panels.",
            f"{CLOUDS} clouds of {TOKENS} tokens, drawn from the same Gaussian; bars are two "
            "standard errors of their mean.",
            "Blow-up belongs to the limit: finitely many tokens under softmax, L2, Sinkhorn or "
            "sigmoid attention never fly apart in finite depth; under linear attention they do.",
        ),
        verified=VERIFIED,
        code=CODE.format(
            score_temperature=view.score_temperature,
            variant=view.variant,
            maps=maps,
            closure=closure.__name__,
            start=[list(row) for row in START],
            horizon=HORIZON,
            index=index,
            depth=depth,
            clouds=CLOUDS,
            tokens=TOKENS,
        ),
        numbers={"cov": cov, "blow_up_time": blow_up, "now": cov[index], "tokens": tokens},
    )


@lru_cache(maxsize=32)
def clouds(
    variant: str, maps: Maps, score_temperature: float | int
) -> Float[np.ndarray, "clouds times tokens 2"]:
    """Tokens of independent clouds at equally spaced depths; NaN after a blow-up.

    Args:
        variant: of attention, by name.
        maps: Q, K and V, row by row.
        score_temperature: what the scores are divided by.
    """
    of = attention(variant, maps, score_temperature)
    method = AdaptiveODE(rtol=1e-4, atol=1e-6, step_to_saves=False)
    draws = np.random.default_rng(0)
    found = []
    for _ in range(CLOUDS):
        initial = draws.multivariate_normal(np.zeros(2), np.array(START), TOKENS)
        flow = ParticleFlow(attention=of, initial=initial, t1=HORIZON)
        solution = solve(flow, method, save=np.linspace(0.0, HORIZON, TIMES))
        found.append(np.asarray(solution.tokens))
    return np.stack(found)


def _closed(variant: str) -> str:
    if variant == "sigmoid":
        return (
            "Infinitely many tokens whose law is taken to be Gaussian: sigmoid attention does not "
            "keep it so, and this closure of two moments is approximate."
        )
    return (
        f"Infinitely many tokens with a Gaussian law in the plane; {variant} attention keeps it "
        "Gaussian exactly."
    )


def _ellipses(alt: str, covs: np.ndarray, tokens: np.ndarray) -> Chart:
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
    if np.isfinite(tokens).all():
        reach = max(reach, 1.1 * float(np.quantile(np.abs(tokens).max(axis=1), 0.9)))
    now = "now" if exists[-1] == len(covs) - 1 else "last before the blow-up"
    return Chart(
        alt=alt,
        title="ellipse of one standard deviation",
        x=ChartAxis("first component", -reach, reach),
        y=ChartAxis("second component", -reach, reach),
        square=True,
        marks=(
            Points(tokens[:, 0], tokens[:, 1], COLOURS[0], f"a cloud of {TOKENS} tokens", size=1.8),
            Line(first[0], first[1], INK, "depth 0", "3 4", 1.5),
            *(
                Line(one[0], one[1], COLOURS[0], "" if k else "on the way", "", 1.2, 0.45)
                for k, one in enumerate(between)
            ),
            Line(last[0], last[1], COLOURS[1], now, "", 3.0),
        ),
    )


def _eigenvalues(
    alt: str,
    ts: np.ndarray,
    cov: np.ndarray,
    depth: float,
    blow_up: float,
    tokens: np.ndarray,
) -> Chart:
    exists = np.isfinite(cov).all(axis=(1, 2))
    values = np.full((len(ts), 2), np.nan)
    values[exists] = np.linalg.eigvalsh(cov[exists])
    marks: list[Mark] = [
        Line(ts, values[:, 1], COLOURS[0], "larger eigenvalue"),
        Line(ts, values[:, 0], COLOURS[2], "smaller eigenvalue", "7 4"),
        Line([depth] * 2, [1e-2, 1e3], COLOURS[1], "now", "", 1.6),
    ]
    if math.isfinite(blow_up):
        marks.append(Line([blow_up] * 2, [1e-2, 1e3], INK, "blow-up", "2 4", 1.6))
    picks = np.arange(0, TIMES, 5)
    centred = tokens[:, picks] - tokens[:, picks].mean(axis=2, keepdims=True)
    finite = np.full((CLOUDS, len(picks), 2), np.nan)
    there = np.isfinite(centred).all(axis=(2, 3))
    found = np.einsum("cpti,cptj->cpij", centred, centred) / TOKENS
    finite[there] = np.linalg.eigvalsh(found[there])
    mean, error = mean_and_error(finite)
    for place, kind, name in (
        (1, "square", f"{CLOUDS} clouds of {TOKENS}, ± 2 s.e."),
        (0, "up", ""),
    ):
        marks.append(
            Points(
                ts[-1] * picks / (TIMES - 1),
                mean[:, place],
                INK,
                name,
                kind,
                3.0,
                2 * error[:, place],
            )
        )
    return Chart(
        alt=alt,
        title="eigenvalues of the covariance",
        x=ChartAxis("depth t", 0.0, HORIZON),
        y=ChartAxis("eigenvalue", 1e-2, 1e3, log=True),
        marks=tuple(marks),
    )
