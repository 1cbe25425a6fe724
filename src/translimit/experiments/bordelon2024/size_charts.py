"""Figures of networks of growing sizes: losses, rates with their fits, laws of scores, kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import figures
from translimit.experiments.bordelon2024 import kernel_rates
from translimit.experiments.bordelon2024 import vit_and_lm as common

if TYPE_CHECKING:
    from matplotlib.figure import Figure

C = TypeVar("C")
S = TypeVar("S", bound=common.Study)

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Rates:
    """Deviations of networks over sizes, a series each; one panel.

    Attributes:
        quantity: what deviates.
        axis: along which size.
        sizes: of the networks.
        series: rows by the name of a series.
        ylabel: of the mean squares.
        prediction: exponent of the dashed line through the first point of the first series.
    """

    quantity: str
    axis: str
    sizes: tuple[int, ...]
    series: Mapping[str, kernel_rates.Rows]
    ylabel: str
    prediction: float | None = None

    def rows(self) -> Iterator[tuple[str, str, int, str, float, float]]:
        """Quantity, axis, size, series, mean square and its standard error over seeds."""
        for name, deviations in self.series.items():
            for size, row in zip(self.sizes, deviations, strict=True):
                squares = row**2
                error = float(squares.std(ddof=1) / len(row) ** 0.5)
                yield self.quantity, self.axis, size, name, float(squares.mean()), error

    def chart(self) -> figures.Chart:
        """Mean squares with standard errors, fitted rates, and the predicted slope."""
        marks: list[figures.Mark] = []
        table = list(self.rows())
        for place, (name, deviations) in enumerate(self.series.items()):
            fit, text = kernel_rates.squared_rate(self.sizes, deviations), name
            if fit is not None:
                low, high = (2 * bound for bound in fit.interval)
                text += f", rate {2 * fit.rate:.2f} [{low:.2f}, {high:.2f}]".replace("-", _MINUS)
            mean, error = np.array([row[4:] for row in table if row[3] == name]).T
            colour, shape = figures.COLOURS[place], figures.SHAPES[place]
            marks.append(
                figures.Points(self.sizes, mean, colour, text, shape, error=error, joined=True)
            )
        if self.prediction is not None and len(self.sizes) > 1:
            line = table[0][4] * (np.array(self.sizes) / self.sizes[0]) ** self.prediction
            label = f"predicted rate {self.prediction:g}".replace("-", _MINUS)
            marks.append(figures.Line(self.sizes, line, label=label, dash="6 3", width=1.3))
        ticks = tuple((float(size), str(size)) for size in self.sizes)
        x = figures.ChartAxis(common.LONG[self.axis], log=True, ticks=ticks)
        y = figures.ChartAxis(self.ylabel, log=True)
        return figures.Chart(self.ylabel, x, y, tuple(marks))


def loss_chart(
    networks: Mapping[str, common.Losses],
    floors: Mapping[str, float],
    costs: Sequence[float] | None = None,
) -> figures.Chart:
    """Minibatch losses, means over seeds and windows of steps.

    Args:
        networks: by the name of a series.
        floors: losses to compare with.
        costs: compute of one update of each, against which losses are drawn instead of steps.
    """
    marks: list[figures.Mark] = []
    for place, (name, one) in enumerate(networks.items()):
        steps, mean = _smooth(one.loss, max(1, one.loss.shape[1] // 40))
        x = steps if costs is None else costs[place] * steps
        series, more = place % len(figures.COLOURS), place >= len(figures.COLOURS)
        colour, shape, dash = figures.COLOURS[series], figures.SHAPES[series], "6 3" if more else ""
        marks.append(figures.Line(x, mean, colour, name, dash, shape=shape))
    for place, (name, floor) in enumerate(floors.items()):
        marks.append(figures.Level(floor, label=name, dash=("6 3", "1.5 2")[place % 2]))
    label = "step" if costs is None else "compute $6 P D$ in FLOP"
    axis = figures.ChartAxis
    return figures.Chart("losses", axis(label, log=bool(costs)), axis("loss in nats"), tuple(marks))


def axis_charts(
    sizes: common.Sizes,
    along: Callable[[str], Sequence[common.Losses]],
    floors: Mapping[str, float],
) -> list[figures.Chart]:
    """Minibatch losses along every axis.

    Args:
        sizes: of the networks.
        along: the networks of an axis.
        floors: losses to compare with.
    """
    made = []
    for axis in common.AXES:
        names = (f"${axis}$ = {value}" for value in sizes.values(axis))
        made.append(loss_chart(dict(zip(names, along(axis), strict=True)), floors))
    return made


def _smooth(
    losses: Float[np.ndarray, "seed step"], width: int
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, " window"]]:
    """Steps and means over windows of `width` steps."""
    count = max(1, losses.shape[1] // width)
    cut = losses[:, : count * width].reshape(len(losses), count, -1)
    return (np.arange(count) + 0.5) * cut.shape[2], cut.mean(axis=(0, 2))


@dataclass(frozen=True)
class Laws:
    """Scores over heads, seeds, blocks and places, by the dimension of heads; one panel.

    Attributes:
        word: before or after training.
        samples: by dimension.
        alpha_A: exponent of the scores.
    """

    word: str
    samples: Mapping[int, Float[np.ndarray, ...]]
    alpha_A: float

    def rows(self) -> Iterator[figures.Row]:
        """The exponent, dimension, word, mean, variance, samples."""
        for value, entries in self.samples.items():
            numbers = entries.ravel().astype(float)
            moments = (float(numbers.mean()), float(numbers.var()), numbers.size)
            yield (self.alpha_A, value, self.word, *moments)

    def chart(self) -> figures.Chart:
        """Histograms; what lies outside is in the outermost bins."""
        top = max(float(np.quantile(np.abs(one), 0.995)) for one in self.samples.values())
        bins, marks = np.linspace(-top, top, 41), []
        for place, (value, entries) in enumerate(self.samples.items()):
            clipped = np.clip(entries.ravel().astype(float), -top, top)
            density = np.histogram(clipped, bins, density=True)[0]
            series = place % len(figures.COLOURS)
            colour, dash = figures.COLOURS[series], figures.PATTERNS[series]
            marks.append(figures.Steps(bins, density, colour, f"$N$ = {value}", dash))
        title = f"$\\alpha_A$ = {self.alpha_A:g}, {self.word} training"
        x, y = figures.ChartAxis("score $A$"), figures.ChartAxis("density over heads")
        return figures.Chart(title, x, y, tuple(marks), title)


@dataclass(frozen=True)
class Kernel:
    """The kernel of one network; one panel.

    Attributes:
        kind: of the stream or of the gradient.
        heads: of the network.
        word: before or after training.
        entries: of the kernel.
    """

    kind: str
    heads: int
    word: str
    entries: Float[np.ndarray, "n n"]

    def row(self) -> figures.Row:
        """Kind, heads, word, mean diagonal, mean of the other entries."""
        rest = self.entries[~np.eye(len(self.entries), dtype=bool)]
        means = float(np.diagonal(self.entries).mean()), float(rest.mean())
        return (self.kind, self.heads, self.word, *means)

    def chart(self) -> figures.Chart:
        """An image on its own symmetric scale, the first row above."""
        title = f"{self.kind}, $H$ = {self.heads}, {self.word}"
        top, places = float(np.abs(self.entries).max()), np.arange(len(self.entries))
        image = figures.Image(places, places, self.entries, low=-top, high=top)
        x, y = figures.ChartAxis(""), figures.ChartAxis("", len(places) - 0.5, -0.5)
        return figures.Chart(title, x, y, (image,), title)


def _drawn(
    panels: Callable[[ex.Found[C]], Sequence[Rates | Laws | Kernel]], across: int | None = None
) -> Callable[[Figure, figures.Table, ex.Found[C]], None]:
    """What draws the charts of panels."""

    def draw(canvas: Figure, table: figures.Table, found: ex.Found[C]) -> None:
        figures.draw_charts([one.chart() for one in found.once(panels)], canvas, columns=across)

    return draw


def rate_figure(
    panels: Callable[[ex.Found[C]], Sequence[Rates]],
    *,
    title: str,
    caption: str,
    columns: tuple[str, ...],
    size: tuple[float, float] | Callable[[C], tuple[float, float]],
) -> ex.Figure[C]:
    """Deviations over sizes with their fitted rates.

    Args:
        panels: of what was found.
        title: one line.
        caption: see `experiments.Figure`.
        columns: header of the table.
        size: width and height in inches.
    """

    def rows(found: ex.Found[C]) -> Iterable[figures.Row]:
        return (row for panel in found.once(panels) for row in panel.rows())

    return ex.Figure(
        name="rates",
        title=title,
        caption=caption,
        columns=columns,
        rows=rows,
        draw=_drawn(panels),
        shown=lambda found, table: len(table.rows),
        size=size,
    )


def law_figure(
    along: Callable[[ex.Found[S], str, float], Sequence[common.Trained]],
) -> ex.Figure[S]:
    """Laws of scores over heads along N at every exponent, before and after training side by side.

    Args:
        along: the networks along an axis at an exponent.
    """

    def panels(found: ex.Found[S]) -> list[Laws]:
        made, sizes = [], found.config.sizes.values("N")
        for alpha_A in found.config.exponents:
            every = dict(zip(sizes, along(found, "N", alpha_A), strict=True))
            for when, word in enumerate(common.WHEN):
                scores = {size: one.score[when] for size, one in every.items()}
                made.append(Laws(word, scores, alpha_A))
        return made

    return ex.Figure(
        name="laws",
        title="The law of scores over heads",
        caption=f"Scores of {len(common.PLACES)} fixed pairs of tokens over heads, blocks and "
        "seeds, before and after training. Dimensionless; what lies outside is in the outermost "
        "bins.",
        columns=("alpha_A", "N", "training", "mean", "variance", "samples"),
        rows=lambda found: (row for panel in found.once(panels) for row in panel.rows()),
        draw=_drawn(panels, 2),
        shown=lambda found, table: len(table.rows),
        size=lambda c: (9.0, 3.4 * len(c.exponents)),
    )


def kernel_figure(
    panels: Callable[[ex.Found[C]], Sequence[Kernel]], *, title: str, caption: str
) -> ex.Figure[C]:
    """Kernels of single networks as images.

    Args:
        panels: of what was found.
        title: one line.
        caption: see `experiments.Figure`.
    """
    return ex.Figure(
        name="kernels",
        title=title,
        caption=caption,
        columns=("kernel", "H", "training", "mean diagonal", "mean off the diagonal"),
        rows=lambda found: (one.row() for one in found.once(panels)),
        draw=_drawn(panels, 4),
        shown=lambda found, table: len(table.rows),
        size=(11.0, 5.2),
    )
