r"""How fast networks converge in law to the covariance SDE as they widen.

- `attention/n=...`: E 1 / (1 + D) of two tokens over the exact covariance chain of networks of
  width n and depth n, against the backward equation of the limit. Predicted rate: 1 / n.
- `mlp`: n times the change of a covariance by one shaped ReLU with c_+ + c_- != 0, by quadrature,
  against the drift of the SDE. Predicted rate: n^(-1/2).

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import (
    BranchWeight,
    CheckedConfig,
    Entries,
    IncreasingSizes,
    Positive,
    Within,
)
from translimit.experiments.noci2023.starts import REFERENCE

if TYPE_CHECKING:
    import xarray as xr

PAIR = ((1.0, 0.2), (0.2, 1.0))
DISTANCE = 1.6
#: Groups of networks, the replicates of the fit.
GROUPS = 16


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        dims: widths, increasing; layers = dims.
        networks: networks at each width.
        gamma: branch weight.
        tau0: temperature.
        kernel_dims: widths at which the kernel of the shaped ReLU is compared with its drift.
    """

    dims: Annotated[IncreasingSizes, Entries(2)] = (10, 20, 40)
    networks: Annotated[int, Within(GROUPS)] = 60_000
    gamma: BranchWeight = 0.5
    tau0: Positive = 0.5
    kernel_dims: Annotated[IncreasingSizes, Entries(2)] = (50, 100, 200, 400, 800)

    def block(self) -> describe.Block:
        """Attention alone."""
        return describe.Block(gamma=self.gamma, tau0=self.tau0)


