r"""How fast kernels and laws of heads of trained networks approach what they are at large sizes.

The distance of a kernel K of one network from that of the largest size is
|K - K_ref|^2 / |K_ref|^2 (Frobenius), K_ref the mean over the seeds of the largest size. Its
fluctuation is (n / (n - 1))^(1/2) |K - K_mean| / |K_mean| with the mean over the n seeds of its own
size: along the heads its square goes like 1 / H, and no largest size enters, whose own distance
from the limit would.

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


def fluctuations(kernels: Float[np.ndarray, "seed n n"]) -> Float[np.ndarray, " seed"]:
    """Relative distances (not squared) of every seed's kernel from their mean."""
    kernels = np.asarray(kernels, dtype=float)
    mean = kernels.mean(axis=0)
    scale = (len(kernels) / (len(kernels) - 1)) ** 0.5 / np.linalg.norm(mean)
    return scale * np.linalg.norm(kernels - mean, axis=(1, 2))


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
    """Deviations of the logits over heads, of every size.

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
    heads: Callable[[C], Sequence[int]],
    rows: Callable[[ex.Found[C], str, str], Rows],
) -> ex.Claims[C, tuple[str, str]]:
    """The variance of kernels over networks falls like 1 / H, before and after training.

    Args:
        name: of the claims, with `kind` and `word` in braces.
        what: of which kernel, with `kind` in braces.
        kinds: of kernels.
        heads: numbers of heads; nothing is claimed for a single one.
        rows: fluctuations of a kind, before or after.
    """

    def over(config: C) -> list[tuple[str, str]]:
        every = [(kind, word) for word in common.WHEN for kind in kinds]
        return every if len(heads(config)) > 1 else []

    return ex.Claims(
        name,
        lambda found, at: (
            f"The variance over networks of the {what.format(kind=at[0])} falls like $1/H$ "
            f"{at[1]} training."
        ),
        estimate=lambda found, at: rate(heads(found.config), rows(found, *at)),
        prediction=-1.0,
        tol=lambda config, at: 0.4 if at[1] == "before" else 0.5,
        over=over,
    )


def more_heads_no_worse(
    along: Callable[[ex.Found[S], str], Sequence[common.Trained]],
) -> ex.Claims[S, ex.Alone]:
    """The loss with the most heads is not above that with the fewest.

    Args:
        along: what was found along an axis.
    """

    def statement(found: ex.Found[S], at: ex.Alone) -> str:
        heads = found.config.sizes.values("H")
        return (
            f"With {heads[-1]} heads the loss on the probe at the end is not above that with "
            f"{heads[0]}."
        )

    def difference(found: ex.Found[S], at: ex.Alone) -> Estimate:
        networks = along(found, "H")
        few, many = networks[0].final_losses(), networks[-1].final_losses()
        error = np.hypot(few.std(ddof=1), many.std(ddof=1)) / len(few) ** 0.5
        return Estimate(float(many.mean() - few.mean()), float(error), len(few))

    return ex.Claims(
        "more-heads-no-worse",
        statement,
        estimate=difference,
        prediction=0.0,
        tol=0.02,
        over=ex.alone,
        one_sided=True,
    )
