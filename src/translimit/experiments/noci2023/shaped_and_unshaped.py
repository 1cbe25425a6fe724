r"""What shaping does along depth: the shaped block beside every ablation of it.

Exact chains tell correlation, log trace, rank and log det along depth, networks the gradient. At
infinite width a layer multiplies the mean and the centred part of the covariance by two numbers;
at the usual temperature V <- lam^2 V + gamma^2 A V A^T with Gaussian scores, drawn here by itself.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, models
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    IncreasingSizes,
    MultipleOf,
    Two,
    Within,
)
from translimit.experiments.noci2023.ablations import (
    CASES,
    FACTORS,
    UNCENTRED,
    block_of,
    gradient_law,
    law,
    recursion,
    start,
)
from translimit.experiments.noci2023.starts import correlations, generator

#: Case, quantity, depth -> tolerance, and the theories that are another law there.
POINTS: Mapping[tuple[str, str, int], tuple[float, tuple[str, ...]]] = {
    ("shaped", "correlation", 5): (0.02, ("uniform attention", "no centring")),
    ("shaped", "correlation", 20): (0.03, ("uniform attention", "no centring")),
    ("shaped", "log_trace", 20): (0.1, ("uniform attention", "no centring", "no identity")),
    ("shaped, standard temperature", "correlation", 20): (0.03, ("shaped", "uniform attention")),
    ("softmax", "correlation", 5): (0.002, ("uniform attention", "collapse by lam", "shaped")),
    ("softmax", "rank", 20): (0.001, ("shaped", "collapse by lam")),
    ("softmax, no skip", "correlation", 5): (0.002, ("uniform attention", "shaped")),
    ("no centring", "correlation", 5): (0.002, UNCENTRED),
    ("no centring", "log_trace", 20): (0.2, UNCENTRED),
    ("no identity", "correlation", 20): (0.01, ("uniform attention", "no centring")),
    ("no identity", "log_trace", 20): (0.1, ("shaped", "vanishing by lam")),
}
#: Case -> what else its gradients could do.
GRADIENT_POINTS: Mapping[str, tuple[str, ...]] = {
    "shaped": ("no identity", "no centring", "uniform attention"),
    "no centring": UNCENTRED,
    "no identity": ("shaped", "vanishing by lam", "uniform attention"),
}
#: Layers between two kept depths of the chains; the last depth of a claim.
EVERY, LAST = 5, 20
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
        dims: widths of the chains, increasing; the narrower go to depth 20 only.
        layers: depth of the widest, a multiple of 20.
        networks: chains of each case.
        draws: of the recursion with Gaussian scores.
        gradient_dim: width of the networks with weights; gradient_layers their depth.
        gradient_networks: how many.
    """

    tokens: Annotated[int, Within(2)] = 4
    dims: Annotated[IncreasingSizes, Entries(2, 2)] = (100, 200)
    layers: Annotated[int, Within(20), MultipleOf(20)] = 100
    networks: Two = 10_000
    draws: Two = 20_000
    gradient_dim: Count = 64
    gradient_layers: Count = 20
    gradient_networks: Two = 50

    @property
    def largest(self) -> int:
        """The largest width."""
        return self.dims[-1]


@dataclass(frozen=True)
class Chains(ex.Arrays):
    """Means of the quantities in their order, with standard errors."""

    depth: Int[np.ndarray, " depth"]
    means: Float[np.ndarray, "quantity depth"]
    stderr: Float[np.ndarray, "quantity depth"]

    def mean(self, quantity: str, depth: int) -> Estimate:
        """The mean of a quantity at a depth."""
        place = list(QUANTITIES).index(quantity), int(np.flatnonzero(self.depth == depth)[0])
        return Estimate(float(self.means[place]), float(self.stderr[place]))


@dataclass(frozen=True)
class Gradients(ex.Arrays):
    """Size of the gradient at every depth, network by network."""

    depth: Int[np.ndarray, " depth"]
    log_gradient: Annotated[Float[np.ndarray, "network depth"], "log size of the gradient"]


def compute_chains(config: Config, at: tuple[str, int], keys: ex.Keys) -> Chains:
    """Covariance chains, in float64."""
    case, dim = at
    layers = config.layers if dim == config.largest else LAST
    chain = models.CompressedShapedTransformer(
        dim=dim, layers=layers, block=block_of(case), standard_temperature=CASES[case][1]
    )
    found = chain.simulate(
        start(config.tokens), key=keys.own, seeds=config.networks, save_every=EVERY
    )
    return _chains(np.asarray(found.cov))


