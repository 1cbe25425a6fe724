r"""Entropy and effective sample size of attention weights, in clouds and in their closure.

Two kinds of cells:

- `depth/variant/n=...`: Gaussian clouds flow to t1; the entropy and the effective sample size of
  the weights of every token, averaged over the tokens, are set beside those of the closure started
  from each cloud's own moments: the tilt of a Gaussian is a Gaussian, so both are elementary, and
  Gauss-Hermite quadrature averages them over the queries.
- `sharp/n=...`: a cloud at rest and single queries x of growing |Sigma^(1/2) A x|^2. The effective
  sample size follows n e^{-|Sigma^(1/2) A x|^2} while that is many tokens, and leaves it where the
  exponent reaches log n: what the closure averages over is then in no cloud of n tokens.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures, limits, observe
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.castin2025.canonical import (
    BLOW_UP,
    COV,
    MEAN,
    REFERENCE,
    batch_size,
    canonical_attention,
    gaussian_clouds,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Distinct,
    OneOf,
    Replicates,
    Sizes,
    Two,
    Within,
    require_one_each,
)

if TYPE_CHECKING:
    import xarray as xr

VARIANTS = ("softmax", "l2")
#: Depths that are kept, ends included, and Runge-Kutta steps to the last.
SAVES, STEPS = 5, 12
#: Gauss-Hermite nodes a dimension, for the average over Gaussian queries.
NODES = 24
#: Exponents |Sigma^(1/2) A x|^2 of the single queries, and the one of the claim: there the error of
#: a ratio of sums is still small, e^{2} / n relative.
EXPONENTS = np.arange(0.0, 24.1, 0.5)
EXPONENT = 0.5
#: One pair of tokens in one evaluation of the field, and in the observables, on one core.
SECONDS_PER_PAIR = 4e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        variants: of `VARIANTS`.
        tokens: numbers of tokens n of the clouds that flow.
        clouds: independent clouds at each of these n.
        t1: final depth, well before the closure's blow-up at 3.93.
        sharp_tokens: numbers of tokens of the clouds at rest.
        sharp_clouds: how many of each.
    """

    variants: Annotated[tuple[str, ...], OneOf(VARIANTS), Distinct()] = VARIANTS
    tokens: Sizes = (100, 400, 1600)
    clouds: Replicates = (64, 32, 16)
    t1: Annotated[float, Within(0, BLOW_UP, above=True, below=True)] = 0.8
    sharp_tokens: Sizes = (100, 1000, 10_000)
    sharp_clouds: Two = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)


