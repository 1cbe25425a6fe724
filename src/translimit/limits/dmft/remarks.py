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


class TiedStartWarning(UserWarning):
    """A tied model starts by predicting its own input, with outputs above one."""


class SignChangeWarning(UserWarning):
    """Errors changed sign under sign descent: finite networks do not follow the limit any more."""


class FrozenScoresWarning(UserWarning):
    """Normalised keys and queries have no direction left to learn."""


def warn_of_frozen_scores() -> None:
    """Warn of a LayerNorm over two coordinates."""
    warnings.warn(
        FrozenScoresWarning(
            "qk_norm='layer' over two coordinates leaves (1, -1) or (-1, 1): keys and queries "
            "receive no gradient; take qk_norm='rms' or more coordinates"
        ),
        stacklevel=5,
    )


def warn_of_a_tied_start(start: Float[np.ndarray, "rows outputs"]) -> None:
    """Warn where outputs at the start are above one."""
    if np.abs(start).max() > 1:
        warnings.warn(
            TiedStartWarning(
                f"outputs of the tied readout start at up to {np.abs(start).max():.3g}, those of "
                "a model that predicts its own input, and grow like 1 / gamma0: pass "
                "centred=True to train on their changes"
            ),
            stacklevel=4,
        )


def warn_of_instability(edge_ratio: Float[np.ndarray, " steps"], *, endless: bool) -> None:
    """Warn where eta_0 sharpness exceeds the stability bound 2 (1 + momentum).

    Args:
        edge_ratio: see `TrainingSolution`.
        endless: whether the loss of separable data has no minimum.
    """
    over = np.flatnonzero(edge_ratio > 1)
    if over.size:
        more = (
            ". Outputs of separable data grow without end under this loss, until networks "
            "explode: smoothing in CrossEntropy gives it a minimum"
        )
        more = more if endless else ""
        warnings.warn(
            EdgeOfStabilityWarning(
                f"edge_ratio reaches {np.nanmax(edge_ratio):.3g} (1 at the edge of stability), "
                f"first above at evaluation {over[0]}: the limit stands, but finite networks "
                "approach it only at very many heads; lower eta0 to compare" + more
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


def warn_of_sign_changes(errors: Float[np.ndarray, "steps rows outputs"]) -> None:
    """Warn where the error of a row has another sign than at the start, or vanishes."""
    changed = np.any(errors * errors[0] < 0, axis=(1, 2))
    if changed.any():
        warnings.warn(
            SignChangeWarning(
                f"errors change their sign at evaluation {np.argmax(changed)}: sign descent is "
                "discontinuous there, and networks of any accessible width step the other way with "
                "finite probability; compare before, or take Adam with eps > 0"
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