def _chains(cov: np.ndarray) -> Chains:
    """Observables of covariances kept every so many layers."""
    tokens = cov.shape[-1]
    upper = np.triu_indices(tokens, 1)
    trace = np.trace(cov, axis1=-2, axis2=-1)
    eigenvalues = np.linalg.eigvalsh(cov / trace[..., None, None])
    # Below rounding of the largest eigenvalue a log det can not be read off the covariance.
    log_det = np.sum(np.log(np.maximum(eigenvalues, 1e-16)), axis=-1) + tokens * np.log(trace)
    rho = correlations(cov)[..., upper[0], upper[1]].mean(axis=-1)
    rank = 1 / np.sum(eigenvalues**2, axis=-1)
    values = np.stack([rho, np.log(trace / tokens), rank, log_det])
    error = values.std(axis=1, ddof=1) / values.shape[1] ** 0.5
    return Chains(np.arange(cov.shape[1]) * EVERY, values.mean(axis=1), error)


def compute_recursion(config: Config, case: str, keys: ex.Keys) -> Chains:
    """The recursion of infinite width."""
    covs = recursion(case, start(config.tokens), LAST, EVERY, config.draws, generator(keys))
    return _chains(covs)


def compute_gradients(config: Config, case: str, keys: ex.Keys) -> Gradients:
    """Networks with weights."""
    network = models.ShapedTransformer(
        dim=config.gradient_dim,
        layers=config.gradient_layers,
        block=block_of(case),
        standard_temperature=CASES[case][1],
    )
    norms = network.gradient_norms(
        start(config.tokens), key=keys.own, seeds=config.gradient_networks
    )
    depth = np.arange(config.gradient_layers + 1)
    return Gradients(depth, np.log(np.maximum(np.asarray(norms), 1e-300)))


def _gradient_cost(config: Config, case: str) -> ex.Cost:
    """Compilation, and weights drawn twice."""
    weights = 4 * config.gradient_dim**2 * config.gradient_layers * config.gradient_networks
    return ex.Cost(2.5 + 1.2e-7 * weights)


CHAINS = ex.Part(
    "network/{case}/n={dim}",
    Chains,
    compute_chains,
    grid=lambda c: [(case, dim) for case in CASES for dim in c.dims],
    cost=lambda c, at: ex.Cost(3 + 6e-6 * (c.layers if at[1] == c.largest else LAST) * c.networks),
)
RECURSION = ex.Part(
    "recursion/{case}",
    Chains,
    compute_recursion,
    grid=lambda c: [case for case, (_, standard, _) in CASES.items() if standard],
    cost=lambda c, case: ex.Cost(1 + 3e-7 * LAST * c.tokens**2 * c.draws),
)
GRADIENTS = ex.Part(
    "gradient/{case}", Gradients, compute_gradients, lambda c: list(CASES), _gradient_cost
)

Point = tuple[str, str, int]


def _predicted(found: ex.Found[Config], at: Point) -> float:
    case, quantity, depth = at
    if CASES[case][1]:
        return found(RECURSION, case).mean(quantity, depth).value
    return law(found.config.tokens, case, quantity, depth)


def _extrapolated(found: ex.Found[Config], at: Point) -> Estimate:
    """Chains of two widths, extrapolated in 1 / n; the error of a drawn prediction is added."""
    case, quantity, depth = at
    small, large = found.config.dims
    weight = large / (large - small)
    coarse, fine = (found(CHAINS, (case, dim)).mean(quantity, depth) for dim in (small, large))
    value = weight * fine.value - (weight - 1) * coarse.value
    error = float(np.hypot(weight * fine.stderr, (weight - 1) * coarse.stderr))
    drawn = found(RECURSION, case).mean(quantity, depth).stderr if CASES[case][1] else 0.0
    return Estimate(value, error, found.config.networks, discretisation=drawn)


def _gradient_law(found: ex.Found[Config], theory: str) -> float:
    return gradient_law(found.config.tokens, theory, found.config.gradient_layers)


def _gradient_growth(found: ex.Found[Config], case: str) -> Estimate:
    logs = found(GRADIENTS, case).log_gradient
    return Estimate.from_samples((logs[:, 0] - logs[:, -1]) / found.config.gradient_layers)


