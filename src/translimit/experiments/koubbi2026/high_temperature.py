r"""The order in which weak scores enter: second for tokens at random, fourth on the simplex.

Attention of many heads with infinitely many columns is drawn for tokens with given overlaps, each
head also with the opposite scores, and gives the drift of the overlaps at d = infinity minus that
without scores. The expansion of the softmax to the second order, head by head, is a control
variate: its mean is that of Gaussian moments.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, MultipleOf, Within
from translimit.experiments.koubbi2026 import common

#: Score deviations, small and large: of random tokens, and of the simplex.
WEAK, STRONGER = (0.05, 0.1), (0.1, 0.2)
#: Random tokens and their dimension; tokens of the simplex and their common overlaps.
RANDOM, DIM = 5, 6
TOKENS, SIMPLEXES = 8, (0.25, 0.5, 0.75)
#: Heads that are drawn at once.
BATCH = 10_000


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        heads: pairs of heads with opposite scores, a multiple of 10,000.
    """

    heads: Annotated[int, Within(BATCH), MultipleOf(BATCH)] = 200_000


@dataclass(frozen=True)
class Changes(ex.Arrays):
    """How scores change the mean drift of the overlaps: mean of the heads of every batch."""

    overlaps: Float[np.ndarray, "token token2"]
    score_std: Annotated[Float[np.ndarray, " score_std"], "standard deviation of the scores"]
    change: Annotated[Float[np.ndarray, "batch score_std"], "change of the mean drift"]
    left: Annotated[Float[np.ndarray, "batch score_std"], "without its second order"]

    @property
    def controlled(self) -> Float[np.ndarray, "batch score_std"]:
        """The change with its second order, head by head, replaced by that of Gaussian moments."""
        small = limits.homogenized.overlaps.small_score_overlap
        second = np.asarray(small(self.overlaps, 1.0) - small(self.overlaps, 0.0))
        return self.left + float(_mean_drift(second, self.overlaps)) * self.score_std**2


def _mean_drift(
    s: Float[np.ndarray, "*heads tokens tokens"], R: Float[np.ndarray, "tokens tokens"]
) -> Float[np.ndarray, "*heads"]:
    """s_ij - R_ij (s_ii + s_jj) / 2, the mean over pairs."""
    own = np.diagonal(s, axis1=-2, axis2=-1)
    drift = s - 0.5 * R * (own[..., :, None] + own[..., None, :])
    return np.asarray(drift[..., *np.triu_indices(len(R), 1)].mean(axis=-1))


