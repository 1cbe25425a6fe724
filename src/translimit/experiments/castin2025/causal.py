r"""Causal softmax attention: what a token may know of the tokens after it, and of their law.

Three kinds of cells:

- `equal`: every position carries one Gaussian law. The token of rank i then follows the closure of
  the unmasked system, with noise of order i^{-1/2}; the first token follows e^{tV} x_1(0), and a
  prefix moves as before whatever comes after it.
- `blocks`: two blocks of positions carry different Gaussians. The first block stays Gaussian, the
  second moves in the field of a mixture and does not.
- `stability`: the conditional W_2 distance of two clouds that start close to each other.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import functools
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
from translimit.experiments.castin2025.canonical import COV, MEAN, REFERENCE, K, Q, V
from translimit.experiments.checked import CheckedConfig, Count, Four, Within

if TYPE_CHECKING:
    import xarray as xr

T1 = 0.8

#: The two blocks: stronger scores, so that the mixture shows, and the Gaussians of the blocks.
BLOCK_SCALE, BLOCK_T1 = 3.0, 1.0
BLOCK_MEANS = np.array(((1.0, 0.5), (-0.5, 0.0)))
BLOCK_COVS = np.array((((0.3, 0.1), (0.1, 0.2)), ((0.4, -0.1), (-0.1, 0.3))))

#: Stability: sizes of the perturbation, final depth.
EPSILONS = (0.2, 0.1, 0.05, 0.025, 0.0125)
STABILITY_T1 = 2.0

#: Ranks below this are left out of the fit of the noise: their corrections are O(1 / i).
FIRST_RANK = 16
#: Runge-Kutta steps of a flow, and how many depths are kept, ends included.
STEPS, SAVES = 12, 6
#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 8e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        tokens: tokens of the clouds with equal laws, a power of two of at least 64.
        clouds: how many such clouds, at least 4.
        block_tokens: tokens of each of the two blocks.
        block_clouds: how many clouds of two blocks, at least 4.
        positions: positions of the clouds whose stability is measured.
        tokens_per_position: tokens at each of them.
        stability_clouds: how many such clouds, at least 4.
    """

    tokens: Annotated[int, Within(64)] = 512
    clouds: Four = 64
    block_tokens: Count = 400
    block_clouds: Four = 48
    positions: Count = 32
    tokens_per_position: Count = 8
    stability_clouds: Four = 16

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.tokens & (self.tokens - 1):
            raise core.ConfigError("tokens", f"got {self.tokens}", "pass a power of two")


