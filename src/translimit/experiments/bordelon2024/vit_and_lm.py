r"""What the experiments over sizes of trained networks share: sizes, training, kernels, panels.

A size is (N, H, L): dimension of a head, heads, layers. Along an axis one of the three changes
and the others are those of the base. The distance of a kernel K of one network from that of the
largest size is |K - K_ref|^2 / |K_ref|^2 (Frobenius), K_ref the mean over the seeds of the largest
size. Its fluctuation is (n / (n - 1))^(1/2) |K - K_mean| / |K_mean| with the mean over the n seeds
of its own size: along the heads its square goes like 1 / H, and no largest size enters, whose own
distance from the limit would.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, scaling, train
from translimit.core import Claim, Estimate, RateFit
from translimit.experiments.base import FigureSpec, Table
from translimit.experiments.checked import CheckedConfig, Count, Counts, Distinct

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712"
AXES = ("N", "H", "L")
LONG = {"N": "head dimension $N$", "H": "heads $H$", "L": "layers $L$"}
#: (sample, query token, key token) of the recorded entries of the logits.
PLACES = ((0, 1, 0), (1, 3, 2), (2, 5, 1), (3, 4, 4))
WHEN = ("before", "after")

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes(CheckedConfig):
    """The base and what each axis takes; the largest entry of an axis is its reference.

    Attributes:
        base: (N, H, L).
        head_dims: values of N.
        heads: values of H.
        layers: values of L.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    head_dims: Annotated[Counts, Distinct()] = (4, 8, 16, 32)
    heads: Annotated[Counts, Distinct()] = (2, 4, 8, 16, 32)
    layers: Annotated[Counts, Distinct()] = (1, 2, 4, 8, 16)

    def values(self, axis: str) -> tuple[int, ...]:
        """What an axis takes, increasing."""
        found = {"N": self.head_dims, "H": self.heads, "L": self.layers}[axis]
        return tuple(sorted(found))

    def at(self, axis: str, value: int) -> Size:
        """The base with one number changed."""
        N, H, L = (
            value if name == axis else own for name, own in zip(AXES, self.base, strict=True)
        )
        return N, H, L

    def all(self, axes: Sequence[str] = AXES) -> list[Size]:
        """Every size once."""
        found = [self.at(axis, value) for axis in axes for value in self.values(axis)]
        return list(dict.fromkeys(found))


def label(size: Sequence[int]) -> str:
    """`4-8-2` of (4, 8, 2)."""
    return "-".join(str(number) for number in size)


def numbers(
    size: Sequence[int],
    optimizer: Any,
    alpha_A: float,
    alpha_L: float,
    beta0: float,
    gamma0: float,
    pixels: int = 1,
) -> describe.Parameterization:
    """The paper's parameterization at one size, base rate eta_0."""
    N, H, L = size
    return scaling.paper_parameterization(
        describe.Size(head_dim=N, heads=H, layers=L, mlp_ratio=1.0),
        optimizer=optimizer,
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        beta0=beta0,
        gamma0=gamma0,
        pixels=pixels,
    )


def bare_shape(size: Sequence[int], **options: Any) -> describe.TransformerShape:
    """The paper's network: pre-LN without gains, no biases, MLP of ratio 1."""
    N, H, L = size
    return describe.TransformerShape(
        head_dim=N, heads=H, layers=L, mlp_ratio=1.0, gains=False, biases=False, **options
    )


def train_size(
    shape: describe.TransformerShape,
    parameterization: describe.Parameterization,
    source: Any,
    training: Any,
    key: Any,
    probe: int,
) -> xr.Dataset:
    """One size with all its seeds, observed before and after training, at one rate."""
    history = train.train(
        shape,
        parameterization,
        source,
        training,
        key=key,
        observe=(
            train.ProbeLoss(),
            train.StreamKernel(),
            train.StreamKernel(gradient=True),
            train.AttentionLaw(places=PLACES),
            train.HeadVariance(),
        ),
        observe_at=(0, training.steps),
        probe=probe,
    )
    found = history.to_xarray().isel(rate=0, drop=True)
    return found.assign_attrs(
        reference=REFERENCE,
        parameters=shape.parameter_count,
        tokens=shape.tokens * training.batch,
        diverged=int(history.diverged.sum()),
    )


