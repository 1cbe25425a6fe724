"""A small experiment for the tests of the report: means of n coin tosses beside their limit.

The name `averages:EXPERIMENT` loads it. It uses NumPy alone, so that a test can see that a report
loads no JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit.core import Estimate


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (16, 64, 256, 1024)
    tosses: int = 64
    bias: float = 0.5


@dataclass(frozen=True)
class Averages(ex.Experiment[Config]):
    """Everything that a page has to show, computed in a millisecond."""

    hook: Callable[[list[ex.FigureSpec]], list[ex.FigureSpec]] | None = None

    def drawings(self, config, results):
        specs = super().drawings(config, results)
        return self.hook(specs) if self.hook else specs


@dataclass(frozen=True)
class Tosses(ex.Arrays):
    mean: Float[np.ndarray, " replicate"]
    cloud: Float[np.ndarray, "point xy"]


def toss(config: Config, n: int, keys: ex.Keys) -> Tosses:
    generator = np.random.default_rng([keys.seed, n])
    means = generator.binomial(n, config.bias, size=config.tosses) / n
    return Tosses(means, generator.normal(size=(800, 2)))


ROWS = ex.Part("n{n}", Tosses, toss, grid=lambda c: c.sizes, cost=lambda c, n: ex.Cost(0.025))


def longest(found: ex.Found[Config]) -> Estimate:
    last = found(ROWS, found.config.sizes[-1]).mean
    return Estimate.from_samples(last, discretisation=2e-4)


def shortest(found: ex.Found[Config]) -> Estimate:
    return Estimate.from_samples(found(ROWS, found.config.sizes[0]).mean)


def bias(found: ex.Found[Config]) -> float:
    return found.config.bias


TEN = ex.Rival[Config, ex.Alone]("the mean is ten", 10.0)
PRINTED = ex.Rival[Config, ex.Alone]("the mean is minus ten", -10.0, printed=True)
CLAIMS = (
    replace(
        ex.claim(
            "mean",
            r"The mean of $n$ tosses tends to $p$ as $n \to \infty$.",
            longest,
            bias,
            0.02,
            rivals=(TEN, PRINTED),
            printed=r"$\bar X_n \to p$ almost surely",
        ),
        reference="Bernoulli, Ars Conjectandi (1713), part IV",
    ),
    ex.claim("weak", "The shortest row alone tells the bias.", shortest, bias, 0.01, rivals=(TEN,)),
    ex.claim(
        "wrong",
        r"The mean is at most $p / 2$, with the factor that is wrong on purpose.",
        longest,
        lambda found: found.config.bias / 2,
        0.05,
        one_sided=True,
        rivals=(TEN,),
    ),
)


def rates(found: ex.Found[Config]):
    config = found.config
    for n, tosses in found.each(ROWS):
        spread = tosses.mean.std(ddof=1)
        law = np.sqrt(config.bias * (1 - config.bias) / n)
        yield (n, spread, spread / np.sqrt(2 * (config.tosses - 1)), law)


def draw_rate(canvas, table, found):
    sizes, spread, error, law = (table.numbers(name) for name in table.columns)
    axes = canvas.subplots()
    axes.errorbar(sizes, spread, error, fmt="o", label=r"finite $n$ (measured)")
    axes.plot(sizes, law, color="black", label=r"limit $\sqrt{p(1-p)/n}$")
    axes.set(xscale="log", yscale="log", xlabel="tosses $n$", ylabel="spread of the mean")
    axes.legend()


def points(found: ex.Found[Config]):
    return [tuple(row) for _, tosses in found.each(ROWS) for row in tosses.cloud.tolist()]


def draw_cloud(canvas, table, found):
    left, right = canvas.subplots(1, 2)
    left.scatter(table.numbers("x"), table.numbers("y"), s=2)
    left.set(xlabel="first coordinate", ylabel="second coordinate", title="All points")
    right.hist(table.numbers("x"), bins=40, color="C1")
    right.set(xlabel="first coordinate", ylabel="points", title="Their first coordinate")


FIGURES = (
    ex.Figure(
        name="rate",
        title=r"The spread falls as $n^{-1/2}$",
        caption=r"Standard deviation of the mean of $n$ tosses (points; bars are one standard "
        r"error over the replicates) and its limit law $\sqrt{{p(1-p)/n}}$ (line). "
        "Both axes are logarithmic; the mean has no unit.",
        columns=("$n$", "spread", "standard error", "limit"),
        rows=rates,
        draw=draw_rate,
        shown=lambda found, table: len(table.rows),
    ),
    ex.Figure(
        name="cloud",
        title="A crowd of points",
        caption="All points of all cells, and the counts of their first coordinate in 40 bins. "
        "Two points were not finite and are left out.",
        columns=("x", "y"),
        rows=points,
        draw=draw_cloud,
        shown=lambda found, table: len(table.rows),
        excluded=lambda found, table: 2,
        size=(8.0, 3.6),
    ),
)

EXPERIMENT = Averages(
    name="bernoulli1713/averages",
    title=r"Means of $n$ coin tosses and the law of large numbers",
    summary=r"Rows of $n$ tosses of a coin with bias $p$ are averaged and compared with what "
    r"$n \to \infty$ predicts: the mean tends to $p$ and its spread is $\sqrt{p(1-p)/n}$.",
    citations=("castin2025",),
    presets={"demo": Config(), "standard": Config(tosses=640), "paper": Config(tosses=6400)},
    parts=(ROWS,),
    claims=CLAIMS,
    figures=FIGURES,
)

SECOND = replace(EXPERIMENT, name="bernoulli1713/biased", title="The same for a biased coin")
