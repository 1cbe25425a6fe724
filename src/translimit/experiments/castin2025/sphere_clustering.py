r"""Tokens on the circle and the sphere: growth of modes, metastable clusters, energy.

The uniform law on the circle is unstable: mode k grows at the rate k^2 I_k(beta) / (beta I_0(beta))
under SA, and the fastest, k*, predicts how many clusters form. The interaction energy never falls.
What is computed says `sphere_parts`.

Reference: Geshkovski, Koubbi, Polyanskiy and Rigollet, arXiv 2410.06833; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import translimit.experiments as ex
from translimit import core, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.sphere_figures import FIGURES
from translimit.experiments.castin2025.sphere_parts import (
    CLOUDS,
    COUNT_TIME,
    GROWTH,
    MODELS,
    RATES,
    Config,
    predicted_clusters,
)

#: The models as names of claims have them.
SMALL = tuple(model.lower() for model in MODELS)


def _growth_error(
    rule: Callable[[str, float, np.ndarray], np.ndarray] | None = None,
) -> Callable[[ex.Found[Config], str], Estimate]:
    """Largest relative error over all modes, of the formula or of a rival: a factor of it."""

    def measured(found: ex.Found[Config], model: str) -> Estimate:
        growth, place = found(GROWTH), SMALL.index(model)
        told = growth.predicted[place]
        if rule is not None:
            factors = [rule(model, beta, growth.mode) for beta in growth.beta.tolist()]
            told = told * np.array(factors)
        error = np.abs(growth.measured[place] / told - 1.0)
        step = float(np.nanmax(growth.discretisation[place]))
        return Estimate(float(np.nanmax(error)), 0.0, 1, step)

    return measured


def _other_model(model: str, beta: float, mode: np.ndarray) -> np.ndarray:
    """The rate of the other model over that of this one; USA's time is in units of e^beta."""
    rates = [
        limits.meanfield.growth_rates(beta, len(mode), normalised=sa, shift=0.0 if sa else beta)
        for sa in (True, False)
    ]
    return rates[1] / rates[0] if model == "sa" else rates[0] / rates[1]


def _energy_rate(name: str, factor: float = 1.0) -> Callable[[ex.Found[Config], str], Estimate]:
    """The largest relative error of a rate of the energy, over spaces and temperatures."""

    def measured(found: ex.Found[Config], model: str) -> Estimate:
        rates, place = found(RATES), SMALL.index(model)
        chosen = {"sa": "weighted", "usa": "plain"}[model] if name == "right" else name
        error = np.abs(factor * getattr(rates, chosen)[place] / rates.measured[place] - 1.0)
        return Estimate(float(error.max()), count=error.size, discretisation=1e-8)

    return measured


def _counts(found: ex.Found[Config], beta: float) -> np.ndarray:
    """Clusters on the circle under SA at the counting time, cloud by cloud."""
    data = found(CLOUDS, ("circle", beta))
    return data.count[0, :, data.at(COUNT_TIME)].astype(float)


def _clusters(sign: float) -> Callable[[ex.Found[Config], float], Estimate]:
    """Plus or minus the mean number of clusters."""

    def measured(found: ex.Found[Config], beta: float) -> Estimate:
        change = found(CLOUDS, ("circle", beta)).count_change
        return Estimate.from_samples(sign * _counts(found, beta), discretisation=change)

    return measured


def _fastest(beta: float, power: int) -> int:
    """The mode of the largest k^power I_k(beta); two is the right power."""
    modes = int(6 + 4.0 * math.sqrt(beta))
    rates = limits.meanfield.growth_rates(float(beta), modes)
    return 1 + int(np.argmax(rates * np.arange(1.0, modes + 1) ** (power - 2)))


