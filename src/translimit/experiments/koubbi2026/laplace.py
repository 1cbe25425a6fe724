r"""Strong scores: when the attention output of tokens that fill the sphere is A x / |A x|.

For tokens uniform on the sphere the output is exact at every strength: m_A(x) = a_d(k) A x / |A x|
with k = beta |A x| and a_d a ratio of Bessel functions. With b = beta d sigma_A^2 = r d the overlap
of a token with itself loses 1 - s(x, x) -> 1 - a(r)^2, a(r) = 2 r / (1 + (1 + 4 r^2)^{1/2}),
whatever the dimension: the loss is of order d / b. Printed is an error of d^{-3/2} + b^{-1/2} with
a constant that does not depend on the dimension, which would vanish here. In the regime of the
theorem, d b^{-1/2} -> 0, both vanish.

Lengths |A x| are drawn by their law; at a small dimension the output of a cloud of tokens, by
its softmax, is compared with the Bessel ratio.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two, Within
from translimit.experiments.koubbi2026 import common

#: Ratios b / d: at every dimension, and at the largest one for the order in b.
RATIOS, STRONG = (0.5, 1.0, 4.0), (64.0, 128.0, 256.0)
#: The cloud: its dimension, strengths k, tokens, and how many clouds.
CLOUD_DIM, STRENGTHS, CLOUD, CLOUDS = 4, (1.0, 4.0, 16.0), 20_000, 20
#: The printed error.
PRINTED = r"$E\langle m(x), m(y)\rangle = E\cos(Ax, Ay) + O(d^{-3/2} + b^{-1/2})$"


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dims: dimensions of the tokens, at least three.
        heads: drawn at every dimension.
    """

    dims: Annotated[IncreasingSizes, Within(8), Entries(3)] = (64, 256, 1024)
    heads: Two = 20_000


@dataclass(frozen=True)
class Lost(ex.Arrays):
    """1 - s(x, x) of single heads."""

    ratio: Annotated[Float[np.ndarray, " ratio"], "$b / d$"]
    lost: Annotated[Float[np.ndarray, "ratio head"], "$1 - |m_A(x)|^2$"]


@dataclass(frozen=True)
class Cloud(ex.Arrays):
    """Lengths of the outputs of clouds of uniform tokens."""

    length: Annotated[Float[np.ndarray, "strength cloud"], "$|m_A(x)|$"]


def compute_lost(config: Config, dim: int, keys: ex.Keys) -> Lost:
    """Heads at one dimension, d_k = d: |A x| is a product of two chi variables."""
    import jax

    rng = np.random.default_rng(np.asarray(jax.random.key_data(keys.own)))
    lengths = np.sqrt(rng.chisquare(dim, config.heads) * rng.chisquare(dim, config.heads))
    ratios = RATIOS + STRONG
    outputs = [
        limits.homogenized.low_temperature.barycentre_length(ratio * lengths, dim)
        for ratio in ratios
    ]
    return Lost(ratio=np.array(ratios), lost=1.0 - np.array(outputs) ** 2)


def compute_cloud(config: Config, at: ex.Alone, keys: ex.Keys) -> Cloud:
    """Softmax averages of uniform tokens under scores k <e_1, x>."""
    import jax

    del config, at
    rng = np.random.default_rng(np.asarray(jax.random.key_data(keys.own)))
    x = rng.standard_normal((CLOUDS, CLOUD, CLOUD_DIM))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    rows = []
    for strength in STRENGTHS:
        weights = np.exp(strength * (x[..., 0] - 1.0))
        rows.append(np.sum(weights * x[..., 0], axis=1) / np.sum(weights, axis=1))
    return Cloud(length=np.array(rows))


LOST = ex.Part(
    "d={dim}",
    Lost,
    compute_lost,
    grid=lambda c: c.dims,
    cost=lambda c, dim: ex.Cost(1.0 + 5e-6 * c.heads * 40),
)
CLOUDED = ex.Part("cloud", Cloud, compute_cloud, grid=ex.alone, cost=lambda c, at: ex.Cost(2.0))


def _row(found: ex.Found[Config], dim: int, ratio: float) -> Float[np.ndarray, " head"]:
    return found(LOST, dim).lost[(RATIOS + STRONG).index(ratio)]


def _limit(ratio: float) -> float:
    return 1.0 - limits.homogenized.low_temperature.large_barycentre(ratio) ** 2


def _slope(
    sizes: tuple[int, ...] | tuple[float, ...], samples: list[Float[np.ndarray, " head"]]
) -> tuple[float, float]:
    """Slope of the logarithm of means over that of sizes, and its standard error."""
    logs = np.log(np.array(sizes, float))
    weights = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    means, errors = np.array([common.mean_and_stderr(one) for one in samples]).T
    return float(weights @ np.log(means)), float(np.linalg.norm(weights * errors / means))


def _in_dim(found: ex.Found[Config], ratio: float) -> Estimate:
    dims = found.config.dims
    slope, error = _slope(dims, [_row(found, dim, ratio) for dim in dims])
    # Corrections of order 1 / d.
    return Estimate(slope, error, found.config.heads, 0.1 / dims[0])


