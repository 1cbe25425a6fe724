r"""Causal attention where every position carries one Gaussian law.

The first token follows e^{tV} x_1(0), and a prefix moves as before whatever comes after it. The
token of rank i follows the closure of the unmasked system, with noise of order i^{-1/2}. The
closure carries a single token by Phi = F(t) F(0)^{-1}, with F its factor of the covariance:
x(t) = alpha(t) + Phi (x(0) - alpha(0)).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import COV, MEAN, V, symbol
from translimit.experiments.castin2025.causal_flow import flow_clouds, gaussian, seconds, softmax
from translimit.experiments.castin2025.pictures import RATE, RATE_COLUMNS, rate_rows, said_rate
from translimit.experiments.castin2025.wrong_closures import RIGHT, carried, carry, mixed
from translimit.experiments.checked import CheckedConfig, Four, Within

T1 = 0.8
#: Clouds whose second half is replaced.
FEW = 4


def _exponential(matrix: np.ndarray) -> np.ndarray:
    """By scaling and squaring of the series."""
    small, result = matrix / 2**10, np.eye(len(matrix))
    for order in range(8, 0, -1):
        result = np.eye(len(matrix)) + small @ result / order
    return np.linalg.matrix_power(result, 2**10)


#: What carries the first token: the claim's own, then its rivals'.
FIRST_TOKEN = {
    "it sees itself": _exponential(T1 * V),
    "it sees no token, not even itself": np.eye(2),
    "the transposed values": _exponential(T1 * V.T),
    "values times 1.1": _exponential(1.1 * T1 * V),
}
#: Ranks below this are left out of the fit of the noise: their corrections are O(1 / i).
FIRST_RANK = 32
MOMENTS = observe.moment_names(2)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        tokens: tokens of a cloud, a power of two of at least 128.
        clouds: how many clouds.
    """

    tokens: Annotated[int, Within(128)] = 512
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
    mapped: Annotated[Float[np.ndarray, "cloud moment"], "the same, by the cloud's closure"]
    closure: Float[np.ndarray, " moment"]
    first_error: Annotated[Float[np.ndarray, "law cloud"], "of the first token, relative"]
    prefix_error: Annotated[Float[np.ndarray, "mask few"], "of the first half"]


