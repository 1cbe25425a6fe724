r"""What shaping does along depth: the shaped block beside every ablation of it.

- `network/<case>`: exact covariance chains; mean correlation, log trace, effective rank and log
  det along depth.
- `gradient/<case>`: networks with weights; size of the gradient at every depth.

The printed table of the note, at depths 5 and 20, is checked by claims.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import describe, figures, models
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, MultipleOf, Two, Within
from translimit.experiments.noci2023.starts import REFERENCE, correlations

if TYPE_CHECKING:
    import xarray as xr

#: Case -> (ablation of the matrix, standard temperature, whether the skip connection is there).
CASES: Mapping[str, tuple[str, bool, bool]] = {
    "shaped": ("shaped", False, True),
    "shaped, standard temperature": ("shaped", True, True),
    "softmax": ("softmax", True, True),
    "softmax, no skip": ("softmax", True, False),
    "no centring": ("no_centring", False, True),
    "no identity": ("no_identity", False, True),
}
#: Mean correlation at depths 5 and 20 for m = 4, width 200, lam^2 = gamma^2 = 1/2, tau0 = 1, and
#: the tolerance. There is no closed form: an independent code measured these on 400 networks, whose
#: sampling error is part of the floor.
EXPECTED: Mapping[str, tuple[float, float, float]] = {
    "shaped": (0.203, 0.202, 0.03),
    "shaped, standard temperature": (0.216, 0.358, 0.03),
    "softmax": (0.9345, 1.0, 0.015),
    "softmax, no skip": (1.0, 1.0, 0.015),
    "no centring": (0.979, 1.0, 0.015),
    "no identity": (0.200, 0.200, 0.015),
}
REFERENCE_NETWORKS = 400
QUANTITIES = ("correlation", "log_trace", "rank", "log_det")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        tokens: number of tokens, unit norms with correlation 0.2.
        dim: width of the chains.
        layers: depth, a multiple of 20.
        networks: chains of each case.
        gradient_dim: width of the networks with weights.
        gradient_layers: their depth.
        gradient_networks: how many.
    """

    tokens: Annotated[int, Within(2)] = 4
    dim: Count = 200
    layers: Annotated[int, Within(20), MultipleOf(20)] = 200
    networks: Two = 400
    gradient_dim: Count = 64
    gradient_layers: Count = 20
    gradient_networks: Two = 50


