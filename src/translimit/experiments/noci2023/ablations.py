r"""What ablations of the shaped block do to a covariance at infinite width, layer by layer.

With the shaped temperature the attention matrix tends to I + P - U with P = U = 1 1^T / m, parts of
it left out: each layer multiplies the mean part and the centred part of V by a number. With the
usual one V <- lam^2 V + gamma^2 A V A^T, where A is made of scores L G L^T / tau0, L L^T = V,
with a fresh normal matrix G; nothing else of the width is left.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from translimit import describe
from translimit.experiments.noci2023.theories import cholesky

#: Case -> (ablation of the matrix, standard temperature, whether the skip connection is there).
CASES: Mapping[str, tuple[str, bool, bool]] = {
    "shaped": ("shaped", False, True),
    "shaped, standard temperature": ("shaped", True, True),
    "softmax": ("softmax", True, True),
    "softmax, no skip": ("softmax", True, False),
    "no centring": ("no_centring", False, True),
    "no identity": ("no_identity", False, True),
}
#: lam^2 = gamma^2 where there is a skip connection.
HALF = 0.5
#: Theory -> what a layer multiplies the mean part and the centred part of the covariance by.
FACTORS: Mapping[str, tuple[float, float]] = {
    "shaped": (1.0, 1.0),
    "no centring": (HALF + 4 * HALF, 1.0),
    "no identity": (HALF, HALF),
    "uniform attention": (1.0, HALF),
    "collapse by lam": (1.0, HALF**0.5),
    "vanishing by lam": (HALF**0.5, HALF**0.5),
    "uncentred, lam^2 + 2 gamma^2": (HALF + 2 * HALF, 1.0),
    "uncentred, (lam + 2 gamma)^2": ((HALF**0.5 + 2 * HALF**0.5) ** 2, 1.0),
}
UNCENTRED = ("shaped", *(name for name in FACTORS if name.startswith("uncentred")))


def block_of(case: str) -> describe.Block:
    """The block of a case, with temperature one."""
    ablation, _, skip = CASES[case]
    lam, gamma = (HALF**0.5, HALF**0.5) if skip else (0.0, 1.0)
    gains = describe.ABLATIONS[ablation]
    return describe.Block(gamma=gamma, lam=lam, tau0=1.0, shaped_gains=gains)


def start(tokens: int) -> np.ndarray:
    """Unit tokens of correlation 0.2."""
    return 0.8 * np.eye(tokens) + 0.2


def law(tokens: int, theory: str, quantity: str, depth: int) -> float:
    """A quantity at a depth where each layer multiplies both parts of the covariance.

    Args:
        tokens: number of tokens.
        theory: of `FACTORS`.
        quantity: "correlation", "log_trace" or "rank".
        depth: layers.
    """
    cov, (mean, centred) = start(tokens), FACTORS[theory]
    average = np.full_like(cov, cov.mean())
    cov = average * mean**depth + (cov - average) * centred**depth
    if quantity == "correlation":
        return float(cov[0, 1] / cov[0, 0])
    if quantity == "log_trace":
        return float(np.log(cov[0, 0]))
    return float(np.trace(cov) ** 2 / np.sum(cov**2))


def gradient_law(tokens: int, theory: str, layers: int) -> float:
    """The change a layer of the log size of the gradient of a random linear function.

    Args:
        tokens: number of tokens.
        theory: of `FACTORS`.
        layers: from the output to the input.
    """
    mean, centred = FACTORS[theory]
    grown = mean**layers / tokens + (1 - 1 / tokens) * centred**layers
    return float(np.log(grown)) / (2 * layers)


def recursion(
    case: str, cov: np.ndarray, layers: int, every: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw depth tokens tokens"]:
    """Covariances of infinite width with the usual temperature, kept every so many layers.

    Args:
        case: of `CASES`.
        cov: at depth zero [tokens, tokens].
        layers: how many.
        every: layers between two kept depths.
        draws: independent ones.
        rng: randomness.
    """
    block = block_of(case)
    gains, m = block.shaped_gains, len(cov)
    covs = np.repeat(cov[:, :, None], draws, axis=2)
    saved = [covs]
    for layer in range(1, layers + 1):
        factor = cholesky(covs)
        left = np.einsum("ikp,klp->ilp", factor, rng.standard_normal(covs.shape))
        scores = np.einsum("ikp,jkp->ijp", left, factor)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        matrix = gains.attention * weights / weights.sum(axis=1, keepdims=True)
        matrix += (gains.identity * np.eye(m) - gains.centring / m)[:, :, None]
        branch = np.einsum("ikp,klp->ilp", matrix, covs)
        branch = np.einsum("ilp,jlp->ijp", branch, matrix)
        covs = block.lam**2 * covs + block.gamma**2 * branch
        if layer % every == 0:
            saved.append(covs)
    return np.moveaxis(np.array(saved), -1, 0)
