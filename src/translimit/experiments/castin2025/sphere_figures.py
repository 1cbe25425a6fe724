"""Figures of tokens on the circle and the sphere; what they show is computed by `sphere_parts`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import figures, observe
from translimit.experiments.castin2025.sphere_parts import (
    CLOUDS,
    GROWTH,
    LATTICE,
    MODELS,
    Config,
    predicted_clusters,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _angle_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for beta in found.config.betas:
        count = found(CLOUDS, ("circle", beta)).count[:, 0, -1]
        for model, clusters in zip(MODELS, count.tolist(), strict=True):
            yield (float(beta), model, clusters)


def _draw_angles(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    import xarray

    betas = found.config.betas
    axes = canvas.subplots(len(MODELS), len(betas), sharex=True, sharey=True, squeeze=False)
    for column, beta in enumerate(betas):
        data = found(CLOUDS, ("circle", beta))
        for ax, model, tokens in zip(axes[:, column], MODELS, data.tokens, strict=True):
            one = {"tokens": (("time", "token", "component"), tokens)}
            figures.plot_angles(xarray.Dataset(one, {"time": data.time}), ax)
            ax.set_title(f"{model}, $\\beta = {beta:g}$", fontsize="medium")


def _count_rows(space: str) -> Callable[[ex.Found[Config]], Iterator[figures.Row]]:
    def rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
        for beta in found.config.betas:
            data = found(CLOUDS, (space, beta))
            mean = data.count.mean(axis=1)
            stderr = data.count.std(axis=1, ddof=1) / math.sqrt(data.count.shape[1])
            for model, *series in zip(MODELS, mean.tolist(), stderr.tolist(), strict=True):
                for row in zip(data.time.tolist(), *series, strict=True):
                    yield (beta, model, *row)

    return rows


def _energy_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for beta in found.config.betas:
        data = found(CLOUDS, ("circle", beta))
        for t, energy in zip(data.time.tolist(), data.energy[0, 0].tolist(), strict=True):
            yield (float(beta), t, energy)


def _draw_energy(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """The energy in units of a single cluster's, and the depths of mergers."""
    betas = found.config.betas
    axes = canvas.subplots(1, len(betas), squeeze=False)[0]
    for series, (ax, beta) in enumerate(zip(axes, betas, strict=True)):
        data, rows = found(CLOUDS, ("circle", beta)), table.where({"beta": float(beta)})
        scaled = 2.0 * beta * rows.numbers("energy times e^-beta")
        ax.plot(data.time, scaled, color=figures.COLOURS[series], label="$2\\beta E$")
        for time in observe.merger_times(data.time, data.count[0, 0]):
            ax.axvline(time, color="0.7", linewidth=0.8, zorder=0)
        ylabel = "$2 \\beta e^{-\\beta} E_\\beta$"
        title = f"$\\beta = {beta:g}$"
        figures.finish(ax, xlabel="depth $t$", ylabel=ylabel, title=title, legend=False)


def _growth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    growth = found(GROWTH)
    for m, b, k in np.argwhere(np.isfinite(growth.predicted)).tolist():
        both = float(growth.predicted[m, b, k]), float(growth.measured[m, b, k])
        yield (MODELS[m], float(growth.beta[b]), int(growth.mode[k]), *both)


def _depths(config: Config) -> tuple[float, ...]:
    """Depths at which the sphere is drawn."""
    return (0.0, 2.0, 6.0, float(config.times[-1]))


def _sphere_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for beta in found.config.betas:
        data = found(CLOUDS, ("sphere", beta))
        for t in _depths(found.config):
            rank = float(observe.effective_rank(data.tokens[0, data.at(t)]))
            yield (float(beta), t, int(data.count[0, 0, data.at(t)]), rank)