def compute_equal(config: Config, at: ex.Alone, keys: ex.Keys) -> Prefixes:
    """Clouds, the same with another second half, and the closure, in float64."""
    import jax

    del at
    n = config.tokens
    positions = np.arange(1, n + 1) / n
    with jax.enable_x64(True):
        initial = gaussian(keys.own, config.clouds, n, MEAN, COV)
        final = flow_clouds(initial, positions, T1)[:, -1]
        few = initial[:FEW]
        # The same first half before another second half, in reverse order and three times as large.
        other = np.concatenate([few[:, : n // 2], 3.0 * few[:, : n // 2 - 1 : -1]], axis=1)
        # Tokens of one position see each other: all of them, or each its successor at most.
        masks = (positions, np.zeros(n), (np.arange(n) + 1) // 2 / n)
        ends = [[flow_clouds(x, mask, T1)[:, -1, : n // 2] for x in (few, other)] for mask in masks]
    closure = core.solve(
        limits.meanfield.GaussianFlow(attention=softmax(causal=False), mean=MEAN, cov=COV, t1=T1),
        save=[0.0, T1],
    )
    phi = closure.factor[1] @ np.linalg.inv(closure.factor[0])
    mean, cov = np.asarray(closure.mean[1]), np.asarray(closure.cov[1])
    # By the closure of the law, and by that of each cloud, which has its noise.
    mapped = mean + (initial - MEAN) @ phi.T
    means, covs = observe.moments(initial)
    own, phis = carry(RIGHT, np.asarray(softmax().A), V, means, covs, T1)
    matched = own[:, None] + (initial - means[:, None]) @ np.swapaxes(phis, -1, -2)
    first = np.stack([final[:, 0] - initial[:, 0] @ law.T for law in FIRST_TOKEN.values()])
    particles, carried = (
        observe.moment_vector(*observe.moments(cloud[:, n // 2 :])) for cloud in (final, matched)
    )
    return Prefixes(
        rank=np.arange(1, n + 1),
        moment=np.array(observe.moment_names(2)),
        distance=np.linalg.norm(final - mapped, axis=-1),
        particles=particles,
        mapped=carried,
        closure=observe.moment_vector(mean, cov),
        first_error=np.linalg.norm(first, axis=-1) / np.linalg.norm(initial[:, 0], axis=-1),
        prefix_error=np.array([np.abs(one - two).max(axis=(1, 2)) for one, two in ends]),
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


def _wrong_moment(name: str, *only: str) -> ex.Rival[Config, str]:
    """A closure with one term wrong, for the moments (all by default) in which it differs."""

    def prediction(found: ex.Found[Config], moment: str) -> float:
        mean, cov = carried(name, np.asarray(softmax().A), V, MEAN, COV, T1)
        return float(observe.moment_vector(mean, cov)[MOMENTS.index(moment)])

    return ex.Rival(name, prediction, when=lambda c, moment: not only or moment in only)


def _divided_by_all(found: ex.Found[Config], moment: str) -> float:
    """A token at s in the field of the closure times s, for s uniform on [1/2, 1]."""
    places = 0.5 + (np.arange(32) + 0.5) / 64
    maps = places[:, None, None] * V
    start = np.tile(MEAN, (32, 1)), np.tile(COV, (32, 1, 1))
    mean, cov = carried(RIGHT, np.asarray(softmax().A), maps, *start, T1)
    return float(observe.moment_vector(*mixed(mean, cov))[MOMENTS.index(moment)])


CLAIMS = (
    ex.claim(
        "first-token",
        "The first token follows $e^{tV} x_1(0)$ (largest relative error).",
        lambda found: Estimate(float(found(EQUAL).first_error[0].max())),
        0.0,
        1e-8,
        rivals=tuple(
            ex.Rival(
                name,
                estimate=lambda found, at, law=law: Estimate(
                    float(found(EQUAL).first_error[law].max())
                ),
            )
            for law, name in enumerate(FIRST_TOKEN)
            if law
        ),
    ),
    ex.claim(
        "prefix-autonomy",
        "The first half of the tokens moves as before when the second is replaced (largest "
        "difference).",
        lambda found: Estimate(float(found(EQUAL).prefix_error[0].max())),
        0.0,
        1e-12,
        rivals=tuple(
            ex.Rival(
                name,
                estimate=lambda found, at, mask=mask: Estimate(
                    float(found(EQUAL).prefix_error[mask].max())
                ),
            )
            for mask, name in ((1, "no mask"), (2, "a mask that lets the successor through"))
        ),
    ),
    ex.Claims(
        "equal-{moment}",
        lambda found, name: (
            "With one Gaussian law at every position the later half of a causal cloud follows the "
            f"unmasked closure: its ${symbol(name)}$ at depth {T1:g}."
        ),
        estimate=_moment,
        prediction=lambda found, name: float(found(EQUAL).closure[MOMENTS.index(name)]),
        tol=0.006,
        over=lambda c: MOMENTS,
        rivals=(
            ex.Rival(
                "weights divided by all tokens",
                _divided_by_all,
                when=lambda c, moment: moment != "Sigma_12",
            ),
            _wrong_moment("queries and keys swapped"),
            _wrong_moment("second moments for covariances"),
            _wrong_moment("the mean follows V alone", "alpha_1", "alpha_2"),
            _wrong_moment("scores times 1.1", "alpha_1", "Sigma_11"),
        ),
        decided_by="standard",
    ),
    ex.claim(
        "rank-noise",
        "The token of rank i leaves the closure's flow by $O(i^{-1/2})$.",
        lambda found: found.once(_fit).estimate(),
        -0.5,
        0.08,
        rivals=(
            ex.Rival("no dependence on the rank", 0.0),
            ex.Rival("the rate $i^{-1/4}$", -0.25),
            ex.Rival("the rate $i^{-1}$ of a bias", -1.0),
            ex.Rival("the rate $i^{-2/3}$", -2 / 3),
        ),
        decided_by="standard",
    ),
)


def _caption(found: ex.Found[Config]) -> str:
    clouds, tokens = found(EQUAL).distance.shape
    return (
        "Root mean square distance of a token to the image of its start under the unmasked "
        f"closure, at depth $t = {T1:g}$, over octaves of the rank in the sequence; {clouds} "
        f"clouds of {tokens} tokens with one Gaussian law at every position, bars of one standard "
        f"error. The first {FIRST_RANK - 1} ranks are not shown. Dashed: the fitted rate "
        f"{said_rate(found.once(_fit))}, solid: the predicted rate -1/2."
    )


NOISE = ex.Figure(
    name="rank",
    title="Later tokens know the law better",
    caption=_caption,
    columns=("rank", *RATE_COLUMNS),
    rows=lambda found: rate_rows(*_octaves(found), found.once(_fit), -0.5),
    x="rank",
    layers=RATE,
    xlabel="rank $i$ in the sequence",
    ylabel="rms distance to the closure's flow",
    log="xy",
    ticks=True,
    shown=lambda found, table: found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-prefixes",
    title="Causal attention: prefixes and closures",
    question="Under a causal mask, does a token follow the closure of its prefix?",
    summary="Under a causal mask a token sees only what came before it. If every position carries "
    "the same Gaussian law, tokens follow the closure of the unmasked system, the later the "
    "closer.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=2048, clouds=640),
        "paper": Config(tokens=4096, clouds=512),
    },
    parts=(EQUAL,),
    claims=CLAIMS,
    figures=(NOISE,),
    finding=ex.Finding(
        "The first token misses $e^{{tV}} x_1(0)$ by {0}, and the token of rank $i$ leaves the "
        "closure's flow with the exponent {1} in $i$",
        ("first-token", "rank-noise"),
    ),
)
