r"""What shaping does along depth: the shaped block beside every ablation of it.

Exact covariance chains tell mean correlation, log trace, effective rank and log det along depth;
networks with weights the size of the gradient at every depth. A table of the mean correlation at
depths 5 and 20, measured by an independent code, is checked by claims.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Count, MultipleOf, Two, Within
from translimit.experiments.noci2023.starts import correlations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
#: Layers between two kept depths of the chains.
EVERY = 5
QUANTITIES = {
    "correlation": "mean correlation",
    "log_trace": "$\\log$ (trace / tokens)",
    "rank": "effective rank",
    "log_det": "$\\log \\det V$",
}


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


@dataclass(frozen=True)
class Chains(ex.Arrays):
    """Observables along depth, network by network."""

    depth: Int[np.ndarray, " depth"]
    correlation: Float[np.ndarray, "network depth"]
    log_trace: Float[np.ndarray, "network depth"]
    rank: Float[np.ndarray, "network depth"]
    log_det: Float[np.ndarray, "network depth"]

    def at(self, depth: int) -> int:
        """The place of a depth."""
        return int(np.flatnonzero(self.depth == depth)[0])


@dataclass(frozen=True)
class Gradients(ex.Arrays):
    """Size of the gradient at every depth, network by network."""

    depth: Int[np.ndarray, " depth"]
    log_gradient: Annotated[Float[np.ndarray, "network depth"], "log size of the gradient"]


def _block(case: str) -> describe.Block:
    ablation, _, skip = CASES[case]
    lam, gamma = (0.5**0.5, 0.5**0.5) if skip else (0.0, 1.0)
    gains = describe.ABLATIONS[ablation]
    return describe.Block(gamma=gamma, lam=lam, tau0=1.0, shaped_gains=gains)


def _start(config: Config) -> np.ndarray:
    return 0.8 * np.eye(config.tokens) + 0.2


def compute_chains(config: Config, case: str, keys: ex.Keys) -> Chains:
    """Covariance chains, in float64."""
    chain = models.CompressedShapedTransformer(
        dim=config.dim,
        layers=config.layers,
        block=_block(case),
        standard_temperature=CASES[case][1],
    )
    found = chain.simulate(_start(config), key=keys.own, seeds=config.networks, save_every=EVERY)
    cov = np.asarray(found.cov)
    upper = np.triu_indices(config.tokens, 1)
    trace = np.trace(cov, axis1=-2, axis2=-1)
    eigenvalues = np.linalg.eigvalsh(cov / trace[..., None, None])
    # Below rounding of the largest eigenvalue a log det can not be read off the covariance.
    smallest = np.maximum(eigenvalues, 1e-16)
    return Chains(
        depth=np.arange(0, config.layers + 1, EVERY),
        correlation=correlations(cov)[..., upper[0], upper[1]].mean(axis=-1),
        log_trace=np.log(trace / config.tokens),
        rank=1 / np.sum(eigenvalues**2, axis=-1),
        log_det=np.sum(np.log(smallest), axis=-1) + config.tokens * np.log(trace),
    )


def compute_gradients(config: Config, case: str, keys: ex.Keys) -> Gradients:
    """Networks with weights."""
    network = models.ShapedTransformer(
        dim=config.gradient_dim,
        layers=config.gradient_layers,
        block=_block(case),
        standard_temperature=CASES[case][1],
    )
    norms = network.gradient_norms(_start(config), key=keys.own, seeds=config.gradient_networks)
    depth = np.arange(config.gradient_layers + 1)
    return Gradients(depth, np.log(np.maximum(np.asarray(norms), 1e-300)))


def _gradient_cost(config: Config, case: str) -> ex.Cost:
    """Compilation, and weights drawn twice."""
    weights = 4 * config.gradient_dim**2 * config.gradient_layers * config.gradient_networks
    return ex.Cost(2.5 + 1.2e-7 * weights)


CHAINS = ex.Part(
    "network/{case}",
    Chains,
    compute_chains,
    grid=lambda c: list(CASES),
    cost=lambda c, case: ex.Cost(2.5 + 6e-6 * c.layers * c.networks),
)
GRADIENTS = ex.Part(
    "gradient/{case}", Gradients, compute_gradients, lambda c: list(CASES), _gradient_cost
)


def _correlation(found: ex.Found[Config], at: tuple[str, int]) -> Estimate:
    case, depth = at
    chains = found(CHAINS, case)
    values = chains.correlation[:, chains.at(depth)]
    error = float(values.std(ddof=1)) / REFERENCE_NETWORKS**0.5
    return Estimate.from_samples(values, discretisation=error)


def _gradient_growth(found: ex.Found[Config]) -> Estimate:
    logs = found(GRADIENTS, "shaped").log_gradient
    return Estimate.from_samples((logs[:, 0] - logs[:, -1]) / found.config.gradient_layers)


def _softmax_rank(found: ex.Found[Config]) -> Estimate:
    chains = found(CHAINS, "softmax")
    return Estimate.from_samples(chains.rank[:, chains.at(20)])


CLAIMS = (
    ex.Claims(
        "{case}-depth-{depth}",
        lambda found, at: (
            f"{at[0]}: mean correlation after {at[1]} layers of width {found.config.dim}, from 0.2."
        ),
        estimate=_correlation,
        prediction=lambda found, at: EXPECTED[at[0]][0 if at[1] == 5 else 1],
        tol=lambda config, at: EXPECTED[at[0]][2],
        over=lambda c: [(case, depth) for case in EXPECTED for depth in (5, 20)],
    ),
    ex.claim(
        "shaped-gradient",
        "Shaped: gradients neither vanish nor explode with depth (mean change of their logarithm a "
        "layer).",
        _gradient_growth,
        0.0,
        0.02,
    ),
    ex.claim(
        "softmax-rank",
        "Softmax with a skip connection: effective rank 1 after 20 layers.",
        _softmax_rank,
        1.0,
        0.02,
    ),
)


def _summary(values: np.ndarray) -> np.ndarray:
    """Median over networks with its standard error (of a normal sample) [depth, 2]."""
    error = 1.2533 * values.std(axis=0) / len(values) ** 0.5
    return np.stack([np.median(values, axis=0), error], axis=1)


def _depth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, chains in found.each(CHAINS):
        values = (chains.correlation, chains.log_trace, chains.rank, chains.log_det)
        columns = np.concatenate([_summary(one) for one in values], axis=1)
        for depth, row in zip(chains.depth.tolist(), columns.tolist(), strict=True):
            yield (case, depth, *row)


def _gradient_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, gradients in found.each(GRADIENTS):
        logs = gradients.log_gradient
        summary = _summary(logs - logs[:, -1:])
        for depth, row in zip(gradients.depth.tolist(), summary.tolist(), strict=True):
            yield (case, depth, *row)


def _draw_depth(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Four observables, two of them logarithmic where they are large."""
    axes = canvas.subplots(2, 2, sharex=True).ravel()
    for column, (ax, (name, label)) in enumerate(zip(axes, QUANTITIES.items(), strict=True)):
        for series, case in enumerate(table.values("case")):
            here = np.array([row[1:] for row in table.where({"case": case}).rows], dtype=float)
            ax.errorbar(
                here[:, 0],
                here[:, 1 + 2 * column],
                yerr=here[:, 2 + 2 * column],
                color=figures.COLOURS[series],
                marker=figures.MARKERS[series],
                markersize=3,
                markevery=4,
                linewidth=1.2,
                label=case,
            )
        if name.startswith("log"):
            ax.set_yscale("symlog", linthresh=10)
        figures.finish(ax, xlabel="layers", ylabel=label, legend=False)
    handles, names = axes[0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)


