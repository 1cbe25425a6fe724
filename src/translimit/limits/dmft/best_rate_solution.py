"""The best learning rate of a training problem, with its error, and what it was found from."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from translimit.core import reference, small_picture, with_error
from translimit.limits.dmft.rate_rules import (
    Minimum,
    divergence,
    first_minimum,
    grid_error,
    jackknife,
    robust_loss,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class BestRate:
    """Losses of the limit after training, at many learning rates, and the best of them.

    Attributes:
        rates: learning rates `eta0` in the convention of the problem, in equal steps of their
            logarithm.
        losses: after the last update, by population; infinite where a kernel ceased to be finite,
            NaN where a population was too small.
        start: the loss before training.
        steps: evaluations, one more than updates.
        edge: the rate at the edge of stability at the start, from a random readout where the
            readout starts at zero.
        refused: rates at which a pass ceased to be finite, and where, in words.
        sampled: whether heads or neurons are sampled: the robust rule needs populations.
        too_small: rates whose training has more directions than the populations hold, and what
            they need, in words: nothing is known there.
    """

    rates: Float[np.ndarray, " rates"]
    losses: Float[np.ndarray, "populations rates"]
    start: float
    steps: int
    edge: float
    refused: dict[float, str]
    sampled: bool
    too_small: dict[float, str] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """What is minimised, in words."""
        if self.sampled:
            return "mean + 2 standard deviations over populations"
        return "the loss itself: nothing is sampled"

    @property
    def curve(self) -> Float[np.ndarray, " rates"]:
        """What is minimised; infinite where a population diverged."""
        return robust_loss(self.losses)

    @property
    def mean(self) -> Float[np.ndarray, " rates"]:
        """Mean of the losses over populations; infinite where one diverged."""
        return robust_loss(self.losses, 0.0)

    @property
    def minimum(self) -> Minimum:
        """The first minimum of the curve."""
        return first_minimum(self.rates, self.curve)

    @property
    def rate(self) -> float:
        """The best learning rate."""
        return self.minimum.rate

    @property
    def stderr(self) -> float:
        """Standard error of log10 of the rate over populations, from a jackknife; 0 without."""
        return jackknife(self.rates, self.losses)

    @property
    def discretisation(self) -> float:
        """Error of log10 of the rate from the grid of rates."""
        return grid_error(self.rates, self.curve)

    @property
    def decades(self) -> float:
        """Error of log10 of the rate, of populations and of the grid."""
        known = [one for one in (self.stderr, self.discretisation) if math.isfinite(one)]
        return float(np.linalg.norm(known))

    @property
    def plain(self) -> float:
        """The first minimum of the mean loss: too high where it lies at the edge of stability."""
        return first_minimum(self.rates, self.mean).rate

    @property
    def best_loss(self) -> float:
        """Mean loss over populations at the point of the grid next to the best rate."""
        return float(self.mean[self.minimum.place])

    @property
    def divergence(self) -> tuple[float, float]:
        """The last rate that ends below the start, and the first that does not (else infinite)."""
        known = ~np.isnan(self.losses).any(axis=0)
        return divergence(self.rates[known], self.mean[known], self.start)

    @property
    def samples(self) -> int:
        """Independent populations; 1 where none are sampled."""
        return len(self.losses)

    def summary(self) -> dict[str, str]:
        """What a person asks first: the rate, its error, and where training diverges."""
        last, first = self.divergence
        found = self.minimum
        low, high = (found.rate * 10**power for power in (-self.decades, self.decades))
        words = {
            "best rate": f"{found.rate:.4g}, from {low:.4g} to {high:.4g} within one error "
            f"({with_error(math.log10(found.rate), self.decades, '.3f')} in decades)",
            "rule": self.rule,
            "loss there": f"{self.best_loss:.4g} after {self.steps - 1} updates, "
            f"{self.start:.4g} before",
            "edge of stability at the start": f"{self.edge:.4g}",
            "diverges": f"between {last:.4g} and {first:.4g}"
            if math.isfinite(first)
            else f"not up to {last:.4g}",
            "rates": f"{len(self.rates)}, from {self.rates[0]:.4g} to {self.rates[-1]:.4g}",
        }
        if found.bound:
            words["warning"] = f"the {found.bound} rate of the grid is the best: widen it"
        if self.refused:
            words["not finite"] = ", ".join(f"{rate:.4g}" for rate in self.refused)
        if self.too_small:
            words["populations too small"] = "; ".join(
                f"{rate:.4g} ({why})" for rate, why in self.too_small.items()
            )
        if self.sampled:
            words["populations"] = str(self.samples)
        return words

    def to_dict(self) -> dict[str, Any]:
        """Numbers and words as JSON takes them; None where a number is not finite."""
        last, first = self.divergence
        return {
            "best_rate": self.rate,
            "log10_stderr": _plain(self.stderr),
            "log10_grid_error": _plain(self.discretisation),
            "rule": self.rule,
            "plain_minimum": self.plain,
            "at_bound": self.minimum.bound,
            "steps": self.steps,
            "edge_at_start": _plain(self.edge),
            "last_stable": last,
            "first_diverging": _plain(first),
            "loss_at_start": self.start,
            "rates": self.rates.tolist(),
            "mean_loss": [_plain(x) for x in self.mean],
            "robust_loss": [_plain(x) for x in self.curve],
            "refused": {f"{rate:.6g}": words for rate, words in self.refused.items()},
            "too_small": {f"{rate:.6g}": words for rate, words in self.too_small.items()},
        }

    def __repr__(self) -> str:
        told = "; ".join(f"{name}: {words}" for name, words in self.summary().items())
        return f"BestRate({told})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(words)}</td></tr>"
            for name, words in self.summary().items()
        )
        table = f"<table><caption>BestRate</caption>{rows}</table>"
        return table + small_picture(self.plot().figure, "loss after training by learning rate")

    def to_xarray(self) -> xarray.Dataset:
        """Losses by population and rate, labelled; attributes tell the best rate and its error."""
        import xarray

        dims = ("population", "rate")
        data = {
            "loss": (dims, self.losses, {"long_name": "loss after training", "units": "1"}),
            "curve": (("rate",), self.curve, {"long_name": self.rule, "units": "1"}),
        }
        told = {k: v for k, v in self.to_dict().items() if isinstance(v, float | int | str)}
        attrs = told | {"reference": reference("bordelon2024")}
        rate = ("rate", self.rates, {"long_name": "learning rate", "units": "1"})
        return xarray.Dataset(data, coords={"rate": rate}, attrs=attrs)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Loss after training against the learning rate, the best rate, and where it diverges."""
        from translimit.figures import COLOURS, LIMIT, finish, marked, new_axes

        ax = new_axes(ax)
        shown = np.isfinite(self.mean) & (self.mean < 10 * self.start)
        rates = self.rates[shown]
        look = marked(0, len(rates))
        look["color"] = LIMIT
        ax.plot(rates, self.mean[shown], label="limit, mean over populations", **look)
        if self.sampled:
            ax.plot(rates, self.curve[shown], label=self.rule, **marked(1, len(rates)))
        ax.axhline(self.start, color="0.6", linewidth=0.8, linestyle=":", label="before training")
        ax.axvline(self.rate, color=COLOURS[2], label="best rate")
        band = [self.rate * 10**power for power in (-self.decades, self.decades)]
        ax.axvspan(*band, color=COLOURS[2], alpha=0.2, linewidth=0)
        if math.isfinite(self.divergence[1]):
            ax.axvline(
                math.sqrt(max(self.divergence[0], self.rates[0]) * self.divergence[1]),
                color=COLOURS[3],
                linestyle="--",
                label="divergence",
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        return finish(ax, xlabel="learning rate $\\eta_0$", ylabel="loss after training")


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
