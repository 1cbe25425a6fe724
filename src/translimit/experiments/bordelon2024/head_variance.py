r"""Do heads become alike? The variance of scores over heads, at the start and after training.

In training it goes like N^(1 - 2 alpha_A): for alpha_A = 1 it falls like 1/N, heads collapse onto
one, for alpha_A = 1/2 it does not fall. At a fixed number of heads and a large rate the fall
becomes slower with the steps, since what heads learn differs: the rate says how long the law of the
start holds.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", head statement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import checks, core, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

ALPHAS = (1.0, 0.5)
#: When the variance is taken: at the start, after a few steps, after all of them at a small rate,
#: after all of them.
TIMES = ("start", "early", "slow", "trained")
#: A time, and alpha_A.
CASES = tuple((when, alpha) for alpha in ALPHAS for when in TIMES)
TRAINED = ("trained", 1.0)


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        head_dims: N of the networks that train.
        steps: updates.
        early: updates after which is also recorded.
        rate: of SGD at the base.
        slow: the part of that rate at which networks train besides.
    """

    batch: Count = 64
    seeds: Count = 8
    head_dims: Annotated[IncreasingSizes, Entries(2)] = (4, 8, 16, 32)
    steps: Count = 60
    early: Count = 10
    rate: Positive = 0.3
    slow: Annotated[float, Within(0, 1, above=True)] = 0.1

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )


@dataclass(frozen=True)
class Variances(ex.Arrays):
    """Variance over heads of the scores of networks with one head dimension."""

    alpha_A: Float[np.ndarray, " alpha_A"]
    when: Shaped[np.ndarray, " when"]
    variance: Float[np.ndarray, "alpha_A when seed"]

    def at(self, when: str, alpha: float) -> Float[np.ndarray, " seed"]:
        """One of `CASES`."""
        return self.variance[self.alpha_A.tolist().index(alpha), self.when.tolist().index(when)]


def compute_variances(config: Config, head_dim: int, keys: ex.Keys) -> Variances:
    """Networks that train at two rates; both exponents share a compiled program."""
    shape = networks.shape_at(config, "head_dim", head_dim)
    training = train.Training(
        steps=config.steps,
        rates=(config.slow * config.rate, config.rate),
        seeds=config.seeds,
        batch=config.batch,
        optimizer=networks.optimizer("sgd"),
    )
    rows = []
    for alpha in ALPHAS:
        history = train.train(
            shape,
            networks.ruled(config, shape, "sgd", alpha_A=alpha),
            networks.images(config.images),
            training,
            key=keys.shared("starts"),
            observe=(train.HeadVariance(),),
            observe_at=(0, config.early, config.steps),
        )
        start, early, trained = history["score_head_var"].mean(axis=-1)  # each [seeds, rates]
        rows.append([start[:, 1], early[:, 1], trained[:, 0], trained[:, 1]])
    return Variances(alpha_A=np.array(ALPHAS), when=np.array(TIMES), variance=np.array(rows))


def _cost(config: Config, head_dim: int) -> ex.Cost:
    """Compilation, and floating-point operations of both rates and exponents."""
    _, heads, layers = config.base
    dim, tokens = heads * head_dim, 8 if config.images == "digits" else 64
    weights = (4 + 2 * config.mlp_ratio) * layers * dim**2
    examples = 4 * config.seeds * config.steps * config.batch
    return ex.Cost(12.0 + 6 * weights * examples * tokens / 1e10)


VARIANCES = ex.Part(
    "trained/N={head_dim}", Variances, compute_variances, grid=lambda c: c.head_dims, cost=_cost
)


def _law(found: ex.Found[Config], at: tuple[str, float]) -> PowerLaw:
    """One of `CASES` over head dimensions."""
    when, alpha = at
    rows = np.array([one.at(when, alpha) for _, one in found.each(VARIANCES)])
    series = "all steps" if when == "trained" else when
    return PowerLaw(rf"$\alpha_A$ = {alpha:g}", series, found.config.head_dims, rows, 1 - 2 * alpha)


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    return [_law(found, case) for case in CASES]


def _slower(found: ex.Found[Config]) -> Estimate:
    """The exponent of the start less that of the end at alpha_A = 1, seed by seed."""
    laws = (_law(found, (when, 1.0)) for when in ("start", "trained"))
    start, end = (checks.power_law_exponents(law.sizes, law.rows) for law in laws)
    return Estimate.over_seeds(start - end)


def _statement(found: ex.Found[Config], at: tuple[str, float]) -> str:
    (when, alpha), config = at, found.config
    words = {
        "start": "at the start",
        "early": f"after {config.early} steps of SGD at rate {config.rate:g}",
        "slow": f"after {config.steps} steps of SGD at rate {config.slow * config.rate:g}",
        "trained": f"after {config.steps} steps of SGD at rate {config.rate:g}",
    }
    return (
        f"$\\alpha_A = {alpha:g}$: the variance of scores over heads {words[when]} goes like "
        f"$N^{{{1 - 2 * alpha:g}}}$."
    )


