r"""Real tokens under softmax attention beside the Gaussian closure with their moments.

Handwritten digits are cut into patches; the patches of a group of images, centred and put on one
common scale, are a cloud of tokens in R^(patch^2). The law of such tokens is far from Gaussian (a
quarter of them are blank), so the closure is not exact for them, however many there are. Three
things flow to t1:

- the patches themselves;
- a surrogate cloud: Gaussian tokens, as many, with exactly the same mean and covariance;
- the closure started from these moments.

What separates surrogate and closure is the finite number of tokens; what separates patches and
closure beyond that is non-Gaussianity. Both are measured over the strength of attention, the
largest eigenvalue of Sigma A^T Sigma A, with several random draws of Q, K and V, none left out.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import attention, core, data, figures, limits, observe
from translimit.core import Claim, ConfigError, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, Positive, Positives, Within

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Castin et al., arXiv 2501.18322"
#: Seconds for one pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2.5e-9
#: The largest relative error that the claims call agreement.
TOLERANCE = 0.05
KINDS = {"digits": "digit patches", "surrogate": "Gaussian tokens, same moments"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        patch: side of a patch; tokens live in R^(patch^2), and an image gives (8 / patch)^2.
        images: images in a group; its patches are one cloud.
        groups: disjoint groups, the replicates behind every error bar.
        draws: random draws of (Q, K, V).
        strengths: largest eigenvalues of Sigma A^T Sigma A; Q, K are scaled to have them.
        t1: final depth. With ||V|| = 1 the closure of centred tokens can not blow up before
            1 / (2 sqrt(strength)).
        steps: Runge-Kutta steps of the clouds to t1.
        saves: times kept, the first and the last included.
    """

    patch: Count = 2
    images: Count = 80
    groups: Annotated[int, Within(3)] = 6
    draws: Annotated[int, Within(1, 1000)] = 4
    strengths: Positives = (0.1, 0.3, 1.0)
    t1: Positive = 0.45
    steps: Count = 8
    saves: Annotated[int, Within(2)] = 5

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if 8 % self.patch:
            raise ConfigError("patch", f"{self.patch} does not divide 8", "pass 1, 2, 4 or 8")
        if self.images * self.groups > data.DIGITS:
            raise ConfigError(
                "images",
                f"{self.images} in groups = {self.groups} are more than the {data.DIGITS} digits",
                "pass fewer images or groups",
            )

    @property
    def tokens(self) -> int:
        """Tokens of one cloud."""
        return self.images * (8 // self.patch) ** 2


class DigitTokens(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Pairs of tokens evaluated, at `SECONDS_PER_PAIR`, and compilation."""
        flows = 2 * config.groups * config.draws * len(config.strengths)
        pairs = flows * config.tokens**2 * 6 * config.steps
        return Cost(seconds=30.0 + SECONDS_PER_PAIR * pairs, memory_bytes=8e8)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One cell for each draw of the parameters."""
        return tuple(Cell(f"draw={draw}", {"draw": draw}) for draw in range(config.draws))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names at the strengths of the presets."""
        return tuple(
            f"{name}-{strength:g}"
            for strength in Config().strengths
            for name in ("digits-covariance", "digits-mean", "surrogate-covariance")
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """All groups and strengths under one draw of the parameters, clouds in float32."""
        return _compute_draw(config, cell, key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """How far the closure holds for the digits, and for Gaussian tokens in their place."""
        everything = _collect(config, results)
        claims = []
        for index, strength in enumerate(config.strengths):
            last = everything.isel(strength=index, time=-1)
            claims += [
                Claim(
                    name=f"digits-covariance-{strength:g}",
                    statement="The closure predicts the covariance of digit patches at "
                    f"$t = {config.t1:g}$ within {TOLERANCE:.0%} (attention of strength "
                    f"{strength:g}).",
                    prediction=0.0,
                    estimate=_covariance_error(last, "digits"),
                    tol=TOLERANCE,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"digits-mean-{strength:g}",
                    statement="The closure predicts the mean of digit patches at "
                    f"$t = {config.t1:g}$ within {TOLERANCE:.0%} of their standard deviation "
                    f"(strength {strength:g}).",
                    prediction=0.0,
                    estimate=_mean_error(last, "digits"),
                    tol=TOLERANCE,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"surrogate-covariance-{strength:g}",
                    statement="The closure predicts the covariance of as many Gaussian tokens with "
                    f"the same moments within {TOLERANCE:.0%} (strength {strength:g}).",
                    prediction=0.0,
                    estimate=_covariance_error(last, "surrogate"),
                    tol=TOLERANCE,
                    reference=REFERENCE,
                ),
            ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The tokens, the error over depth, and the error over strength."""
        everything = _collect(config, results)
        return [
            _figure_tokens(config, results["draw=0"]),
            _figure_depth(config, everything),
            _figure_strength(config, everything),
        ]


def _clouds(config: Config, key: Any) -> tuple[np.ndarray, np.ndarray]:
    """Digit tokens and their Gaussian surrogates, each [groups, tokens, dim]."""
    import jax

    images = data.load_digits().images
    order = np.asarray(jax.random.permutation(core.named_key(key, "images"), len(images)))
    chosen = images[order[: config.groups * config.images]]
    tokens = data.standardise(data.image_patches(chosen, config.patch))
    tokens = tokens.reshape(config.groups, config.tokens, -1)
    with jax.enable_x64(True):
        noise = np.asarray(
            jax.random.normal(core.named_key(key, "surrogate"), tokens.shape, dtype=np.float64)
        )
    surrogate = np.empty_like(tokens)
    for group, (real, white) in enumerate(zip(tokens, noise, strict=True)):
        mean, cov = observe.moments(real)
        own_mean, own_cov = observe.moments(white)
        # Whitened by its own moments, then given those of the patches: equal to rounding.
        recolour = _root(cov) @ np.linalg.inv(_root(own_cov))
        surrogate[group] = mean + (white - own_mean) @ recolour.T
    return tokens, surrogate


def _root(cov: np.ndarray) -> np.ndarray:
    """Symmetric square root of a covariance."""
    eigenvalues, basis = np.linalg.eigh(cov)
    return (basis * np.sqrt(np.maximum(eigenvalues, 0.0))) @ basis.T


def _parameters(config: Config, key: Any, cov: np.ndarray) -> tuple[Any, Any, Any, list[float]]:
    """Q, K with N(0, 1) entries, V of operator norm one, and the scale for each strength."""
    import jax

    dim = cov.shape[0]
    with jax.enable_x64(True):
        Q, K, V = (
            np.asarray(jax.random.normal(core.named_key(key, name), (dim, dim), dtype=np.float64))
            for name in "QKV"
        )
    spread = limits.meanfield.score_spread(K.T @ Q, cov)
    scales = [float(np.sqrt(strength / spread)) for strength in config.strengths]
    return Q, K, V / np.linalg.norm(V, ord=2), scales


@functools.cache
def _flow(t1: float, steps: int, saves: int) -> Any:
    """Compiled: clouds [groups, n, dim] to their tokens [groups, saves, n, dim]."""
    import jax

    def flow(parameters: Any, cloud: Any) -> Any:
        problem = limits.meanfield.ParticleFlow(
            attention=attention.Softmax(*parameters), initial=cloud, t1=t1
        )
        method = limits.meanfield.FixedODE(steps=steps)
        return core.solve(problem, method, save=np.linspace(0.0, t1, saves)).tokens

    return jax.jit(lambda parameters, clouds: jax.lax.map(lambda c: flow(parameters, c), clouds))


def _compute_draw(config: Config, cell: Cell, key: Any) -> xr.Dataset:
    import xarray as xr

    # The clouds are the same in every cell, the parameters are not.
    clouds = dict(zip(KINDS, _clouds(config, cell.shared_key("clouds")), strict=True))
    pooled = observe.moments(clouds["digits"].reshape(-1, clouds["digits"].shape[-1]))[1]
    Q, K, V, scales = _parameters(config, key, pooled)
    ts = np.linspace(0.0, config.t1, config.saves)
    dim = pooled.shape[0]
    shape = (len(config.strengths), config.groups, config.saves)
    mean = {kind: np.empty((*shape, dim)) for kind in (*KINDS, "closure")}
    cov = {kind: np.empty((*shape, dim, dim)) for kind in (*KINDS, "closure")}
    kurtosis = {kind: np.empty(shape) for kind in KINDS}
    field_error = {kind: np.empty(shape[:2]) for kind in KINDS}
    shown = {}
    for s, scale in enumerate(scales):
        softmax = attention.Softmax(Q, K, V, scale)
        single = tuple(np.asarray(value, dtype=np.float32) for value in (Q, K, V, scale))
        for kind, initial in clouds.items():
            flow = _flow(config.t1, config.steps, config.saves)
            tokens = np.asarray(flow(single, initial.astype(np.float32)), dtype=np.float64)
            mean[kind][s], cov[kind][s] = observe.moments(tokens)
            kurtosis[kind][s] = observe.excess_kurtosis(tokens)[..., 0]
            if s == len(scales) - 1:
                shown[kind] = tokens[0, [0, -1]]
            for group, cloud in enumerate(initial):
                field_error[kind][s, group] = _field_error(softmax, cloud)
        for group, cloud in enumerate(clouds["digits"]):
            start = observe.moments(cloud)
            solution = core.solve(
                limits.meanfield.GaussianFlow(
                    attention=softmax, mean=start[0], cov=start[1], t1=config.t1
                ),
                save=ts,
            )
            mean["closure"][s, group] = solution.mean
            cov["closure"][s, group] = solution.cov
    axes = ("strength", "group", "time")
    variables: dict[str, Any] = {}
    for kind in (*KINDS, "closure"):
        variables[f"{kind}_mean"] = ((*axes, "component"), mean[kind])
        variables[f"{kind}_cov"] = ((*axes, "component", "component2"), cov[kind])
    for kind in KINDS:
        variables[f"{kind}_kurtosis"] = (axes, kurtosis[kind])
        variables[f"{kind}_field_error"] = (axes[:2], field_error[kind])
        variables[f"{kind}_tokens"] = (("shown", "token", "component"), shown[kind])
    return xr.Dataset(
        variables,
        coords={
            "strength": ("strength", list(config.strengths), {"long_name": "attention strength"}),
            "time": ("time", ts, {"long_name": "depth $t$"}),
        },
        attrs={"draw": cell.parameters["draw"], "tokens": config.tokens, "reference": REFERENCE},
    )


def _field_error(softmax: Any, cloud: np.ndarray) -> float:
    """Relative rms difference, over a cloud, of its own field and that of its Gaussian."""
    mean, cov = observe.moments(cloud)
    drift, matrix = (np.asarray(part) for part in softmax.gaussian_field(mean, cov))
    gaussian = drift + (cloud - mean) @ matrix.T
    single = cloud.astype(np.float32)
    own = np.asarray(softmax(single, single), dtype=np.float64)
    return float(np.sqrt(np.sum((own - gaussian) ** 2) / np.sum(own**2)))


def _collect(config: Config, results: Results) -> xr.Dataset:
    """All draws in one dataset, without the tokens kept for the picture."""
    import xarray as xr

    parts = [results[cell.name] for cell in EXPERIMENT.cells(config)]
    drop = [f"{kind}_tokens" for kind in KINDS]
    return xr.concat(
        [part.drop_vars(drop) for part in parts], dim="draw", combine_attrs="drop_conflicts"
    )


def _covariance_error(last: xr.Dataset, kind: str) -> Estimate:
    """Relative Frobenius error of the closure's covariance, rms over draws, jackknifed groups."""
    difference = last[f"{kind}_cov"] - last["closure_cov"]
    reference = last["closure_cov"]
    return _relative_error(difference, reference, ("component", "component2"))


def _mean_error(last: xr.Dataset, kind: str) -> Estimate:
    """Error of the closure's mean over the root of the trace of its covariance, likewise."""
    difference = last[f"{kind}_mean"] - last["closure_mean"]
    variances = np.diagonal(last["closure_cov"].values, axis1=-2, axis2=-1)
    reference = last["closure_mean"].copy(data=np.sqrt(variances))
    return _relative_error(difference, reference, ("component",))


def _relative_error(
    difference: xr.DataArray, reference: xr.DataArray, components: tuple[str, ...]
) -> Estimate:
    order = ("group", "draw", *components)
    parts = difference.transpose(*order).values, reference.transpose(*order).values

    def statistic(groups: np.ndarray) -> float:
        mean_difference, mean_reference = (part[groups].mean(axis=0) for part in parts)
        inner = tuple(range(1, mean_difference.ndim))
        squares = np.sum(mean_difference**2, axis=inner) / np.sum(mean_reference**2, axis=inner)
        return float(np.sqrt(squares.mean()))

    return core.jackknife(statistic, parts[0].shape[0])


def _series(config: Config, everything: xr.Dataset, kind: str) -> list[list[Estimate]]:
    """Covariance errors by strength and time."""
    return [
        [_covariance_error(everything.isel(strength=s, time=t), kind) for t in range(config.saves)]
        for s in range(len(config.strengths))
    ]


def _figure_tokens(config: Config, draw: xr.Dataset) -> FigureSpec:
    strength = config.strengths[-1]
    images = data.load_digits().images[:1]

    def show(figure: Any) -> None:
        axes = figure.subplots(1, 4, width_ratios=(0.8, 1, 1, 1))
        axes[0].imshow(16 - images[0], cmap="gray", extent=(0, 8, 8, 0))
        for line in range(0, 9, config.patch):
            axes[0].axhline(line, color=figures.COLOURS[1], linewidth=1.2)
            axes[0].axvline(line, color=figures.COLOURS[1], linewidth=1.2)
        axes[0].set_title("an image and its patches", fontsize="medium")
        axes[0].set_axis_off()
        panels = (
            ("digits", 0, "patches"),
            ("digits", -1, "patches"),
            ("surrogate", -1, "surrogate"),
        )
        extent = figures.common_extent(draw["digits_tokens"], draw["surrogate_tokens"])
        for ax, (kind, when, name) in zip(axes[1:], panels, strict=True):
            closure = draw.isel(strength=-1, group=0, time=when)
            figures.plot_cloud(
                draw[f"{kind}_tokens"][when],
                closure["closure_mean"],
                closure["closure_cov"],
                ax,
                title=f"{name}, $t = {float(draw['time'][when]):g}$",
                extent=extent,
            )
        handles, labels = axes[1].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, markerscale=3
        )

    final = draw.isel(strength=-1, group=0, time=-1)
    rows = tuple(
        (
            name,
            float(final["digits_cov"][i, j]),
            float(final["surrogate_cov"][i, j]),
            float(final["closure_cov"][i, j]),
        )
        for name, i, j in (("Sigma_11", 0, 0), ("Sigma_12", 0, 1), ("Sigma_22", 1, 1))
    )
    return FigureSpec(
        name="tokens",
        title="Digit patches as tokens, before and after attention",
        caption=f"First two pixels of {config.tokens} patches of {config.images} images at depth 0 "
        f"and {config.t1:g}, and of Gaussian tokens with the same initial moments; ellipses (one "
        "and two standard deviations) are the closure started from these moments. One draw of "
        f"$(Q, K, V)$, one group, attention of strength {strength:g}. Pixel values are centred and "
        "put on one common scale, so that the mean variance of a pixel is one.",
        draw=show,
        table=Table(("entry at final depth", "patches", "surrogate", "closure"), rows),
        shown=1,
        size=(11.0, 3.3),
    )


def _figure_depth(config: Config, everything: xr.Dataset) -> FigureSpec:
    errors = {kind: _series(config, everything, kind) for kind in KINDS}
    times = everything["time"].values

    def draw(figure: Any) -> None:
        axes = np.atleast_1d(figure.subplots(1, len(config.strengths), sharey=True))
        for s, ax in enumerate(axes):
            for series, (kind, label) in enumerate(KINDS.items()):
                row = errors[kind][s]
                ax.errorbar(
                    times,
                    [100 * e.value for e in row],
                    yerr=[100 * e.stderr for e in row],
                    fmt=figures.MARKERS[series] + "-",
                    color=figures.COLOURS[series],
                    capsize=3,
                    linewidth=1,
                    markersize=5,
                    label=label,
                )
            ax.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="closure", zorder=0)
            ax.axhline(100 * TOLERANCE, color=figures.LIMIT, linestyle=":", label="tolerance")
            title = f"strength {config.strengths[s]:g}"
            figures.finish(ax, xlabel="depth $t$", ylabel="", title=title, legend=s == 0)
        axes[0].set_ylabel("error of the covariance (%)")

    rows = tuple(
        (config.strengths[s], float(t), *(x for kind in KINDS for x in _pair(errors[kind][s][i])))
        for s in range(len(config.strengths))
        for i, t in enumerate(times)
    )
    return FigureSpec(
        name="depth",
        title="How far the closure holds for real tokens",
        caption="Relative Frobenius error of the closure's covariance along depth, root mean "
        f"square over {config.draws} draws of $(Q, K, V)$, for digit patches and for Gaussian "
        f"tokens with the same moments; {config.groups} disjoint groups of {config.images} images "
        f"({config.tokens} tokens each), bars of one jackknife standard error over groups. A "
        "value below zero is a jackknife estimate of an error that is not resolved.",
        draw=draw,
        table=Table(
            ("strength", "t", "patches", "stderr", "Gaussian tokens", "stderr (Gaussian)"), rows
        ),
        shown=config.draws * config.groups * len(config.strengths),
        size=(9.5, 3.6),
    )