def _in_strength(found: ex.Found[Config]) -> Estimate:
    dim = found.config.dims[-1]
    # The same heads at every strength: their errors are far below the tolerance.
    slope, error = _slope(STRONG, [_row(found, dim, ratio) for ratio in STRONG])
    return Estimate(slope, error, found.config.heads)


VALUE = ex.Claims(
    "lost-{ratio:g}",
    "At $b = r d$ a token's overlap with itself loses $1 - a(r)^2$ in attention, whatever the "
    "dimension.",
    estimate=lambda found, ratio: common.estimate(
        _row(found, found.config.dims[-1], ratio), discretisation=0.2 / found.config.dims[-1]
    ),
    prediction=lambda found, ratio: _limit(ratio),
    tol=0.005,
    over=lambda c: RATIOS,
    rivals=(
        ex.Rival("nothing", 0.0, printed=True, when=lambda c, ratio: ratio == 1.0),
        ex.Rival("nothing", 0.0, when=lambda c, ratio: ratio != 1.0),
        ex.Rival("Laplace's leading order d / b", lambda found, ratio: 1.0 / ratio),
        ex.Rival("times 1.1", lambda found, ratio: 1.1 * _limit(ratio)),
        ex.Rival("r times 1.1", lambda found, ratio: _limit(1.1 * ratio)),
    ),
    printed=PRINTED,
)
IN_DIM = ex.Claims(
    "exponent-in-dim-{ratio:g}",
    "At $b = r d$ that loss does not fall with the dimension.",
    estimate=_in_dim,
    prediction=0.0,
    tol=0.02,
    over=lambda c: RATIOS,
    rivals=(
        ex.Rival("-1/2, as b^(-1/2)", -0.5),
        ex.Rival("-3/2, as d^(-3/2)", -1.5),
        ex.Rival("-0.1", -0.1),
    ),
    printed=PRINTED,
)
IN_STRENGTH = ex.claim(
    "exponent-in-strength",
    "At a fixed dimension it falls as $1 / b$.",
    _in_strength,
    -1.0,
    tol=0.04,
    rivals=(ex.Rival("-1/2, as b^(-1/2)", -0.5), ex.Rival("-2", -2.0), ex.Rival("-0.9", -0.9)),
    printed=PRINTED,
)
LENGTH = ex.Claims(
    "cloud-{strength:g}",
    f"The output of {CLOUD} uniform tokens in dimension {CLOUD_DIM} has the length of the Bessel "
    "ratio.",
    estimate=lambda found, strength: common.estimate(
        found(CLOUDED).length[STRENGTHS.index(strength)]
    ),
    prediction=lambda found, strength: float(
        limits.homogenized.low_temperature.barycentre_length(strength, CLOUD_DIM)
    ),
    tol=0.004,
    over=lambda c: STRENGTHS,
    rivals=(
        ex.Rival("1, on the sphere", 1.0),
        ex.Rival(
            "large dimension",
            lambda found, strength: limits.homogenized.low_temperature.large_barycentre(
                strength / CLOUD_DIM
            ),
            when=lambda c, strength: strength > 1.0,
        ),
        ex.Rival(
            "one dimension more",
            lambda found, strength: float(
                limits.homogenized.low_temperature.barycentre_length(strength, CLOUD_DIM + 1)
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    first = found.config.dims[0]
    for dim in found.config.dims:
        for ratio in RATIOS:
            mean, error = common.mean_and_stderr(_row(found, dim, ratio))
            printed = _limit(ratio) * math.sqrt(first / dim)
            yield (f"b = {ratio:g} d", dim, float(mean), float(error), _limit(ratio), printed)


LOSS = ex.Figure(
    name="loss",
    title="What strong scores lose depends on b / d, not on b",
    caption="Uniform tokens, $d_k = d$: loss $1 - s(x, x)$ over {heads} heads of each dimension "
    "(bars of one standard error, below the marks), its limit $1 - a(r)^2$ (lines), and a fall as "
    "$b^{{-1/2}}$ through the first limit (dashed).",
    columns=("strength", "dim", "lost", "stderr", "limit", "printed"),
    rows=_rows,
    x="dim",
    by="strength",
    layers=(
        figures.line("limit", label=""),
        figures.line("printed", label="as $b^{-1/2}$", dash="1.5 2"),
        figures.points("lost", "stderr"),
    ),
    xlabel="dimension $d$",
    ylabel="$1 - s(x, x)$",
    log="xy",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/laplace",
    title="Strong scores: when attention outputs lie on the sphere",
    question="With strong scores, does the output of attention lie on the sphere?",
    summary="The limit of strong scores puts $Ax / |Ax|$ for the attention output of tokens that "
    "fill the sphere. For uniform tokens the output is exact, and what it loses depends on "
    "$\\beta \\sigma_A^2$ alone, where the printed error falls with the dimension.",
    citations=("koubbi2026",),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dims=(64, 256, 1024, 4096), heads=100_000),
        "paper": Config(dims=(64, 256, 1024, 4096, 16384), heads=400_000),
    },
    parts=(LOST, CLOUDED),
    claims=(VALUE, IN_DIM, IN_STRENGTH, LENGTH),
    figures=(LOSS,),
    finding=ex.Finding(
        "At $b = d$ a token's overlap with itself loses {0} in attention; at a fixed dimension "
        "the loss goes with the power {1} of $b$",
        ("lost-1", "exponent-in-strength"),
    ),
)
