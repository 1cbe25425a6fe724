r"""Sinkhorn attention: how fast its iteration contracts, its closure and an erratum, its energy.

Four kinds of cells:

- `contraction/b=...`: the error of the column marginals, round by round, for scores of strength b
  (the largest singular value of Sigma^(1/2) A Sigma^(1/2)), on a quadrature cloud of a Gaussian
  that is not centred and on clouds of random tokens; float64.
- `erratum`: d Sigma / dt measured by discrete Sinkhorn on quadrature clouds, beside the closure and
  the expression in the authors' script, for invertible and for singular A and Sigma; float64.
- `clouds/n=...`: Gaussian clouds flow to t1 in float32; their final moments beside the closure
  started from the law (population) and from each cloud's own moments (matched), in float64.
- `energy`: the self-transport OT of a cloud and of the Gaussian with its moments, along the flows
  with V = A and V = -A, A = A^T, and the integral of its rate; float64.

Reference: Castin et al., arXiv 2501.18322; Sander et al., arXiv 2110.11773; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import attention, core, figures, limits, observe
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
    CheckedConfig,
    Count,
    Positive,
    Positives,
    Replicates,
    Sizes,
    Within,
    require_one_each,
)

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Castin et al., arXiv 2501.18322"

# The canonical set of the documentation: c = 1.
Q = ((0.7, 0.2), (-0.3, 0.5))
K = ((0.4, -0.3), (0.2, 0.8))
V = ((0.9, 0.3), (-0.4, 0.6))
MEAN = (0.5, -0.3)
COV = ((0.8, 0.2), (0.2, 0.5))
#: A symmetric score matrix for the energies.
SYMMETRIC = ((0.7, 0.2), (0.2, -0.4))

#: The cases of the erratum: ranks of A and of Sigma in dimension 2.
RANKS = {"invertible": (2, 2), "singular-A": (1, 2), "singular-Sigma": (2, 1)}
#: Tolerances at which rounds are counted.
TOLERANCES = (1e-3, 1e-6, 1e-9)
#: Nodes per dimension of the quadrature clouds.
ORDER = 24


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        strengths: largest singular values b of Sigma^(1/2) A Sigma^(1/2).
        rounds: rounds of the iteration that are watched.
        contraction_tokens: tokens of the random clouds of the contraction.
        contraction_clouds: how many of them for each strength.
        draws: random draws of A, V and Sigma for each case of the erratum.
        tokens: numbers of tokens n of the clouds that flow.
        clouds: independent clouds at each of these n.
        t1: final depth.
        steps: Runge-Kutta steps of the clouds to t1.
        energy_tokens: tokens of the cloud whose energy is followed.
    """

    strengths: Positives = (0.32, 1.05, 3.2)
    rounds: Annotated[int, Within(2)] = 90
    contraction_tokens: Count = 300
    contraction_clouds: Count = 4
    draws: Count = 32
    tokens: Sizes = (50, 100, 200)
    clouds: Replicates = (256, 128, 64)
    t1: Positive = 0.8
    steps: Count = 8
    energy_tokens: Count = 100

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)


