r"""Causal attention where every position carries one Gaussian law.

The first token follows e^{tV} x_1(0), and a prefix moves as before whatever comes after it. The
token of rank i follows the closure of the unmasked system, with noise of order i^{-1/2}. The
closure carries a single token by Phi = F(t) F(0)^{-1}, with F its factor of the covariance:
x(t) = alpha(t) + Phi (x(0) - alpha(0)).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import COV, MEAN, V, symbol
from translimit.experiments.castin2025.causal_flow import flow_clouds, gaussian, seconds, softmax
from translimit.experiments.checked import CheckedConfig, Four, Within

T1 = 0.8
#: Ranks below this are left out of the fit of the noise: their corrections are O(1 / i).
FIRST_RANK = 16
MOMENTS = ("alpha_1", "alpha_2", "Sigma_11", "Sigma_12", "Sigma_22")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        tokens: tokens of a cloud, a power of two of at least 64.
        clouds: how many clouds.
    """

    tokens: Annotated[int, Within(64)] = 512
    clouds: Four = 64

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.tokens & (self.tokens - 1):
            raise core.ConfigError("tokens", f"got {self.tokens}", "pass a power of two")


@dataclass(frozen=True)
class Prefixes(ex.Arrays):
    """Causal clouds at depth `T1`, and their starts as the unmasked closure carries them."""

    rank: Int[np.ndarray, " rank"]
    moment: Shaped[np.ndarray, " moment"]
    distance: Annotated[Float[np.ndarray, "cloud rank"], "distance to the closure"]
    particles: Annotated[Float[np.ndarray, "cloud moment"], "moments, later half"]
    mapped: Annotated[Float[np.ndarray, "cloud moment"], "the same, by the closure"]
    closure: Float[np.ndarray, " moment"]
    first_error: Annotated[Float[np.ndarray, " cloud"], "of the first token, relative"]
    prefix_error: Annotated[Float[np.ndarray, " cloud"], "of the first half"]