class WeakError(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and layers of all networks, about 5 microseconds each."""
        return Cost(5.0 + 5e-6 * cell.parameters.get("dim", 0) * config.networks)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each width, and the kernel."""
        networks = tuple(Cell(f"attention/n={n}", {"dim": n}) for n in config.dims)
        return (*networks, Cell("mlp"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """The two rates, and the size of the error."""
        return ("attention-rate", "attention-error", "mlp-rate")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """The functional's error, group by group, in float64."""
        import xarray as xr

        if cell.name == "mlp":
            return _kernel_error(config)
        dim = cell.parameters["dim"]
        block = config.block()
        chain = models.CompressedShapedTransformer(block=block, dim=dim, layers=dim)
        per_group = config.networks // GROUPS
        networks = chain.simulate(PAIR, key=key, seeds=GROUPS * per_group)
        end = networks.cov[:, -1]
        distance = end[:, 0, 0] + end[:, 1, 1] - 2 * end[:, 0, 1]
        exact = limits.shaped.two_token_expectation(
            block, DISTANCE, 1.0, lambda d: 1 / (1 + d), at_explosion=0.0
        )
        groups = (1 / (1 + distance)).reshape(GROUPS, per_group).mean(axis=1)
        return xr.Dataset(
            {"error": (("group",), groups - exact, {"long_name": "error of E 1 / (1 + D)"})},
            attrs={"reference": REFERENCE, "exact": exact, **cell.parameters},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The rates, and the error at the largest width."""
        errors = _errors(config, results)
        rate = _rate(config.dims, errors)
        last = errors[-1]
        mlp = results["mlp"]
        slope = np.polyfit(np.log(mlp["dim"].values), np.log(np.abs(mlp["error"].values)), 1)[0]
        return [
            Claim(
                name="attention-rate",
                statement="Attention: the error of $E\\,1/(1 + D)$ falls like $1/n$.",
                prediction=-1.0,
                estimate=rate,
                tol=0.45,
                reference=REFERENCE,
            ),
            Claim(
                name="attention-error",
                statement=f"Attention: at width {config.dims[-1]} it is below 0.004.",
                prediction=0.0,
                estimate=Estimate.from_samples(last),
                tol=0.004,
                reference=REFERENCE,
            ),
            Claim(
                name="mlp-rate",
                statement="Shaped ReLU with $c_+ + c_- \\ne 0$: the drift of one layer "
                "differs from "
                "that of the SDE like $n^{-1/2}$.",
                prediction=-0.5,
                estimate=Estimate(float(slope)),
                tol=0.05,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Both errors against width."""
        return [_figure(config, results)]


def _errors(config: Config, results: Results) -> np.ndarray:
    return np.array([results[f"attention/n={n}"]["error"].values for n in config.dims])


def _rate(dims: tuple[int, ...], errors: np.ndarray) -> Estimate:
    """The slope of log |mean error| with its delete-one-group jackknife error."""

    def slope(groups: np.ndarray) -> float:
        means = np.abs(errors[:, groups].mean(axis=1))
        return float(np.polyfit(np.log(dims), np.log(means), 1)[0])

    return core.jackknife(slope, GROUPS)


def _kernel_error(config: Config) -> xr.Dataset:
    """N (c E phi phi - V) - b of the shaped ReLU, its expectation by Gauss-Hermite quadrature."""
    import xarray as xr

    c_plus, c_minus, rho = 0.0, -1.0, 0.2
    drift = limits.shaped.covariance_drift(
        describe.ShapedMLP(gamma=1.0, c_plus=c_plus, c_minus=c_minus), PAIR
    )[0, 1]
    # The kinks lie at angle zero: polar coordinates make the integrand smooth on arcs.
    angle = np.arccos(rho)
    edges = np.sort(np.mod([0.5, 1.5, 0.5 + angle / np.pi, 1.5 + angle / np.pi], 2) * np.pi)
    edges = np.append(edges, edges[0] + 2 * np.pi)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    half = np.diff(edges)[:, None] / 2
    phi = edges[:-1, None] + half * (1 + nodes)
    measure = half * weights / np.pi  # E r^2 = 2 over the circle's 2 pi
    errors = []
    for dim in config.kernel_dims:
        plus, minus = 1 + c_plus / dim**0.5, 1 + c_minus / dim**0.5

        def relu(x: np.ndarray, plus: float = plus, minus: float = minus) -> np.ndarray:
            return np.where(x > 0, plus * x, minus * x)

        product = relu(np.cos(phi)) * relu(np.cos(phi - angle))
        kernel = 2 / (plus**2 + minus**2) * np.sum(product * measure)
        errors.append(dim * (kernel - rho) - drift)
    return xr.Dataset(
        {"error": (("dim",), errors, {"long_name": "error of the drift"})},
        coords={"dim": list(config.kernel_dims)},
        attrs={"reference": REFERENCE, "drift": float(drift)},
    )


def _figure(config: Config, results: Results) -> FigureSpec:
    errors = _errors(config, results)
    mean, stderr = errors.mean(axis=1), errors.std(axis=1, ddof=1) / GROUPS**0.5
    rate, mlp = _rate(config.dims, errors), results["mlp"]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        dims = np.array(config.dims, dtype=float)
        label = f"networks, fitted rate {core.with_error(rate.value, rate.stderr)}"
        left.errorbar(
            dims, mean, yerr=stderr, fmt="o", capsize=3, color=figures.COLOURS[0], label=label
        )
        left.plot(dims, mean[0] * dims[0] / dims, color=figures.LIMIT, label="predicted rate −1")
        widths, gap = mlp["dim"].values.astype(float), np.abs(mlp["error"].values)
        right.plot(widths, gap, "s", color=figures.COLOURS[1], label="kernel of the shaped ReLU")
        right.plot(
            widths,
            gap[0] * (widths / widths[0]) ** -0.5,
            color=figures.LIMIT,
            label="predicted rate −1/2",
        )
        for ax, sizes in ((left, config.dims), (right, config.kernel_dims)):
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.minorticks_off()
        figures.finish(
            left, xlabel="width $n$ = layers", ylabel="error of $E\\,1/(1 + D)$", title="attention"
        )
        figures.finish(right, xlabel="width $n$", ylabel="error of one layer's drift", title="MLP")

    rows = [
        ("attention", n, float(m), float(s))
        for n, m, s in zip(config.dims, mean, stderr, strict=True)
    ]
    rows += [("mlp", int(n), float(e), 0.0) for n, e in zip(mlp["dim"], mlp["error"], strict=True)]
    return FigureSpec(
        name="rates",
        title="Weak error against width",
        caption=f"Left: mean of $1/(1 + D)$ over {config.networks} networks of $n$ layers "
        "and width "
        "$n$ minus its value in the limit (backward equation), bars of one standard error. Right: "
        "$n$ times the change of a covariance by one shaped ReLU with $(c_+, c_-) = (0, "
        "-1)$, minus "
        "the drift of the SDE, by quadrature. Dimensionless.",
        draw=draw,
        table=Table(("block", "width", "error", "stderr"), tuple(rows)),
        shown=len(rows),
        size=(9.0, 4.0),
    )


EXPERIMENT = WeakError(
    name="noci2023/weak-error",
    title="Weak error of networks against the covariance SDE",
    summary="Bounded functionals of networks with attention alone converge to those of the SDE "
    "like $1/n$. The drift of one shaped ReLU whose slopes do not cancel tends to that of the SDE "
    "only like $n^{-1/2}$.",
    citations=("noci2023", "li2022", "jax"),
    presets={
        "demo": Config(dims=(10, 20), networks=40_000),
        "standard": Config(networks=600_000),
        "paper": Config(dims=(10, 20, 40, 80), networks=1_000_000),
    },
)