class Causal(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the pairs of tokens in every evaluation of the field."""
        ensemble = config.positions * config.tokens_per_position
        pairs = {
            "equal": 2 * config.clouds * config.tokens**2,
            "blocks": 4 * config.block_clouds * config.block_tokens**2,
            "stability": config.stability_clouds * (1 + len(EPSILONS)) * ensemble**2,
        }
        return Cost(8.0 + 2.5 * STEPS * SECONDS_PER_PAIR * pairs[cell.name], 6e8)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The three kinds."""
        return (Cell("equal"), Cell("blocks"), Cell("stability"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            "first-token",
            "prefix-autonomy",
            *(f"equal-{name}" for name in observe.moment_names(2)),
            "rank-noise",
            "mixture-field",
            "first-block-gaussian",
            "second-block-not-gaussian",
            "conditional-stability",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, in float64."""
        kinds = {"equal": _compute_equal, "blocks": _compute_blocks, "stability": _compute_stable}
        return kinds[cell.name](config, key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Exact facts, the closure at equal laws, its loss at different ones, and stability."""
        equal, blocks, stable = (results[name] for name in ("equal", "blocks", "stability"))

        def exact(name: str, statement: str, value: float, tol: float) -> Claim:
            return Claim(name, statement, 0.0, Estimate(value), tol, reference=REFERENCE)

        claims = [
            exact(
                "first-token",
                "The first token follows $e^{tV} x_1(0)$ (largest relative error).",
                float(equal["first_error"].max()),
                1e-8,
            ),
            exact(
                "prefix-autonomy",
                "The first half of the tokens moves as before when the second is replaced "
                "(largest difference).",
                float(equal["prefix_error"].max()),
                1e-12,
            ),
        ]
        difference = equal["particles"] - equal["mapped"]
        claims += [
            Claim(
                name=f"equal-{name}",
                statement="With one Gaussian law at every position the later half of a causal "
                f"cloud follows the unmasked closure: its ${_tex(name)}$ at depth {T1:g}.",
                prediction=float(equal["closure"].sel(moment=name)),
                estimate=_about(
                    float(equal["closure"].sel(moment=name)), difference.sel(moment=name).values
                ),
                tol=0.01,
                reference=REFERENCE,
            )
            for name in observe.moment_names(2)
        ]
        fit = _rank_fit(equal)
        claims.append(
            Claim(
                name="rank-noise",
                statement="The token of rank i leaves the closure's flow by $O(i^{-1/2})$.",
                prediction=-0.5,
                estimate=fit.estimate(),
                tol=0.1,
                reference=REFERENCE,
            )
        )
        kurtosis = blocks["kurtosis"].sel(time=BLOCK_T1) - blocks["kurtosis"].sel(time=0.0)
        first, second = (kurtosis.sel(block=block).values for block in (1, 2))
        departure = Estimate.from_samples(second)
        error = blocks["field"] - blocks["mixture"]
        scale = float(np.sqrt((blocks["mixture"] ** 2).mean()))
        values = error.transpose("cloud", "query", "component").values
        claims += [
            Claim(
                name="mixture-field",
                statement="At the start the second block moves in the field of the Gaussian "
                "mixture, $V \\sum_k \\omega_k(x) (\\alpha_k + \\Sigma_k A x)$ (relative rms).",
                prediction=0.0,
                estimate=core.jackknife(
                    lambda rows: float(np.sqrt(np.mean(values[rows].mean(axis=0) ** 2)) / scale),
                    len(values),
                ),
                tol=0.03,
                reference=REFERENCE,
            ),
            Claim(
                name="first-block-gaussian",
                statement="The first block stays Gaussian: the excess kurtosis along its first "
                "principal axis does not change.",
                prediction=0.0,
                estimate=Estimate.from_samples(first),
                tol=0.05,
                reference=REFERENCE,
            ),
            Claim(
                name="second-block-not-gaussian",
                statement="The second block does not: its excess kurtosis changes by at least 0.1 "
                "(minus the size of the change lies below -0.1).",
                prediction=-0.1,
                estimate=Estimate(-abs(departure.value), departure.stderr, departure.count),
                tol=0.02,
                reference=REFERENCE,
                one_sided=True,
            ),
            Claim(
                name="conditional-stability",
                statement="The conditional $W_2$ of two clouds grows by a factor that stays "
                "bounded as they approach each other: it goes with the power 0 of their distance.",
                prediction=0.0,
                estimate=_stability_fit(stable).estimate(),
                tol=0.05,
                reference=REFERENCE,
            ),
        ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Noise over rank, kurtosis over depth, the blocks, and the growth of distances."""
        return [
            _figure_rank(results["equal"]),
            _figure_blocks(results["blocks"]),
            _figure_kurtosis(results["blocks"]),
            _figure_stability(results["stability"]),
        ]


def _softmax(scale: Any = 1.0, causal: bool = True) -> attention.Softmax:
    return attention.Softmax(Q=Q, K=K, V=V, score_scale=scale, causal=causal)


@functools.cache
def _compiled() -> Any:
    import jax

    def flow(cloud: Any, positions: Any, ts: Any, scale: Any) -> Any:
        problem = limits.meanfield.ParticleFlow(
            attention=_softmax(scale), initial=cloud, t1=ts[-1], positions=positions
        )
        return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=ts).tokens

    def batched(clouds: Any, *shared: Any) -> Any:
        return jax.lax.map(lambda cloud: flow(cloud, *shared), clouds)

    return jax.jit(batched)


def _flow_clouds(clouds: Any, positions: Any, t1: float, scale: float = 1.0) -> np.ndarray:
    """Clouds [clouds, n, 2] with positions [n] at `SAVES` depths [clouds, times, n, 2]."""
    return np.asarray(_compiled()(clouds, positions, np.linspace(0.0, t1, SAVES), scale))


def _gaussian(key: Any, clouds: int, tokens: int, mean: Any, cov: Any) -> np.ndarray:
    """Clouds of a Gaussian law [clouds, tokens, 2]."""
    import jax

    noise = np.asarray(jax.random.normal(key, (clouds, tokens, 2), dtype=np.float64))
    return mean + noise @ np.linalg.cholesky(cov).T


def _compute_equal(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr
    from scipy.linalg import expm

    n = config.tokens
    positions = np.arange(1, n + 1) / n
    with jax.enable_x64(True):
        initial = _gaussian(key, config.clouds, n, MEAN, COV)
        final = _flow_clouds(initial, positions, T1)[:, -1]
        # The same first half before another second half, in reverse order and three times as large.
        other = np.concatenate([initial[:, : n // 2], 3.0 * initial[:, : n // 2 - 1 : -1]], axis=1)
        prefix = _flow_clouds(other, positions, T1)[:, -1, : n // 2]
    closure = core.solve(
        limits.meanfield.GaussianFlow(attention=_softmax(causal=False), mean=MEAN, cov=COV, t1=T1),
        save=[0.0, T1],
    )
    # Phi = F(t) F(0)^{-1} carries a single token: x(t) = alpha(t) + Phi (x(0) - alpha(0)).
    carry = closure.factor[1] @ np.linalg.inv(closure.factor[0])
    mean, cov = np.asarray(closure.mean[1]), np.asarray(closure.cov[1])
    mapped = mean + (initial - MEAN) @ carry.T
    first = final[:, 0] - initial[:, 0] @ expm(T1 * V).T
    distance = np.linalg.norm(final - mapped, axis=-1)
    later = slice(n // 2, None)
    moments = [
        observe.moment_vector(*observe.moments(cloud[:, later])) for cloud in (final, mapped)
    ]
    return xr.Dataset(
        {
            "distance": (("cloud", "rank"), distance, {"long_name": "distance to the closure"}),
            "particles": (("cloud", "moment"), moments[0], {"long_name": "moments, later half"}),
            "mapped": (("cloud", "moment"), moments[1], {"long_name": "the same, by the closure"}),
            "closure": ("moment", observe.moment_vector(mean, cov)),
            "first_error": (
                "cloud",
                np.linalg.norm(first, axis=-1) / np.linalg.norm(initial[:, 0], axis=-1),
            ),
            "prefix_error": ("cloud", np.abs(prefix - final[:, : n // 2]).max(axis=(1, 2))),
        },
        coords={"rank": np.arange(1, n + 1), "moment": list(observe.moment_names(2))},
        attrs={"tokens": n, "reference": REFERENCE},
    )


def _compute_blocks(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    n, clouds = config.block_tokens, config.block_clouds
    positions = np.repeat([0.25, 0.75], n)
    ts = np.linspace(0.0, BLOCK_T1, SAVES)
    with jax.enable_x64(True):
        initial = np.concatenate(
            [
                _gaussian(core.named_key(key, "block", block), clouds, n, mean, cov)
                for block, (mean, cov) in enumerate(zip(BLOCK_MEANS, BLOCK_COVS, strict=True))
            ],
            axis=1,
        )
        tokens = _flow_clouds(initial, positions, BLOCK_T1, BLOCK_SCALE)
        queries = _gaussian(core.named_key(key, "queries"), 1, 20, BLOCK_MEANS[1], BLOCK_COVS[1])[0]
        at = np.full(20, 0.75)
        softmax = _softmax(BLOCK_SCALE)
        field = [
            np.asarray(softmax(queries, cloud, x_positions=at, positions=positions))
            for cloud in initial
        ]
    parts = np.stack([tokens[:, :, :n], tokens[:, :, n:]])
    kurtosis = observe.excess_kurtosis(parts)[..., 0]
    return xr.Dataset(
        {
            "kurtosis": (("block", "cloud", "time"), kurtosis, {"long_name": "excess kurtosis"}),
            "tokens": (("block", "time", "token", "component"), parts[:, 0]),
            "field": (("cloud", "query", "component"), np.array(field)),
            "mixture": (("query", "component"), mixture_field(queries)),
        },
        coords={"block": [1, 2], "time": ("time", ts, {"long_name": "depth $t$"})},
        attrs={"tokens": n, "reference": REFERENCE},
    )


def mixture_field(x: np.ndarray) -> np.ndarray:
    """The field V sum_k w_k(x) (alpha_k + Sigma_k A x) of the two blocks, equal masses [..., 2].

    w_k is proportional to e^{<Ax, alpha_k> + <Ax, Sigma_k A x> / 2}.
    """
    scores = x @ np.asarray(_softmax(BLOCK_SCALE).A).T
    spread = np.einsum("kij,...j->k...i", BLOCK_COVS, scores)
    logits = np.stack(
        [
            scores @ mean + 0.5 * np.sum(scores * shift, axis=-1)
            for mean, shift in zip(BLOCK_MEANS, spread, strict=True)
        ]
    )
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    means = BLOCK_MEANS.reshape(2, *(1,) * (x.ndim - 1), 2) + spread
    return np.sum(weights[..., None] * means, axis=0) @ V.T


def _compute_stable(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    n = config.positions * config.tokens_per_position
    positions = np.repeat(
        np.arange(config.positions) / config.positions, config.tokens_per_position
    )
    ts = np.linspace(0.0, STABILITY_T1, SAVES)
    shape = (config.stability_clouds, n, 2)
    with jax.enable_x64(True):
        keys = core.named_key(key, "cloud"), core.named_key(key, "noise")
        start = np.asarray(jax.random.uniform(keys[0], shape, minval=-1.0, dtype=np.float64))
        noise = np.asarray(jax.random.normal(keys[1], shape, dtype=np.float64))
        base = _flow_clouds(start, positions, STABILITY_T1)
        ratio = [
            [
                observe.stability_ratio(one, other, positions=positions)
                for one, other in zip(
                    base,
                    _flow_clouds(start + epsilon * noise, positions, STABILITY_T1),
                    strict=True,
                )
            ]
            for epsilon in EPSILONS
        ]
    return xr.Dataset(
        {"ratio": (("epsilon", "cloud", "time"), np.array(ratio), {"long_name": "W2(t) / W2(0)"})},
        coords={
            "epsilon": ("epsilon", list(EPSILONS), {"long_name": "size of the perturbation"}),
            "time": ("time", ts, {"long_name": "depth $t$"}),
        },
        attrs={
            "positions": config.positions,
            "tokens_per_position": config.tokens_per_position,
            "reference": REFERENCE,
        },
    )


def _about(prediction: float, differences: np.ndarray) -> Estimate:
    """The prediction plus the mean of paired differences, with their standard error."""
    gap = Estimate.from_samples(differences)
    return Estimate(prediction + gap.value, gap.stderr, gap.count)


def _octaves(equal: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Middle ranks of the octaves from `FIRST_RANK` on, and rms distances [octaves, clouds]."""
    distance, n = equal["distance"].transpose("cloud", "rank").values, equal.attrs["tokens"]
    starts = FIRST_RANK * 2 ** np.arange(int(np.log2(n // FIRST_RANK)))
    rows = [np.sqrt(np.mean(distance[:, s - 1 : 2 * s - 1] ** 2, axis=1)) for s in starts]
    return 1.5 * starts, np.array(rows)


def _rank_fit(equal: xr.Dataset) -> core.RateFit:
    return core.fit_rate(*_octaves(equal), paired=True)


def _stability_fit(stable: xr.Dataset) -> core.RateFit:
    ratios = stable["ratio"].isel(time=-1).transpose("epsilon", "cloud").values
    return core.fit_rate(stable["epsilon"].values, ratios, paired=True)


def _figure_rank(equal: xr.Dataset) -> FigureSpec:
    import xarray as xr

    ranks, rows = _octaves(equal)
    rms = np.sqrt(np.mean(rows**2, axis=1))
    stderr = np.std(rows**2, axis=1, ddof=1) / np.sqrt(rows.shape[1]) / (2 * rms)
    coords = {"rank": ("rank", ranks, {"long_name": "rank $i$ in the sequence"})}

    def draw(figure: Any) -> None:
        figures.plot_convergence(
            xr.DataArray(rms, dims="rank", coords=coords),
            xr.DataArray(stderr, dims="rank", coords=coords),
            figure.subplots(),
            fit=_rank_fit(equal),
            predicted_rate=-0.5,
            ylabel="rms distance to the closure's flow",
        )

    return FigureSpec(
        name="rank",
        title="Later tokens know the law better",
        caption="Root mean square distance of a token to the image of its start under the unmasked "
        f"closure, at depth $t = {T1:g}$, over octaves of the rank in the sequence; "
        f"{rows.shape[1]} clouds of {equal.attrs['tokens']} tokens with one Gaussian law at every "
        f"position, bars of one standard error. The first {FIRST_RANK - 1} ranks are not shown.",
        draw=draw,
        table=Table(
            ("rank", "rms distance", "stderr"), tuple(zip(ranks, rms, stderr, strict=True))
        ),
        shown=rows.shape[1],
    )


def _figure_blocks(blocks: xr.Dataset) -> FigureSpec:
    import xarray as xr

    times = [0.0, BLOCK_T1]

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 4)
        for ax, (block, t) in zip(axes, ((b, t) for b in (1, 2) for t in times), strict=True):
            tokens = blocks["tokens"].sel(block=block, time=t)
            mean, cov = observe.moments(tokens.values)
            figures.plot_cloud(
                tokens,
                xr.DataArray(mean, dims="component"),
                xr.DataArray(cov, dims=("component", "component2")),
                ax,
                title=f"block {block}, $t = {t:g}$",
            )

    rows = tuple(
        (
            block,
            t,
            *observe.moment_vector(
                *observe.moments(blocks["tokens"].sel(block=block, time=t).values)
            ),
        )
        for block in (1, 2)
        for t in times
    )
    return FigureSpec(
        name="blocks",
        title="Two blocks of positions with different laws",
        caption="One cloud: the tokens of each block at the start and at the end (points), and the "
        "Gaussian of their own mean and covariance (ellipses of one and two standard deviations).",
        draw=draw,
        table=Table(("block", "t", *observe.moment_names(2)), rows),
        shown=1,
        size=(10.0, 3.0),
    )


def _figure_kurtosis(blocks: xr.Dataset) -> FigureSpec:
    change = blocks["kurtosis"] - blocks["kurtosis"].isel(time=0)
    mean, stderr = (
        change.mean("cloud"),
        change.std("cloud", ddof=1) / np.sqrt(change.sizes["cloud"]),
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        ax.axhline(0.0, color=figures.LIMIT, linewidth=0.9)
        for series, block in enumerate((1, 2)):
            ax.errorbar(
                change["time"],
                mean.sel(block=block),
                yerr=stderr.sel(block=block),
                fmt=figures.MARKERS[series] + "-",
                color=figures.COLOURS[series],
                capsize=3,
                label=f"block {block}",
            )
        figures.finish(ax, xlabel="depth $t$", ylabel="change of the excess kurtosis")

    rows = tuple(
        (
            block,
            float(t),
            float(mean.sel(block=block, time=t)),
            float(stderr.sel(block=block, time=t)),
        )
        for block in (1, 2)
        for t in change["time"].values
    )
    return FigureSpec(
        name="kurtosis",
        title="Only the first block stays Gaussian",
        caption="Change since the start of the excess kurtosis along the first principal axis of "
        f"each block, over {change.sizes['cloud']} clouds of two blocks of "
        f"{blocks.attrs['tokens']} tokens, bars of one standard error.",
        draw=draw,
        table=Table(("block", "t", "change of kurtosis", "stderr"), rows),
        shown=change.sizes["cloud"],
    )


def _figure_stability(stable: xr.Dataset) -> FigureSpec:
    ratio = stable["ratio"]
    mean, stderr = ratio.mean("cloud"), ratio.std("cloud", ddof=1) / np.sqrt(ratio.sizes["cloud"])

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, epsilon in enumerate(EPSILONS):
            ax.errorbar(
                ratio["time"],
                mean.sel(epsilon=epsilon),
                yerr=stderr.sel(epsilon=epsilon),
                fmt=figures.MARKERS[series] + "-",
                color=figures.COLOURS[series],
                capsize=3,
                label=f"$\\varepsilon = {epsilon:g}$",
            )
        figures.finish(ax, xlabel="depth $t$", ylabel="$W_2(t) / W_2(0)$, conditional")

    rows = tuple(
        (
            epsilon,
            float(t),
            float(mean.sel(epsilon=epsilon, time=t)),
            float(stderr.sel(epsilon=epsilon, time=t)),
        )
        for epsilon in EPSILONS
        for t in ratio["time"].values
    )
    return FigureSpec(
        name="stability",
        title="Stability in the conditional distance",
        caption="Growth of the conditional $W_2$ between a cloud and the same cloud with Gaussian "
        f"noise of size $\\varepsilon$; {ratio.sizes['cloud']} clouds of "
        f"{stable.attrs['positions']} positions with {stable.attrs['tokens_per_position']} tokens "
        "each, uniform on $[-1, 1]^2$, bars of one standard error.",
        draw=draw,
        table=Table(("epsilon", "t", "ratio", "stderr"), rows),
        shown=ratio.sizes["cloud"] * len(EPSILONS),
    )


def _tex(name: str) -> str:
    symbol, _, indices = name.partition("_")
    return f"\\{symbol}_{{{indices}}}"


EXPERIMENT = Causal(
    name="castin2025/causal",
    title="Causal attention: prefixes, closures and stability",
    summary="Under a causal mask a token sees only what came before it. If every position carries "
    "the same Gaussian law, tokens follow the closure of the unmasked system, the later the "
    "closer; if the laws differ by position, the prefix is a mixture and Gaussianity is lost. "
    "Clouds that start close in the distance that couples equal positions stay close.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=1024, clouds=256, block_tokens=800, block_clouds=192),
        "paper": Config(
            tokens=4096,
            clouds=512,
            block_tokens=2000,
            block_clouds=512,
            positions=64,
            tokens_per_position=16,
            stability_clouds=64,
        ),
    },
)
