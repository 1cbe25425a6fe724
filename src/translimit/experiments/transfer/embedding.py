r"""Is the gain of the rules the rate of the embedding? Four arms, language models on bytes.

The ordinary parameterization (one rate, scores N^{-1/2}) with the rate of embeddings times m_d has
the embeddings, the hidden matrices and a readout of zeros of the rules at a base rate that is m_d
larger; only gains, biases and the scale of the scores differ. So its best rate must fall like
1 / m_d, as that of the ordinary one: a loss at the own optimum may come from the embedding's rate,
transfer cannot.

Reference: Kalra and Barkeshli, arXiv 2605.21486 (abstract), whose hypothesis this is;
documentation, "Horizons".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.checks import read_at, valleys
from translimit.core import Estimate
from translimit.experiments.transfer.arms import ARMS, NETWORKS, ORDINARY, Arm, At, Config, all_arms

SAID = {
    "rules": "the rules",
    "rules-emb": "the rules with the rate of embeddings over $m_d$",
    "sp": "the ordinary parameterization",
    "sp+emb": "the ordinary one with the rate of embeddings times $m_d$",
}
#: Updates from which the arms are told apart by their losses.
LONG = 200


@dataclass(frozen=True)
class Read:
    """log10 of the best rate, NaN at an end of the grid, and the mean log loss there."""

    optimum: float
    depth: float


def _read(found: ex.Found[Config], seeds: np.ndarray) -> dict[At, Read]:
    told = {}
    for at in all_arms(found.config):
        losses = found(NETWORKS, at)
        grid, mean = np.log10(losses.rate), np.log(losses.loss[seeds]).mean(axis=0)[None]
        lowest = valleys(grid, mean)
        place = float(lowest.place[0]) if lowest.edge[0] == 0 else math.nan
        told[at] = Read(place, float(read_at(grid, mean, lowest.place)[0]))
    return told


def _resampled(found: ex.Found[Config]) -> list[dict[At, Read]]:
    """The whole first, then resamples of the seeds, which are those of all arms."""
    seeds, rng = found.config.seeds, np.random.default_rng(0)
    rows = [np.arange(seeds), *(rng.integers(seeds, size=seeds) for _ in range(500))]
    return [_read(found, one) for one in rows]


def _estimated(found: ex.Found[Config], values: list[float]) -> Estimate:
    """The first value, with the spread of the others as its error."""
    seeds = found.config.seeds
    drawn = [one for one in values[1:] if math.isfinite(one)]
    if not math.isfinite(values[0]) or len(drawn) < 0.95 * len(values[1:]):
        return Estimate(values[0], math.nan, seeds)
    return Estimate(values[0], float(np.std(drawn)) * math.sqrt(seeds / (seeds - 1)), seeds)


def _drift(found: ex.Found[Config], arm: Arm) -> Estimate:
    """Of the largest network's best rate against the base's, in decades."""
    at, base = At(arm, found.config.largest), At("rules", 1)
    told = found.once(_resampled)
    return _estimated(found, [one[at].optimum - one[base].optimum for one in told])


def _behind(found: ex.Found[Config], arm: Arm) -> Estimate:
    """Nats by which the rules' loss is above that of an arm, each at its own best rate."""
    large = found.config.largest
    told = [
        one[At("rules", large)].depth - one[At(arm, large)].depth for one in found.once(_resampled)
    ]
    return _estimated(found, told)


def _expected(found: ex.Found[Config], arm: Arm) -> float:
    return -math.log10(found.config.largest) if arm in ORDINARY else 0.0


DRIFT = ex.Claims(
    "drift-{arm}",
    lambda found, arm: (
        f"The best rate under {SAID[arm]}, at {found.config.largest} times the head dimension "
        f"against the base (decades, {found.config.steps} updates)."
    ),
    estimate=_drift,
    prediction=_expected,
    tol=0.2,
    over=lambda config: list(ARMS),
    rivals=(
        ex.Rival(
            "the rate of the embedding decides whether a rate transfers",
            lambda found, arm: 0.0 if arm == "sp+emb" else -math.log10(found.config.largest),
            when=lambda config, arm: arm in ("sp+emb", "rules-emb"),
        ),
        ex.Rival(
            "the other parameterization",
            lambda found, arm: -math.log10(found.config.largest) - _expected(found, arm),
            when=lambda config, arm: arm in ("rules", "sp"),
        ),
    ),
    decided_by="standard",
)