class SinkhornExperiment(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the pairs of tokens at 3e-9 s for each of two passes a round."""
        pairs, seconds = 0.0, 6.0
        if cell.name.startswith("clouds"):
            rounds = 8 * 2  # of one evaluation of the field in float32
            n, count = cell.parameters["tokens"], cell.parameters["clouds"]
            pairs = 7 * config.steps * rounds * n**2 * count
        elif cell.name.startswith("contraction"):
            pairs = config.rounds * 2 * config.contraction_clouds * config.contraction_tokens**2
        elif cell.name == "energy":
            pairs = 6000 * config.energy_tokens**2
        else:
            seconds += 0.1 * config.draws
        return Cost(seconds + 3e-9 * pairs)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The largest clouds first."""
        clouds = [
            Cell(f"clouds/n={n}", {"tokens": n, "clouds": count})
            for n, count in sorted(zip(config.tokens, config.clouds, strict=True), reverse=True)
        ]
        contraction = [Cell(f"contraction/b={b:g}", {"strength": b}) for b in config.strengths]
        return (*clouds, *contraction, Cell("erratum"), Cell("energy"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names at the presets."""
        return (
            *(f"contraction-b={b:g}" for b in Config().strengths),
            *(f"{kind}-{case}" for case in RANKS for kind in ("corrected", "printed")),
            *(f"closure-{name}" for name in observe.moment_names(2)),
            "mean-exact",
            "sampling-rate",
            *(f"energy-{kind}-{sign}" for sign in ("falls", "rises") for kind in ("rate", "sign")),
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell; see the module's docstring for its kind and precision."""
        kind = cell.name.split("/")[0]
        if kind == "clouds":
            return _compute_clouds(config, key=key, **cell.parameters)
        if kind == "contraction":
            return _compute_contraction(config, cell.parameters["strength"], key)
        return _compute_erratum(config, key) if kind == "erratum" else _compute_energy(config, key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Contraction, erratum, closure and energy."""
        claims = []
        for b in config.strengths:
            data = results[f"contraction/b={b:g}"]
            rate = float(data["predicted"])
            claims.append(
                Claim(
                    name=f"contraction-b={b:g}",
                    statement="Late in the iteration the error of the marginals falls by "
                    f"$d_{{\\max}}^2$ a round (Gaussian off centre, $b_{{\\max}} = {b:g}$).",
                    prediction=rate,
                    estimate=Estimate(float(data["late"]), 0.0, 1, float(data["late_uncertainty"])),
                    tol=0.01 * rate,
                    reference=REFERENCE,
                )
            )
        erratum = results["erratum"]
        for case, (rank_a, rank_cov) in RANKS.items():
            ranks = f"(rank of $A$: {rank_a}, of $\\Sigma$: {rank_cov}; $d = 2$)"
            for kind, words in {
                "corrected": "The closure $\\dot\\Sigma = M\\Sigma + \\Sigma M^T$, $M = V L A$,",
                "printed": "The expression $V (A^T)^+ \\Sigma^+ C_\\Sigma \\Sigma$ of the authors' "
                "script, in the place of $M \\Sigma$,",
            }.items():
                claims.append(
                    Claim(
                        name=f"{kind}-{case}",
                        statement=f"{words} is the measured rate of the covariance {ranks}; mean "
                        "over draws, all of strength $b_{\\max} = 1$, of the largest error of an "
                        "entry, relative to the mean of the largest entries of both.",
                        prediction=0.0,
                        estimate=Estimate.from_samples(
                            erratum[kind].sel(case=case).values,
                            discretisation=float(erratum["uncertainty"].sel(case=case).max()),
                        ),
                        tol=1e-6,
                        reference=REFERENCE,
                    )
                )
        largest = max(config.tokens)
        final = results[f"clouds/n={largest}"]
        difference = final["particles"] - final["matched"]
        claims += [
            Claim(
                name=f"closure-{name}",
                statement=f"The Sinkhorn closure predicts ${_tex(name)}$ of a Gaussian cloud at "
                f"depth {config.t1:g} (n = {largest}, matched initial moments).",
                prediction=float(final["matched"].sel(moment=name).mean()),
                estimate=Estimate(
                    float(final["particles"].sel(moment=name).mean()),
                    Estimate.from_samples(difference.sel(moment=name).values).stderr,
                    final.sizes["cloud"],
                    float(final["discretisation"]),
                ),
                tol=0.01,
                reference=REFERENCE,
            )
            for name in observe.moment_names(2)
        ]
        gaps = [np.abs(results[f"clouds/n={n}"]["mean_gap"].values).max() for n in config.tokens]
        claims += [
            Claim(
                name="mean-exact",
                statement="The mean of any cloud is $e^{tV}$ times its start: largest error over "
                "all clouds.",
                prediction=0.0,
                estimate=Estimate(float(max(gaps)), 0.0, sum(config.clouds), 1e-5),
                tol=1e-3,
                reference=REFERENCE,
            ),
            Claim(
                name="sampling-rate",
                statement="The distance of a cloud's moments to the closure of its law falls like "
                "$n^{-1/2}$.",
                prediction=-0.5,
                estimate=_fits(config, results)["population"].estimate(),
                tol=0.1,
                reference=REFERENCE,
            ),
        ]
        energy = results["energy"]
        for sign, word, V_word in ((-1, "falls", "A"), (1, "rises", "-A")):
            data = energy.sel(direction=word)
            change = float(data["particles"][-1] - data["particles"][0])
            steps = np.diff(data["particles"].values)
            claims += [
                Claim(
                    name=f"energy-rate-{word}",
                    statement=f"Along the flow with $V = {V_word}$ the self-transport changes by "
                    "the integral of $-2\\int\\langle A m, \\Gamma\\rangle d\\mu$.",
                    prediction=float(data["integral"]),
                    estimate=Estimate(change, 0.0, 1, 1e-7),
                    tol=1e-5,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"energy-sign-{word}",
                    statement=f"With $V = {V_word}$ the self-transport {word} all the way: largest "
                    "change against this sign between two times kept.",
                    prediction=0.0,
                    estimate=Estimate(float(np.max(-sign * steps)), 0.0, len(steps), 1e-9),
                    tol=1e-7,
                    one_sided=True,
                    reference=REFERENCE,
                ),
            ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The contraction, the erratum, the clouds, and the energy."""
        return [
            _figure_contraction(config, results),
            _figure_erratum(results["erratum"]),
            _figure_clouds(config, results),
            _figure_energy(results["energy"]),
        ]


def _canonical() -> Any:
    return attention.Sinkhorn(Q=Q, K=K, V=V)


def _quadrature(mean: Any, factor: np.ndarray, order: int = ORDER) -> tuple[Any, Any]:
    """Nodes and weights of N(mean, factor factor^T), exact for polynomials of high degree."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(order)
    rank = factor.shape[1]
    grid = np.stack(np.meshgrid(*[nodes] * rank), axis=-1).reshape(-1, rank)
    weights = np.prod(np.stack(np.meshgrid(*[masses / masses.sum()] * rank), -1), axis=-1)
    return np.asarray(mean) + grid @ factor.T, weights.reshape(-1)


def _compute_contraction(config: Config, strength: float, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    d = float(core.canonical_correlations(_canonical().A, COV)[0])
    scale = strength * (1 - d**2) / d
    one_round = attention.Sinkhorn(Q=Q, K=K, V=V, score_scale=scale, tol=1e-30, max_iterations=1)
    rate = float(core.canonical_correlations(one_round.A, COV)[0]) ** 2

    def history(cloud: np.ndarray, weights: np.ndarray) -> np.ndarray:
        g, errors = np.zeros(len(cloud)), []
        for _ in range(config.rounds):
            step = one_round.potentials(cloud, weights=weights, initial=g, throw=False)
            g = step.g
            errors.append(float(step.error))
        return np.array(errors)

    root = np.linalg.cholesky(np.array(COV))
    exact = history(*_quadrature(MEAN, root))
    shape = (config.contraction_clouds, config.contraction_tokens, 2)
    with jax.enable_x64(True):
        noise = np.asarray(jax.random.normal(key, shape, dtype=np.float64))
    equal = np.full(config.contraction_tokens, 1.0 / config.contraction_tokens)
    random = np.stack([history(np.array(MEAN) + cloud @ root.T, equal) for cloud in noise])
    # The last two rounds above rounding, and what one round earlier would have said.
    late = exact[exact > 1e-10]
    ratios = late[1:] / late[:-1]
    return xr.Dataset(
        {
            "exact": ("round", exact, {"long_name": "error of the marginals, Gaussian"}),
            "random": (("cloud", "round"), random, {"long_name": "error, random clouds"}),
            "predicted": ((), rate, {"long_name": "squared top canonical correlation"}),
            "late": ((), ratios[-1], {"long_name": "late contraction factor"}),
            "late_uncertainty": ((), abs(ratios[-1] - ratios[-2])),
        },
        coords={"round": ("round", np.arange(1, config.rounds + 1), {"long_name": "round"})},
        attrs={"tokens": config.contraction_tokens, "reference": REFERENCE},
    )


def _script_rate(A: np.ndarray, values: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """D Sigma / dt of the authors' script: V (A^T)^+ Sigma^+ C_Sigma Sigma, and its transpose."""
    from scipy.linalg import sqrtm

    identity = np.eye(len(cov))
    C = np.real(sqrtm(cov @ A.T @ cov @ A + identity / 4)) - identity / 2
    half = values @ np.linalg.pinv(A.T, 1e-10) @ np.linalg.pinv(cov, 1e-10) @ C @ cov
    return half + half.T


def _compute_erratum(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    shape = (len(RANKS), config.draws)
    gaps = {name: np.zeros(shape) for name in ("corrected", "printed", "uncertainty")}
    for row, (case, (rank_a, rank_cov)) in enumerate(RANKS.items()):
        for draw in range(config.draws):
            with jax.enable_x64(True):
                stream = core.named_key(key, case, draw)
                normal = np.asarray(jax.random.normal(stream, (4, 2, 2), dtype=np.float64))
            factor = normal[3][:, :rank_cov]
            cov = factor @ factor.T
            maps = {"Q": normal[0, :rank_a], "K": normal[1, :rank_a], "V": normal[2]}
            strength = np.linalg.norm(factor.T @ maps["Q"].T @ maps["K"] @ factor, ord=2)
            layer = attention.Sinkhorn(**maps, score_scale=1.0 / strength, tol=1e-12)
            measured = []
            for order in (ORDER, ORDER - 4):
                cloud, weights = _quadrature(np.zeros(2), factor, order)
                field = layer(cloud, cloud, weights=weights)
                half = np.einsum("n,ni,nj->ij", weights, field, cloud)
                measured.append(half + half.T)
            rate = measured[0]
            _, M = layer.gaussian_field(np.zeros(2), cov)
            for name, other in {
                "corrected": M @ cov + cov @ M.T,
                "printed": _script_rate(np.asarray(layer.A), normal[2], cov),
                "uncertainty": measured[1],
            }.items():
                # Symmetric, hence at most 2: the rate of a draw may nearly vanish.
                size = (np.abs(other).max() + np.abs(rate).max()) / 2
                gaps[name][row, draw] = np.abs(other - rate).max() / size
    words = {
        "corrected": "relative error of the closure",
        "printed": "relative error of the script's expression",
        "uncertainty": "relative change with fewer quadrature nodes",
    }
    return xr.Dataset(
        {
            name: (("case", "draw"), values, {"long_name": words[name]})
            for name, values in gaps.items()
        },
        coords={"case": list(RANKS)},
        attrs={"reference": REFERENCE},
    )


@functools.cache
def _flow_clouds(t1: float, steps: int) -> Any:
    """Compiled: clouds [clouds, n, 2] to their tokens at t1."""
    import jax

    def flow(cloud: Any) -> Any:
        problem = limits.meanfield.ParticleFlow(attention=_canonical(), initial=cloud, t1=t1)
        return core.solve(problem, limits.meanfield.FixedODE(steps=steps), save=[t1]).tokens[-1]

    def batched(clouds: Any) -> Any:
        count, tokens = clouds.shape[:2]
        size = max(1, min(count, 2**20 // tokens**2))
        return jax.lax.map(flow, clouds, batch_size=size)

    return jax.jit(batched)


@functools.cache
def _closures(t1: float) -> Any:
    """Compiled: means [clouds, 2] and covariances [clouds, 2, 2] to the closure's at t1."""
    import jax

    def closure(mean: Any, cov: Any) -> Any:
        flow = limits.meanfield.GaussianFlow(attention=_canonical(), mean=mean, cov=cov, t1=t1)
        solution = core.solve(flow, limits.meanfield.FixedODE(steps=64), save=[t1])
        return solution.mean[-1], solution.cov[-1]

    return jax.jit(jax.vmap(closure))


def _compute_clouds(config: Config, tokens: int, clouds: int, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr
    from scipy.linalg import expm

    noise = np.asarray(jax.random.normal(key, (clouds, tokens, 2), dtype=np.float32))
    root = np.linalg.cholesky(np.array(COV))
    initial = (np.array(MEAN) + noise @ root.T).astype(np.float32)
    final = np.asarray(_flow_clouds(config.t1, config.steps)(initial))
    few = slice(0, min(4, clouds))
    fine = np.asarray(_flow_clouds(config.t1, 2 * config.steps)(initial[few]))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    start = observe.moments(initial)
    mean_gap = particles[:, :2] - start[0] @ expm(config.t1 * np.array(V)).T
    with jax.enable_x64(True):
        solve = _closures(config.t1)
        matched = observe.moment_vector(*map(np.asarray, solve(*start)))
        law = np.array(MEAN)[None], np.array(COV)[None]
        population = observe.moment_vector(*map(np.asarray, solve(*law)))[0]
    return xr.Dataset(
        {
            "particles": (("cloud", "moment"), particles, {"long_name": "moments of the clouds"}),
            "matched": (("cloud", "moment"), matched, {"long_name": "closure, matched start"}),
            "population": ("moment", population, {"long_name": "closure of the law"}),
            "mean_gap": (("cloud", "component"), mean_gap, {"long_name": "mean less exact mean"}),
            "discretisation": ((), float(step_error), {"long_name": "step error of the clouds"}),
        },
        coords={"moment": list(observe.moment_names(2))},
        attrs={"tokens": tokens, "t1": config.t1, "reference": REFERENCE},
    )


def _compute_energy(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    A = np.array(SYMMETRIC)
    with jax.enable_x64(True):
        shape = (config.energy_tokens, 2)
        noise = np.asarray(jax.random.normal(key, shape, dtype=np.float64))
    # The cloud has the moments of the Gaussian exactly.
    mean, cov = observe.moments(noise)
    whitened = (noise - mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T
    cloud = whitened @ np.linalg.cholesky(np.array(COV)).T
    # Gauss-Legendre times, at which the rate is integrated, between the ends.
    nodes, masses = np.polynomial.legendre.leggauss(10)
    ts = np.concatenate([[0.0], (nodes + 1) / 2 * config.t1, [config.t1]])
    energies = {"particles": [], "closure": []}
    integrals = []
    for sign in (1, -1):
        layer = attention.Sinkhorn(Q=A, K=np.eye(2), V=sign * A, tol=1e-12)
        flow = limits.meanfield.ParticleFlow(attention=layer, initial=cloud, t1=config.t1)
        exact = limits.meanfield.AdaptiveODE(rtol=1e-10, atol=1e-12)
        states = core.solve(flow, exact, save=ts).tokens
        values, rates = [], []
        for tokens in states:
            found = layer.potentials(tokens)
            values.append(observe.self_transport(found.f, found.g))
            velocity = layer(tokens, tokens)
            rates.append(observe.self_transport_rate(tokens, A, found.f, found.g, velocity))
        closure = core.solve(
            limits.meanfield.GaussianFlow(attention=layer, mean=[0.0, 0.0], cov=COV, t1=config.t1),
            save=ts,
        )
        energies["particles"].append(values)
        energies["closure"].append([observe.gaussian_self_transport(A, c) for c in closure.cov])
        integrals.append(config.t1 / 2 * float(masses @ np.array(rates)[1:-1]))
    return xr.Dataset(
        {
            **{name: (("direction", "time"), np.array(rows)) for name, rows in energies.items()},
            "integral": ("direction", np.array(integrals), {"long_name": "integral of the rate"}),
        },
        coords={
            "direction": ["falls", "rises"],
            "time": ("time", ts, {"long_name": "depth $t$"}),
        },
        attrs={"tokens": config.energy_tokens, "reference": REFERENCE},
    )


def _fits(config: Config, results: Results) -> Mapping[str, core.RateFit]:
    """Fitted rates of both distances over n."""
    fits = {}
    for kind in ("population", "matched"):
        rows = []
        for n in config.tokens:
            data = results[f"clouds/n={n}"]
            squares = ((data["particles"] - data[kind]) ** 2).sum("moment")
            rows.append(np.sqrt(squares.values))
        fits[kind] = core.fit_rate(config.tokens, rows)
    return fits


def _rounds(errors: np.ndarray, tolerance: float) -> float:
    """Rounds until the error is below the tolerance; infinity if that was not seen."""
    below = np.flatnonzero(errors < tolerance)
    return float(below[0] + 1) if below.size else float("inf")


def _figure_contraction(config: Config, results: Results) -> FigureSpec:
    datasets = [results[f"contraction/b={b:g}"] for b in config.strengths]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (b, data) in enumerate(zip(config.strengths, datasets, strict=True)):
            colour = figures.COLOURS[series % len(figures.COLOURS)]
            for row in data["random"]:
                kept = row.values > 1e-13
                ax.plot(data["round"][kept], row[kept], color=colour, linewidth=0.5, alpha=0.6)
            exact, rate = data["exact"].values, float(data["predicted"])
            kept = exact > 1e-13
            ax.plot(
                data["round"][kept],
                exact[kept],
                figures.MARKERS[series % len(figures.MARKERS)],
                color=colour,
                markersize=4,
                label=f"$b_{{\\max}} = {b:g}$, $d_{{\\max}}^2 = {rate:.3f}$",
            )
            anchor = np.flatnonzero(exact > 1e-10)[-1]
            line = exact[anchor] * rate ** (np.arange(len(exact)) - anchor)
            ax.plot(data["round"][kept], line[kept], color=figures.LIMIT, linewidth=0.9, zorder=0)
        ax.set_yscale("log")
        ax.set_ylim(bottom=1e-13)
        figures.finish(ax, xlabel="round", ylabel="error of the column marginals")

    rows = [
        (
            b,
            float(data["predicted"]),
            float(data["late"]),
            *(
                float(np.mean([_rounds(row, tol) for row in data["random"].values]))
                for tol in TOLERANCES
            ),
        )
        for b, data in zip(config.strengths, datasets, strict=True)
    ]
    return FigureSpec(
        name="contraction",
        title="Rounds of Sinkhorn's iteration",
        caption="Error of the column marginals after a row update, for three strengths of the "
        "scores. Markers: a Gaussian off centre, by quadrature; thin lines: "
        f"{config.contraction_clouds} random clouds of {config.contraction_tokens} tokens each; "
        "black: the predicted factor $d_{\\max}^2$ a round, anchored at the end. Nothing below "
        "$10^{-13}$, which is rounding, is drawn. Table: mean rounds of the random clouds to three "
        "tolerances (infinity: not within the rounds watched). The first rounds of the quadrature "
        "clouds show their outermost nodes. No error bars: deterministic.",
        draw=draw,
        table=Table(
            ("b_max", "d_max^2", "late factor", *(f"rounds to {tol:g}" for tol in TOLERANCES)),
            tuple(rows),
        ),
        shown=len(config.strengths) * (1 + config.contraction_clouds),
    )


def _figure_erratum(data: xr.Dataset) -> FigureSpec:
    labels = {"corrected": "closure $M = V L A$", "printed": "the script's expression"}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        spread = np.linspace(-0.15, 0.15, data.sizes["draw"])
        for series, (kind, label) in enumerate(labels.items()):
            for at, case in enumerate(data["case"].values):
                ax.plot(
                    at + 0.4 * (series - 0.5) + spread,
                    np.maximum(data[kind].sel(case=case), 1e-17),
                    figures.MARKERS[series],
                    color=figures.COLOURS[series],
                    markersize=4,
                    label=label if at == 0 else "_",
                )
        ax.set_yscale("log")
        ax.set_xticks(range(data.sizes["case"]), [str(case) for case in data["case"].values])
        figures.finish(ax, xlabel="ranks of $A$ and $\\Sigma$", ylabel="relative error of the rate")

    rows = [
        (
            str(case),
            kind,
            float(data[kind].sel(case=case).mean()),
            float(data[kind].sel(case=case).min()),
            float(data[kind].sel(case=case).max()),
        )
        for case in data["case"].values
        for kind in labels
    ]
    return FigureSpec(
        name="erratum",
        title="The rate of the covariance, measured and claimed",
        caption="Largest error of an entry of $\\dot\\Sigma$, relative to the mean of the largest "
        "entries of both, against discrete Sinkhorn attention on quadrature clouds; every random "
        "draw of $A$, $V$ and $\\Sigma$, scaled to $b_{\\max} = 1$, is a point (exact zeros at "
        "$10^{-17}$). The script's pseudo-inverses are right for invertible matrices alone; the "
        "closure holds for all.",
        draw=draw,
        table=Table(("case", "expression", "mean", "smallest", "largest"), tuple(rows)),
        shown=2 * int(data["printed"].size),
    )


def _figure_clouds(config: Config, results: Results) -> FigureSpec:
    import xarray as xr

    fits = _fits(config, results)
    labels = {"population": "closure of the law", "matched": "closure, matched initial moments"}
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in labels}
    for kind in labels:
        for n in config.tokens:
            data = results[f"clouds/n={n}"]
            squares = ((data["particles"] - data[kind]) ** 2).sum("moment").values
            mean = Estimate.from_samples(squares)
            root = float(np.sqrt(mean.value))
            points[kind].append((root, mean.stderr / (2 * root)))
    coords = {"tokens": ("tokens", list(config.tokens), {"long_name": "tokens $n$"})}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (kind, label) in enumerate(labels.items()):
            error, stderr = (
                xr.DataArray([p[i] for p in points[kind]], dims="tokens", coords=coords)
                for i in (0, 1)
            )
            figures.plot_convergence(
                error,
                stderr,
                ax,
                fit=fits[kind],
                predicted_rate=-0.5 if kind == "population" else None,
                series=series,
                label=label,
                ylabel="rms distance of the moments",
            )

    rows = [
        (n, *points["population"][i], *points["matched"][i]) for i, n in enumerate(config.tokens)
    ]
    return FigureSpec(
        name="clouds",
        title="From finite clouds to the Sinkhorn closure",
        caption="Root mean square over clouds of the Euclidean distance between the five moments "
        f"of a cloud at depth $t = {config.t1:g}$ and the closure, against the number of tokens; "
        f"{', '.join(map(str, config.clouds))} independent clouds a point, bars of one standard "
        "error. Dashed: fitted power laws with 95 % intervals; solid: the predicted rate of the "
        "upper one. With matched moments the mean is exact, and what remains is the covariance's.",
        draw=draw,
        table=Table(
            ("tokens", "rms to law", "stderr", "rms to matched closure", "stderr (matched)"),
            tuple(rows),
        ),
        shown=sum(config.clouds),
    )


def _figure_energy(data: xr.Dataset) -> FigureSpec:
    words = {"falls": "$V = A$", "rises": "$V = -A$"}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (direction, label) in enumerate(words.items()):
            rows = data.sel(direction=direction)
            colour = figures.COLOURS[series]
            marker = figures.MARKERS[series]
            ax.plot(data["time"], rows["particles"], marker, color=colour, label=f"cloud, {label}")
            dash = figures.DASHES[series]
            ax.plot(
                data["time"], rows["closure"], ls=dash, color=colour, label=f"Gaussian, {label}"
            )
        figures.finish(ax, xlabel="depth $t$", ylabel="self-transport $\\mathrm{OT}(\\mu_t)$")

    rows = [
        (
            float(t),
            *(
                float(data[kind].sel(direction=direction)[i])
                for direction in words
                for kind in ("particles", "closure")
            ),
        )
        for i, t in enumerate(data["time"].values)
    ]
    return FigureSpec(
        name="energy",
        title="The energy of Sinkhorn attention",
        caption=f"Entropic self-transport of one cloud of {data.attrs['tokens']} tokens (markers) "
        "and of the Gaussian with its first two moments (lines), along the flows with $V = A$, "
        "which descends, and $V = -A$, which ascends; $A = A^T$. The offset is the bias of a "
        "finite cloud. No error bars: one cloud.",
        draw=draw,
        table=Table(
            ("t", "cloud, falls", "Gaussian, falls", "cloud, rises", "Gaussian, rises"),
            tuple(rows),
        ),
        shown=2,
    )


def _tex(name: str) -> str:
    symbol, _, indices = name.partition("_")
    return f"\\{symbol}_{{{indices}}}"


EXPERIMENT = SinkhornExperiment(
    name="castin2025/sinkhorn",
    title="Sinkhorn attention: rounds, closure, erratum, energy",
    summary="Sinkhorn attention normalises rows and columns in turn until every token is attended "
    "to equally. The rounds it takes are predicted by the canonical correlations of its Gaussian "
    "coupling; its closure is set beside clouds and, for singular matrices, beside the expression "
    "in the authors' script; with $V = A = A^T$ the flow must descend the entropic self-transport.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            contraction_tokens=500,
            contraction_clouds=8,
            draws=64,
            tokens=(50, 100, 200, 400),
            clouds=(1024, 512, 256, 128),
            energy_tokens=200,
        ),
        "paper": Config(
            contraction_tokens=2000,
            contraction_clouds=16,
            draws=256,
            tokens=(50, 100, 200, 400, 800, 1600),
            clouds=(4096, 4096, 2048, 1024, 256, 64),
            energy_tokens=1000,
        ),
    },
)