def compute_equal(config: Config, at: ex.Alone, keys: ex.Keys) -> Prefixes:
    """Clouds, the same with another second half, and the closure, in float64."""
    import jax
    from scipy.linalg import expm

    del at
    n = config.tokens
    positions = np.arange(1, n + 1) / n
    with jax.enable_x64(True):
        initial = gaussian(keys.own, config.clouds, n, MEAN, COV)
        final = flow_clouds(initial, positions, T1)[:, -1]
        # The same first half before another second half, in reverse order and three times as large.
        other = np.concatenate([initial[:, : n // 2], 3.0 * initial[:, : n // 2 - 1 : -1]], axis=1)
        prefix = flow_clouds(other, positions, T1)[:, -1, : n // 2]
    closure = core.solve(
        limits.meanfield.GaussianFlow(attention=softmax(causal=False), mean=MEAN, cov=COV, t1=T1),
        save=[0.0, T1],
    )
    carry = closure.factor[1] @ np.linalg.inv(closure.factor[0])
    mean, cov = np.asarray(closure.mean[1]), np.asarray(closure.cov[1])
    mapped = mean + (initial - MEAN) @ carry.T
    first = final[:, 0] - initial[:, 0] @ expm(T1 * V).T
    particles, carried = (
        observe.moment_vector(*observe.moments(cloud[:, n // 2 :])) for cloud in (final, mapped)
    )
    return Prefixes(
        rank=np.arange(1, n + 1),
        moment=np.array(observe.moment_names(2)),
        distance=np.linalg.norm(final - mapped, axis=-1),
        particles=particles,
        mapped=carried,
        closure=observe.moment_vector(mean, cov),
        first_error=np.linalg.norm(first, axis=-1) / np.linalg.norm(initial[:, 0], axis=-1),
        prefix_error=np.abs(prefix - final[:, : n // 2]).max(axis=(1, 2)),
    )


EQUAL = ex.Part(
    "equal",
    Prefixes,
    compute_equal,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(seconds(2 * c.clouds * c.tokens**2), 6e8),
)


def _moment(found: ex.Found[Config], name: str) -> Estimate:
    """The closure's moment plus the mean of paired differences, with their standard error."""
    equal, place = found(EQUAL), MOMENTS.index(name)
    gap = Estimate.from_samples((equal.particles - equal.mapped)[:, place])
    return Estimate(float(equal.closure[place]) + gap.value, gap.stderr, gap.count)


def _octaves(
    found: ex.Found[Config],
) -> tuple[Float[np.ndarray, " octaves"], Float[np.ndarray, "octaves clouds"]]:
    """Middle ranks of the octaves from `FIRST_RANK` on, and rms distances."""
    distance = found(EQUAL).distance
    starts = FIRST_RANK * 2 ** np.arange(int(np.log2(distance.shape[1] // FIRST_RANK)))
    rows = [np.sqrt(np.mean(distance[:, s - 1 : 2 * s - 1] ** 2, axis=1)) for s in starts]
    return 1.5 * starts, np.array(rows)


def _fit(found: ex.Found[Config]) -> core.RateFit:
    return core.fit_rate(*_octaves(found), paired=True)


CLAIMS = (
    ex.claim(
        "first-token",
        "The first token follows $e^{tV} x_1(0)$ (largest relative error).",
        lambda found: Estimate(float(found(EQUAL).first_error.max())),
        0.0,
        1e-8,
    ),
    ex.claim(
        "prefix-autonomy",
        "The first half of the tokens moves as before when the second is replaced (largest "
        "difference).",
        lambda found: Estimate(float(found(EQUAL).prefix_error.max())),
        0.0,
        1e-12,
    ),
    ex.Claims(
        "equal-{moment}",
        lambda found, name: (
            "With one Gaussian law at every position the later half of a causal cloud follows the "
            f"unmasked closure: its ${symbol(name)}$ at depth {T1:g}."
        ),
        estimate=_moment,
        prediction=lambda found, name: float(found(EQUAL).closure[MOMENTS.index(name)]),
        tol=0.01,
        over=lambda c: MOMENTS,
    ),
    ex.claim(
        "rank-noise",
        "The token of rank i leaves the closure's flow by $O(i^{-1/2})$.",
        lambda found: found.once(_fit).estimate(),
        -0.5,
        0.1,
    ),
)


def _noise(found: ex.Found[Config]) -> Iterator[figures.Row]:
    ranks, rows = _octaves(found)
    fit = found.once(_fit)
    rms = np.sqrt(np.mean(rows**2, axis=1))
    stderr = np.std(rows**2, axis=1, ddof=1) / np.sqrt(rows.shape[1]) / (2 * rms)
    fitted = fit.constant * ranks**fit.rate
    predicted = fitted[0] * (ranks / ranks[0]) ** -0.5
    for row in zip(ranks, rms, stderr, fitted, predicted, strict=True):
        yield tuple(map(float, row))


def _caption(found: ex.Found[Config]) -> str:
    fit = found.once(_fit)
    clouds, tokens = found(EQUAL).distance.shape
    return (
        "Root mean square distance of a token to the image of its start under the unmasked "
        f"closure, at depth $t = {T1:g}$, over octaves of the rank in the sequence; {clouds} "
        f"clouds of {tokens} tokens with one Gaussian law at every position, bars of one standard "
        f"error. The first {FIRST_RANK - 1} ranks are not shown. Dashed: the fitted rate "
        f"{fit.rate:.3f} [{fit.interval[0]:.3f}, {fit.interval[1]:.3f}], solid: the predicted rate."
    )


NOISE = ex.Figure(
    name="rank",
    title="Later tokens know the law better",
    caption=_caption,
    columns=("rank", "rms distance", "stderr", "fitted", "predicted"),
    rows=_noise,
    x="rank",
    layers=(
        figures.line("predicted", label="predicted rate −1/2", series=None),
        figures.line("fitted", label="fitted rate", dash="6 3"),
        figures.points("rms distance", "stderr", label="measured"),
    ),
    xlabel="rank $i$ in the sequence",
    ylabel="rms distance to the closure's flow",
    log="xy",
    ticks=True,
    shown=lambda found, table: found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-prefixes",
    title="Causal attention: prefixes and closures",
    summary="Under a causal mask a token sees only what came before it. If every position carries "
    "the same Gaussian law, tokens follow the closure of the unmasked system, the later the "
    "closer.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=1024, clouds=256),
        "paper": Config(tokens=4096, clouds=512),
    },
    parts=(EQUAL,),
    claims=CLAIMS,
    figures=(NOISE,),
)
