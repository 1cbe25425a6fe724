r"""Strong scores: slow motion of the overlap of two tokens, its law, and where it ends.

Cells:

- `kernel`: the mean cosine after one random head A = W W'^T, sampled, beside the coefficient
  1 / (2 d) of one Gaussian layer (printed) and 1 / d of two.
- `square`, `narrow`: chains of two tokens under sharp heads (m = A x / |A x| imposed) with
  d_k = d and d_k = 32 d to slow time 1, beside the slow equation with kappa = 1 (printed), 3/2, 2.
- `long/heads=...`: chains to slow time 8 with one head and with eight heads a layer: near +-1 the
  drift of the chain depends on how many heads average in a layer.
- `few-tokens`: chains with finitely many tokens and one-hot attention: they move on the diffusive
  clock, not on the slow one.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models, observe
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Step, Two, Within
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

TIMES = (0.25, 0.5, 0.75, 1.0)
LONG_TIMES = (1.0, 2.0, 4.0, 8.0)
LONG_STEP = 0.2
HEADS = (1, 8)
KERNEL_DIM, START = 16, 0.6
#: d_k / d of the two short cells.
RATIOS = {"square": 1, "narrow": 32}
LINES = {1.0: "$\\kappa = 1$, as printed", 1.5: "$\\kappa = 3/2$", 2.0: "$\\kappa = 2$"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dim: dimension of the tokens, at least 16.
        replicas: chains of every cell.
        step: diffusive step of the short chains.
        paths: of the slow equation where its law is not known.
    """

    dim: Annotated[int, Within(16)] = 24
    replicas: Two = 1000
    step: Step = 0.1
    paths: Two = 20_000


