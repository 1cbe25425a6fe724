"""Increments of overlaps over single layers of explicit weights, and their limit.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.core import Key

#: The configuration of the single layers, their dimension and step.
START = ((1.0, 0.3, -0.2), (0.3, 1.0, 0.5), (-0.2, 0.5, 1.0))
ONE_DIM, ONE_STEP = 5, 0.1
PAIRS = ((0, 1), (0, 2), (1, 2))
#: Pairs of these pairs.
PRODUCTS = tuple((a, b) for a in range(3) for b in range(a, 3))
MOMENTS = ("drift", "covariation")


@dataclass(frozen=True)
class OneStep(ex.Arrays):
    """Increments over single layers, per unit of diffusive time, and what the limit says."""

    overlap: Shaped[np.ndarray, " overlap"]
    pair: Shaped[np.ndarray, " pair"]
    drift: Float[np.ndarray, " overlap"]
    drift_stderr: Float[np.ndarray, " overlap"]
    drift_theory: Float[np.ndarray, " overlap"]
    covariation: Float[np.ndarray, " pair"]
    covariation_stderr: Float[np.ndarray, " pair"]
    covariation_theory: Float[np.ndarray, " pair"]
    step: float
    layers: int

    def moment(self, name: str) -> tuple[list[str], tuple[Float[np.ndarray, " moment"], ...]]:
        """Labels; and mean, standard error and theory of the drift or of the covariation."""
        if name == "drift":
            return self.overlap.tolist(), (self.drift, self.drift_stderr, self.drift_theory)
        return self.pair.tolist(), (
            self.covariation,
            self.covariation_stderr,
            self.covariation_theory,
        )

    def deviation(self, name: str) -> Estimate:
        """The largest relative deviation, with its standard error and the order of the step."""
        _, (mean, stderr, theory) = self.moment(name)
        gap, scale = np.abs(mean - theory), float(np.abs(theory).max())
        worst = int(np.argmax(gap))
        error, step = float(stderr[worst]) / scale, self.step
        return Estimate(float(gap[worst]) / scale, error, self.layers, 0.5 * step)

    def rows(self) -> Iterator[tuple[str | float, ...]]:
        """Label, mean, standard error and theory of every moment."""
        for name in MOMENTS:
            labels, columns = self.moment(name)
            yield from zip(labels, *(one.tolist() for one in columns), strict=True)


def one_step(layers: int, key: Key) -> OneStep:
    """Single layers of explicit weights, their drift and their covariations."""
    start, pairs, time = np.array(START), np.array(PAIRS).T, ONE_STEP**2
    law = describe.GaussianHeads.of_score_std(1.0, dim=ONE_DIM)
    tokens = np.linalg.cholesky(start) @ np.eye(3, ONE_DIM)
    chain = models.RandomHeadChain(law=law, step=ONE_STEP, heads=1, layers=1)
    moved = chain.simulate(tokens, replicas=layers, key=key).overlaps[:, 1]
    rows = np.asarray((moved - start)[:, *pairs] / time)
    products = np.stack([rows[:, a] * rows[:, b] * time for a, b in PRODUCTS], 1)
    overlaps = limits.homogenized.overlaps
    kernel = core.named_key(key, "kernel")
    s = overlaps.attention_overlap(law, start, samples=layers, key=kernel).value
    covariation = [
        overlaps.overlap_covariation(start, s, ONE_DIM, PAIRS[a], PAIRS[b]) for a, b in PRODUCTS
    ]
    names = [f"R{a + 1}{b + 1}" for a, b in PAIRS]
    drift, drift_stderr = common.mean_and_stderr(rows)
    product, product_stderr = common.mean_and_stderr(products)
    return OneStep(
        overlap=np.array(names),
        pair=np.array([f"{names[a]}, {names[b]}" for a, b in PRODUCTS]),
        drift=drift,
        drift_stderr=drift_stderr,
        drift_theory=np.asarray(overlaps.overlap_drift(start, s, ONE_DIM)[*pairs]),
        covariation=product,
        covariation_stderr=product_stderr,
        covariation_theory=np.array(covariation),
        step=time,
        layers=layers,
    )


def draw_one_step(canvas: Canvas, data: OneStep) -> None:
    """Drift and covariations side by side, a place for each overlap or pair."""
    axes = canvas.subplots(1, 2, gridspec_kw={"width_ratios": [1, 2]})
    for ax, name in zip(axes, MOMENTS, strict=True):
        labels, (mean, stderr, theory) = data.moment(name)
        at = np.arange(len(labels))
        ticks = tuple(zip(map(float, at), labels, strict=True))
        chart = figures.Chart(
            alt=f"{name} of single layers",
            x=figures.ChartAxis("", -0.6, len(labels) - 0.4, ticks=ticks),
            y=figures.ChartAxis(f"{name} per unit of $\\tau$"),
            marks=(
                figures.Points(at, theory, label="limit", kind="dash"),
                figures.Points(at, mean, figures.COLOURS[0], "single layers", error=stderr),
            ),
        )
        figures.draw_chart(chart, ax)
