"""Figures of the pages, drawn by the library when the docs are built and not committed.

They lie in docs/made and are drawn again when this file or the package is newer than they are.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__)
MADE = HERE.parents[1] / "made"
PACKAGE = HERE.parents[2] / "src" / "translimit"

T1 = 1.5
NAMES = {
    "softmax": "softmax",
    "multi-head": "multi-head",
    "l2": "L2",
    "sinkhorn": "Sinkhorn",
    "linear": "linear",
}


def ellipses(figure: Any) -> None:
    """The canonical Gaussian under each closure, at four depths."""
    from translimit import core, figures, limits
    from translimit.experiments.castin2025 import canonical

    axes = figure.subplots(1, len(NAMES), sharex=True, sharey=True)
    for ax, (variant, title) in zip(axes, NAMES.items(), strict=True):
        flow = limits.meanfield.GaussianFlow(
            attention=canonical.canonical_attention(variant),
            mean=canonical.MEAN,
            cov=canonical.COV,
            t1=T1,
        )
        solution = core.solve(flow, save=np.linspace(0.0, T1, 4))
        figures.plot_ellipses(solution.to_xarray(), ax)
        ax.set_title(title)
        handles, labels = ax.get_legend_handles_labels()
        ax.get_legend().remove()
        ax.set_aspect("equal", adjustable="box")
        ax.axis((-1.5, 4.0, -3.5, 2.0))
        ax.label_outer()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def growth(figure: Any) -> None:
    """One-dimensional variances, A = V = 1 and Sigma_0 = 1/2, variant by variant."""
    from translimit import attention, core, figures, limits

    ax = figure.subplots()
    ts = np.linspace(0.0, 3.0, 61)
    one = {"Q": [[1.0]], "K": [[1.0]], "V": [[1.0]]}
    variants = {
        "softmax": attention.Softmax(**one),
        "linear": attention.Linear(**one),
        "L2": attention.L2(**one),
        "Sinkhorn": attention.Sinkhorn(**one),
    }
    for series, (name, variant) in enumerate(variants.items()):
        flow = limits.meanfield.GaussianFlow(attention=variant, mean=[0.0], cov=[[0.5]], t1=ts[-1])
        solution = core.solve(flow, save=ts)
        ends = f", blow-up at $t = {float(solution.blow_up_time):.3g}$"
        label = name + (ends if np.isfinite(solution.blow_up_time) else "")
        ax.plot(
            ts,
            solution.cov[:, 0, 0],
            linestyle=figures.DASHES[series],
            color=figures.COLOURS[series],
            linewidth=1.8,
            label=label,
        )
    ax.set_yscale("log")
    ax.set_ylim(0.3, 300.0)
    figures.finish(ax, xlabel="depth $t$", ylabel="variance")


def bands(figure: Any) -> None:
    """Correlation of two tokens along depth: the SDE, and networks on it."""
    import jax

    from translimit import core, describe, figures, limits, models

    block = describe.Block(gamma=0.5, tau0=2.0)
    start = np.array([[1.0, 0.3], [0.3, 1.0]])
    ts = np.linspace(0.0, 1.0, 11)
    sde = limits.shaped.CovarianceSDE(block=block, initial=start, t1=1.0)
    method = limits.shaped.StructurePreserving(paths=400, bounded=True)
    ax = core.solve(sde, method, key=jax.random.key(0), save=ts).plot(figure.subplots())
    chain = models.CompressedShapedTransformer(block=block, dim=100, layers=100)
    cov = chain.simulate(start, key=jax.random.key(1), seeds=400, save_every=10).cov
    rho = cov[..., 0, 1] / np.sqrt(cov[..., 0, 0] * cov[..., 1, 1])
    # The standard error of a median, near enough for a bar.
    error = 1.2533 * rho.std(axis=0) / len(rho) ** 0.5
    ax.errorbar(
        ts,
        np.median(rho, axis=0),
        yerr=error,
        fmt="o",
        color=figures.COLOURS[1],
        capsize=2,
        label="median of 400 networks",
    )
    ax.legend(frameon=False, fontsize="small")


def explosions(figure: Any) -> None:
    """Probability of explosion before a time, for several blocks."""
    from translimit import describe, figures, limits

    ax = figure.subplots()
    ts = np.concatenate([[0.05], np.linspace(0.2, 4.0, 20)])
    cases = ((0.125, 0.5, 1), (0.25, 0.5, 1), (0.4, 0.5, 1), (0.25, 0.5, 4))
    for series, (square, tau0, heads) in enumerate(cases):
        block = describe.Block(gamma=square**0.5, tau0=tau0, heads=heads)
        probability = limits.shaped.explosion_probability
        colour = figures.COLOURS[series]
        label = f"$\\gamma^2 = {square:g}$, $H = {heads}$"
        found = [probability(block, 2.0, float(t)) for t in ts]
        ax.plot(ts, found, label=label, **figures.marked(series, 2 * len(ts)))
        ends, ever = [ts[0], ts[-1]], [probability(block, 2.0)] * 2
        marker = figures.MARKERS[series]
        ax.plot(ends, ever, color=colour, linestyle="--", linewidth=0.9, marker=marker, ms=4)
    figures.finish(ax, xlabel="depth / width $t$", ylabel="probability of explosion before $t$")


def homogenized_overlaps(figure: Any) -> None:
    """Mean overlaps of networks of three dimensions, and the simplex equation."""
    import jax

    from translimit import core, describe, figures, limits, models

    flows, ax = limits.homogenized, figure.subplots()
    step, layers, every = 0.05, 60, 6
    ts = step * every * np.arange(layers // every + 1)
    for series, dim in enumerate((16, 32, 128)):
        law = describe.WideHeads(dim=dim, score_std=2.0)
        chain = models.RandomHeadChain(law=law, step=step**0.5, heads=1, layers=layers)
        paths = chain.simulate_overlaps(
            np.eye(8, dtype=np.float32), replicas=400, key=jax.random.key(0), save_every=every
        )
        mean = paths.mean_overlaps
        colour = figures.COLOURS[series]
        ax.errorbar(
            ts,
            mean.mean(axis=0),
            yerr=mean.std(axis=0) / 20,
            fmt=figures.MARKERS[series],
            color=colour,
            markersize=4.5,
            capsize=2.5,
            label=f"400 networks, $d = {dim}$",
        )
        exact = core.solve(flows.SimplexClosure(law=law, tokens=8, t1=ts[-1]))
        ax.plot(exact.ts, exact.overlap, color=colour, linewidth=1.5)
    large = core.solve(
        flows.SimplexClosure(law=law, tokens=8, t1=ts[-1], dimension=flows.Dimension.LARGE)
    )
    ax.plot(large.ts, large.overlap, "--", color=figures.LIMIT, label="as printed")
    figures.finish(ax, xlabel=r"unit diffusive time $\tau$", ylabel="mean overlap of two tokens")


def homogenized_collapse(figure: Any) -> None:
    """Predicted collapse depth over the temperature, with the spread of single networks."""
    from translimit import describe, figures, limits

    ax, stds = figure.subplots(), np.linspace(0.0, 4.0, 17)
    for series, dim in enumerate((16, 64, 1024)):
        found = [
            limits.homogenized.collapse_depth(
                describe.WideHeads(dim=dim, score_std=std), tokens=8, step=0.1, heads=1
            )
            for std in stds
        ]
        depth, spread = (np.array([float(getattr(f, k)) for f in found]) for k in _DEPTH)
        colour = figures.COLOURS[series]
        dash = figures.DASHES[series]
        ax.plot(stds, depth, ls=dash, color=colour, linewidth=1.8, label=f"$d = {dim}$")
        ax.fill_between(stds, depth - spread, depth + spread, color=colour, alpha=0.15, linewidth=0)
    figures.finish(ax, xlabel="standard deviation of the scores", ylabel="collapse depth (layers)")


_DEPTH = ("layers", "spread")


def four_theories(figure: Any) -> None:
    """What the page `four-theories.md` computes: its own blocks are run, and drawn."""
    from translimit import figures

    page = (HERE.parents[1] / "four-theories.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, "four-theories.md", "exec"), names)
    (pde, shaped), (heads, learning) = figure.subplots(2, 2)
    blue = figures.COLOURS[0]

    closure, cloud = names["closure"], names["cloud"]
    directions = np.linalg.eigh(closure.cov[-1])[1]
    places = (0, 15, 31, 47, 63)
    for place in places:
        v = directions[:, place]
        std = np.sqrt(np.einsum("i,tij,j->t", v, closure.cov, v))
        limit = pde.plot(closure.ts, std, color=figures.LIMIT)[0]
        final = (cloud @ v).std()
        (finite,) = pde.plot([1.0], [final], figures.MARKERS[0], color=blue)
    pde.legend(
        [limit, finite], ["closure, five directions", "2,000 tokens, 12 layers"], frameon=False
    )
    figures.finish(
        pde,
        xlabel="depth $t$",
        ylabel="standard deviation",
        title="Transformer PDE",
        legend=False,
    )

    def correlation(cov: Any) -> Any:
        rho = cov[..., 0, 1] / np.sqrt(cov[..., 0, 0] * cov[..., 1, 1])
        return np.quantile(rho, [0.1, 0.5, 0.9], axis=0)

    layers = np.arange(names["layers"] + 1)
    low, middle, high = correlation(np.asarray(names["shaped"].cov))
    shaped.fill_between(layers, low, high, color=figures.LIMIT, alpha=0.15, linewidth=0)
    shaped.plot(layers, middle, color=figures.LIMIT, label="covariance SDE")
    low, middle, high = correlation(np.asarray(names["networks"].cov))
    ends = [0, -1]
    shaped.errorbar(
        layers[ends],
        middle[ends],
        yerr=[(middle - low)[ends], (high - middle)[ends]],
        fmt=figures.MARKERS[0],
        color=blue,
        capsize=2.5,
        label="networks",
    )
    figures.finish(shaped, xlabel="layer", ylabel="correlation of two tokens", title="shaped")

    curve = names["prediction"].curves["overlap"]
    mean, spread = np.array(curve.value), np.array(curve.error)
    heads.fill_between(
        layers, mean - spread, mean + spread, color=figures.LIMIT, alpha=0.15, linewidth=0
    )
    heads.plot(layers, mean, color=figures.LIMIT, label="mean, and spread of networks")
    figures.finish(heads, xlabel="layer", ylabel="mean overlap of two tokens", title="homogenized")

    for series, (gamma0, loss) in enumerate(names["losses"].items()):
        style: Any = {"color": figures.COLOURS[series], "linestyle": figures.DASHES[series]}
        learning.plot(loss, label=rf"$\gamma_0 = {gamma0:g}$", **style)
    learning.set_yscale("log")
    figures.finish(learning, xlabel="update", ylabel="loss", title="training dynamics")


FIGURES: dict[str, tuple[Callable[[Any], None], tuple[float, float]]] = {
    "variants-ellipses": (ellipses, (12.0, 3.6)),
    "variants-growth": (growth, (6.5, 4.0)),
    "shaped-bands": (bands, (6.5, 4.0)),
    "shaped-explosion": (explosions, (6.5, 4.0)),
    "homogenized-overlaps": (homogenized_overlaps, (7.0, 4.2)),
    "homogenized-collapse": (homogenized_collapse, (7.0, 4.2)),
    "four-theories": (four_theories, (9.0, 6.6)),
}


def on_pre_build(config: Any) -> None:
    """Draw the figures that are missing or older than the code."""
    from matplotlib.figure import Figure

    from translimit.core import keep_programs

    keep_programs()
    sources = (HERE, HERE.parents[1] / "four-theories.md", *PACKAGE.rglob("*.py"))
    newest = max(path.stat().st_mtime for path in sources)
    MADE.mkdir(exist_ok=True)
    for name, (draw, size) in FIGURES.items():
        path = MADE / f"{name}.png"
        if path.exists() and path.stat().st_mtime > newest:
            continue
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(path, dpi=110)