CLAIMS = (
    ex.Claims(
        "{case}-{quantity}-{depth}",
        lambda found, at: (
            f"{at[0]}: {QUANTITIES[at[1]]} after {at[2]} layers, extrapolated from widths "
            f"{found.config.dims}."
        ),
        estimate=_extrapolated,
        prediction=_predicted,
        tol=lambda config, at: POINTS[at][0],
        over=lambda c: [at for at in POINTS if at[0] in CASES],
        rivals=tuple(
            ex.Rival(
                theory,
                lambda found, at, theory=theory: law(found.config.tokens, theory, *at[1:]),
                when=lambda c, at, theory=theory: theory in POINTS[at][1],
            )
            for theory in FACTORS
        ),
    ),
    ex.Claims(
        "{case}-gradient",
        lambda found, case: (
            f"{case}: change a layer of the logarithm of the gradient's size over "
            f"{found.config.gradient_layers} layers, from the output to the input."
        ),
        estimate=_gradient_growth,
        prediction=lambda found, case: _gradient_law(found, case),
        tol=0.02,
        over=lambda c: [case for case in GRADIENT_POINTS if case in CASES],
        rivals=tuple(
            ex.Rival(
                theory,
                lambda found, case, theory=theory: _gradient_law(found, theory),
                when=lambda c, case, theory=theory: theory in GRADIENT_POINTS[case],
            )
            for theory in FACTORS
        ),
    ),
)


def _depth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in CASES:
        chains = found(CHAINS, (case, found.config.largest))
        for depth in chains.depth.tolist():
            means = [chains.mean(name, depth) for name in QUANTITIES]
            yield (case, depth, *(x for one in means for x in (one.value, one.stderr)))


def _gradient_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, gradients in found.each(GRADIENTS):
        logs = gradients.log_gradient - gradients.log_gradient[:, -1:]
        mean, error = logs.mean(axis=0), logs.std(axis=0, ddof=1) / len(logs) ** 0.5
        for row in zip(gradients.depth.tolist(), mean.tolist(), error.tolist(), strict=True):
            yield (case, *row)


FIGURES = (
    ex.Figure(
        name="depth",
        title="Shaped and unshaped attention along depth",
        caption="Means over {networks} networks of width {largest} with bars of one standard "
        "error, {tokens} tokens of correlation 0.2, $\\lambda^2 = \\gamma^2 = 1/2$, "
        "$\\tau_0 = 1$. Eigenvalues below $10^{{-16}}$ of the trace are rounding and count as that "
        "in the log det.",
        columns=("case", "layers", *(x for name in QUANTITIES for x in (name, f"{name} stderr"))),
        rows=_depth_rows,
        x="layers",
        by="case",
        across=2,
        layers=tuple(
            figures.panel("", figures.points(name, f"{name} stderr", joined=True), ylabel=label)
            for name, label in QUANTITIES.items()
        ),
        size=(9.0, 7.6),
    ),
    ex.Figure(
        name="gradients",
        title="Size of the gradient by depth",
        caption="Logarithm of the Frobenius norm of the gradient of a random linear function of "
        "the output with respect to the tokens at layer $l$, minus that at the output: means "
        "over {gradient_networks} networks of width {gradient_dim}, bars of one standard error.",
        columns=("case", "layer", "log gradient", "stderr"),
        rows=_gradient_rows,
        x="layer",
        by="case",
        layers=(figures.points("log gradient", "stderr", joined=True),),
        xlabel="layer $l$",
        ylabel="log gradient at $l$, output = 0",
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/shaped-and-unshaped",
    title="Shaped and unshaped attention along depth",
    question="Which part of shaping keeps tokens from collapsing along depth?",
    summary="Plain softmax attention makes all tokens equal within a few layers; the shaped matrix "
    "$I + P - U$ with a temperature that grows with the width does not. Every part of it is left "
    "out in turn: centring, identity, temperature, skip connection.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(
            layers=40, networks=8000, draws=8000, gradient_layers=10, gradient_networks=20
        ),
        "standard": Config(),
        "paper": Config(
            networks=100_000,
            draws=100_000,
            gradient_dim=200,
            gradient_layers=100,
            gradient_networks=100,
        ),
    },
    reference=core.reference("noci2023"),
    parts=(CHAINS, RECURSION, GRADIENTS),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "After 5 layers tokens have correlation {0} in the shaped block, {1} with plain softmax",
        ("shaped-correlation-5", "softmax-correlation-5"),
    ),
)
