"""Figures of a checkpoint with their errors, beside the null, and what they say.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.diagnose.along_depth import AlongDepth, along_depth
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layer_figures import NAMES
from translimit.diagnose.measuring import Measured
from translimit.diagnose.statistics import (
    Compared,
    compare_all,
    compare_between,
    sequence_error,
)
from translimit.diagnose.surrogate_layers import Surrogates
from translimit.diagnose.verdicts import (
    LEAST_SEQUENCES,
    Finding,
    between_findings,
    closure_findings,
    find_verdicts,
    regime_findings,
)
from translimit.limits.signal import RedrawnPrediction

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False)
class Diagnosed:
    """A checkpoint beside its null, before it is drawn or told.

    Attributes:
        source: what was read, in words.
        inputs: what was sent through it, in words.
        measured: figures of every sequence.
        nulls: the same of drawn networks.
        null: which null, or "none".
        null_entry: whether tokens that enter the null are measured or drawn.
        prediction: of the Gram recursion, or None.
        predicted_sequences: that it was taken over.
        checkpoint: what was read; None of a module that went through hooks.
        closures: R^2 of the branch of attention by Gaussian closures with its own weights, by name
            (`closure_figures`); nothing where none covers the layers.
        surrogates: tests of sub-blocks against rotated tokens (`surrogate_figures`); nothing under
            a mask.
        notes: what was assumed, cut or left out.
    """

    source: str
    inputs: str
    measured: Measured
    nulls: tuple[Measured, ...] = ()
    null: str = "none"
    null_entry: str = "measured"
    prediction: RedrawnPrediction | None = None
    predicted_sequences: int = 0
    checkpoint: Checkpoint | None = field(default=None, repr=False)
    closures: Mapping[str, Float[np.ndarray, "sequences layers"]] = field(
        default_factory=dict, repr=False
    )
    surrogates: Mapping[str, Surrogates] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def compared(self) -> Mapping[str, Compared]:
        """Every observable beside its null, by name."""
        return compare_all(self.measured, self.nulls)

    @cached_property
    def between(self) -> Mapping[str, Compared]:
        """`overlap_between` of the mean, the first and the last token beside its null."""
        return compare_between(self.measured, self.nulls)

    @cached_property
    def verdicts(self) -> tuple[Finding, ...]:
        """Sentences with their numbers; none below eight sequences."""
        found = find_verdicts(self.checkpoint, self.measured, self.compared)
        if len(self.measured) < LEAST_SEQUENCES:
            return found
        one_vector = between_findings(self.between["mean"])
        return (
            *found,
            *one_vector,
            *regime_findings(self.along_depth),
            *closure_findings(self.surrogates),
        )

    @cached_property
    def along_depth(self) -> AlongDepth:
        """Branches and weights along depth: noise, a flow, or neither."""
        return along_depth(self.checkpoint, self.measured, self.nulls)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The verdicts that are faults: sinks, massive tokens and what drawn weights do are not."""
        return tuple(one for one in self.verdicts if one.fault)

    @cached_property
    def observables(self) -> xarray.Dataset:
        """All figures over layers, 0 the entry: each with `_error`, `_null`, `_null_std`, `_z`.

        Where the recursion predicts one, `_predicted` and `_predicted_error` stand beside it. The
        closures' R^2 are `closure_uniform`, `closure_gaussian`, `closure_finite`, `closure_atoms`;
        medians of the tests against rotated tokens `surrogate_attention_z`, `surrogate_mlp_share`,
        and so on.
        """
        import xarray

        held: dict[str, tuple[str, np.ndarray]] = {}
        for name in NAMES:
            one = self.compared[name]
            held |= {
                name: ("layer", one.value),
                f"{name}_error": ("layer", one.error),
                f"{name}_null": ("layer", one.null),
                f"{name}_null_std": ("layer", one.null_std),
                f"{name}_z": ("layer", one.z),
            }
            if self.prediction is not None and name in self.prediction.values:
                held[f"{name}_predicted"] = ("layer", self.prediction.values[name])
                held[f"{name}_predicted_error"] = ("layer", self.prediction.errors[name])
        for name, one in self.between.items():
            held |= {
                f"overlap_between_{name}": ("layer", one.value),
                f"overlap_between_{name}_error": ("layer", one.error),
                f"overlap_between_{name}_null": ("layer", one.null),
                f"overlap_between_{name}_null_std": ("layer", one.null_std),
                f"overlap_between_{name}_z": ("layer", one.z),
            }
        for part, found in self.surrogates.items():
            for name in ("z", "p", "share"):
                with warnings.catch_warnings():  # nothing resolved in a layer
                    warnings.simplefilter("ignore", RuntimeWarning)
                    values = np.nanmedian(getattr(found, name), axis=0)
                held[f"surrogate_{part}_{name}"] = ("layer", np.concatenate([[np.nan], values]))
        for name, rows in self.closures.items():
            for end, values in (("", rows.mean(axis=0)), ("_error", sequence_error(rows))):
                held[f"closure_{name}{end}"] = ("layer", np.concatenate([[np.nan], values]))
        layers = np.arange(self.compared["overlap"].value.size)
        told = {"source": self.source, "inputs": self.inputs, "null": self.null}
        told |= {"sequences": len(self.measured), "draws": len(self.nulls)}
        return xarray.Dataset(held, coords={"layer": layers}, attrs=told)

    @property
    def loss(self) -> tuple[float, float]:
        """Mean loss of the sequences in nats, and its error; NaN where nothing is predicted."""
        losses = self.measured.losses
        error = losses.std(ddof=1) / len(losses) ** 0.5 if len(losses) > 1 else np.nan
        return float(losses.mean()), float(error)
