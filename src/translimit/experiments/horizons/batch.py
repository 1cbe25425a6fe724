r"""How the best rate follows the batch: encoders of digits that see the same number of examples.

One size, AdamW with its memories kept, cosine decay; a batch kappa times as large takes 1 / kappa
as many updates. Where noise dominates the gradient the best rate follows kappa^{1/2} (the square
root scaling rule), and toward the batch at which signal dominates it flattens.

Reference: Malladi et al., arXiv 2205.10287; documentation, "Horizons".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import figures, train
from translimit.checks import read_at, valleys
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.checked import Count, Entries, Increasing, Within
from translimit.experiments.ensembles import ensemble_bytes
from translimit.experiments.horizons.cells import (
    LAYER_SECONDS,
    OTHER_SECONDS,
    UPDATE_SECONDS,
    Grid,
)

#: Tokens and entries of a patch of a digit.
_TOKENS, _PIXELS = 8, 8


@dataclass(frozen=True)
class Config(networks.Networks):
    """The networks, the batches and the rates.

    Attributes: those of `Networks`, whose batch is the one at which the rate is tuned, and
        batches: examples of an update, the tuned one among them.
        examples: seen by every run.
        log2_rates: first and last exponent of the grid at the tuned batch; that of another follows
            the root by whole points.
        probe: digits on which the loss is taken.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    batch: Count = 32
    seeds: Annotated[int, Within(2, 100_000)] = 12
    batches: Annotated[tuple[Count, ...], Increasing(), Entries(2)] = (8, 32, 128)
    examples: Count = 3840
    log2_rates: Grid = (-9, -2)
    probe: Annotated[int, Within(1, 1797)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.images != "digits":
            raise ConfigError("images", f"got {self.images!r}", "this experiment learns digits")
        if self.batch not in self.batches:
            raise ConfigError("batches", f"got {self.batches}", f"have {self.batch} among them")
        if any(self.examples % batch for batch in self.batches):
            raise ConfigError(
                "examples", f"got {self.examples}", f"pass a multiple of all of {self.batches}"
            )
        if self.log2_rates[1] - self.log2_rates[0] < 2:
            raise ConfigError("log2_rates", f"got {self.log2_rates}", "pass 3 rates or more")

    def rates(self, batch: int) -> tuple[float, ...]:
        """The grid of a batch."""
        first, last = self.log2_rates
        shift = round(0.5 * math.log2(batch / self.batch))
        return tuple(2.0 ** (power + shift) for power in range(first, last + 1))

    @property
    def others(self) -> tuple[int, ...]:
        """The batches to which the rate is carried."""
        return tuple(one for one in self.batches if one != self.batch)


@dataclass(frozen=True)
class Losses(ex.Arrays):
    """Losses on the probe at the end; diverged runs at 10."""

    rate: Float[np.ndarray, " rate"]
    loss: Annotated[Float[np.ndarray, "seed rate"], "loss on the probe"]


def compute(config: Config, batch: int, keys: ex.Keys) -> Losses:
    """Train networks with one batch; all batches share their starts."""
    rates = config.rates(batch)
    found = train.ladder_losses(
        [networks.base_shape(config)],
        networks.standard,
        networks.images(config.images),
        train.Training(
            steps=config.examples // batch,
            rates=rates,
            seeds=config.seeds,
            batch=batch,
            optimizer=networks.optimizer("adamw"),
            schedule=train.Schedule(decay="cosine"),
        ),
        (config.examples // batch,),
        key=keys.shared("starts"),
        probe=config.probe,
    )[0, :, :, 0]
    return Losses(np.array(rates), np.where(found < 10, found, 10.0))


def _cost(config: Config, batch: int) -> ex.Cost:
    head_dim, heads, layers = config.base
    members = config.seeds * (config.log2_rates[1] - config.log2_rates[0] + 1)
    fixed = 0.3 * 16 / batch  # what an update of a small batch takes besides its examples
    each = UPDATE_SECONDS / 16 * (1 + fixed) * (head_dim * heads / 16) ** 1.5
    memory = ensemble_bytes(
        config.base,
        members=members,
        batch=batch,
        tokens=_TOKENS,
        outputs=10,
        features=_PIXELS,
        mlp_ratio=config.mlp_ratio,
    )
    seconds = OTHER_SECONDS + LAYER_SECONDS * layers + members * config.examples * layers * each
    return ex.Cost(seconds, memory)


RUNS = ex.Part("batch={batch}", Losses, compute, grid=lambda c: c.batches, cost=_cost)


@dataclass(frozen=True)
class Read:
    """What is read off valleys of all batches, in one resample of the seeds or of all.

    Attributes:
        optima: log10 of the best rate by batch; NaN at an end of the grid.
        regrets: nats by rule and batch, for the rate carried from the tuned batch; NaN for the root
            beyond the grid; for the others what they cost at its end, which is less than beyond.
    """

    optima: dict[int, float]
    regrets: dict[tuple[str, int], float]


#: Exponents of kappa with which a rate may be carried.
RULES = {"root": 0.5, "linear": 1.0, "none": 0.0}


def _read(found: ex.Found[Config], seeds: np.ndarray) -> Read:
    config = found.config
    optima: dict[int, float] = {}
    means = {}
    for batch in config.batches:
        told = found(RUNS, batch)
        grid, mean = np.log10(told.rate), np.log(told.loss[seeds]).mean(axis=0)[None]
        lowest = valleys(grid, mean)
        optima[batch] = float(lowest.place[0]) if lowest.edge[0] == 0 else math.nan
        means[batch] = grid, mean, float(lowest.depth[0])
    regrets = {}
    for batch in config.others:
        grid, mean, depth = means[batch]
        for rule, exponent in RULES.items():
            carried = optima[config.batch] + exponent * math.log10(batch / config.batch)
            # The claim is that the root costs less: its own cost is never that of an end.
            place = min(max(carried, grid[0]), grid[-1])
            known = place == carried or (rule != "root" and math.isfinite(carried))
            regrets[rule, batch] = (
                float(read_at(grid, mean, np.array([place]))[0]) - depth if known else math.nan
            )
    return Read(optima, regrets)


def _resampled(found: ex.Found[Config]) -> list[Read]:
    """The whole first, then resamples of the seeds, which have one start at all batches."""
    seeds = found.config.seeds
    rng = np.random.default_rng(0)
    rows = [np.arange(seeds), *(rng.integers(seeds, size=seeds) for _ in range(300))]
    return [_read(found, one) for one in rows]


def _estimated(found: ex.Found[Config], values: list[float]) -> Estimate:
    """The first value, with the spread of the others as its error; none if one in ten has none."""
    seeds = found.config.seeds
    drawn = [one for one in values[1:] if math.isfinite(one)]
    if not math.isfinite(values[0]) or len(drawn) < max(2, 0.9 * len(values[1:])):
        return Estimate(values[0], math.nan, seeds)
    return Estimate(values[0], float(np.std(drawn)) * math.sqrt(seeds / (seeds - 1)), seeds)


def _exponent(found: ex.Found[Config]) -> Estimate:
    """Of the best rate in the batch, over all of them, by least squares."""
    logs = np.log10(found.config.batches)
    logs = (logs - logs.mean()) / np.square(logs - logs.mean()).sum()
    told = [
        float(sum(w * x for w, x in zip(logs, one.optima.values(), strict=True)))
        for one in found.once(_resampled)
    ]
    return _estimated(found, told)


def _advantage(found: ex.Found[Config], rule: str) -> Estimate:
    """Regret of the root minus that of another rule, mean over batches."""
    others = found.config.others
    told = [
        sum(one.regrets["root", b] - one.regrets[rule, b] for b in others) / len(others)
        for one in found.once(_resampled)
    ]
    return _estimated(found, told)


CLAIMS = (
    ex.claim(
        "exponent",
        "At the same number of examples the best rate under AdamW follows the batch with an "
        "exponent of 0.45 (the square root, flattening toward large batches).",
        estimate=_exponent,
        prediction=0.45,
        tol=0.2,
        rivals=(ex.Rival("linear", 1.0), ex.Rival("it does not depend on the batch", 0.0)),
        decided_by="standard",
    ),
    ex.claim(
        "root-beats-linear",
        "A rate carried with the root of the batch costs less than one carried in proportion, by "
        "0.15 nats or more (difference of regrets, mean over batches).",
        estimate=lambda found: _advantage(found, "linear"),
        prediction=-0.15,
        tol=0.05,
        one_sided=True,
        rivals=(ex.Rival("they cost the same", 0.0),),
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for batch in found.config.batches:
        told = found(RUNS, batch)
        logs = np.log(told.loss)
        errors = logs.std(axis=0, ddof=1) / len(logs) ** 0.5
        for rate, mean, error in zip(told.rate, logs.mean(axis=0), errors, strict=True):
            yield f"batch {batch}", float(rate), float(mean), float(error)


def _optimum_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    config, told = found.config, found.once(_resampled)
    for batch in config.batches:
        best = _estimated(found, [one.optima[batch] for one in told])
        root = told[0].optima[config.batch] + 0.5 * math.log10(batch / config.batch)
        paid = [_told(found, rule, batch) for rule in RULES]
        error = best.stderr if math.isfinite(best.stderr) else None
        value = best.value if math.isfinite(best.value) else None
        yield batch, value, error, root, *(number for one in paid for number in one)


def _told(found: ex.Found[Config], rule: str, batch: int) -> tuple[float | None, float | None]:
    """A regret with its error, where there is one."""
    if batch == found.config.batch:
        return 0.0, 0.0
    told = _estimated(found, [one.regrets[rule, batch] for one in found.once(_resampled)])
    return (told.value, told.stderr) if math.isfinite(told.stderr) else (None, None)


VALLEYS = ex.Figure(
    name="valleys",
    title="Loss against rate by batch",
    caption="Mean log loss after {examples} examples, with standard errors over {seeds} seeds.",
    columns=("batch", "rate", "log loss", "stderr"),
    rows=_rows,
    x="rate",
    by="batch",
    layers=(figures.points("log loss", "stderr", joined=True),),
    xlabel="rate",
    ylabel="log loss",
    log="x",
)
BEST = ex.Figure(
    name="best-rates",
    title="Best rate against the batch",
    caption="log10 of the best rate with one error of a bootstrap over seeds; the line is the root "
    "of the batch through the tuned one. The table has what carrying the rate by each rule costs.",
    columns=(
        *("batch", "best rate", "error", "root"),
        *(f"{rule}{end}" for rule in RULES for end in (" costs", " error")),
    ),
    rows=_optimum_rows,
    x="batch",
    layers=(
        figures.points("best rate", "error", label="best rate"),
        figures.line("root", label="root of the batch", series=None),
    ),
    xlabel="batch",
    ylabel="log10 of the best rate",
    log="x",
)

EXPERIMENT = ex.Experiment(
    name="horizons/batch",
    title="The best rate under AdamW follows the root of the batch",
    question="How does the best rate under AdamW follow the batch?",
    summary="Small encoders of digits see the same number of examples in batches of 8, 32 and "
    "128, under cosine decay: how the best rate follows the batch, and what carrying it by the "
    "root, in proportion, or not at all costs.",
    citations=("malladi2022", "digits", "jax"),
    reference="Malladi et al., arXiv 2205.10287",
    presets={
        "demo": Config(seeds=6, batches=(16, 64), batch=16, examples=960, log2_rates=(-8, -3)),
        "standard": Config(),
        "paper": Config(seeds=24, batches=(8, 32, 128), examples=15_360),
    },
    parts=(RUNS,),
    claims=CLAIMS,
    figures=(VALLEYS, BEST),
    finding=ex.Finding(
        "Under AdamW the best rate follows the batch with the exponent {0}; carried by the root "
        "it costs {1:negated} nats less than carried in proportion",
        ("exponent", "root-beats-linear"),
    ),
)
