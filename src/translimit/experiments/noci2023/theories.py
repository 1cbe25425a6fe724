r"""The covariance SDE with its terms weighted one by one: wrong theories, and where they are seen.

An Euler-Maruyama step of its own in NumPy, all theories on the same noise, so that their
differences are known far better than each of them. With C = I - 1 1^T / m, W = C V C,
r = C diag(W), v = diag(V), L L^T = V and normal matrices G, S = (G' + G'^T) / sqrt(2),

    dV = gamma^2 / tau0^2 (||W||^2 / m^2 V + (v (V r)^T + (V r) v^T) / (2 m)) dt + b_mlp dt
         + sigma L dS L^T + gamma^2 / (tau0 H^(1/2)) (A V + V A^T),   A = L dG L^T C / m.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit import describe, limits
from translimit.experiments.noci2023.starts import initial_covariance

#: Covariances of many paths; the paths come last, where NumPy is fast.
Covs = Float[np.ndarray, "tokens tokens path"]


@dataclass(frozen=True)
class Theory:
    """Factors of the terms; with all of them one it is the SDE.

    Attributes:
        linear: of sigma^2.
        square: of the drift along V.
        mean: of the drift that the expectation of the attention matrix makes.
        noise: of the variance of the attention's noise.
        mlp: of the drift of the MLP.
        clock: of everything.
        centred: whether softmax is centred at the identity.
    """

    linear: float = 1.0
    square: float = 1.0
    mean: float = 1.0
    noise: float = 1.0
    mlp: float = 1.0
    clock: float = 1.0
    centred: bool = True

    def without_attention(self) -> Theory:
        """The same with the linear noise, and the MLP, alone."""
        return replace(self, square=0.0, mean=0.0, noise=0.0)


GAMMA, TAU0 = 0.5, 0.5
#: Case -> kind of block and initial covariance, the latter named in `starts`.
CASES: Mapping[str, tuple[Literal["attention", "heads", "full"], str]] = {
    "three": ("attention", "three unequal"),
    "four": ("attention", "four unequal"),
    "eight": ("attention", "eight unequal"),
    "four-heads": ("heads", "four unequal"),
    "full": ("full", "three unequal"),
    "digits": ("attention", "digits"),
    "text": ("attention", "text"),
}
#: What is measured, in words.
OBSERVABLES: Mapping[str, str] = {
    "log_trace": "$\\log$ (trace / tokens)",
    "rank": "effective rank",
    "share": "share of the first token in the trace",
    "correlation": "mean correlation",
    "log_det": "$\\log \\det V$",
}
#: Case -> the spreads of the observables over paths, roughly, as the SDE has them.
SPREADS: Mapping[str, tuple[float, float, float, float, float]] = {
    "three": (0.34, 0.29, 0.11, 0.16, 0.8),
    "four": (0.29, 0.43, 0.11, 0.13, 0.85),
    "eight": (0.23, 0.67, 0.09, 0.09, 1.2),
    "four-heads": (0.28, 0.42, 0.11, 0.14, 0.85),
    "full": (0.47, 0.33, 0.15, 0.2, 1.2),
    "digits": (0.24, 0.42, 0.09, 0.09, 0.8),
    "text": (0.2, 0.44, 0.05, 0.09, 1.0),
}
_S2 = 2 * (1 - GAMMA**2) * GAMMA**2 + GAMMA**4  # sigma^2 of attention without projection
#: Wrong theories of attention alone.
WRONG: Mapping[str, Theory] = {
    "no attention": Theory().without_attention(),
    "without r in the drift": Theory(mean=0.0),
    "without |W|^2 in the drift": Theory(square=0.0),
    "no attention in the noise": Theory(noise=0.0),
    "1 / tau0 in the drift": Theory(square=TAU0, mean=TAU0),
    "softmax not centred": Theory(centred=False),
    "sigma^2 without gamma^4": Theory(linear=1 - GAMMA**4 / _S2),
    "sigma^2 times 1.1": Theory(linear=1.1),
    "1 / H in the drift": Theory(square=0.25, mean=0.25),
    "no projection in sigma^2": Theory(linear=_S2 / (_S2 + GAMMA**4)),
    "no MLP block": Theory(mlp=0.0, linear=_S2 / (_S2 + 2 * GAMMA**2)),
    "no MLP in the drift": Theory(mlp=0.0),
    "gamma^4 in the MLP's drift": Theory(mlp=GAMMA**2),
    "every sub-block a step": Theory(clock=2.0),
}
_DRIFT = ("no attention", "without |W|^2 in the drift", "1 / tau0 in the drift")
_LINEAR = ("sigma^2 without gamma^4", "sigma^2 times 1.1")
#: Case and observable -> the wrong theories that are another law to it, told apart at demo.
SEEN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("eight", "log_trace"): (*_DRIFT, "softmax not centred", "without r in the drift"),
    ("eight", "log_det"): ("no attention", *_LINEAR),
    ("full", "rank"): ("no MLP block", "every sub-block a step"),
    ("full", "correlation"): ("no MLP in the drift", "gamma^4 in the MLP's drift"),
}
#: The same where standard has to decide.
SEEN_AT_STANDARD: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("eight", "rank"): ("no attention in the noise", "without r in the drift"),
    ("full", "log_trace"): ("no attention",),
    ("three", "log_trace"): (*_DRIFT, "softmax not centred"),
    ("three", "rank"): ("no attention in the noise", "sigma^2 without gamma^4"),
    ("four", "log_trace"): (*_DRIFT, "softmax not centred", "without r in the drift"),
    ("four", "share"): ("without r in the drift", "softmax not centred"),
    ("four", "log_det"): _LINEAR,
    ("four-heads", "log_trace"): ("no attention", "1 / H in the drift", "1 / tau0 in the drift"),
    ("four-heads", "log_det"): ("no projection in sigma^2",),
    ("digits", "log_trace"): _DRIFT,
    ("digits", "rank"): ("sigma^2 times 1.1",),
    ("text", "log_trace"): _DRIFT,
    ("text", "rank"): ("sigma^2 times 1.1",),
}


def observe(cov: np.ndarray) -> np.ndarray:
    """The observables of covariances [..., observable].

    The log det of a covariance that is singular in double precision is no number, so that a claim
    about its mean is left open.
    """
    trace = np.trace(cov, axis1=-2, axis2=-1)
    upper = np.triu_indices(cov.shape[-1], 1)
    norms = np.maximum(np.diagonal(cov, axis1=-2, axis2=-1), 1e-12 * trace[..., None])
    scaled = cov / np.sqrt(norms[..., :, None] * norms[..., None, :])
    sign, log_det = np.linalg.slogdet(cov / trace[..., None, None])
    resolved = (sign > 0) & (log_det > np.log(1e-25))
    log_det = np.where(resolved, log_det, np.nan) + cov.shape[-1] * np.log(trace)
    return np.stack(
        [
            np.log(trace / cov.shape[-1]),
            trace**2 / np.sum(cov**2, axis=(-2, -1)),
            cov[..., 0, 0] / trace,
            scaled[..., upper[0], upper[1]].mean(axis=-1),
            log_det,
        ],
        axis=-1,
    )


def case_of(case: str) -> tuple[describe.Block, np.ndarray, float]:
    """Block, initial covariance, and the trace at which paths stop."""
    kind, start = CASES[case]
    many = kind == "heads"
    mlp = describe.ShapedMLP(gamma=GAMMA, c_plus=2.0, c_minus=-2.0) if kind == "full" else None
    block = describe.Block(gamma=GAMMA, tau0=TAU0, heads=4 if many else 1, projection=many, mlp=mlp)
    cov = initial_covariance(start)
    return block, cov, 7.5 * float(np.trace(cov))


def differences(
    case: str, t1: float, steps: int, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What each wrong theory predicts beyond the SDE [theory, observable], with its error.

    Some paths of a wrong theory with more noise, about one in a thousand for eight tokens, end
    singular: they are left out of its mean log det, which brings it nearer to the SDE.

    Args:
        case: of `CASES`.
        t1: final time.
        steps: to it.
        pairs: paths of all theories on the same noise.
        rng: randomness.
    """
    block, cov, stop = case_of(case)
    batches, gaps = max(1, pairs // 2000), []
    for _ in range(batches):
        covs = simulate(
            block,
            cov,
            (Theory(), *WRONG.values()),
            t1=t1,
            steps=steps,
            paths=pairs // batches,
            stop_trace=stop,
            rng=rng,
        )
        right, *wrong = map(observe, covs)
        gaps.append([one - right for one in wrong])
    each = np.concatenate(gaps, axis=1)
    known = ~np.isnan(each)
    with np.errstate(invalid="ignore", divide="ignore"):  # of cases that start singular
        count = known.sum(axis=1)
        mean = np.where(known, each, 0.0).sum(axis=1) / count
        squares = np.where(known, (each - mean[:, None]) ** 2, 0.0).sum(axis=1)
        return mean, np.sqrt(squares / (count - 1) / count)


def simulate(
    block: describe.Block,
    start: np.ndarray,
    theories: Sequence[Theory],
    *,
    t1: float,
    steps: int,
    paths: int,
    stop_trace: float,
    rng: np.random.Generator,
) -> Iterator[Float[np.ndarray, "path tokens tokens"]]:
    """Covariances at t1 by each theory in turn, all on the same noise.

    Args:
        block: without mask and gains.
        start: covariance at time zero [tokens, tokens].
        theories: what is simulated.
        t1: final time, layers / dim.
        steps: equal steps to it.
        paths: of each theory.
        stop_trace: a path whose trace is beyond it stays where it is.
        rng: randomness.
    """
    m, h = len(start), t1 / steps
    covs = [np.repeat(start[:, :, None], paths, axis=2) for _ in theories]
    for _ in range(steps):
        normal, other = rng.standard_normal((2, m, m, paths))
        symmetric = (normal + normal.swapaxes(0, 1)) / 2**0.5
        for number, theory in enumerate(theories):
            cov = covs[number]
            moved = _step(block, theory, cov, h * theory.clock, symmetric, other)
            stopped = np.trace(cov) > stop_trace
            factor = cholesky(moved)  # a step that leaves the cone comes back to it
            covs[number] = np.where(stopped, cov, np.einsum("ikp,jkp->ijp", factor, factor))
    return (np.moveaxis(cov, -1, 0) for cov in covs)


def _step(
    block: describe.Block, theory: Theory, cov: Covs, h: float, symmetric: Covs, normal: Covs
) -> Covs:
    m, tau0 = len(cov), block.tau0
    centre = np.eye(m) - 1 / m if theory.centred else np.eye(m)
    factor = cholesky(cov)
    spread = theory.linear * float(limits.shaped.linear_variance(block))
    moved = cov + (h * spread) ** 0.5 * _sandwich(factor, symmetric)
    inner = np.einsum("ik,klp,lj->ijp", centre, cov, centre)
    inner_diagonal = np.einsum("iip->ip", inner)
    pull = inner_diagonal - inner_diagonal.mean(axis=0)
    turned = np.einsum("ip,jkp,kp->ijp", np.einsum("iip->ip", cov), cov, pull)
    drift = theory.square * np.sum(inner**2, axis=(0, 1)) / m**2 * cov
    drift = drift + theory.mean / (2 * m) * (turned + turned.swapaxes(0, 1))
    moved = moved + h * (block.gamma / tau0) ** 2 * drift
    if theory.noise:
        right = np.einsum("jk,klp->jlp", centre / m, cov)
        noise = _product(_sandwich(factor, normal), right)
        size = block.gamma**2 / tau0 * (h * theory.noise / block.heads) ** 0.5
        moved = moved + size * (noise + noise.swapaxes(0, 1))
    if block.mlp is not None and theory.mlp:
        moved = moved + h * theory.mlp * _mlp_drift(block.mlp, cov)
    return moved


def _mlp_drift(mlp: describe.ShapedMLP, cov: Covs) -> Covs:
    norms = np.sqrt(np.einsum("iip->ip", cov))
    scale = np.maximum(norms[:, None] * norms[None, :], 1e-300)
    rho = np.clip(cov / scale, -1.0, 1.0)
    shape = np.sqrt(1 - rho**2) - rho * np.arccos(rho)
    return (mlp.gamma * (mlp.c_plus - mlp.c_minus)) ** 2 / (2 * np.pi) * shape * scale


def _product(left: Covs, right: Covs) -> Covs:
    return np.einsum("ikp,kjp->ijp", left, right)


def _sandwich(factor: Covs, middle: Covs) -> Covs:
    return np.einsum("ikp,jkp->ijp", _product(factor, middle), factor)


def cholesky(cov: Covs) -> Covs:
    """Lower-triangular factors; where a step has left the cone, of a covariance near by."""
    factor = np.zeros_like(cov)
    left = np.maximum(np.einsum("iip->ip", cov), 0.0)  # what the rows' squares may still add
    for j in range(len(cov)):
        pivot = np.sqrt(left[j])
        column = cov[j:, j] - np.einsum("ikp,kp->ip", factor[j:, :j], factor[j, :j])
        column = np.divide(column, pivot, out=np.zeros_like(column), where=pivot > 1e-9)
        bound = np.sqrt(left[j:])
        factor[j:, j] = np.clip(column, -bound, bound)
        left[j:] = np.maximum(left[j:] - factor[j:, j] ** 2, 0.0)
    return factor
