"""Named warnings of a training solution: when finite networks will not look like their limit."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

#: Excess kurtosis of a score over heads above which its moments are poor summaries.
HEAVY_TAIL = 20.0


class EdgeOfStabilityWarning(UserWarning):
    """The step size is at the edge of stability: finite networks amplify their fluctuations."""


class HeavyTailWarning(UserWarning):
    """The law of scores over heads has heavy tails: report quantiles, not moments."""


class SamplingFloorWarning(UserWarning):
    """The standard error of predictions is above the requested one."""


def warn_of_instability(edge_ratio: Float[np.ndarray, " steps"]) -> None:
    """Warn where eta_0 lambda_max(K^NTK W) exceeds the stability bound 2 (1 + momentum)."""
    over = np.flatnonzero(edge_ratio > 1)
    if over.size:
        warnings.warn(
            EdgeOfStabilityWarning(
                f"edge_ratio reaches {np.nanmax(edge_ratio):.3g} (1 at the edge of stability), "
                f"first above at evaluation {over[0]}: the limit stands, but finite networks "
                "approach it only at very many heads; lower eta0 to compare"
            ),
            stacklevel=4,
        )


def warn_of_heavy_tails(kurtosis: Float[np.ndarray, "steps layers"]) -> None:
    """Warn where the excess kurtosis [steps, layers] of scores over heads is large."""
    if kurtosis.size and np.nanmax(kurtosis) > HEAVY_TAIL:
        step, layer = np.unravel_index(np.nanargmax(kurtosis), kurtosis.shape)
        warnings.warn(
            HeavyTailWarning(
                f"excess kurtosis of scores over heads reaches {kurtosis[step, layer]:.3g} "
                f"(evaluation {step}, layer {layer}): rare heads dominate its moments; use "
                "`score_law(layer).quantiles`"
            ),
            stacklevel=4,
        )


def warn_of_the_floor(stderr: float, floor: float | None) -> None:
    """Warn where the standard error is above the requested one."""
    if floor is not None and not stderr <= floor:
        warnings.warn(
            SamplingFloorWarning(
                f"the standard error of predictions reaches {stderr:.2g}, above the requested "
                f"{floor:.2g}: take more heads, neurons or populations"
            ),
            stacklevel=4,
        )