def _draw_sphere(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    import xarray

    betas, depths = found.config.betas, _depths(found.config)
    axes = canvas.subplots(len(betas), len(depths), sharex=True, sharey=True, squeeze=False)
    for row, beta in zip(axes, betas, strict=True):
        data = found(CLOUDS, ("sphere", beta))
        for ax, t in zip(row, depths, strict=True):
            tokens = xarray.DataArray(data.tokens[0, data.at(t)], dims=("token", "component"))
            figures.plot_hemispheres(tokens, ax, title=f"$\\beta = {beta:g}$, $t = {t:g}$")


def _counts_figure(space: str, unit: str, dotted: str = "") -> ex.Figure[Config]:
    """Numbers of clusters along depth, under SA and USA side by side."""

    def caption(found: ex.Found[Config]) -> str:
        config = found.config
        deltas = ", ".join(f"{found(CLOUDS, (space, beta)).delta:.3g}" for beta in config.betas)
        return (
            f"Mean number of clusters of {config.tokens} tokens on the {space}, connected "
            f"components of the graph angle $< \\delta = 1/(2\\sqrt\\beta)$ ({deltas}), over "
            f"{config.clouds} clouds, bars of one standard error. Left: SA; right: USA, its time "
            f"in units of {unit}.{dotted}"
        )

    def layers(config: Config) -> tuple[figures.Layer, ...]:
        counts = figures.points("clusters", "stderr", joined=True, label="$\\beta = {}$")
        predicted = [
            figures.level(
                predicted_clusters(beta), series=series, dash="1.5 2", where={"model": "SA"}
            )
            for series, beta in enumerate(config.betas)
        ]
        return (counts, *(predicted if dotted else ()))

    return ex.Figure(
        name=f"counts-{space}",
        title=f"Clusters on the {space}",
        caption=caption,
        columns=("beta", "model", "t", "clusters", "stderr"),
        rows=_count_rows(space),
        x="t",
        by="beta",
        panels="model",
        layers=layers,
        xlabel="depth $t$",
        ylabel="clusters",
        log="y",
        shown=lambda found, table: len(found.config.betas) * len(MODELS) * found.config.clouds,
        size=(9.0, 4.2),
        when=lambda c: space in c.spaces,
    )


FIGURES = (
    ex.Figure(
        name="angles",
        title="Tokens on the circle draw together",
        caption="Angles of the tokens of one cloud against depth $t$, from the same uniform start, "
        "under SA and under USA with its time in units of $I_0(\\beta)$.",
        columns=("beta", "model", "clusters at the end"),
        rows=_angle_rows,
        draw=_draw_angles,
        size=(9.0, 5.2),
    ),
    _counts_figure("circle", "$I_0(\\beta)$", " Dotted: the predicted $k^*$."),
    ex.Figure(
        name="energy",
        title="The staircase of the energy",
        caption="Interaction energy of one cloud on the circle under SA, scaled so that a single "
        "cluster has 1; grey: depths at which two clusters merged.",
        columns=("beta", "t", "energy times e^-beta"),
        rows=_energy_rows,
        draw=_draw_energy,
        shown=lambda found, table: len(found.config.betas),
        size=(9.0, 3.2),
    ),
    ex.Figure(
        name="growth",
        title="Growth of small perturbations of the uniform law",
        caption=f"Growth rates of the modes of a perturbation of {LATTICE} equally spaced tokens "
        "on the circle: measured on the SA flow (points), and $k^2 I_k(\\beta) / (\\beta "
        "I_0(\\beta))$ (lines). The table holds USA too, in time units of $e^\\beta$.",
        columns=("model", "beta", "mode", "predicted", "measured"),
        rows=_growth_rows,
        x="mode",
        by="beta",
        layers=(
            figures.line("predicted", label="", series=None, dash="", where={"model": "SA"}),
            figures.points("measured", label="SA, $\\beta = {}$", where={"model": "SA"}),
        ),
        xlabel="mode $k$",
        ylabel="growth rate",
        shown=lambda found, table: len(table.rows),
    ),
    ex.Figure(
        name="sphere",
        title="Tokens on the sphere draw together",
        caption="One cloud under SA, seen along the third axis: dots lie on the near side, rings "
        "on the far side. The effective rank in the table is that of the Gram matrix.",
        columns=("beta", "t", "clusters", "effective rank"),
        rows=_sphere_rows,
        draw=_draw_sphere,
        shown=lambda found, table: len(found.config.betas),
        size=lambda c: (8.0, 2.1 * len(c.betas) + 0.4),
        when=lambda c: "sphere" in c.spaces,
    ),
    _counts_figure("sphere", "$\\sinh(\\beta) / \\beta$"),
)