# -- numbers --------------------------------------------------------------------------------------


def kernel_distances(datasets: Sequence[xr.Dataset], name: str, when: int) -> list[np.ndarray]:
    """Relative distances (not squared) of every seed from the largest size, without it.

    The stream is that after the last block, the gradient that before the first.
    """
    level = 0 if name == "gradient_kernel" else -1
    kernels = [d[name].isel(observation=when, level=level).values.astype(float) for d in datasets]
    reference = kernels[-1].mean(axis=0)
    size = np.linalg.norm(reference)
    return [np.linalg.norm(k - reference, axis=(1, 2)) / size for k in kernels[:-1]]


def fluctuations(kernels: np.ndarray) -> np.ndarray:
    """Relative distances (not squared) of every seed's kernel [seeds, n, n] from their mean."""
    kernels = np.asarray(kernels, dtype=float)
    mean = kernels.mean(axis=0)
    scale = (len(kernels) / (len(kernels) - 1)) ** 0.5 / np.linalg.norm(mean)
    return scale * np.linalg.norm(kernels - mean, axis=(1, 2))


def kernel_fluctuations(datasets: Sequence[xr.Dataset], name: str, when: int) -> list[np.ndarray]:
    """Fluctuations of every size; levels as in `kernel_distances`."""
    level = 0 if name == "gradient_kernel" else -1
    return [fluctuations(d[name].isel(observation=when, level=level).values) for d in datasets]


def head_deviations(datasets: Sequence[xr.Dataset], when: int) -> list[np.ndarray]:
    """Standard deviation over heads of the logits, root mean square over blocks, by seed."""
    return [
        d["score_head_var"].isel(observation=when).mean("layer").values.astype(float) ** 0.5
        for d in datasets
    ]


def final_losses(dataset: xr.Dataset) -> np.ndarray:
    """Loss on the probe at the end, by seed."""
    return dataset["probe_loss"].isel(observation=-1).values.astype(float)


def squared_rate(
    sizes: Sequence[int], deviations: Sequence[np.ndarray], *, alive: bool = True
) -> RateFit | None:
    """The fitted rate of root mean squares; None below two sizes, or where members diverged."""
    finite = all(np.all(np.isfinite(row)) and np.all(row > 0) for row in deviations)
    if len(sizes) < 2 or not finite or not alive:
        return None
    return core.fit_rate(list(sizes), list(deviations))


def rate_claim(
    name: str, statement: str, fit: RateFit | None, prediction: float, tol: float
) -> list[Claim]:
    """A claim about a squared quantity, whose rate is twice that of its root."""
    if fit is None:
        return []
    estimate = Estimate(2 * fit.rate, 2 * fit.stderr, fit.replicates)
    return [Claim(name, statement, prediction, estimate, tol, reference=REFERENCE)]


# -- figures --------------------------------------------------------------------------------------


def spec(
    name: str, title: str, caption: str, draw: Callable, rows: list, **about: Any
) -> FigureSpec:
    """A figure with its table; the first row of `rows` is the header."""
    header, *body = rows
    return FigureSpec(
        name=name,
        title=title,
        caption=caption,
        draw=draw,
        table=Table(tuple(header), tuple(tuple(row) for row in body)),
        shown=len(body),
        **about,
    )