class AttentionWeights(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and pairs of tokens at `SECONDS_PER_PAIR`."""
        pairs = cell.parameters["tokens"] ** 2 * cell.parameters.get("clouds", 0)
        pairs *= 6 * STEPS + 4 * SAVES
        if cell.name.startswith("sharp"):
            pairs = cell.parameters["tokens"] * config.sharp_clouds * 4 * len(EXPONENTS)
        return Cost(20.0 / len(self.cells(config)) + SECONDS_PER_PAIR * pairs)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The largest clouds first."""
        sizes = sorted(zip(config.tokens, config.clouds, strict=True), reverse=True)
        depth = (
            Cell(f"depth/{v}/n={n}", {"variant": v, "tokens": n, "clouds": count})
            for n, count in sizes
            for v in config.variants
        )
        return (*depth, *(Cell(f"sharp/n={n}", {"tokens": n}) for n in config.sharp_tokens))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            *(f"{v}-{what}" for v in VARIANTS for what in ("entropy", "sample-size")),
            "sample-size-law",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, in float64."""
        if cell.name.startswith("depth"):
            return _compute_depth(config, key=key, **cell.parameters)
        return _compute_sharp(config, cell.parameters["tokens"], key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Particles beside the closure at the last depth, and the law of the sample size."""
        largest = max(config.tokens)
        claims = []
        for variant in config.variants:
            data = results[f"depth/{variant}/n={largest}"].isel(time=-1)
            for what, name, text in (
                ("deficit", "entropy", "The entropy of the weights lies below $\\log n$ by"),
                ("fraction", "sample-size", "The effective sample size is the fraction of $n$ of"),
            ):
                predicted = data[f"closure_{what}"]
                gap = Estimate.from_samples((data[what] - predicted).values)
                claims.append(
                    Claim(
                        name=f"{variant}-{name}",
                        statement=f"{variant}: {text} the closure's Gaussian tilt (mean over the "
                        f"tokens, depth {config.t1:g}, n = {largest}, matched initial moments).",
                        prediction=float(predicted.mean()),
                        estimate=Estimate(float(data[what].mean()), gap.stderr, gap.count),
                        tol=0.005,
                        reference=REFERENCE,
                    )
                )
        sharp = results[f"sharp/n={max(config.sharp_tokens)}"].sel(exponent=EXPONENT)
        claims.append(
            Claim(
                name="sample-size-law",
                statement="The effective sample size of a query is $n e^{-|\\Sigma^{1/2} A x|^2}$ "
                f"(fraction of $n$ at the exponent {EXPONENT:g}, "
                f"n = {max(config.sharp_tokens)}).",
                prediction=float(np.exp(-EXPONENT)),
                estimate=Estimate.from_samples(sharp["fraction"].values),
                tol=0.01,
                reference=REFERENCE,
            )
        )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Over depth, and over the sharpness of single queries."""
        return [_figure_depth(config, results), _figure_sharp(config, results)]


def _scores(attention: Any, queries: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """Logits of softmax or L2 attention [..., queries, tokens], up to a constant for a query."""
    tilt, confinement = _tilt(attention, queries)
    squares = np.einsum("...ni,ij,...nj->...n", cloud, confinement, cloud)
    return tilt @ np.swapaxes(cloud, -1, -2) - squares[..., None, :]


def _tilt(attention: Any, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The linear part of the scores at the queries [..., dim], and the confinement [dim, dim]."""
    confinement = getattr(attention, "B", None)  # L2's
    if confinement is None:
        return queries @ attention.A.T, np.zeros((2, 2))
    return 2 * queries @ attention.A.T, confinement


def closure_weights(
    attention: Any, mean: np.ndarray, cov: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The limits of log n - H and N / n for tokens N(mean, cov), averaged over the queries.

    Args:
        attention: softmax or L2.
        mean: [..., 2].
        cov: [..., 2, 2].

    Returns:
        Entropy deficit and sample fraction [...].
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    root = np.linalg.cholesky(cov)
    queries = mean[..., None, :] + grid @ np.swapaxes(root, -1, -2)
    tilt, confinement = _tilt(attention, queries)
    law = {"mean": mean[..., None, :], "confinement": confinement}
    deficit = observe.gaussian_entropy_deficit(tilt, cov[..., None, :, :], **law)
    fraction = observe.gaussian_sample_fraction(tilt, cov[..., None, :, :], **law)
    return deficit @ mass, fraction @ mass


def _compute_depth(config: Config, variant: str, tokens: int, clouds: int, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    chosen, ts = canonical_attention(variant), np.linspace(0.0, config.t1, SAVES)
    initial = gaussian_clouds(key, clouds, tokens, np.float64)

    def flow(cloud: Any) -> Any:
        problem = limits.meanfield.ParticleFlow(attention=chosen, initial=cloud, t1=config.t1)
        return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=ts).tokens

    def closure(mean: Any, cov: Any) -> Any:
        problem = limits.meanfield.GaussianFlow(attention=chosen, mean=mean, cov=cov, t1=config.t1)
        solution = core.solve(problem, limits.meanfield.FixedODE(steps=64), save=ts)
        return solution.mean, solution.cov

    with jax.enable_x64(True):
        batch = batch_size(clouds, tokens)
        paths = np.asarray(jax.jit(lambda x: jax.lax.map(flow, x, batch_size=batch))(initial))
        mean, cov = (
            np.asarray(part) for part in jax.jit(jax.vmap(closure))(*observe.moments(initial))
        )
    deficit, fraction = np.empty((2, clouds, SAVES))
    for cloud in range(clouds):
        for time in range(SAVES):
            logits = _scores(chosen, paths[cloud, time], paths[cloud, time])
            deficit[cloud, time] = np.log(tokens) - observe.attention_entropy(logits).mean()
            fraction[cloud, time] = observe.effective_sample_size(logits).mean() / tokens
    closed = closure_weights(chosen, mean, cov)
    lead = ("cloud", "time")
    return xr.Dataset(
        {
            "deficit": (lead, deficit, {"long_name": "log n - entropy", "units": "nat"}),
            "fraction": (lead, fraction, {"long_name": "effective sample size / n"}),
            "closure_deficit": (lead, closed[0], {"long_name": "of the closure", "units": "nat"}),
            "closure_fraction": (lead, closed[1], {"long_name": "of the closure"}),
        },
        coords={"time": ("time", ts, {"long_name": "depth $t$"})},
        attrs={"tokens": tokens, "reference": REFERENCE},
    )


def _compute_sharp(config: Config, tokens: int, key: Any) -> xr.Dataset:
    import xarray as xr

    softmax = canonical_attention("softmax")
    clouds = gaussian_clouds(key, config.sharp_clouds, tokens, np.float64) - MEAN
    # Along the direction in which scores vary most.
    values, axes = np.linalg.eigh(softmax.A.T @ COV @ softmax.A)
    queries = np.sqrt(EXPONENTS / values[-1])[:, None] * axes[:, -1]
    entropy, size = np.empty((2, config.sharp_clouds, EXPONENTS.size))
    for index, cloud in enumerate(clouds):
        logits = _scores(softmax, queries, cloud)
        entropy[index] = observe.attention_entropy(logits)
        size[index] = observe.effective_sample_size(logits)
    lead = ("cloud", "exponent")
    tilt, _ = _tilt(softmax, queries)
    return xr.Dataset(
        {
            "deficit": (lead, np.log(tokens) - entropy, {"units": "nat"}),
            "fraction": (lead, size / tokens, {"long_name": "effective sample size / n"}),
            "limit_deficit": ("exponent", observe.gaussian_entropy_deficit(tilt, COV)),
            "limit_fraction": ("exponent", observe.gaussian_sample_fraction(tilt, COV)),
        },
        coords={"exponent": ("exponent", EXPONENTS)},
        attrs={"tokens": tokens, "reference": REFERENCE},
    )


def _mean(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over clouds, and its standard error."""
    count = values.sizes["cloud"]
    return values.mean("cloud").values, values.std("cloud", ddof=1).values / np.sqrt(count)


def _figure_depth(config: Config, results: Results) -> FigureSpec:
    quantities = {
        "deficit": "$\\log n$ minus entropy (nats)",
        "fraction": "effective sample size $/\\,n$",
    }
    shown = (min(config.tokens), max(config.tokens))
    cells = {(v, n): results[f"depth/{v}/n={n}"] for v in config.variants for n in shown}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(quantities))
        for ax, (what, label) in zip(axes, quantities.items(), strict=True):
            for series, ((variant, n), data) in enumerate(cells.items()):
                mean, stderr = _mean(data[what])
                ax.errorbar(
                    data["time"],
                    mean,
                    yerr=stderr,
                    fmt=figures.MARKERS[series],
                    color=figures.COLOURS[series],
                    capsize=3,
                    markersize=5,
                    label=f"{variant}, $n = {n}$",
                )
                if n == max(shown):
                    ax.plot(
                        data["time"],
                        data[f"closure_{what}"].mean("cloud"),
                        color=figures.LIMIT,
                        linestyle="-" if variant == config.variants[0] else "--",
                        label=f"closure, {variant}",
                    )
            figures.finish(ax, xlabel="depth $t$", ylabel=label)

    rows = tuple(
        (
            variant,
            n,
            float(t),
            *(
                float(number[index])
                for what in quantities
                for number in (*_mean(data[what]), data[f"closure_{what}"].mean("cloud").values)
            ),
        )
        for (variant, n), data in cells.items()
        for index, t in enumerate(data["time"].values)
    )
    columns = (
        "deficit",
        "stderr",
        "closure",
        "fraction",
        "stderr (fraction)",
        "closure (fraction)",
    )
    return FigureSpec(
        name="depth",
        title="How many tokens a token attends to",
        caption="Left: entropy of the attention weights below that of equal weights, right: "
        "effective sample size as a fraction of $n$; both averaged over the tokens, along depth, "
        "for Gaussian clouds (markers; bars of one standard error over clouds) and for the "
        "closure started from the clouds' moments (lines, $n\\to\\infty$). Nothing is fitted.",
        draw=draw,
        table=Table(("variant", "n", "t", *columns), rows),
        shown=sum(data.sizes["cloud"] for data in cells.values()),
        size=(10.0, 4.2),
    )


def _figure_sharp(config: Config, results: Results) -> FigureSpec:
    cells = {n: results[f"sharp/n={n}"] for n in config.sharp_tokens}

    def draw(figure: Any) -> None:
        sizes, entropies = figure.subplots(1, 2)
        for series, (n, data) in enumerate(cells.items()):
            colour = figures.COLOURS[series % len(figures.COLOURS)]
            for ax, what, limit in (
                (sizes, n * data["fraction"], n * data["limit_fraction"]),
                (entropies, data["deficit"], data["limit_deficit"]),
            ):
                mean, stderr = _mean(what)
                ax.errorbar(
                    data["exponent"],
                    mean,
                    yerr=stderr,
                    fmt=figures.MARKERS[series % len(figures.MARKERS)],
                    color=colour,
                    markersize=3.5,
                    linewidth=0.8,
                    label=f"$n = {n}$",
                )
                ax.plot(data["exponent"], limit, color=colour if ax is sizes else figures.LIMIT)
                ax.axvline(np.log(n), color=colour, linestyle=":", linewidth=0.9)
        sizes.set_yscale("log")
        sizes.set_ylim(0.7, 1.5 * max(cells))
        entropies.set_ylim(0.0, 1.1 * np.log(max(cells)))
        exponent = "$|\\Sigma^{1/2} A x|^2$"
        figures.finish(sizes, xlabel=exponent, ylabel="effective sample size")
        figures.finish(entropies, xlabel=exponent, ylabel="$\\log n$ minus entropy (nats)")

    rows = tuple(
        (
            n,
            float(e),
            *(float(part[i]) for part in _mean(n * data["fraction"])),
            float(n * data["limit_fraction"][i]),
            *(float(part[i]) for part in _mean(data["deficit"])),
            float(data["limit_deficit"][i]),
        )
        for n, data in cells.items()
        for i, e in enumerate(data["exponent"].values)
        if e % 2 == 0
    )
    return FigureSpec(
        name="sample-size",
        title="Where a finite cloud stops sampling its limit",
        caption="Effective sample size (left) and entropy below $\\log n$ (right) of the softmax "
        f"weights of single queries; {config.sharp_clouds} Gaussian clouds for each $n$, bars of "
        "one standard error. Lines: $n e^{-|\\Sigma^{1/2}Ax|^2}$ and $|\\Sigma^{1/2}Ax|^2/2$, the "
        "limits $n\\to\\infty$. Dotted: the exponent $\\log n$, beyond which the first is below "
        "one token. The table has every fourth point.",
        draw=draw,
        table=Table(
            (
                "n",
                "exponent",
                "sample size",
                "stderr",
                "n e^-exponent",
                "deficit",
                "stderr (nat)",
                "exponent / 2",
            ),
            rows,
        ),
        shown=config.sharp_clouds * len(cells),
        size=(10.0, 4.2),
    )


EXPERIMENT = AttentionWeights(
    name="castin2025/attention-weights",
    title="Entropy and effective sample size of attention weights",
    summary="How many keys a query attends to, in finite clouds and in the Gaussian closure, along "
    "depth; and how far a cloud of $n$ tokens can stand for its limit: the effective sample size "
    "of a query is $n e^{-|\\Sigma^{1/2} A x|^2}$ until that is a handful of tokens.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(tokens=(100, 400), clouds=(64, 128)),
        "standard": Config(clouds=(256, 128, 64)),
        "paper": Config(
            tokens=(100, 400, 1600, 6400),
            clouds=(1024, 512, 256, 64),
            sharp_tokens=(100, 1000, 10_000, 100_000),
            sharp_clouds=128,
        ),
    },
)