def _figure_strength(config: Config, everything: xr.Dataset) -> FigureSpec:
    field = {kind: _over_groups(everything[f"{kind}_field_error"]) for kind in KINDS}
    kurtosis = {
        kind: _over_groups(everything[f"{kind}_kurtosis"].isel(strength=-1)) for kind in KINDS
    }

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for series, (kind, label) in enumerate(KINDS.items()):
            style = {
                "fmt": figures.MARKERS[series] + "-",
                "color": figures.COLOURS[series],
                "label": label,
                "linewidth": 1,
                "capsize": 3,
            }
            value, stderr = field[kind]
            left.errorbar(config.strengths, 100 * value, yerr=100 * stderr, **style)
            value, stderr = kurtosis[kind]
            right.errorbar(everything["time"], value, yerr=stderr, **style)
        left.set_xscale("log")
        left.set_ylim(bottom=0)
        figures.finish(
            left, xlabel="attention strength", ylabel="error of the field at $t = 0$ (%)"
        )
        right.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="Gaussian")
        figures.finish(
            right,
            xlabel="depth $t$",
            ylabel="excess kurtosis, first principal axis",
            title=f"strength {config.strengths[-1]:g}",
        )

    rows = tuple(
        (strength, *(float(part[s]) for kind in KINDS for part in field[kind]))
        for s, strength in enumerate(config.strengths)
    )
    return FigureSpec(
        name="gaussianity",
        title="Where the difference comes from",
        caption="Left: relative root mean square difference between the velocity of the tokens and "
        "the affine field of the Gaussian with their moments, at depth 0. Right: excess kurtosis "
        "along the first principal axis (0 for a Gaussian) along depth. Means over "
        f"{config.draws} draws, bars of one standard error over {config.groups} groups.",
        draw=draw,
        table=Table(
            (
                "strength",
                "field error, patches",
                "stderr",
                "field error, Gaussian tokens",
                "stderr (Gaussian)",
            ),
            rows,
        ),
        shown=config.draws * config.groups * len(config.strengths),
        size=(9.0, 3.6),
    )


def _over_groups(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over draws and groups, and its standard error over groups."""
    groups = values.mean("draw")
    stderr = groups.std("group", ddof=1) / np.sqrt(groups.sizes["group"])
    return groups.mean("group").values, stderr.values


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, estimate.stderr


EXPERIMENT = DigitTokens(
    name="castin2025/digits",
    title="Digit patches under softmax attention, beside the closure with their moments",
    summary="The Gaussian closure is exact for Gaussian tokens. Real tokens are not Gaussian: a "
    "quarter of the $2 \\times 2$ patches of handwritten digits are blank. Clouds of patches, "
    "Gaussian surrogates with the same moments and the closure flow side by side, from weak to "
    "strong attention, and the errors say how far the closure carries over.",
    citations=("castin2025", "digits", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(images=160, groups=10, draws=8, strengths=(0.1, 0.3, 1.0), steps=12),
        "paper": Config(images=224, groups=8, draws=16, strengths=(0.1, 0.3, 1.0), steps=16),
    },
)