def _changes(
    R: Float[np.ndarray, "tokens tokens"], stds: tuple[float, ...], config: Config, keys: ex.Keys
) -> Changes:
    """Draw heads for tokens with overlaps R."""
    draw, n = common.generator(keys.own), len(R)
    root = np.linalg.cholesky(R)
    change, left = [], []
    for _ in range(config.heads // BATCH):
        scores = root @ draw.standard_normal((BATCH, n, n)) @ root.T
        centred = scores - scores.mean(axis=-1, keepdims=True)
        bent = 0.5 * (centred**2 - (centred**2).mean(axis=-1, keepdims=True))
        cross = np.broadcast_to((bent @ R).sum(-1)[..., None], scores.shape)
        second = (centred @ R @ centred.swapaxes(-1, -2) + cross + cross.swapaxes(-1, -2)) / n**2
        second = _mean_drift(second, R)
        batch = []
        for std in stds:
            s = 0.0
            for sign in (1, -1):
                weights = np.exp(sign * std * scores)
                weights /= weights.sum(axis=-1, keepdims=True)
                s = s + 0.5 * weights @ R @ weights.swapaxes(-1, -2)
            batch.append(_mean_drift(s, R) - _mean_drift(np.full((n, n), R.mean()), R))
        change.append([one.mean() for one in batch])
        left.append([(one - std**2 * second).mean() for one, std in zip(batch, stds, strict=True)])
    return Changes(R, np.array(stds), np.array(change), np.array(left))


def compute_random(config: Config, at: ex.Alone, keys: ex.Keys) -> Changes:
    """Independent uniform tokens."""
    del at
    draw = common.generator(keys.shared("tokens"))
    tokens = core.SPHERE.project(draw.standard_normal((RANDOM, DIM)))
    return _changes(tokens @ tokens.T, WEAK, config, keys)


def compute_simplex(config: Config, overlap: float, keys: ex.Keys) -> Changes:
    """Equal overlaps."""
    return _changes((1 - overlap) * np.eye(TOKENS) + overlap, STRONGER, config, keys)


PARTS = RANDOM_TOKENS, SIMPLEX = (
    ex.Part(
        "random",
        Changes,
        compute_random,
        grid=ex.alone,
        cost=lambda c, at: ex.Cost(2.0 + 1e-5 * c.heads),
    ),
    ex.Part(
        "simplex/{overlap:g}",
        Changes,
        compute_simplex,
        grid=lambda c: SIMPLEXES,
        cost=lambda c, overlap: ex.Cost(2.0 + 1.5e-5 * c.heads),
    ),
)


def _coefficient(found: ex.Found[Config]) -> Estimate:
    """Of the second order, over the prediction, extrapolated in the square of the deviation."""
    data = found(RANDOM_TOKENS)
    square = (data.score_std[1] / data.score_std[0]) ** 2
    small, large = (data.change / data.score_std**2).T
    return common.estimate((square * small - large) / (square - 1) / _predicted(data))


def _predicted(data: Changes) -> float:
    """The coefficient of the second order in closed form."""
    correction = limits.homogenized.high_temperature.score_correction(data.overlaps)
    return float(correction[*np.triu_indices(len(data.overlaps), 1)].mean())


def _order(
    values: Float[np.ndarray, "batch score_std"], stds: Float[np.ndarray, " score_std"]
) -> Estimate:
    """The exponent between the two deviations, errors by leaving batches out."""

    def slope(kept: np.ndarray) -> float:
        small, large = np.abs(values[kept].mean(axis=0))
        return float(np.log(large / small) / np.log(stds[1] / stds[0]))

    # The expansion goes on in squares of the deviation.
    return replace(core.jackknife(slope, len(values)), discretisation=float(stds[1]) ** 2 / 2)


def _closed(overlap: float, score_std: float) -> float:
    """The change of the simplex drift for d to infinity, by quadrature."""
    drifts = (
        limits.homogenized.simplex.simplex_drift(
            describe.WideHeads(dim=TOKENS, score_std=std),
            overlap,
            TOKENS,
            dimension=limits.homogenized.Dimension.LARGE,
        )
        for std in (score_std, 0.0)
    )
    with_scores, without = drifts
    return float(with_scores) - float(without)


TENTH = ex.Rival("a tenth more", 1.1)
COEFFICIENT = ex.claim(
    "coefficient",
    "Weak scores change the drift of random tokens by $-2\\beta_s^2 \\mathrm{Var}_k(\\bar r_k) "
    "(1 - R_{ij})$, $\\bar r_k$ the means of the rows of $R$ (mean over pairs, over predicted).",
    _coefficient,
    1.0,
    0.04,
    rivals=(
        TENTH,
        ex.Rival("no change to this order", 0.0),
        ex.Rival("the logistic law is approached from above", -1.0),
        ex.Rival("once the variance", 0.5),
    ),
)
ORDER = ex.claim(
    "order-random",
    "For random tokens scores enter the drift with $\\beta_s^2$ (exponent).",
    lambda found: _order(found(RANDOM_TOKENS).change, found(RANDOM_TOKENS).score_std),
    2.0,
    0.05,
    rivals=(
        ex.Rival("$\\beta_s$", 1.0),
        ex.Rival("$\\beta_s^3$", 3.0),
        ex.Rival("$\\beta_s^4$, as on the simplex", 4.0),
    ),
)
SIMPLEX_ORDER = ex.Claims(
    "order-simplex-{overlap:g}",
    lambda found, overlap: (
        f"On the simplex with overlap {overlap:g} scores enter the drift with $\\beta_s^4$ (an "
        "exponent)."
    ),
    estimate=lambda found, at: _order(found(SIMPLEX, at).controlled, found(SIMPLEX, at).score_std),
    prediction=4.0,
    tol=0.12,
    over=lambda c: SIMPLEXES,
    printed="within $Ce^{CT}\\max(1/d, d^2\\sigma_A^4\\beta^2) + C\\sqrt{(T/d)\\log(4/\\delta)}$",
    rivals=(
        ex.Rival("$\\beta_s^2$, the order of the printed bound", 2.0),
        ex.Rival("$\\beta_s$", 1.0),
        ex.Rival("$\\beta_s^3$", 3.0),
    ),
)
QUADRATURE = ex.Claims(
    "simplex-{overlap:g}",
    "The simplex equation has the change of the drift that heads have (measured over quadrature).",
    # The larger deviation only.
    estimate=lambda found, at: common.estimate(
        found(SIMPLEX, at).controlled[:, -1] / _closed(at, STRONGER[-1])
    ),
    prediction=1.0,
    tol=0.04,
    over=lambda c: SIMPLEXES,
    rivals=(TENTH, ex.Rival("no change", 0.0)),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(RANDOM_TOKENS)
    cases = [("random tokens", data, data.change, _predicted(data) * data.score_std**2)]
    for overlap, data in found.each(SIMPLEX):
        closed = np.array([_closed(overlap, std) for std in data.score_std.tolist()])
        cases.append((f"simplex, overlap {overlap:g}", data, data.controlled, closed))
    for name, data, values, predicted in cases:
        columns = (data.score_std, *common.mean_and_stderr(-values), -predicted)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (name, *row)


CHANGE = ex.Figure(
    name="order",
    title="Scores slow the overlaps to the second order, on the simplex to the fourth",
    caption=lambda found: (
        "How much scores take from the drift of the mean overlap at $d = \\infty$: "
        f"{found.config.heads} pairs of heads, bars of one standard error; lines: "
        f"$2\\beta_s^2 \\mathrm{{Var}}_k(\\bar r_k)(1 - R_{{ij}})$ for {RANDOM} random tokens, the "
        f"simplex equation for {TOKENS} tokens with equal overlaps."
    ),
    columns=("tokens", "score deviation", "less drift", "stderr", "predicted"),
    rows=_rows,
    x="score deviation",
    by="tokens",
    layers=(figures.line("predicted", label=""), figures.points("less drift", "stderr")),
    xlabel="standard deviation of the scores $\\beta_s$",
    ylabel="drift lost to scores",
    log="xy",
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/high-temperature",
    title="The order of temperature",
    question="With weak scores, at which order does temperature matter?",
    summary="The logistic law of weak scores is printed with an error of the second order in the "
    "scores. Attention drawn for given overlaps shows that order for tokens at random, with its "
    "coefficient; on the simplex, where rows of the overlaps are equal, it vanishes, and "
    "temperature enters at the fourth.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(heads=2_000_000),
        "paper": Config(heads=20_000_000),
    },
    parts=PARTS,
    claims=(COEFFICIENT, ORDER, SIMPLEX_ORDER, QUADRATURE),
    figures=(CHANGE,),
    finding=ex.Finding(
        "Weak scores enter the drift with the power {0} of $\\beta_s$ for random tokens, and "
        "with {1} on the simplex with overlap 1/4",
        ("order-random", "order-simplex-0.25"),
    ),
)
