r"""How many keys a query attends to: entropy and effective sample size of attention weights.

The weights p_j = e^{S_j} / sum_k e^{S_k} of one query have the entropy H = -sum_j p_j log p_j and
the effective sample size (Kish) N = 1 / sum_j p_j^2; n equal weights have H = log n and N = n.

For many keys of one law mu the weights are its tilt p = r mu with r = e^s / E e^s, and

    log n - H  ->  E[r log r],    the relative entropy of the tilt,
    N / n      ->  1 / E[r^2].

For keys N(alpha, Sigma) and scores s(y) = <l, y> - <By, y> the tilt is a Gaussian again,
N(R (alpha + Sigma l), R Sigma) with R = (I + 2 Sigma B)^{-1}, and with

    log Z(l, B) = log E e^s = <l, alpha> - <B alpha, alpha> + <g, R Sigma g> / 2 + log det R / 2,
    g = l - 2 B alpha,

both limits are elementary: 1 / E[r^2] = Z(l, B)^2 / Z(2 l, 2 B). Softmax has l = A x and B = 0,
where they are |Sigma^{1/2} A x|^2 / 2 and e^{-|Sigma^{1/2} A x|^2}; L2 has l = 2 A x and
B = c_K K^T K.

Nothing of the limits is left once |Sigma^{1/2} A x|^2 exceeds log n: the sums that stand for the
expectations are then made by the few largest keys.

| symbol | name here | shape |
|---|---|---|
| S, one row a query: what the softmax takes, no probabilities | `scores` | [..., tokens] |
| l | `tilt` | [..., dim] |
| alpha, Sigma | `mean`, `cov` | [..., dim], [..., dim, dim] |
| B | `confinement` | [dim, dim] |

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, as_numpy

#: Rows that are this near to sum one are taken for probabilities.
PROBABILITY_ROUNDING = 1e-4


def attention_entropy(scores: Float[np.ndarray, "*batch tokens"]) -> Float[np.ndarray, "*batch"]:
    """The entropy -sum_j p_j log p_j of attention weights, in nats: 0 to log n.

    Args:
        scores: what the softmax takes, one row a query [..., tokens], log weights of the tokens
            included; -inf switches a key off. Of weights p pass log p.

    Raises:
        ArgumentError: rows of probabilities in place of scores, NaN or +inf among them, or a row
            without a key.

    Examples:
        >>> import numpy as np
        >>> from translimit.observe import attention_entropy
        >>> print(round(float(attention_entropy(np.log([0.75, 0.25]))), 6))
        0.562335
    """
    shifted = _shifted(scores)
    masses = np.exp(shifted)
    total = masses.sum(axis=-1)
    # A key of mass zero adds nothing, however low its score.
    kept = np.where(masses > 0, shifted, 0.0)
    return np.asarray(np.log(total) - np.einsum("...n,...n->...", masses, kept) / total)


def effective_sample_size(
    scores: Float[np.ndarray, "*batch tokens"],
) -> Float[np.ndarray, "*batch"]:
    """The effective sample size 1 / sum_j p_j^2 of attention weights: 1 to n.

    Args:
        scores: as in `attention_entropy`.

    Raises:
        ArgumentError: as in `attention_entropy`.
    """
    masses = np.exp(_shifted(scores))
    return np.asarray(masses.sum(axis=-1) ** 2 / np.einsum("...n,...n->...", masses, masses))


def gaussian_entropy_deficit(
    tilt: Float[np.ndarray, "*#batch dim"],
    cov: Float[np.ndarray, "*#batch dim dim"],
    *,
    mean: Float[np.ndarray, "*#batch dim"] | None = None,
    confinement: Float[np.ndarray, "dim dim"] | None = None,
) -> Float[np.ndarray, "*out"]:
    """The limit of log n - H for Gaussian keys: the relative entropy of their tilt, in nats.

    Args:
        tilt: l, the linear part of the scores: A x for softmax, 2 A x for L2 [..., dim].
        cov: covariance of the keys [..., dim, dim], singular or not.
        mean: mean of the keys [..., dim]; zero by default. Without confinement it changes nothing.
        confinement: B, positive semi-definite, the quadratic part of the scores [dim, dim].

    Raises:
        ArgumentError: dimensions that differ from that of the tilt.
    """
    tilt, cov, mean, B = _parts(tilt, cov, mean, confinement)
    R = _damping(cov, B)
    centre = np.einsum("...ij,...j->...i", R, mean + np.einsum("...ij,...j->...i", cov, tilt))
    score = (tilt * centre).sum(axis=-1) - np.einsum("...i,ij,...j->...", centre, B, centre)
    spread = np.einsum("ij,...jk,...ki->...", B, R, cov)
    return np.asarray(score - spread - _log_mass(tilt, cov, mean, B))


def gaussian_sample_fraction(
    tilt: Float[np.ndarray, "*#batch dim"],
    cov: Float[np.ndarray, "*#batch dim dim"],
    *,
    mean: Float[np.ndarray, "*#batch dim"] | None = None,
    confinement: Float[np.ndarray, "dim dim"] | None = None,
) -> Float[np.ndarray, "*out"]:
    """The limit of N / n for Gaussian keys, 0 to 1; arguments as `gaussian_entropy_deficit`.

    Raises:
        ArgumentError: as `gaussian_entropy_deficit`.
    """
    tilt, cov, mean, B = _parts(tilt, cov, mean, confinement)
    log_fraction = 2 * _log_mass(tilt, cov, mean, B) - _log_mass(2 * tilt, cov, mean, 2 * B)
    return np.asarray(np.exp(log_fraction))


def _shifted(scores: np.ndarray) -> np.ndarray:
    """The scores less the largest of their row, in float64."""
    scores = as_numpy(scores, "scores")
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ArgumentError("scores", f"has shape {scores.shape}", "pass [..., tokens]")
    largest = scores.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise ArgumentError(
            "scores", "has NaN, +inf, or a row without a key", "pass one finite score a row or more"
        )
    if _are_probabilities(scores):
        raise ArgumentError(
            "scores",
            "has rows that are not negative and sum to one: probabilities, after the softmax",
            "pass what the softmax takes, or the logarithm of the probabilities",
        )
    return scores - largest


def _are_probabilities(scores: np.ndarray) -> bool:
    """Whether every row of two keys or more is a distribution, to single precision."""
    if scores.size == 0 or scores.shape[-1] < 2 or scores.min() < 0:
        return False
    return bool(np.abs(scores.sum(axis=-1) - 1).max() < PROBABILITY_ROUNDING)


def _parts(
    tilt: np.ndarray, cov: np.ndarray, mean: np.ndarray | None, confinement: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    tilt, cov = as_numpy(tilt, "tilt"), as_numpy(cov, "cov")
    dim = tilt.shape[-1]
    mean = np.zeros(dim) if mean is None else as_numpy(mean, "mean")
    B = np.zeros((dim, dim)) if confinement is None else as_numpy(confinement, "confinement")
    for name, array, shape in (
        ("cov", cov, (*cov.shape[:-2], dim, dim)),
        ("mean", mean, (*mean.shape[:-1], dim)),
        ("confinement", B, (dim, dim)),
    ):
        if array.shape != shape:
            raise ArgumentError(
                name, f"has shape {array.shape}", f"pass the dimension of tilt, {dim}"
            )
    return tilt, cov, mean, B


def _damping(cov: np.ndarray, B: np.ndarray) -> np.ndarray:
    """R = (I + 2 Sigma B)^{-1}."""
    return np.linalg.inv(np.eye(B.shape[0]) + 2 * cov @ B)


def _log_mass(tilt: np.ndarray, cov: np.ndarray, mean: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The logarithm of Z(l, B)."""
    R = _damping(cov, B)
    centre = mean @ B
    g = tilt - 2 * centre
    spread = np.einsum("...i,...ij,...jk,...k->...", g, R, cov, g)
    return (
        (tilt * mean).sum(axis=-1)
        - (centre * mean).sum(axis=-1)
        + (spread + np.linalg.slogdet(R)[1]) / 2
    )