def _trained(config: Config) -> str:
    """What was run where the printed setting was not."""
    heads, data = config.base[1], config.images
    return f"on {data} with $H = {heads}$ after {config.steps} steps of SGD at rate {config.rate:g}"


def _one(config: Config, at: tuple[str, float]) -> bool:
    del config
    return at[1] == 1


def _half(config: Config, at: tuple[str, float]) -> bool:
    return not _one(config, at)


def _end(found: ex.Found[Config]) -> Estimate:
    return _law(found, TRAINED).exponent


CLAIMS = (
    ex.Claims(
        "{when}-{alpha:g}",
        _statement,
        estimate=lambda found, at: _law(found, at).exponent,
        prediction=lambda found, at: 1 - 2 * at[1],
        tol=0.2,
        over=lambda c: [case for case in CASES if case != TRAINED],
        rivals=(
            ex.Rival("$N^{2 - 2\\alpha_A}$", lambda found, at: 2 - 2 * at[1]),
            ex.Rival("that of the deviation, $N^{1/2 - \\alpha_A}$", -0.5, when=_one),
            ex.Rival("the printed $N^{-2}$ of trained heads", -2.0, when=_one),
            ex.Rival("$N^{-\\alpha_A}$", -0.5, when=_half),
            ex.Rival("$1/N$ at every $\\alpha_A$", -1.0, when=_half),
        ),
        decided_by="standard",
    ),
    ex.Claims(
        "trained-1-falls",
        lambda found, at: (
            "$\\alpha_A = 1$: the variance of scores over heads falls with $N$ "
            f"{_trained(found.config)} (its exponent is below 0)."
        ),
        estimate=lambda found, at: _end(found),
        prediction=0.0,
        tol=0.0,
        over=ex.alone,
        rivals=(ex.Rival("it stays, as at 1/2", 0.0),),
        one_sided=True,
    ),
    ex.Claims(
        "trained-1-slower-than-at-start",
        lambda found, at: (
            f"$\\alpha_A = 1$: it falls more slowly than at the start {_trained(found.config)}, "
            "since heads learn different things (the exponent of the start less that of the end, "
            "seed by seed, is below 0)."
        ),
        estimate=lambda found, at: _slower(found),
        prediction=0.0,
        tol=0.0,
        over=ex.alone,
        rivals=(ex.Rival("$1/N$ throughout", 0.0), ex.Rival("$N^{-2}$ in the end", 1.0)),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "trained-1-as-reported",
        lambda found, at: (
            "$\\alpha_A = 1$: after training it goes like $N^{-2}$, as a figure of the paper is "
            "reported to say of CIFAR-5M, $H = 16$ and 2,500 steps. Where it is refuted, it is not "
            f"reproduced {_trained(found.config)}; the paper's data were not run."
        ),
        estimate=lambda found, at: _end(found),
        prediction=-2.0,
        tol=0.2,
        over=ex.alone,
        rivals=(ex.Rival("it does not fall", 0.0), ex.Rival("$N^{-3}$", -3.0)),
    ),
)

FIGURES = (
    power_law_figure(
        _laws,
        name="variance",
        title="Variance over heads of the scores",
        caption="Means over blocks, entries and {seeds} seeds with one standard error, at the "
        "start, after {early} steps of SGD (early), after {steps} at {slow:g} of the rate (slow) "
        "and at the rate (all steps); fitted exponents in the legend, $1 - 2\\alpha_A$ dashed. "
        "Dimensionless.",
        xlabel=networks.AXIS_LABELS["head_dim"],
        ylabel="variance of scores over heads",
        size=(9.0, 4.0),
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/head-variance",
    title="Variance of attention scores over heads, in training",
    question="Do heads become alike as they get wider, also after training?",
    summary="At $\\alpha_A = 1$ the variance of scores over heads falls like $1/N$ at the start "
    "and after SGD at a small rate, so that heads become alike; at a large rate it falls more "
    "slowly, since heads learn different things. At $\\alpha_A = 1/2$ it stays.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(head_dims=(4, 8, 16), steps=20, seeds=16),
        "standard": Config(seeds=24),
        # The paper's heads and steps on images of the size of CIFAR's: about 7 hours on one core.
        "paper": replace(
            Config(**PAPER),
            base=(16, 16, 2),
            images="synthetic",
            batch=16,
            seeds=4,
            head_dims=(4, 8, 16),
            steps=2500,
            early=100,
            rate=1.0,
        ),
    },
    parts=(VARIANCES,),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "At $\\alpha_A = 1$ the variance of scores over heads has the exponent {0} in $N$ at "
        "the start; after training on digits it has {1} where a figure is reported to show $-2$",
        ("start-1", "trained-1-as-reported"),
    ),
)
