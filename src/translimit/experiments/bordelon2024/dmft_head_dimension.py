r"""Head dimension: heads collapse onto one at alpha_A = 1, and gradients diverge below.

Infinitely many heads of dimension N, sampled, on two digits:

- `exact`: N = infinity at alpha_A = 1, where attention concentrates and nothing is sampled;
- `N=...`: alpha_A = 1 through the whole training, and alpha_A = 1/2 through three updates, each
  several times with independent populations.

At alpha_A = 1 the variance over heads of a logit falls like 1/N at the start and after training
(the coefficient changes, the exponent does not), and predictions tend to those of `exact` with an
error of order 1/N. At alpha_A = 1/2 logits stay random at the start, the mean of a logit over
heads after two updates grows with N, and the gradients of keys and queries with it: training has
no limit.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures
from translimit.core import Claim, ConfigError, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.limit_and_networks import Problem
from translimit.experiments.bordelon2024.tasks import REFERENCE
from translimit.experiments.checked import Count, Counts, Doubling, Four, Positive, Two

if TYPE_CHECKING:
    import xarray as xr

#: Evaluations at alpha_A = 1/2.
SHORT = 4


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


class HeadDimension(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """The exact limit, or repeated passes of one head dimension."""
        if cell.name == "exact":
            return Cost(8.0, config.limit_bytes())
        one = config.populations * config.coordinates * (config.steps * config.fields()) ** 2
        rows = config.coordinates // cell.parameters["head_dim"]
        limit = replace(config, head_dim=cell.parameters["head_dim"], samples=rows)
        return Cost(16 + 1.3e-8 * config.repeats * one, limit.limit_bytes())

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The exact limit, and every head dimension."""
        return (Cell("exact"), *(Cell(f"N={n}", {"head_dim": n}) for n in config.head_dims))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("collapse", "predictions", "gradients-vanish", "attention-diverges", "gradients")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Repeated solves at both exponents."""
        import xarray as xr

        if cell.name == "exact":
            problem = replace(config, alpha_A=1.0).limit(head_dim=math.inf)
            solution = core.solve(problem)
            return xr.Dataset(
                {"predictions": (("step", "sample"), solution.predictions)},
                attrs={"reference": REFERENCE},
            )
        N = cell.parameters["head_dim"]
        heads = config.coordinates // N
        found: dict[str, list[Any]] = {}
        for alpha, steps in ((1.0, config.steps), (0.5, SHORT)):
            sized = replace(config, head_dim=N, alpha_A=alpha, steps=steps, samples=heads)
            problem = sized.limit()
            method = sized.method(problem, heads_kept=heads)
            name = "one" if alpha == 1 else "half"
            for repeat in range(config.repeats):
                own = core.named_key(key, name, repeat)
                solution = core.solve(problem, method, key=own)
                law = solution.score_law(0)
                variance = law.variance.mean(axis=(1, 2, 3))
                found.setdefault(f"variance_{name}", []).append(variance)
                found.setdefault(f"mean_{name}", []).append(law.mean)
                found.setdefault(f"gradient_{name}", []).append(solution.key_gradient[:, 0])
                if alpha == 1:
                    found.setdefault("predictions", []).append(solution.predictions)
        dims = {
            "predictions": ("repeat", "step", "sample"),
            "variance_one": ("repeat", "step"),
            "gradient_one": ("repeat", "step"),
            "mean_one": ("repeat", "step", "sample", "query", "key"),
            "variance_half": ("repeat", "early"),
            "gradient_half": ("repeat", "early"),
            "mean_half": ("repeat", "early", "sample", "query", "key"),
        }
        return xr.Dataset(
            {name: (dims[name], np.array(values)) for name, values in found.items()},
            attrs={"reference": REFERENCE, "head_dim": N},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Collapse at alpha_A = 1, divergence at 1/2."""
        rows = [results[f"N={n}"] for n in config.head_dims]
        sizes, last = config.head_dims, config.head_dims[-1]
        variance = core.fit_rate(sizes, [np.sqrt(r["variance_one"].values[:, -1]) for r in rows])
        quiet = core.fit_rate(
            sizes[-2:], [np.sqrt(r["gradient_one"].values[:, 0]) for r in rows][-2:]
        )
        growth = _jackknifed(rows, lambda means: _exponent(sizes, means))
        excess = [r["gradient_half"].values[:, -1] - r["gradient_half"].values[:, 0] for r in rows]
        first, end = Estimate.from_samples(excess[0]), Estimate.from_samples(excess[-1])
        ratio = end.value / first.value
        error = abs(ratio) * math.hypot(end.stderr / end.value, first.stderr / first.value)
        return [
            Claim(
                name="collapse",
                statement="At $\\alpha_A = 1$ heads collapse: after training the variance of a "
                "logit over heads falls like $1/N$ (exponent of its square root).",
                prediction=-0.5,
                estimate=variance.estimate(),
                tol=0.05,
                reference=REFERENCE,
            ),
            Claim(
                name="predictions",
                statement=f"Predictions, extrapolated from $N = {last // 2}$ and {last}, are those "
                "of infinite head dimension (mean over evaluations and inputs).",
                prediction=0.0,
                estimate=_extrapolated(rows, results["exact"]),
                tol=0.005,
                reference=REFERENCE,
            ),
            Claim(
                name="gradients-vanish",
                statement="At $\\alpha_A = 1$ the first gradients of keys and queries vanish like "
                f"$N^{{-1/2}}$ (exponent of their rms from $N = {last // 2}$ to {last}).",
                prediction=-0.5,
                estimate=quiet.estimate(),
                tol=0.05,
                reference=REFERENCE,
            ),
            Claim(
                name="attention-diverges",
                statement="At $\\alpha_A = 1/2$ the mean of a logit over heads after two updates "
                "grows like $N$ (exponent of its rms over entries).",
                prediction=1.0,
                estimate=growth,
                tol=0.3,
                reference=REFERENCE,
            ),
            Claim(
                name="gradients",
                statement="At $\\alpha_A = 1/2$ what the gradients of keys and queries gain in "
                f"{SHORT - 1} updates grows with $N$: by a factor of at least 1.4 from "
                f"$N = {sizes[0]}$ to {last}.",
                prediction=1.4,
                estimate=Estimate(min(ratio, 1.4), error, config.repeats),
                tol=0.1,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Variances and gradients against the head dimension."""
        rows = [results[f"N={n}"] for n in config.head_dims]
        series = {
            "variance, start, $\\alpha_A = 1$": [r["variance_one"].values[:, 0] for r in rows],
            "variance, end, $\\alpha_A = 1$": [r["variance_one"].values[:, -1] for r in rows],
            "variance, start, $\\alpha_A = 1/2$": [r["variance_half"].values[:, 0] for r in rows],
            "gradient, start, $\\alpha_A = 1$": [r["gradient_one"].values[:, 0] for r in rows],
            "gradient, start, $\\alpha_A = 1/2$": [r["gradient_half"].values[:, 0] for r in rows],
            "gradient, 3 updates, $\\alpha_A = 1/2$": [
                r["gradient_half"].values[:, -1] for r in rows
            ],
        }
        means = {name: [float(v.mean()) for v in values] for name, values in series.items()}
        errors = {
            name: [float(v.std(ddof=1) / v.size**0.5) for v in values]
            for name, values in series.items()
        }

        def draw(figure: Any) -> None:
            axes = figure.subplots(1, 2)
            for i, name in enumerate(series):
                ax = axes[0] if name.startswith("variance") else axes[1]
                ax.errorbar(
                    config.head_dims,
                    means[name],
                    yerr=errors[name],
                    fmt=figures.MARKERS[i] + "-",
                    color=figures.COLOURS[i % len(figures.COLOURS)],
                    capsize=3,
                    label=name.partition(", ")[2],
                )
            for ax, label in zip(
                axes, ("variance of logits over heads", "mean square of $p^K, p^Q$"), strict=True
            ):
                ax.set_xscale("log")
                ax.set_yscale("log")
                ax.set_xticks(config.head_dims, [str(n) for n in config.head_dims])
                ax.minorticks_off()
                figures.finish(ax, xlabel="head dimension $N$", ylabel=label)

        plain = tuple(name.replace("$", "").replace("\\", "") for name in series)
        table = tuple(
            (n, *(means[name][i] for name in series)) for i, n in enumerate(config.head_dims)
        )
        return [
            FigureSpec(
                name="head-dimension",
                title="Heads against their dimension",
                caption=f"Means over {config.repeats} solves with standard errors. At "
                "$\\alpha_A = 1$ everything falls like $1/N$; at $\\alpha_A = 1/2$ logits keep "
                "their variance and gradients grow once the values are learned.",
                draw=draw,
                table=Table(("N", *plain), table),
                shown=len(config.head_dims),
                size=(9.0, 4.0),
            )
        ]


def _exponent(sizes: tuple[int, ...], values: np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _jackknifed(rows: list[xr.Dataset], exponent: Any) -> Estimate:
    """The exponent of the rms over entries of mean logits after two updates."""
    means = np.stack([row["mean_half"].values[:, 2] for row in rows])  # [N, repeat, ...]

    def statistic(kept: np.ndarray) -> float:
        # Averaged over repeats first; what noise leaves in the square is subtracted.
        some = means[:, kept].reshape(len(means), len(kept), -1)
        noise = some.var(axis=1, ddof=1) / len(kept)
        square = np.mean(some.mean(axis=1) ** 2 - noise, axis=1)
        return exponent(np.sqrt(np.maximum(square, 1e-12)))

    return core.jackknife(statistic, means.shape[1])


def _extrapolated(rows: list[xr.Dataset], exact: xr.Dataset) -> Estimate:
    """2 f(2N) - f(N) minus the exact predictions, averaged towards the targets."""
    target = exact["predictions"].values
    weights = np.sign(target[-1]) * np.ones_like(target) / target.size
    coarse, fine = (np.sum(row["predictions"].values * weights, axis=(1, 2)) for row in rows[-2:])
    return Estimate.from_samples(2 * fine - coarse - np.sum(target * weights))


EXPERIMENT = HeadDimension(
    name="bordelon2024/dmft-head-dimension",
    title="Heads of growing dimension: collapse at one exponent, divergence below",
    summary="Infinitely many heads of dimension $N$ learn two digits. At $\\alpha_A = 1$ they "
    "become alike as $N$ grows, and training tends to an exactly solvable limit; at "
    "$\\alpha_A = 1/2$ logits stay random at the start, and after two updates gradients of keys "
    "and queries grow with $N$.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(head_dims=(4, 8, 16), coordinates=12_000, repeats=8, steps=8),
        "standard": Config(),
        "paper": Config(head_dims=(4, 8, 16, 32, 64), coordinates=64_000, repeats=16, inputs=4),
    },
)
