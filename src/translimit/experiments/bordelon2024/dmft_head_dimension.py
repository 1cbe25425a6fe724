r"""Head dimension: heads collapse onto one at alpha_A = 1, and gradients diverge below.

Infinitely many heads of dimension N, sampled, on two digits: alpha_A = 1 through the whole
training, and alpha_A = 1/2 through three updates, each several times with independent populations.
Infinite N at alpha_A = 1 is exact: attention concentrates and nothing is sampled.

At alpha_A = 1 the variance over heads of a logit falls like 1/N at the start and after training
(the coefficient changes, the exponent does not), and predictions tend to those of infinite N with
an error of order 1/N. At alpha_A = 1/2 logits stay random at the start, the mean of a logit over
heads after two updates grows with N, and the gradients of keys and queries with it: training has
no limit.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.checked import Count, Counts, Doubling, Four, Positive, Two, Within

#: Evaluations at alpha_A = 1/2.
SHORT = 4
#: Responses that are left out in turn at infinite head dimension.
RESPONSES = ("R_v", "R_p", "R_h", "R_g")
#: By how much gradients must grow at least at alpha_A = 1/2.
FACTOR = 1.4
#: Titles of the panels.
VARIANCE = "variance of logits over heads"
GRADIENT = "mean square of $p^K, p^Q$"


@dataclass(frozen=True)
class Config(Problem):
    """The problem (`head_dim` and `alpha_A` are set by the cells), and the head dimensions.

    Attributes:
        head_dims: N, each twice the one before.
        coordinates: head coordinates of a population, N times its heads.
        repeats: independent solves of each.
    """

    inputs: Count = 2
    beta0: Positive = 2.0
    gamma0: Positive = 2.0
    eta0: Positive = 0.03
    populations: Two = 2
    steps: Annotated[int, Within(3)] = 12
    head_dims: Annotated[Counts, Doubling(3)] = (4, 8, 16, 32)
    coordinates: Count = 24_000
    repeats: Four = 12

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.coordinates < self.head_dims[-1]:
            raise ConfigError(
                "coordinates", f"got {self.coordinates}", f"pass at least {self.head_dims[-1]}"
            )

    @property
    def last(self) -> int:
        """The largest head dimension."""
        return self.head_dims[-1]


@dataclass(frozen=True)
class Exact(ex.Arrays):
    """Heads of infinite dimension, and without each of the responses."""

    predictions: Float[np.ndarray, "step sample"]
    without: Float[np.ndarray, "response step sample"]
    mean: Annotated[Float[np.ndarray, "sample query key"], "scores after two updates"]


@dataclass(frozen=True)
class Sampled(ex.Arrays):
    """Heads of one dimension, at alpha_A = 1 and, a few updates long, at alpha_A = 1/2.

    Variances over heads are means over entries, gradients mean squares for keys and queries.
    """

    predictions: Float[np.ndarray, "repeat step sample"]
    variance_one: Float[np.ndarray, "repeat step"]
    gradient_one: Float[np.ndarray, "repeat step"]
    mean_one: Float[np.ndarray, "repeat step sample query key"]
    variance_half: Float[np.ndarray, "repeat early"]
    gradient_half: Float[np.ndarray, "repeat early"]
    mean_half: Float[np.ndarray, "repeat early sample query key"]


def compute_exact(config: Config, at: ex.Alone, keys: ex.Keys) -> Exact:
    """The limit of heads of infinite dimension."""
    del at, keys
    sized = replace(config, alpha_A=1.0)
    problem = sized.limit(head_dim=math.inf)
    whole, *without = (
        core.solve(problem, sized.method(problem, omit=omit)) for omit in (None, *RESPONSES)
    )
    others = np.array([one.predictions for one in without])
    return Exact(whole.predictions, others, whole.score_law(0).mean[2])


def compute_sampled(config: Config, head_dim: int, keys: ex.Keys) -> Sampled:
    """Repeated solves at both exponents."""
    heads = config.coordinates // head_dim
    found: dict[str, list[np.ndarray]] = {}
    for name, alpha, steps in (("one", 1.0, config.steps), ("half", 0.5, SHORT)):
        sized = replace(config, head_dim=head_dim, alpha_A=alpha, steps=steps, samples=heads)
        problem = sized.limit()
        method = sized.method(problem, heads_kept=heads)
        for repeat in range(config.repeats):
            own = core.named_key(keys.own, name, repeat)
            solution = core.solve(problem, method, key=own)
            law = solution.score_law(0)
            for quantity, values in (
                (f"variance_{name}", law.variance.mean(axis=(1, 2, 3))),
                (f"mean_{name}", law.mean),
                (f"gradient_{name}", solution.key_gradient[:, 0]),
                *([("predictions", solution.predictions)] if name == "one" else []),
            ):
                found.setdefault(quantity, []).append(values)
    return Sampled(**{name: np.array(values) for name, values in found.items()})


def _sampled_cost(config: Config, head_dim: int) -> ex.Cost:
    """Repeated passes of one head dimension."""
    one = config.populations * config.coordinates * (config.steps * config.fields()) ** 2
    limit = replace(config, head_dim=head_dim, samples=config.coordinates // head_dim)
    return ex.Cost(16 + 1.3e-8 * config.repeats * one, limit.limit_bytes())


EXACT = ex.Part(
    "exact", Exact, compute_exact, grid=ex.alone, cost=lambda c, at: ex.Cost(8.0, c.limit_bytes())
)
SAMPLED = ex.Part(
    "N={head_dim}", Sampled, compute_sampled, grid=lambda c: c.head_dims, cost=_sampled_cost
)


def _rows_of(found: ex.Found[Config]) -> list[Sampled]:
    """What was found, head dimension by head dimension."""
    return [data for _, data in found.each(SAMPLED)]


def _collapse(found: ex.Found[Config]) -> Estimate:
    spreads = [np.sqrt(data.variance_one[:, -1]) for data in _rows_of(found)]
    return core.fit_rate(found.config.head_dims, spreads).estimate()


def _gap(found: ex.Found[Config], target: np.ndarray) -> Estimate:
    """2 f(2N) - f(N) minus exact predictions, averaged towards the targets."""
    weights = np.sign(target[-1]) * np.ones_like(target) / target.size
    last = _rows_of(found)[-2:]
    coarse, fine = (np.sum(data.predictions * weights, axis=(1, 2)) for data in last)
    return Estimate.from_samples(2 * fine - coarse - np.sum(target * weights))


def _smallest(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The gap of the smallest head dimension, as if it were infinite."""
    del at
    return _gap(found, _rows_of(found)[0].predictions.mean(axis=0))