def _draw_gradients(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Logarithmic where they are large."""
    ax = canvas.subplots()
    for series, case in enumerate(table.values("case")):
        here = table.where({"case": case})
        ax.errorbar(
            here.numbers("layer"),
            here.numbers("log gradient"),
            yerr=here.numbers("stderr"),
            color=figures.COLOURS[series],
            marker=figures.MARKERS[series],
            markersize=4,
            capsize=2,
            label=case,
        )
    ax.set_yscale("symlog", linthresh=2)
    figures.finish(ax, xlabel="layer $l$", ylabel="log gradient at $l$, output = 0", legend=False)
    canvas.legend(loc="outside lower center", ncols=3, frameon=False)


FIGURES = (
    ex.Figure(
        name="depth",
        title="Shaped and unshaped attention along depth",
        caption="Medians over {networks} networks of width {dim} with bars of one standard error, "
        "{tokens} tokens of correlation 0.2, $\\lambda^2 = \\gamma^2 = 1/2$, $\\tau_0 = 1$. "
        "Eigenvalues below $10^{{-16}}$ of the trace are rounding and count as that in the log "
        "det. Logarithmic beyond 10 in the right and the lower right panel.",
        columns=("case", "layers", *(x for name in QUANTITIES for x in (name, "stderr"))),
        rows=_depth_rows,
        draw=_draw_depth,
        shown=lambda found, table: len(table.values("case")),
        size=(9.0, 6.6),
    ),
    ex.Figure(
        name="gradients",
        title="Size of the gradient by depth",
        caption="Logarithm of the Frobenius norm of the gradient of a random linear function of "
        "the output with respect to the tokens at layer $l$, minus that at the output: medians "
        "over {gradient_networks} networks of width {gradient_dim}, bars of one standard error. "
        "Logarithmic beyond 2.",
        columns=("case", "layer", "log gradient", "stderr"),
        rows=_gradient_rows,
        draw=_draw_gradients,
        shown=lambda found, table: len(table.values("case")),
    ),
)

EXPERIMENT = ex.Experiment(
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
    reference=core.reference("noci2023"),
    parts=(CHAINS, GRADIENTS),
    claims=CLAIMS,
    figures=FIGURES,
)
