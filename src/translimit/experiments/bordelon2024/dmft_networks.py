r"""Finite transformers approach their training dynamics in the limit, as one of their sizes grows.

`translimit dmft CONFIG` runs this experiment. What grows is the configuration's choice:

- `axis="heads"`: H grows, the limit has infinitely many heads;
- `axis="head_dim"`: N grows at fixed H and alpha_A = 1, the limit has infinite head dimension;
- `axis="layers"`: L grows at alpha_L = 1, and H in proportion; the limit is the depth ODE.

With E f_n = f + b / n + O(1 / n^2) and Var f_n = v / n in the size n,

- a single network's squared distance falls like 1 / n,
- the mean over seeds, extrapolated as 2 mean(2n) - mean(n), is the limit within its error,
- so is the residual kernel, and the law of attention over heads.

Distances are averaged over evaluations and inputs before errors are taken: entries of one network
are nearly one common mode. With `without` a second limit leaves one response out, and misses.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import translimit.experiments as ex
from translimit import core
from translimit.core import Estimate
from translimit.experiments.bordelon2024.growing_networks import (
    PARTS,
    Config,
    fitted_rate,
    limit,
    limit_without,
    networks,
)
from translimit.experiments.bordelon2024.growing_networks_figures import FIGURES
from translimit.experiments.bordelon2024.limit_and_networks import extrapolated_gap, spread_gap

#: By how much the limit without a response must miss the networks.
MISS = 0.05


def _predictions(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    coarse, fine = networks(found, found.config.last_two)
    return extrapolated_gap(fine, coarse, limit(found), "predictions")


def _kernel(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    coarse, fine = networks(found, found.config.last_two)
    return extrapolated_gap(fine, coarse, limit(found), "kernel")


def _attention(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    return spread_gap(networks(found, found.config.sizes[-1:])[0], limit(found))


def _missed(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """By how much the limit without a response misses, at most what is asked for."""
    del at
    coarse, fine = networks(found, found.config.last_two)
    wrong = extrapolated_gap(fine, coarse, limit_without(found), "predictions")
    return Estimate(min(MISS, abs(wrong.value)), wrong.stderr, wrong.count)


def _where(holds: Callable[[Config], bool]) -> Callable[[Config], Sequence[ex.Alone]]:
    """The grid of claims that only some configurations have."""
    return lambda config: ex.alone(config) if holds(config) else ()


RATE = ex.Claims(
    "rate",
    lambda found, at: (
        "The distance of one network's predictions from the limit falls like "
        f"${found.config.symbol}^{{-1/2}}$."
    ),
    estimate=lambda found, at: found.once(fitted_rate).estimate(),
    prediction=-0.5,
    tol=0.1,
    over=_where(lambda c: c.axis != "layers"),
)
#: The bias of order 1 / L adds to the fluctuations.
RATE_IN_LAYERS = replace(
    RATE,
    statement="The distance of one network's predictions from the limit falls at least like "
    "$L^{-1/2}$.",
    one_sided=True,
    over=_where(lambda c: c.axis == "layers"),
)
PREDICTIONS = ex.Claims(
    "predictions",
    lambda found, at: (
        f"Predictions, extrapolated from ${found.config.symbol} = "
        f"{found.config.sizes[-2]}$ and {found.config.sizes[-1]}, are those of the limit (mean "
        "over evaluations and inputs, towards the targets)."
    ),
    estimate=_predictions,
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=ex.alone,
)
#: Kernels of the depth ODE are those of its cells, not extrapolated.
KERNEL = ex.Claims(
    "kernel",
    "So is the pooled residual kernel $\\langle \\bar m \\bar m \\rangle$ (mean over evaluations "
    "and inputs, relative).",
    estimate=_kernel,
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=_where(lambda c: c.axis != "layers"),
)
ATTENTION = ex.Claims(
    "attention",
    lambda found, at: (
        "After training, the 10-90 % spread of a logit over heads at "
        f"$H = {found.config.sizes[-1]}$ is that of the limit (relative difference)."
    ),
    estimate=_attention,
    prediction=0.0,
    tol=0.1,
    over=_where(lambda c: c.axis == "heads"),
)
RESPONSE = ex.Claims(
    "response",
    lambda found, at: (
        f"Without the response $R^{found.config.without[-1]}$ of the stream the "
        f"limit misses the networks by at least {MISS:g}."
    ),
    estimate=_missed,
    prediction=MISS,
    tol=0.01,
    over=_where(lambda c: c.without != "none"),
)


#: Windows of eight bytes of English prose: does a word end here? A decoder with an MLP.
_TEXT = Config(
    task="text",
    inputs=4,
    tokens=8,
    dim=16,
    mlp="tanh",
    causal=True,
    beta0=1.0,
    gamma0=1.0,
    eta0=0.1,
    steps=10,
    samples=3000,
    neurons=6000,
    populations=6,
    sizes=(8, 16, 32),
    seeds=5000,
    tol=0.03,
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-networks",
    title="Networks of growing size against their training dynamics in the limit, on any data",
    summary="Any data and any architecture of the theory, given by the configuration: networks "
    "whose heads, head dimension or layers grow, and the limit, solved in one causal pass. The "
    "presets learn whether a word of English prose ends after eight bytes; translimit dmft "
    "CONFIG runs it on a file of your own.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            task="synthetic",
            inputs=2,
            tokens=2,
            dim=8,
            steps=8,
            samples=1000,
            populations=6,
            sizes=(8, 16, 32),
            seeds=6000,
        ),
        "standard": _TEXT,
        "paper": replace(
            _TEXT,
            inputs=8,
            layers=2,
            norm="rms",
            steps=16,
            samples=4000,
            neurons=8000,
            populations=8,
            sizes=(8, 16, 32, 64, 128),
            seeds=1000,
            tol=0.02,
        ),
    },
    parts=PARTS,
    claims=(RATE, RATE_IN_LAYERS, PREDICTIONS, KERNEL, ATTENTION, RESPONSE),
    figures=FIGURES,
)
