"""What a solve returns: times, states, how it ended, and what is known of its error."""

from __future__ import annotations

import abc
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import equinox as eqx
import numpy as np

from translimit.core.errors import ArgumentError
from translimit.core.outcome import Outcome, outcome_words
from translimit.core.precision import is_traced
from translimit.core.types import Floats, Numbers, Times

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class NotEstimated:
    """Why a solution does not estimate the error of its discretisation.

    Attributes:
        reason: a clause without a full stop, as in "nothing is discretised".
    """

    reason: str

    def __str__(self) -> str:
        return f"not estimated: {self.reason}"


class AbstractSolution(eqx.Module):
    """What a solve returns; every solution tells its end and its error in these words.

    Attributes:
        ts: the times that were kept [times].
        outcome: how the solve ended.
        discretisation: size of the error of steps, cells or quadrature; or the reason why it is
            not told.
        samples: independent draws behind every statistic (paths, populations); 1 if none are
            drawn.
        observed: what `solve(..., observe=)` was asked for, by name: [times, ...], or
            [samples, times, ...] where samples are drawn.
        states_kept: whether the states were kept; their axis of times is empty where not.
    """

    ts: eqx.AbstractVar[Times]
    outcome: eqx.AbstractVar[Outcome]
    discretisation: eqx.AbstractVar[Numbers | NotEstimated]
    samples: eqx.AbstractVar[int]
    observed: dict[str, Floats] = eqx.field(kw_only=True, default_factory=dict)
    states_kept: bool = eqx.field(kw_only=True, default=True, static=True)

    #: Where the mathematics comes from.
    reference: ClassVar[str] = ""

    @abc.abstractmethod
    def _dataset(self) -> xarray.Dataset:
        """The states as labelled arrays over `time`, with `long_name` and `units`."""

    @abc.abstractmethod
    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the solution into a Matplotlib `Axes` (a new one by default) and return it."""

    @final
    def to_xarray(self) -> xarray.Dataset:
        """States and observables, labelled; attributes tell the outcome, errors and source."""
        import xarray

        times = {"time": ("time", np.asarray(self.ts), {"long_name": "time"})}
        data = self._dataset() if self.states_kept else xarray.Dataset(coords=times)
        head = ("sample", "time") if self.samples > 1 else ("time",)
        for name, values in self.observed.items():
            rest = (f"{name}_{axis}" for axis in range(np.ndim(values) - len(head)))
            data[name] = ((*head, *rest), np.asarray(values), {"long_name": name})
        told = self.discretisation
        return data.assign_attrs(
            outcome=outcome_words(self.outcome),
            discretisation=str(told) if isinstance(told, NotEstimated) else _plain(told),
            samples=self.samples,
            reference=self.reference,
        )

    @final
    def _drawn(self) -> xarray.Dataset:
        """`to_xarray()` for a figure of the states, which are refused where they were not kept."""
        if not self.states_kept:
            raise ArgumentError(
                "keep_states", "was False: there are no states to draw", "solve with them kept"
            )
        return self.to_xarray()

    def summary(self) -> dict[str, str]:
        """What a person asks first, in words: times, samples, end and error."""
        if is_traced(self):
            return {"values": "traced"}
        ts, told = np.asarray(self.ts), self.discretisation
        words = {"times": f"{ts.shape[-1]}, from {ts.min():g} to {ts.max():g}"}
        if self.samples > 1:
            words["samples"] = str(self.samples)
        words["outcome"] = outcome_words(self.outcome)
        if isinstance(told, NotEstimated):
            words["discretisation"] = str(told)
        else:
            sizes = np.abs(np.asarray(told, dtype=float))
            known = sizes[np.isfinite(sizes)]
            words["discretisation"] = f"{known.max():.2g}" if known.size else "not a number"
        if self.observed:
            words["observed"] = ", ".join(self.observed)
        return words

    def __repr__(self) -> str:
        told = "; ".join(f"{name}: {words}" for name, words in self.summary().items())
        return f"{type(self).__name__}({told})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(words)}</td></tr>"
            for name, words in self.summary().items()
        )
        table = f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
        return f"{table}{self._picture()}"

    def _picture(self) -> str:
        """`plot()` in small; nothing where there is nothing to draw, or no Matplotlib."""
        if is_traced(self) or not self.states_kept:
            return ""
        from translimit.core.pictures import small_picture

        try:
            return small_picture(self.plot().figure, type(self).__name__)
        except Exception:  # what cannot be drawn (a batch of solutions) is told by the table alone
            return ""


def _plain(numbers: Numbers) -> float | list[float]:
    return np.asarray(numbers, dtype=float).tolist()