class LowTemperature(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and layers times replicas."""
        layers = 0.0
        if cell.name in RATIOS:
            layers = config.dim / config.step
        elif cell.name.startswith("long"):
            layers = LONG_TIMES[-1] * config.dim / LONG_STEP
            layers *= 0.5 + 0.25 * cell.parameters["heads"]
        return Cost((25.0 if cell.name == "few-tokens" else 4.0) + 8e-6 * config.replicas * layers)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The kernel, the short chains, the long ones, and finitely many tokens."""
        long = [Cell(f"long/heads={heads}", {"heads": heads}) for heads in HEADS]
        return (Cell("kernel"), *(Cell(name) for name in RATIOS), *long, Cell("few-tokens"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            "kernel-printed",
            "kernel-two-layers",
            "square-kappa-1-printed",
            "square-kappa-2",
            "narrow-kappa-3-2",
            "long-one-head-settles",
            "long-eight-heads-do-not",
            "finite-tokens-are-fast",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell."""
        if cell.name == "kernel":
            return _compute_kernel(config, key)
        if cell.name in RATIOS:
            return _compute_chain(config, config.step, 1, RATIOS[cell.name], TIMES, key)
        if cell.name == "few-tokens":
            return _compute_few_tokens(config, key)
        heads = int(cell.parameters["heads"])
        return _compute_chain(config, LONG_STEP, heads, 1, LONG_TIMES, key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The kernel's coefficient, the law at slow time 1, and long times."""
        kernel = results["kernel"]
        # What the exact kernel differs by from its first order in 1 / d.
        exact = (START - float(kernel["exact"])) * _kernel_scale()
        coefficient = Estimate(
            float(kernel["coefficient"]),
            float(kernel["stderr"]),
            kernel.attrs["samples"],
            abs(exact - 1.0),
        )
        square, narrow = (_squares(results[name], 1.0) for name in RATIOS)
        # Corrections of the limit of large dimension: of order 1 / d, measured at 0.5 / d.
        finite = 0.5 / config.dim
        long = {h: _squares(results[f"long/heads={h}"], 8.0) for h in HEADS}
        marginal = float(limits.homogenized.low_temperature.marginal_square(8.0))
        few = results["few-tokens"]
        return [
            *(
                Claim(
                    name=name,
                    statement="One random head draws the cosine of two tokens together by "
                    f"${value:g} \\cdot R(1 - R^2) / d$.",
                    prediction=value,
                    estimate=coefficient,
                    tol=0.25,
                    printed=printed,
                    reference=common.REFERENCE,
                )
                for name, value, printed in (
                    ("kernel-printed", 0.5, "$R - R(1-R^2)/(2d)$"),
                    ("kernel-two-layers", 1.0, "unavailable"),
                )
            ),
            *(
                Claim(
                    name=name,
                    statement=f"$E\\,u^2$ of the chain at slow time 1 is that of the slow equation "
                    f"with $\\kappa = {kappa:g}$, where $d_k = {ratio} d$.",
                    prediction=float(results["square"]["theory"].sel(kappa=kappa, time=1.0)),
                    estimate=common.estimate(values, discretisation=finite),
                    tol=0.05,
                    printed=printed,
                    reference=common.REFERENCE,
                )
                for name, kappa, ratio, values, printed in (
                    (
                        "square-kappa-1-printed",
                        1.0,
                        1,
                        square,
                        "$du = -u(1-u^2)dt + \\sqrt{2}(1-u^2)dB$",
                    ),
                    ("square-kappa-2", 2.0, 1, square, "unavailable"),
                    ("narrow-kappa-3-2", 1.5, 32, narrow, "unavailable"),
                )
            ),
            Claim(
                name="long-one-head-settles",
                statement="At slow time 8 the chain with one head a layer is nearer to $\\pm 1$ "
                "than the limit that never settles ($\\kappa = 2$): its $E\\,u^2$ is within 0.03 "
                "of the limit's.",
                prediction=marginal,
                estimate=common.estimate(long[1]),
                tol=0.03,
                reference=common.REFERENCE,
            ),
            Claim(
                name="long-eight-heads-do-not",
                statement="With eight heads a layer $E\\,u^2$ at slow time 8 is at most that of "
                "the limit.",
                prediction=marginal,
                estimate=common.estimate(long[8]),
                tol=0.03,
                reference=common.REFERENCE,
                one_sided=True,
            ),
            Claim(
                name="finite-tokens-are-fast",
                statement="With finitely many tokens and one-hot attention the overlap does not "
                "move on the slow clock: its change within diffusive time 1 is at most 0.05.",
                prediction=0.0,
                estimate=common.estimate(few["change"].isel(tokens=0).values),
                tol=0.05,
                printed="slow motion, for a law of tokens with a density",
                reference=common.REFERENCE,
                one_sided=True,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The law at slow times, long times, and finitely many tokens."""
        return [
            _figure_short(config, results),
            _figure_long(config, results),
            _figure_few(config, results["few-tokens"]),
        ]


def _compute_kernel(config: Config, key: Any) -> xr.Dataset:
    import jax
    import jax.numpy as jnp
    import xarray as xr

    samples = 200 * config.replicas

    def cosine(index: Any) -> Any:
        head = jax.random.fold_in(key, index)
        inner = models.sample_cosine(jnp.asarray(START), KERNEL_DIM, core.named_key(head, "W'"))
        return models.sample_cosine(inner, KERNEL_DIM, core.named_key(head, "W"))

    with jax.enable_x64(True):
        indices = jnp.arange(samples)
        values = np.asarray(jax.jit(jax.vmap(cosine))(indices))
    mean, stderr = common.mean_and_stderr(values)
    scale = _kernel_scale()
    return xr.Dataset(
        {
            "coefficient": ((), float((START - mean) * scale)),
            "stderr": ((), float(stderr * scale)),
            "exact": ((), limits.homogenized.low_temperature.output_cosine(START, KERNEL_DIM)),
        },
        attrs={"samples": samples, "dim": KERNEL_DIM, "reference": common.REFERENCE},
    )


def _kernel_scale() -> float:
    """From a lost cosine to the coefficient of R (1 - R^2) / d."""
    return KERNEL_DIM / (START * (1 - START**2))


def _compute_chain(
    config: Config, step: float, heads: int, ratio: int, times: tuple[float, ...], key: Any
) -> xr.Dataset:
    import xarray as xr

    chain = models.SharpHeadChain(
        dim=config.dim, head_dim=ratio * config.dim, diffusive_step=step, heads=heads
    )
    overlaps = chain.simulate(0.0, times, replicas=config.replicas, key=key)
    theory = []
    for kappa in LINES:
        if kappa == 2.0:
            theory.append(limits.homogenized.low_temperature.marginal_square(times))
            continue
        method = limits.homogenized.ArtanhEuler(paths=config.paths)
        problem = limits.homogenized.SlowOverlap(initial=0.0, t1=times[-1], kappa=kappa)
        solution = core.solve(problem, method, key=core.named_key(key, "slow"), save=times)
        theory.append((solution.overlap**2).mean(axis=0))
    return xr.Dataset(
        {
            "overlap": (("replica", "time"), overlaps, {"long_name": "overlap $u$"}),
            "theory": (("kappa", "time"), np.array(theory), {"long_name": "$E u^2$"}),
        },
        coords={
            "time": ("time", list(times), {"long_name": "slow time $t = \\tau / d$"}),
            "kappa": list(LINES),
        },
        attrs={"dim": config.dim, "step": step, "heads": heads, "reference": common.REFERENCE},
    )


def _compute_few_tokens(config: Config, key: Any) -> xr.Dataset:
    import xarray as xr

    counts, dim = (2, 8, 16), 2 * KERNEL_DIM
    law = describe.WideHeads(dim=dim, score_std=1e3)
    rows = []
    for tokens in counts:
        chain = models.RandomHeadChain(
            law=law, step=config.step**0.5, heads=1, layers=round(1.0 / config.step)
        )
        paths = chain.simulate_overlaps(
            np.eye(tokens), replicas=config.replicas, key=core.named_key(key, tokens)
        )
        rows.append(observe.mean_overlap(paths.tokens[:, -1]))
    return xr.Dataset(
        {"change": (("tokens", "replica"), np.array(rows), {"long_name": "mean overlap"})},
        coords={"tokens": ("tokens", list(counts), {"long_name": "tokens $n$"})},
        attrs={"dim": dim, "reference": common.REFERENCE},
    )


def _squares(data: xr.Dataset, time: float) -> np.ndarray:
    return data["overlap"].sel(time=time).values ** 2


def _figure_short(config: Config, results: Results) -> FigureSpec:
    rows = {name: common.mean_and_stderr(results[name]["overlap"].values ** 2) for name in RATIOS}
    theory = results["square"]["theory"]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (name, (mean, stderr)) in enumerate(rows.items()):
            label = f"chain, $d_k = {RATIOS[name]}d$".replace(" 1d", " d")
            common.points(ax, TIMES, mean, stderr, series, label)
        for (kappa, label), style in zip(LINES.items(), ("--", "-.", "-"), strict=True):
            common.line(ax, TIMES, theory.sel(kappa=kappa), None, label, style)
        figures.finish(ax, xlabel="slow time $t = \\tau / d$", ylabel="$E\\,u^2$")

    table = tuple(
        (name, t, float(m), float(s))
        for name, (mean, stderr) in rows.items()
        for t, m, s in zip(TIMES, mean, stderr, strict=True)
    )
    return FigureSpec(
        name="slow-law",
        title="The slow law has the coefficient of two Gaussian layers",
        caption=f"Mean square overlap of two tokens from orthogonal, {config.replicas} chains with "
        f"sharp heads at $d = {config.dim}$ (points, bars of one standard error), and the slow "
        "equation at three coefficients (lines). Infinitely many tokens are imposed.",
        draw=draw,
        table=Table(("chain", "slow time", "mean square overlap", "stderr"), table),
        shown=2 * config.replicas,
    )


def _figure_long(config: Config, results: Results) -> FigureSpec:
    edges = np.linspace(-1.0, 1.0, 41)
    counts = {
        heads: np.histogram(
            results[f"long/heads={heads}"]["overlap"].isel(time=-1).values, edges, density=True
        )[0]
        for heads in HEADS
    }
    # kappa = 2: u = tanh y, y normal with variance 2 t.
    inner = np.linspace(-0.9995, 0.9995, 2001)
    variance = 2 * LONG_TIMES[-1]
    limit = np.exp(-(np.arctanh(inner) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    limit = limit / (1 - inner**2)
    rows = {
        heads: common.mean_and_stderr(results[f"long/heads={heads}"]["overlap"].values ** 2)
        for heads in HEADS
    }

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for series, heads in enumerate(HEADS):
            plural = "head" if heads == 1 else "heads"
            common.points(left, LONG_TIMES, *rows[heads], series, f"chain, {heads} {plural}")
            right.stairs(
                counts[heads],
                edges,
                color=figures.COLOURS[series],
                linestyle=figures.DASHES[series],
                label=f"{heads} {plural}",
                linewidth=1.4,
            )
        grid = np.linspace(0.5, LONG_TIMES[-1], 60)
        exact = limits.homogenized.low_temperature.marginal_square(grid)
        common.line(left, grid, exact, None, "limit, $\\kappa = 2$")
        common.line(right, inner, limit, None, "limit, $\\kappa = 2$")
        right.set_ylim(1e-2, 60)
        right.set_yscale("log")
        figures.finish(left, xlabel="slow time $t = \\tau / d$", ylabel="$E\\,u^2$")
        figures.finish(right, xlabel="overlap $u$ at slow time 8", ylabel="density")

    table = tuple(
        (heads, t, float(m), float(s))
        for heads, (mean, stderr) in rows.items()
        for t, m, s in zip(LONG_TIMES, mean, stderr, strict=True)
    )
    return FigureSpec(
        name="long-time",
        title="Long times: the limit never settles, the chain with one head does",
        caption=f"{config.replicas} chains of two tokens at $d = d_k = {config.dim}$ with sharp "
        f"heads and diffusive step {LONG_STEP:g}: mean square overlap (bars of one standard error) "
        "and its law at slow time 8, beside the limit $u = \\tanh(\\sqrt{2} B_t)$.",
        draw=draw,
        table=Table(("heads", "slow time", "mean square overlap", "stderr"), table),
        shown=2 * config.replicas,
        size=(10.0, 4.0),
    )


def _figure_few(config: Config, few: xr.Dataset) -> FigureSpec:
    mean, stderr = common.mean_and_stderr(few["change"].transpose("replica", "tokens"))

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        common.points(ax, few["tokens"], mean, stderr, 0, "one-hot attention")
        ax.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="slow motion")
        ax.set_xscale("log", base=2)
        ax.set_xticks(few["tokens"].values, [str(n) for n in few["tokens"].values])
        figures.finish(ax, xlabel="tokens $n$", ylabel="mean overlap at $\\tau = 1$")

    rows = tuple(
        (int(n), float(m), float(s))
        for n, m, s in zip(few["tokens"].values, mean, stderr, strict=True)
    )
    return FigureSpec(
        name="few-tokens",
        title="Slow motion is no statement about finitely many tokens",
        caption=f"Orthonormal tokens in dimension {few.attrs['dim']} under one-hot attention "
        f"(score deviation 1000) at diffusive time 1, {config.replicas} chains each, bars of one "
        "standard error. Under the slow law the overlap would have moved by $O(1/d)$.",
        draw=draw,
        table=Table(("tokens", "mean overlap", "stderr"), rows),
        shown=len(rows) * config.replicas,
    )


EXPERIMENT = LowTemperature(
    name="koubbi2026/low-temperature",
    title="Strong scores: slow motion, its law, and where it ends",
    summary="For strong scores and tokens that fill the sphere, the overlap of two tokens moves on "
    "the slow clock $\\tau/d$. The equation as printed ($\\kappa = 1$) ends at $\\pm 1$; with the "
    "exact kernel of $A = WW'^\\top$ it is $\\kappa = 2$, which never settles. The chain tells "
    "them apart, and shows what a layer with few heads and a finite number of tokens do instead.",
    citations=("koubbi2026", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(dim=64, replicas=8000, paths=100_000),
        "paper": Config(dim=128, replicas=40_000, step=0.05, paths=400_000),
    },
)