def _without(place: int) -> ex.Rival[Config, ex.Alone]:
    return ex.Rival(
        f"without $R^{RESPONSES[place][-1]}$",
        estimate=lambda found, at: _gap(found, found(EXACT).without[place]),
    )


def _first_gradients(found: ex.Found[Config]) -> Estimate:
    gradients = [np.sqrt(data.gradient_one[:, 0]) for data in _rows_of(found)[-2:]]
    return core.fit_rate(found.config.head_dims[-2:], gradients).estimate()


def _mean_exponent(found: ex.Found[Config]) -> Estimate:
    """Jackknife of the exponent of the mean score after two updates, along that of the limit.

    A projection is linear in the means, so that noise leaves no bias in it.
    """
    means = np.stack([data.mean_half[:, 2] for data in _rows_of(found)])
    along = np.einsum("nrpqk,pqk->nr", means, found(EXACT).mean)
    sizes = np.log(found.config.head_dims)

    def exponent(kept: np.ndarray) -> float:
        with np.errstate(invalid="ignore"):  # of the other sign: no exponent
            return float(np.polyfit(sizes, np.log(along[:, kept].mean(axis=1)), 1)[0])

    return core.jackknife(exponent, means.shape[1])


def _growth(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """Minus the factor by which what gradients gain grows."""
    del at
    gains = [data.gradient_half[:, -1] - data.gradient_half[:, 0] for data in _rows_of(found)]
    first, end = Estimate.from_samples(gains[0]), Estimate.from_samples(gains[-1])
    ratio = end.value / first.value
    error = abs(ratio) * math.hypot(end.stderr / end.value, first.stderr / first.value)
    return Estimate(-ratio, error, found.config.repeats)


COLLAPSE = ex.claim(
    "collapse",
    "At $\\alpha_A = 1$ heads collapse: after training the variance of a logit over heads falls "
    "like $1/N$ (exponent of its square root).",
    _collapse,
    prediction=-0.5,
    tol=0.05,
    rivals=(
        ex.Rival("a variance that falls like $N^{-2}$", -1.0),
        ex.Rival("a variance that falls like $N^{-1.3}$", -0.65),
        ex.Rival("a variance that falls like $N^{-0.7}$", -0.35),
        ex.Rival("heads that stay apart, as at $\\alpha_A = 1/2$", 0.0),
    ),
)
PREDICTIONS = ex.claim(
    "predictions",
    "Predictions, extrapolated from the two largest $N$, are those of infinite head dimension "
    "(mean over evaluations and inputs).",
    lambda found: _gap(found, found(EXACT).predictions),
    prediction=0.0,
    tol=0.002,
    rivals=(
        *(_without(place) for place in range(len(RESPONSES))),
        ex.Rival("the smallest head dimension's", estimate=_smallest),
    ),
)
VANISHING = ex.claim(
    "gradients-vanish",
    "At $\\alpha_A = 1$ the first gradients of keys and queries vanish like $N^{-1/2}$ (exponent "
    "of their rms between the two largest $N$).",
    _first_gradients,
    prediction=-0.5,
    tol=0.05,
    rivals=(
        ex.Rival("no fall, as at $\\alpha_A = 1/2$", 0.0),
        ex.Rival("exponent -1/4", -0.25),
        ex.Rival("exponent -1", -1.0),
    ),
)
DIVERGENCE = ex.claim(
    "attention-diverges",
    "At $\\alpha_A = 1/2$ the mean of a score over heads after two updates grows like $N$ "
    "(exponent of its part along the mean of infinite head dimension at $\\alpha_A = 1$).",
    _mean_exponent,
    prediction=1.0,
    tol=0.2,
    rivals=(
        ex.Rival("a limit, as at $\\alpha_A = 1$", 0.0),
        ex.Rival("exponent 2", 2.0),
        ex.Rival("exponent 1/2", 0.5),
    ),
    decided_by="standard",
)
GROWTH = ex.Claims(
    "gradients",
    lambda found, at: (
        "At $\\alpha_A = 1/2$ what the gradients of keys and queries gain in "
        f"{SHORT - 1} updates grows with $N$: by a factor of at least {FACTOR:g} from "
        f"$N = {found.config.head_dims[0]}$ to {found.config.last} (compared with a minus sign)."
    ),
    estimate=_growth,
    prediction=-FACTOR,
    tol=0.0,
    over=ex.alone,
    one_sided=True,
    rivals=(
        ex.Rival("a limit: the same at all $N$", -1.0),
        ex.Rival("gradients that vanish, as at $\\alpha_A = 1$", 0.0),
    ),
)


def _figure_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for head_dim, data in found.each(SAMPLED):
        for quantity, series, values in (
            (VARIANCE, "start, $\\alpha_A = 1$", data.variance_one[:, 0]),
            (VARIANCE, "end, $\\alpha_A = 1$", data.variance_one[:, -1]),
            (VARIANCE, "start, $\\alpha_A = 1/2$", data.variance_half[:, 0]),
            (GRADIENT, "start, $\\alpha_A = 1$", data.gradient_one[:, 0]),
            (GRADIENT, "start, $\\alpha_A = 1/2$", data.gradient_half[:, 0]),
            (GRADIENT, "3 updates, $\\alpha_A = 1/2$", data.gradient_half[:, -1]),
        ):
            mean = Estimate.from_samples(values)
            yield (quantity, series, head_dim, mean.value, mean.stderr)


HEADS = ex.Figure(
    name="head-dimension",
    title="Heads against their dimension",
    caption="Means over {repeats} solves with standard errors. At $\\alpha_A = 1$ everything falls "
    "like $1/N$; at $\\alpha_A = 1/2$ logits keep their variance and gradients grow once the "
    "values are learned.",
    columns=("quantity", "series", "N", "mean", "standard error"),
    rows=_figure_rows,
    x="N",
    by="series",
    panels="quantity",
    layers=(figures.points("mean", "standard error", joined=True),),
    xlabel="head dimension $N$",
    log="xy",
    ticks=True,
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-head-dimension",
    title="Heads of growing dimension: collapse at one exponent, divergence below",
    question="What happens to training as heads get wider?",
    summary="Infinitely many heads of dimension $N$ learn two digits. At $\\alpha_A = 1$ they "
    "become alike as $N$ grows, and training tends to an exactly solvable limit; at "
    "$\\alpha_A = 1/2$ logits stay random at the start, and after two updates gradients of keys "
    "and queries grow with $N$.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(head_dims=(4, 8, 16), coordinates=12_000, repeats=8, steps=8),
        "standard": Config(),
        "paper": Config(head_dims=(4, 8, 16, 32, 64), coordinates=64_000, repeats=16, inputs=4),
    },
    parts=(EXACT, SAMPLED),
    claims=(COLLAPSE, PREDICTIONS, VANISHING, DIVERGENCE, GROWTH),
    figures=(HEADS,),
    finding=ex.Finding(
        "After training at $\\alpha_A = 1$ the deviation of a logit over heads goes with the "
        "exponent {0} in $N$; at $\\alpha_A = 1/2$ the mean score after two updates goes with "
        "{1}",
        ("collapse", "attention-diverges"),
    ),
)
