"""A small experiment for the tests of the report: means of n coin tosses beside their limit.

The name `averages:EXPERIMENT` loads it. It uses NumPy alone, so that a test can see that a report
loads no JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import xarray

from translimit.core import Claim, Estimate
from translimit.experiments import AbstractExperiment, Cell, Cost, FigureSpec
from translimit.figures import Table


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (16, 64, 256, 1024)
    tosses: int = 64
    bias: float = 0.5


@dataclass(frozen=True)
class Averages(AbstractExperiment[Config]):
    """Everything that a page has to show, computed in a millisecond."""

    hook: Callable[[list[FigureSpec]], list[FigureSpec]] | None = None

    def cost(self, config):
        return Cost(seconds=0.1)

    def cells(self, config):
        return tuple(Cell(f"n{n}", {"n": n}) for n in config.sizes)

    def compute(self, config, cell, key):
        n = cell.parameters["n"]
        generator = np.random.default_rng([key, n])
        means = generator.binomial(n, config.bias, size=config.tosses) / n
        return xarray.Dataset(
            {
                "mean": ("replicate", means),
                "cloud": (("point", "xy"), generator.normal(size=(800, 2))),
            },
            attrs={"n": n},
        )

    def claims(self, config, results):
        last = results[f"n{config.sizes[-1]}"]["mean"].values
        estimate = Estimate.from_samples(last, discretisation=2e-4)
        weak = Estimate.from_samples(results[f"n{config.sizes[0]}"]["mean"].values)
        return [
            Claim(
                "mean",
                r"The mean of $n$ tosses tends to $p$ as $n \to \infty$.",
                config.bias,
                estimate,
                0.02,
                printed=r"$\bar X_n \to p$ almost surely",
                reference="Bernoulli, Ars Conjectandi (1713), part IV",
            ),
            Claim("weak", "The shortest row alone tells the bias.", config.bias, weak, 0.01),
            Claim(
                "wrong",
                r"The mean is at most $p / 2$, with the factor that is wrong on purpose.",
                config.bias / 2,
                estimate,
                0.05,
                one_sided=True,
            ),
        ]

    def figures(self, config, results):
        sizes = np.array(config.sizes)
        spread = np.array([results[f"n{n}"]["mean"].values.std(ddof=1) for n in config.sizes])
        error = spread / np.sqrt(2 * (config.tosses - 1))
        law = np.sqrt(config.bias * (1 - config.bias) / sizes)
        cloud = np.concatenate([results[f"n{n}"]["cloud"].values for n in config.sizes])

        def draw_rate(figure):
            axes = figure.subplots()
            axes.errorbar(sizes, spread, error, fmt="o", label=r"finite $n$ (measured)")
            axes.plot(sizes, law, color="black", label=r"limit $\sqrt{p(1-p)/n}$")
            axes.set(xscale="log", yscale="log", xlabel="tosses $n$", ylabel="spread of the mean")
            axes.legend()

        def draw_cloud(figure):
            left, right = figure.subplots(1, 2)
            left.scatter(*cloud.T, s=2)
            left.set(xlabel="first coordinate", ylabel="second coordinate", title="All points")
            right.hist(cloud[:, 0], bins=40, color="C1")
            right.set(xlabel="first coordinate", ylabel="points", title="Their first coordinate")

        specs = [
            FigureSpec(
                "rate",
                r"The spread falls as $n^{-1/2}$",
                r"Standard deviation of the mean of $n$ tosses (points; bars are one standard "
                r"error over the replicates) and its limit law $\sqrt{p(1-p)/n}$ (line). "
                "Both axes are logarithmic; the mean has no unit.",
                draw_rate,
                Table(
                    ("$n$", "spread", "standard error", "limit"),
                    tuple(zip(sizes, spread, error, law, strict=True)),
                ),
                shown=len(sizes),
            ),
            FigureSpec(
                "cloud",
                "A crowd of points",
                "All points of all cells, and the counts of their first coordinate in 40 bins. "
                "Two points were not finite and are left out.",
                draw_cloud,
                Table(("x", "y"), tuple(map(tuple, cloud.tolist()))),
                shown=len(cloud),
                excluded=2,
                size=(8.0, 3.6),
            ),
        ]
        return self.hook(specs) if self.hook else specs

    def claim_names(self, config: Any = None):
        return ("mean", "weak", "wrong")


EXPERIMENT = Averages(
    name="bernoulli1713/averages",
    title=r"Means of $n$ coin tosses and the law of large numbers",
    summary=r"Rows of $n$ tosses of a coin with bias $p$ are averaged and compared with what "
    r"$n \to \infty$ predicts: the mean tends to $p$ and its spread is $\sqrt{p(1-p)/n}$.",
    citations=("castin2025",),
    presets={"demo": Config(), "standard": Config(tosses=640), "paper": Config(tosses=6400)},
)

SECOND = replace(EXPERIMENT, name="bernoulli1713/biased", title="The same for a biased coin")
