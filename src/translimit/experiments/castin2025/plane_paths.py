r"""Paths of covariances of the plane, from a grid of starts, in logarithmic time.

Where the end depends on the start, SciPy says too which starts blow up, in covariance form.

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, limits
from translimit.experiments.castin2025.plane import (
    SETTINGS,
    closure_matrices,
    exact_blow_up_times,
    make_attention,
    scipy_blow_up_time,
)
from translimit.experiments.checked import CheckedConfig, Count, Within

#: Depth to which SciPy looks for a blow-up.
SCIPY_T1 = 40.0


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the grids.

    Attributes:
        side: largest number of grid points a side (the published grids have 10 to 40).
        max_steps: attempted steps of one trajectory; one that needs more is undecided. Explicit
            steps to a line of large trace are many: 90,000 were seen.
    """

    side: Annotated[int, Within(2)] = 20
    max_steps: Count = 200_000


@dataclass(frozen=True)
class Paths(ex.Arrays):
    """Covariances on the way from every start, and where they end."""

    time: Float[np.ndarray, " time"]
    cov: Float[np.ndarray, "start time component component2"]
    end: Shaped[np.ndarray, " start"]
    angle: Annotated[Float[np.ndarray, " start"], "of the last first axis, in degrees"]
    last_trace: Float[np.ndarray, " start"]
    blow_up_time: Float[np.ndarray, " start"]
    eigenvalues: Float[np.ndarray, "start time eigenvalue"]
    slopes: Annotated[Float[np.ndarray, "start decade eigenvalue"], "d log lambda / d log t"]
    steps: Int[np.ndarray, " start"]
    t1: float
    exact_time: Annotated[Float[np.ndarray, " start"] | None, "blow-up time in closed form"] = None
    scipy_time: Annotated[Float[np.ndarray, " start"] | None, "blow-up time by SciPy"] = None


def compute_paths(config: Config, at: tuple[str, str], keys: ex.Keys) -> Paths:
    """Every start of the grid; nothing is random."""
    del keys
    setting = SETTINGS[at[0]]
    field, cov, t1 = make_attention(*at), setting.starts(config.side), setting.t1
    save = np.concatenate([[0.0], np.geomspace(1e-3 / t1, 1.0, 181) * t1])
    solution = limits.meanfield.solve_limits(
        [limits.meanfield.GaussianLimit(attention=field, cov=c, t1=t1) for c in cov],
        limits.meanfield.LogTimeODE(max_steps=config.max_steps, growth_limit=1e8),
        save=save,
    )
    outcome = solution.outcome
    end = np.array(["zero", "line", "plane", "undecided"])[solution.rank]
    end = np.where(np.asarray(outcome == core.Outcome.blow_up), "blow-up", end)
    end = np.where(np.asarray(outcome == core.Outcome.divergence), "divergence", end)
    last = np.asarray(solution.last_cov)
    axes = np.linalg.eigh(last)[1][:, :, -1]
    closed, both = (at == (name, "softmax") for name in ("divergence", "depends"))
    heads = closure_matrices("depends", "softmax")
    return Paths(
        time=save,
        cov=np.asarray(solution.cov),
        end=end.astype("U16"),
        angle=np.degrees(np.arctan2(axes[:, 1], axes[:, 0])) % 180.0,
        last_trace=np.trace(last, axis1=1, axis2=2),
        blow_up_time=np.asarray(solution.blow_up_time),
        eigenvalues=np.asarray(solution.eigenvalue_paths),
        slopes=np.asarray(solution.slopes),
        steps=np.asarray(solution.steps_taken),
        t1=t1,
        exact_time=exact_blow_up_times(field, cov) if closed else None,
        scipy_time=np.array([scipy_blow_up_time(heads, one, SCIPY_T1) for one in cov])
        if both
        else None,
    )


def _cost(config: Config, at: tuple[str, str]) -> ex.Cost:
    """Compilation, and the trajectories, longest where covariances diverge."""
    starts = min(config.side, SETTINGS[at[0]].side) ** 2
    seconds = 0.2 if at == ("depends", "softmax") else 0.02
    return ex.Cost((7.0 if at[0] == "divergence" else 1.5) + seconds * starts)


PATHS = ex.Part(
    "{setting}/{variant}",
    Paths,
    compute_paths,
    grid=lambda c: [(name, v) for name, setting in SETTINGS.items() for v in setting.variants],
    cost=_cost,
)
