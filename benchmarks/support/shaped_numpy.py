r"""One step of the covariance SDE in plain NumPy: the baseline of `benchmarks/shaped.py`.

It shares no code with translimit. All paths step together as stacks [paths, m, m]; products are
`np.matmul` and leave OpenBLAS its threads, V^ is factored by `np.linalg.cholesky`, and only the
entries of the Bartlett factor that count are drawn. One head, no mask, no MLP:

    A = I + sqrt(h) L G L^T C / (m tau0) + h v r^T / (2 m tau0^2),    V = L L^T,
    L^ L^^T = lam^2 V + gamma^2 A V A^T,    L' = L^ T / sqrt(nu),     nu = 1 / (sigma^2 h).

As any Cholesky decomposition of V^ itself, it ends with an error once V has become thin.

Reference: Noci et al., arXiv 2306.17759.
"""

from __future__ import annotations

import numpy as np


def step(
    rng: np.random.Generator, factor: np.ndarray, h: float, gamma: float, tau0: float
) -> np.ndarray:
    """Factors [paths, tokens, tokens] of the covariances a step of size h later.

    Args:
        rng: randomness.
        factor: lower-triangular factors [paths, tokens, tokens].
        h: the step, layers / dim.
        gamma: weight of the branch; the skip connection has sqrt(1 - gamma^2).
        tau0: temperature.
    """
    paths, tokens, _ = factor.shape
    every = np.arange(tokens)
    lam2 = 1 - gamma**2
    degrees = 1 / ((2 * lam2 * gamma**2 + gamma**4) * h)
    turned = factor.swapaxes(-1, -2)
    cov = factor @ turned
    norms = cov[:, every, every]
    means = cov.mean(axis=-1)
    own = norms - 2 * means + means.mean(axis=-1, keepdims=True)  # diag(C V C)
    attention = factor @ rng.standard_normal((paths, tokens, tokens)) @ turned
    attention -= attention.mean(axis=-1, keepdims=True)
    attention *= np.sqrt(h) / (tokens * tau0)
    spread = own - own.mean(axis=-1, keepdims=True)
    attention += (h / (2 * tokens * tau0**2) * norms)[:, :, None] * spread[:, None, :]
    attention[:, every, every] += 1
    branch = attention @ factor
    mixed = branch @ branch.swapaxes(-1, -2)
    mixed *= gamma**2
    cov *= lam2
    mixed += cov
    bartlett = np.zeros_like(factor)
    rows, columns = np.tril_indices(tokens, -1)
    bartlett[:, rows, columns] = rng.standard_normal((paths, len(rows)))
    bartlett[:, every, every] = np.sqrt(rng.chisquare(degrees - every, (paths, tokens)))
    bartlett *= degrees**-0.5
    return np.linalg.cholesky(mixed) @ bartlett