class ShapedAndUnshaped(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and layers, or weights drawn twice for gradients."""
        if cell.name.startswith("network"):
            return Cost(2.5 + 6e-6 * config.layers * config.networks)
        weights = 4 * config.gradient_dim**2 * config.gradient_layers * config.gradient_networks
        return Cost(2.5 + 1.2e-7 * weights)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """For each case its chains and its gradients."""
        chains = tuple(Cell(f"network/{case}", {"case": case}) for case in CASES)
        return chains + tuple(Cell(f"gradient/{case}", {"case": case}) for case in CASES)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Two depths for every case, and the gradients of the shaped block."""
        table = tuple(f"{case}-depth-{depth}" for case in CASES for depth in (5, 20))
        return (*table, "shaped-gradient", "softmax-rank")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Observables along depth, network by network."""
        import xarray as xr

        case = cell.parameters["case"]
        attrs = {"reference": REFERENCE, **cell.parameters}
        start = 0.8 * np.eye(config.tokens) + 0.2
        if cell.name.startswith("gradient"):
            network = models.ShapedTransformer(
                dim=config.gradient_dim, layers=config.gradient_layers, **_case(case)
            )
            norms = network.gradient_norms(start, key=key, seeds=config.gradient_networks)
            return xr.Dataset(
                {
                    "log_gradient": (
                        ("network", "depth"),
                        np.log(np.maximum(norms, 1e-300)),
                        {"long_name": "log size of the gradient"},
                    )
                },
                coords={"depth": ("depth", np.arange(config.gradient_layers + 1))},
                attrs=attrs,
            )
        chain = models.CompressedShapedTransformer(
            dim=config.dim, layers=config.layers, **_case(case)
        )
        every = 5
        networks = chain.simulate(start, key=key, seeds=config.networks, save_every=every)
        cov = np.asarray(networks.cov)
        upper = np.triu_indices(config.tokens, 1)
        eigenvalues = np.linalg.eigvalsh(cov / np.trace(cov, axis1=-2, axis2=-1)[..., None, None])
        trace = np.trace(cov, axis1=-2, axis2=-1)
        # Below rounding of the largest eigenvalue a log det can not be read off the covariance.
        smallest = np.maximum(eigenvalues, 1e-16)
        values = {
            "correlation": correlations(cov)[..., upper[0], upper[1]].mean(axis=-1),
            "log_trace": np.log(trace / config.tokens),
            "rank": 1 / np.sum(eigenvalues**2, axis=-1),
            "log_det": np.sum(np.log(smallest), axis=-1) + config.tokens * np.log(trace),
        }
        return xr.Dataset(
            {name: (("network", "depth"), value) for name, value in values.items()},
            coords={"depth": ("depth", np.arange(0, config.layers + 1, every))},
            attrs=attrs,
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The table, the loss of rank of plain softmax, and the gradients of the shaped block."""
        claims = []
        for case, (*expected, tol) in EXPECTED.items():
            data = results[f"network/{case}"]["correlation"]
            for depth, value in zip((5, 20), expected, strict=True):
                values = data.sel(depth=depth).values
                reference_error = float(values.std(ddof=1)) / REFERENCE_NETWORKS**0.5
                estimate = Estimate.from_samples(values, discretisation=reference_error)
                claims.append(
                    Claim(
                        name=f"{case}-depth-{depth}",
                        statement=f"{case}: mean correlation after {depth} layers of width "
                        f"{config.dim}, from 0.2.",
                        prediction=value,
                        estimate=estimate,
                        tol=tol,
                        reference=REFERENCE,
                    )
                )
        gradients = results["gradient/shaped"]["log_gradient"]
        growth = (gradients[:, 0] - gradients[:, -1]).values / config.gradient_layers
        rank = results["network/softmax"]["rank"].sel(depth=20).values
        return [
            *claims,
            Claim(
                name="shaped-gradient",
                statement="Shaped: gradients neither vanish nor explode with depth (mean change of "
                "their logarithm a layer).",
                prediction=0.0,
                estimate=Estimate.from_samples(growth),
                tol=0.02,
                reference=REFERENCE,
            ),
            Claim(
                name="softmax-rank",
                statement="Softmax with a skip connection: effective rank 1 after 20 layers.",
                prediction=1.0,
                estimate=Estimate.from_samples(rank),
                tol=0.02,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Four observables along depth, and the gradients."""
        return [_figure_depth(config, results), _figure_gradients(config, results)]


def _case(case: str) -> dict[str, Any]:
    ablation, standard, skip = CASES[case]
    lam, gamma = (0.5**0.5, 0.5**0.5) if skip else (0.0, 1.0)
    block = describe.Block(
        gamma=gamma, lam=lam, tau0=1.0, shaped_gains=describe.ABLATIONS[ablation]
    )
    return {"block": block, "standard_temperature": standard}


def _summary(data: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Median over networks with its standard error (of a normal sample)."""
    values = data.values
    return np.median(values, axis=0), 1.2533 * values.std(axis=0) / len(values) ** 0.5


def _figure_depth(config: Config, results: Results) -> FigureSpec:
    labels = {
        "correlation": "mean correlation",
        "log_trace": "$\\log$ (trace / tokens)",
        "rank": "effective rank",
        "log_det": "$\\log \\det V$",
    }
    depth = results["network/shaped"]["depth"].values
    rows = []
    for case in CASES:
        summary = {name: _summary(results[f"network/{case}"][name]) for name in QUANTITIES}
        for i, layer in enumerate(depth):
            cells = [float(part[i]) for name in QUANTITIES for part in summary[name]]
            rows.append((case, int(layer), *cells))

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, 2, sharex=True).ravel()
        for column, (ax, name) in enumerate(zip(axes, QUANTITIES, strict=True)):
            for series, case in enumerate(CASES):
                here = np.array([row[1:] for row in rows if row[0] == case], dtype=float)
                value, error = here[:, 1 + 2 * column], here[:, 2 + 2 * column]
                ax.errorbar(
                    here[:, 0],
                    value,
                    yerr=error,
                    color=figures.COLOURS[series],
                    marker=figures.MARKERS[series],
                    markersize=3,
                    markevery=4,
                    linewidth=1.2,
                    label=case,
                )
            if name in {"log_trace", "log_det"}:
                ax.set_yscale("symlog", linthresh=10)
            figures.finish(ax, xlabel="layers", ylabel=labels[name], legend=False)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)

    columns = [column for name in QUANTITIES for column in (name, "stderr")]
    return FigureSpec(
        name="depth",
        title="Shaped and unshaped attention along depth",
        caption=f"Medians over {config.networks} networks of width {config.dim} with bars of one "
        f"standard error, {config.tokens} tokens of correlation 0.2, $\\lambda^2 = \\gamma^2 = 1/2$"
        ", $\\tau_0 = 1$. Eigenvalues below $10^{-16}$ of the trace are rounding and count as "
        "that in the log det. Logarithmic beyond 10 in the right and the lower right panel.",
        draw=draw,
        table=Table(("case", "layers", *columns), tuple(rows)),
        shown=len(CASES),
        size=(9.0, 6.6),
    )


def _figure_gradients(config: Config, results: Results) -> FigureSpec:
    rows = []
    for case in CASES:
        data = results[f"gradient/{case}"]["log_gradient"]
        relative = data - data[:, -1]
        value, error = _summary(relative)
        rows += [
            (case, int(layer), float(v), float(e))
            for layer, v, e in zip(data["depth"].values, value, error, strict=True)
        ]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, case in enumerate(CASES):
            here = np.array([row[1:] for row in rows if row[0] == case], dtype=float)
            ax.errorbar(
                here[:, 0],
                here[:, 1],
                yerr=here[:, 2],
                color=figures.COLOURS[series],
                marker=figures.MARKERS[series],
                markersize=4,
                capsize=2,
                label=case,
            )
        ax.set_yscale("symlog", linthresh=2)
        label = "log gradient at $l$, output = 0"
        figures.finish(ax, xlabel="layer $l$", ylabel=label, legend=False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)

    return FigureSpec(
        name="gradients",
        title="Size of the gradient by depth",
        caption="Logarithm of the Frobenius norm of the gradient of a random linear "
        "function of the "
        f"output with respect to the tokens at layer $l$, minus that at the output: medians over "
        f"{config.gradient_networks} networks of width {config.gradient_dim}, bars of one standard "
        "error. Logarithmic beyond 2.",
        draw=draw,
        table=Table(("case", "layer", "log gradient", "stderr"), tuple(rows)),
        shown=len(CASES),
    )


EXPERIMENT = ShapedAndUnshaped(
    name="noci2023/shaped-and-unshaped",
    title="Shaped and unshaped attention along depth",
    summary="Plain softmax attention makes all tokens equal within a few layers; the shaped matrix "
    "$I + P - U$ with a temperature that grows with the width does not. Every part of it is left "
    "out in turn: centring, identity, temperature, skip connection.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(layers=40, networks=200, gradient_layers=10, gradient_networks=20),
        "standard": Config(),
        "paper": Config(
            networks=4000, gradient_dim=200, gradient_layers=100, gradient_networks=100
        ),
    },
)