def smooth(losses: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and means over windows of `width` steps of [seeds, steps]."""
    count = max(1, losses.shape[1] // width)
    cut = losses[:, : count * width].reshape(len(losses), count, -1)
    return (np.arange(count) + 0.5) * cut.shape[2], cut.mean(axis=(0, 2))


def draw_losses(
    ax: Any, datasets: Mapping[str, xr.Dataset], floors: Mapping[str, float], *, compute: bool
) -> None:
    """Minibatch losses, mean over seeds, against steps or against training compute."""
    for index, (name, dataset) in enumerate(datasets.items()):
        losses = dataset["loss"].values
        steps, mean = smooth(losses, max(1, losses.shape[1] // 40))
        cost = 6.0 * dataset.attrs["parameters"] * dataset.attrs["tokens"] if compute else 1.0
        ax.plot(cost * steps, mean, label=name, **figures.marked(index, len(steps)))
    for index, (name, floor) in enumerate(floors.items()):
        ax.axhline(floor, color=figures.LIMIT, ls=("--", ":")[index % 2], lw=1, label=name)
    if compute:
        ax.set_xscale("log")
    figures.finish(
        ax,
        xlabel="compute $6 P D$ in FLOP" if compute else "step",
        ylabel="loss in nats",
    )


def draw_rates(
    ax: Any,
    sizes: Sequence[int],
    rows: Mapping[str, Sequence[np.ndarray]],
    prediction: float | None,
    *,
    xlabel: str,
    ylabel: str,
) -> None:
    """Mean squares with standard errors for each series, fitted rates, and the predicted slope."""
    for index, (name, deviations) in enumerate(rows.items()):
        squares = [np.asarray(row) ** 2 for row in deviations]
        mean = np.array([row.mean() for row in squares])
        error = np.array([row.std(ddof=1) / len(row) ** 0.5 for row in squares])
        fit = squared_rate(sizes, deviations)
        text = name
        if fit is not None:
            low, high = (2 * bound for bound in fit.interval)
            text += f", rate {2 * fit.rate:.2f} [{low:.2f}, {high:.2f}]"
        colour, marker = figures.COLOURS[index], figures.MARKERS[index]
        text = text.replace("-", "\N{MINUS SIGN}") if fit is not None else text
        ax.errorbar(
            sizes, mean, yerr=error, fmt=marker + "-", color=colour, capsize=3, lw=1, label=text
        )
        if index == 0 and prediction is not None and len(sizes) > 1:
            line = mean[0] * (np.array(sizes) / sizes[0]) ** prediction
            ax.plot(
                sizes,
                line,
                color=figures.LIMIT,
                ls="--",
                lw=1,
                label=f"predicted rate {prediction:g}".replace("-", "\N{MINUS SIGN}"),
            )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(list(sizes), [str(size) for size in sizes])
    ax.minorticks_off()
    figures.finish(ax, xlabel=xlabel, ylabel=ylabel)
    figures.legend_below(ax)


def draw_heat_maps(figure: Any, panels: Sequence[tuple[str, np.ndarray]], columns: int) -> None:
    """Kernels as images, each on its own symmetric scale."""
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
    for ax, (title, kernel) in zip(axes.flat, panels, strict=True):
        top = float(np.abs(kernel).max())
        image = ax.imshow(kernel, cmap="viridis", vmin=-top, vmax=top)
        ax.set_title(title, fontsize="small")
        ax.set_xticks([])
        ax.set_yticks([])
        figure.colorbar(image, ax=ax, fraction=0.046)


def draw_laws(ax: Any, samples: Mapping[str, np.ndarray], title: str) -> None:
    """Histograms of logits over heads, seeds, blocks and places."""
    top = max(float(np.quantile(np.abs(values), 0.995)) for values in samples.values())
    bins = np.linspace(-top, top, 41)
    for index, (name, values) in enumerate(samples.items()):
        ax.hist(
            np.clip(values, -top, top),
            bins=bins,
            density=True,
            histtype="step",
            color=figures.COLOURS[index % len(figures.COLOURS)],
            linestyle=figures.DASHES[index % len(figures.DASHES)],
            label=name,
        )
    figures.finish(ax, xlabel="logit $A$", ylabel="density over heads", title=title)