def _exponent(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    betas = found.config.betas
    counts = [_counts(found, beta) for beta in betas]
    return core.fit_rate(betas, counts, paired=True).estimate()


def _several(config: Config) -> Sequence[ex.Alone]:
    """An exponent needs two temperatures."""
    return ex.alone(config) if len(config.betas) > 1 else ()


def _change(sign: float) -> Callable[..., Estimate]:
    """Largest change of the energy of any cloud, times a sign."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        energies = [data.energy for _, data in found.each(CLOUDS)]
        change = max(float((sign * np.diff(energy, axis=-1)).max()) for energy in energies)
        return Estimate(change, 0.0, sum(energy.shape[1] for energy in energies))

    return measured


CLAIMS = (
    ex.Claims(
        "growth-{model}",
        lambda found, model: (
            f"{model.upper()}: small perturbations of the uniform law on the circle grow at the "
            "rates of the Bessel formulas (largest relative error over all modes)."
        ),
        estimate=_growth_error(),
        prediction=0.0,
        tol=1e-6,
        over=lambda c: SMALL,
        rivals=(
            ex.Rival("the rate of the other model", estimate=_growth_error(_other_model)),
            ex.Rival("k in the place of k^2", estimate=_growth_error(lambda m, b, k: 1.0 / k)),
            ex.Rival("times 1.1", estimate=_growth_error(lambda m, b, k: 1.1 + 0.0 * k)),
        ),
    ),
    ex.Claims(
        "clusters-at-most-beta={beta:g}",
        lambda found, beta: (
            f"Uniform tokens on the circle under SA at beta = {beta:g} form no more than $k^* = "
            "\\operatorname{argmax}_k k^2 I_k(\\beta)$ clusters (counted at t = 12, up to a "
            "quarter of one)."
        ),
        estimate=_clusters(1.0),
        prediction=lambda found, beta: predicted_clusters(beta),
        tol=0.25,
        over=lambda c: c.betas,
        rivals=(
            ex.Rival("the maximum of k^3 I_k", lambda found, beta: _fastest(beta, 3)),
            ex.Rival("2 beta^(1/2)", lambda found, beta: 2.0 * math.sqrt(beta)),
        ),
        one_sided=True,
    ),
    ex.Claims(
        "clusters-at-least-beta={beta:g}",
        lambda found, beta: (
            f"At beta = {beta:g} they form at least four fifths of $k^*$, some having merged "
            "(minus the number of clusters)."
        ),
        estimate=_clusters(-1.0),
        prediction=lambda found, beta: -0.8 * predicted_clusters(beta),
        tol=0.0,
        over=lambda c: c.betas,
        rivals=(
            ex.Rival("the maximum of k I_k", lambda found, beta: -_fastest(beta, 1)),
            ex.Rival("a single cluster", -1.0),
        ),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "clusters-exponent",
        "The number of clusters grows like $\\beta^{1/2}$.",
        estimate=_exponent,
        prediction=0.5,
        tol=0.06,
        over=_several,
        rivals=tuple(ex.Rival(f"exponent {p:.3g}", p) for p in (1 / 3, 3 / 4, 1.0, 0.0)),
        decided_by="standard",
    ),
    ex.claim(
        "energy-increases",
        "The interaction energy never falls, under SA and USA, on the circle and on the sphere "
        "(largest fall between two saved times).",
        _change(-1.0),
        prediction=0.0,
        tol=1e-7,
        one_sided=True,
        rivals=(ex.Rival("it never rises", estimate=_change(1.0)),),
    ),
    ex.Claims(
        "energy-rate-{model}",
        lambda found, model: (
            f"{model.upper()}: the energy of uneven clouds rises at the rate of the mean of "
            + ("$Z_i|\\dot x_i|^2$" if model == "sa" else "$|\\dot x_i|^2$")
            + " (largest relative error)."
        ),
        estimate=_energy_rate("right"),
        prediction=0.0,
        tol=1e-6,
        over=lambda c: SMALL,
        rivals=(
            ex.Rival(
                "the rate of the other model",
                estimate=lambda found, model: _energy_rate(
                    {"sa": "plain", "usa": "weighted"}[model]
                )(found, model),
            ),
            ex.Rival(
                "the mean of Z times the mean speed",
                estimate=_energy_rate("mean_partition"),
                when=lambda config, model: model == "sa",
            ),
            ex.Rival("times 1.1", estimate=_energy_rate("right", 1.1)),
        ),
        one_sided=True,
    ),
)


EXPERIMENT = ex.Experiment(
    name="castin2025/sphere-clustering",
    title="Clusters and metastability of tokens on the sphere",
    question="How many clusters do tokens on the sphere form, and how long do they last?",
    summary="With a normalised residual stream tokens live on a sphere and draw together. Small "
    "perturbations of the uniform law on the circle grow at rates given by Bessel functions; the "
    "fastest mode predicts how many clusters form. They then persist for long and merge one by "
    "one, at jumps of an energy that never falls.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("geshkovski2024"),
    presets={
        "demo": Config(),
        "standard": Config(clouds=64, t1=60.0),
        "paper": Config(clouds=256, t1=200.0),
    },
    parts=(CLOUDS, GROWTH, RATES),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "The number of clusters on the circle goes with the exponent {0} in $\\beta$; small "
        "perturbations grow at the predicted rates up to {1}",
        ("clusters-exponent", "growth-sa"),
    ),
)
