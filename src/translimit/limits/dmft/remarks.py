"""Named warnings of a training solution: when finite networks will not look like their limit."""

from __future__ import annotations

import warnings

import numpy as np

#: Excess kurtosis of a logit over heads above which its moments are poor summaries.
HEAVY_TAIL = 20.0


class EdgeOfStabilityWarning(UserWarning):
    """The step size is at the edge of stability: finite networks amplify their fluctuations."""


class HeavyTailWarning(UserWarning):
    """The law of attention over heads has heavy tails: report quantiles, not moments."""


class SamplingFloorWarning(UserWarning):
    """The standard error of predictions is above the requested one."""


def warn_of_instability(sharpness: np.ndarray, momentum: float) -> None:
    """Warn where eta_0 lambda_max(K^NTK W) exceeds the stability bound 2 (1 + momentum)."""
    bound = 2 * (1 + momentum)
    over = np.flatnonzero(sharpness > bound)
    if over.size:
        warnings.warn(
            EdgeOfStabilityWarning(
                f"eta0 times the kernel's largest eigenvalue reaches {np.nanmax(sharpness):.3g}"
                f" (bound {bound:g}), first above at evaluation {over[0]}: the limit stands, but "
                "finite networks approach it only at very many heads; lower eta0 to compare"
            ),
            stacklevel=4,
        )


def warn_of_heavy_tails(kurtosis: np.ndarray) -> None:
    """Warn where the excess kurtosis [steps, layers] of logits over heads is large."""
    if kurtosis.size and np.nanmax(kurtosis) > HEAVY_TAIL:
        step, layer = np.unravel_index(np.nanargmax(kurtosis), kurtosis.shape)
        warnings.warn(
            HeavyTailWarning(
                f"excess kurtosis of attention over heads reaches {kurtosis[step, layer]:.3g} "
                f"(evaluation {step}, layer {layer}): rare heads dominate its moments; use "
                "`attention(layer).quantiles`"
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
