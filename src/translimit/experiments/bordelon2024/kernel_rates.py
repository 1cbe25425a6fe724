r"""How fast kernels and laws of heads of trained networks approach what they are at large sizes.

The distance of a kernel K of one network from that of the largest size is
|K - K_ref|^2 / |K_ref|^2 (Frobenius), K_ref the mean over the seeds of the largest size. Its
fluctuation is that of log K in the leading modes of the mean over the seeds of its own size, where
that mean is the identity: all modes count alike, relative to their size, so that a few networks
tell a rate. Along the heads its square goes like 1 / H, and no largest size enters, whose own
distance from the limit would.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core
from translimit.core import Estimate, RateFit
from translimit.experiments.bordelon2024 import vit_and_lm as common

#: Deviations by seed, one row for each size.
Rows = Sequence[Float[np.ndarray, " _seed"]]


def distances(kernels: Sequence[Float[np.ndarray, "_seed n n"]]) -> Rows:
    """Relative distances (not squared) of every seed from the last size, without it."""
    every = [one.astype(float) for one in kernels]
    reference = every[-1].mean(axis=0)
    size = np.linalg.norm(reference)
    return [np.linalg.norm(one - reference, axis=(1, 2)) / size for one in every[:-1]]


#: Leading modes of the mean kernel in which fluctuations are taken.
MODES = 4


def fluctuations(kernels: Float[np.ndarray, "seed n n"]) -> Float[np.ndarray, " seed"]:
    """Distances (not squared) of every seed's kernel from the mean, in logs; NaN if one is.

    A kernel in the leading modes of the mean is a positive matrix; deviations of its logarithm are
    relative, and have no heavy tail where a whole kernel is large.
    """
    kernels = np.asarray(kernels, dtype=float)
    count, modes = len(kernels), min(MODES, kernels.shape[-1])
    if not np.isfinite(kernels).all():
        return np.full(count, np.nan)
    values, vectors = np.linalg.eigh(kernels.mean(axis=0))
    whiten = vectors[:, -modes:] / values[-modes:] ** 0.5
    values, vectors = np.linalg.eigh(whiten.T @ kernels @ whiten)
    if values.min() <= 0:
        return np.full(count, np.nan)
    logs = (vectors * np.log(values)[:, None]) @ vectors.swapaxes(1, 2)
    scale = (count / (count - 1) / modes) ** 0.5
    return scale * np.linalg.norm(logs - logs.mean(axis=0), axis=(1, 2))


def kernel_fluctuations(networks: Sequence[common.Trained], kind: str, word: str) -> Rows:
    """Fluctuations of every size.

    Args:
        networks: by size.
        kind: of `vit_and_lm.KERNELS`.
        word: before or after training.
    """
    when = common.WHEN.index(word)
    return [fluctuations(one.kernels(kind, when)) for one in networks]


def head_deviations(networks: Sequence[common.Trained], word: str) -> Rows:
    """Deviations of the scores over heads, of every size.

    Args:
        networks: by size.
        word: before or after training.
    """
    return [one.head_deviation(common.WHEN.index(word)) for one in networks]


def squared_rate(sizes: Sequence[int], rows: Rows) -> RateFit | None:
    """The fitted rate of root mean squares; None below two sizes, or where members diverged."""
    finite = all(np.all(np.isfinite(row)) and np.all(row > 0) for row in rows)
    return core.fit_rate(list(sizes), list(rows)) if len(sizes) > 1 and finite else None


def rate(sizes: Sequence[int], rows: Rows) -> Estimate:
    """The rate of a squared quantity, twice that of its root; NaN where there is none."""
    fit = squared_rate(sizes, rows)
    if fit is None:
        return Estimate(np.nan, np.nan, len(rows[0]))
    return Estimate(2 * fit.rate, 2 * fit.stderr, fit.replicates)


C = TypeVar("C")
S = TypeVar("S", bound=common.Study)


def kernels_concentrate(
    name: str,
    what: str,
    kinds: Sequence[str],
    sizes: Callable[[C], Sequence[int]],
    rows: Callable[[ex.Found[C], str, str], Rows],
    along: str = "H",
) -> tuple[ex.Claims[C, tuple[str, str]], ...]:
    """The variance of kernels over networks falls like one over a size, before and after training.

    Of gradients after training only that it falls faster than the root: heads learn different
    things.

    Args:
        name: of the claims, with `kind` and `word` in braces.
        what: of which kernel, with `kind` in braces.
        kinds: of kernels.
        sizes: of the networks; nothing is claimed for a single one.
        rows: fluctuations of a kind, before or after.
        along: symbol of the size.
    """

    def over(config: C, *, told: bool) -> list[tuple[str, str]]:
        every = [(kind, word) for word in common.WHEN for kind in kinds]
        every = [at for at in every if (at != ("gradient", "after")) is told]
        return every if len(sizes(config)) > 1 else []

    def estimate(found: ex.Found[C], at: tuple[str, str]) -> Estimate:
        return rate(sizes(found.config), rows(found, *at))

    subject = f"The variance over networks of the {what} falls"
    root = ex.Rival[C, tuple[str, str]](f"like ${along}^{{-1/2}}$", -0.5)
    exact = ex.Claims(
        name,
        lambda found, at: f"{subject.format(kind=at[0])} like $1/{along}$ {at[1]} training.",
        estimate=estimate,
        prediction=-1.0,
        tol=0.25,
        over=lambda config: over(config, told=True),
        rivals=(root, ex.Rival(f"like ${along}^{{-2}}$", -2.0)),
        decided_by="standard",
    )
    bound = ex.Claims(
        name,
        lambda found, at: (
            f"{subject.format(kind=at[0])} faster than ${along}^{{-1/2}}$ {at[1]} training."
        ),
        estimate=estimate,
        prediction=-0.5,
        tol=0.0,
        over=lambda config: over(config, told=False),
        rivals=(root, ex.Rival("it does not fall", 0.0)),
        one_sided=True,
        decided_by="standard",
    )
    return exact, bound


def heads_differ(
    along: Callable[[ex.Found[S], str, float], Sequence[common.Trained]],
) -> tuple[ex.Claims[S, tuple[float, str]], ...]:
    """Laws of scores over heads along N: the one of the start, and what is left of it in the end.

    Args:
        along: what was found along an axis at an exponent.
    """

    def estimate(found: ex.Found[S], at: tuple[float, str]) -> Estimate:
        alpha_A, word = at
        networks = along(found, "N", alpha_A)
        return rate(found.config.sizes.values("N"), head_deviations(networks, word))

    def over(config: S, word: str, falls: bool | None = None) -> list[tuple[float, str]]:
        exponents = config.exponents if len(config.sizes.head_dims) > 1 else ()
        return [(one, word) for one in exponents if falls is None or (one > 0.5) is falls]

    def slower(found: ex.Found[S], at: tuple[float, str]) -> Estimate:
        start, end = estimate(found, (at[0], "before")), estimate(found, at)
        return Estimate(start.value - end.value, float(np.hypot(start.stderr, end.stderr)), 1)

    def at_one(config: S, at: tuple[float, str]) -> bool:
        return at[0] == 1

    def at_half(config: S, at: tuple[float, str]) -> bool:
        return at[0] == 0.5

    start = ex.Claims(
        "head-variance-N-{alpha_A:g}-{word}",
        lambda found, at: (
            f"At $\\alpha_A = {at[0]:g}$ the variance of scores over heads goes like "
            f"$N^{{{1 - 2 * at[0]:g}}}$ {at[1]} training."
        ),
        estimate=estimate,
        prediction=lambda found, at: 1 - 2 * at[0],
        tol=0.15,
        over=lambda config: over(config, "before"),
        rivals=(
            ex.Rival("$N^{2 - 2\\alpha_A}$", lambda found, at: 2 - 2 * at[0]),
            ex.Rival("that of the deviation, $N^{1/2 - \\alpha_A}$", -0.5, when=at_one),
            ex.Rival("the printed $N^{-2}$ of trained heads", -2.0, when=at_one),
            ex.Rival("$N^{-\\alpha_A}$", -0.5, when=at_half),
            ex.Rival("$1/N$ at every $\\alpha_A$", -1.0, when=at_half),
        ),
    )
    falls = ex.Claims(
        "head-variance-N-{alpha_A:g}-{word}",
        lambda found, at: (
            f"At $\\alpha_A = {at[0]:g}$ the variance of scores over heads falls with $N$ after "
            "training too (its exponent is below 0)."
        ),
        estimate=estimate,
        prediction=0.0,
        tol=0.0,
        over=lambda config: over(config, "after", falls=True),
        rivals=(ex.Rival("it stays, as at 1/2", 0.0),),
        one_sided=True,
    )
    more_slowly = ex.Claims(
        "head-variance-N-{alpha_A:g}-slower-{word}",
        lambda found, at: (
            f"At $\\alpha_A = {at[0]:g}$ it falls more slowly {at[1]} training than before: heads "
            "have learned different things (the exponent before less that after is below 0)."
        ),
        estimate=slower,
        prediction=0.0,
        tol=0.0,
        over=lambda config: over(config, "after", falls=True),
        rivals=(ex.Rival("one law throughout", 0.0), ex.Rival("$N^{-2}$ in the end", 1.0)),
        one_sided=True,
        decided_by="standard",
    )
    stays = ex.Claims(
        "head-variance-N-{alpha_A:g}-{word}",
        lambda found, at: (
            f"At $\\alpha_A = {at[0]:g}$ the law over heads stays nearly the same along $N$ "
            f"{at[1]} training: the exponent of its variance is 0."
        ),
        estimate=estimate,
        prediction=0.0,
        tol=0.2,
        over=lambda config: over(config, "after", falls=False),
        rivals=(
            ex.Rival("it falls like $N^{-1/2}$", -0.5),
            ex.Rival("it grows like $N^{1/2}$", 0.5),
            ex.Rival("it falls like $1/N$, as at 1", -1.0),
        ),
        decided_by="standard",
    )
    return start, falls, more_slowly, stays


def more_heads_lower_loss(
    along: Callable[[ex.Found[S], str], Sequence[common.Trained]],
) -> ex.Claims[S, ex.Alone]:
    """The loss with the most heads is below that with the fewest.

    Args:
        along: what was found along an axis.
    """

    def statement(found: ex.Found[S], at: ex.Alone) -> str:
        heads = found.config.sizes.values("H")
        return (
            f"With {heads[-1]} heads the loss on the probe at the end is below that with "
            f"{heads[0]} (the difference is below 0)."
        )

    def difference(found: ex.Found[S], at: ex.Alone) -> Estimate:
        networks = along(found, "H")
        few, many = (Estimate.over_seeds(one.final_losses()) for one in (networks[0], networks[-1]))
        return Estimate(many.value - few.value, float(np.hypot(many.stderr, few.stderr)), few.count)

    return ex.Claims(
        "more-heads-lower-loss",
        statement,
        estimate=difference,
        prediction=0.0,
        tol=0.0,
        over=ex.alone,
        rivals=(ex.Rival("no effect", 0.0),),
        one_sided=True,
    )