def _gained(config: Config) -> list[Arm]:
    return ["sp", "sp+emb"] if config.steps >= LONG else []


GAIN = ex.Claims(
    "gain-over-{arm}",
    lambda found, arm: (
        f"At their own best rates the rules have a lower loss than {SAID[arm]} after "
        f"{found.config.steps} updates (difference of log losses below $-0.003$)."
    ),
    estimate=_behind,
    prediction=-0.003,
    tol=0.0,
    over=_gained,
    rivals=(
        ex.Rival("the rules gain nothing", 0.0, when=lambda config, arm: arm == "sp"),
        ex.Rival(
            "the rate of the embedding is all of the gain",
            0.0,
            when=lambda config, arm: arm == "sp+emb",
        ),
    ),
    one_sided=True,
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at in all_arms(found.config):
        losses = found(NETWORKS, at)
        logs = np.log(losses.loss)
        errors = logs.std(axis=0, ddof=1) / len(logs) ** 0.5
        name = "base" if at.multiple == 1 else f"{at.arm}, {at.multiple} times"
        for rate, mean, error in zip(losses.rate, logs.mean(axis=0), errors, strict=True):
            yield name, float(rate), float(mean), float(error)


def _arm_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for place, arm in enumerate(ARMS):
        drift, behind = _drift(found, arm), _behind(found, arm)
        error = drift.stderr if math.isfinite(drift.stderr) else None
        value = drift.value if math.isfinite(drift.value) else None
        yield arm, place, value, error, _expected(found, arm), -behind.value, behind.stderr


VALLEYS = ex.Figure(
    name="valleys",
    title="Loss against rate, arm by arm",
    caption="Mean log loss after {steps} updates under cosine decay, with standard errors over "
    "{seeds} seeds. Bytes of English prose; along the head dimension.",
    columns=("arm", "rate", "log loss", "stderr"),
    rows=_rows,
    x="rate",
    by="arm",
    layers=(figures.points("log loss", "stderr", joined=True),),
    xlabel="base rate",
    ylabel="log loss",
    log="x",
)
ARMS_FIGURE = ex.Figure(
    name="arms",
    title="What the rate of the embedding does to best rate and loss",
    caption="Largest network, one error of a bootstrap over {seeds} seeds that all arms share. "
    "Left: best rate over that of the base, in decades, and what is expected (dashes). Right: log "
    "loss at the own best rate, over that of the rules, after {steps} updates.",
    columns=("arm", "place", "drift", "error", "expected", "log loss over rules", "loss error"),
    rows=_arm_rows,
    x="place",
    layers=(
        figures.panel(
            "best rate",
            figures.points("drift", "error", label="networks"),
            figures.points("expected", series=None, label="expected"),
            ylabel="decades",
        ),
        figures.panel(
            "loss at the own best rate",
            figures.points("log loss over rules", "loss error", series=1, label="networks"),
            ylabel="log loss over the rules'",
        ),
    ),
    ticks="arm",
    xlim=(-0.5, len(ARMS) - 0.5),
    xlabel="rate of the embedding",
    size=(11.0, 4.4),
)

EXPERIMENT = ex.Experiment(
    name="transfer/embedding",
    title="Is the gain of the rules the rate of the embedding?",
    question="Is the gain of the rules only the rate of the embedding?",
    summary="Language models on bytes under the rules and under the ordinary parameterization, "
    "each with the rate of embeddings of the other. The embedding's rate does not decide whether a "
    "rate transfers; what it does to the loss at the own best rate is measured beside it.",
    citations=("bordelon2024", "jax"),
    reference='documentation, "Horizons"; arXiv 2605.21486, whose hypothesis is tested',
    presets={
        "demo": Config(steps=60, seeds=6, probe=64),
        "standard": Config(seeds=16),
        "paper": Config(base=(8, 4, 2), multiples=(1, 2, 4), steps=1000, seeds=16),
    },
    parts=(NETWORKS,),
    claims=(DRIFT, GAIN),
    figures=(VALLEYS, ARMS_FIGURE),
    finding=ex.Finding(
        "The best rate of the ordinary parameterization moves by {0} decades, with the rate of "
        "embeddings times $m_d$ by {1}, and by {2} under the rules",
        ("drift-sp", "drift-sp+emb", "drift-rules"),
    ),
)
