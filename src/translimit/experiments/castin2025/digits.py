r"""Real tokens under softmax attention beside the Gaussian closure with their moments.

Handwritten digits are cut into patches; the patches of a group of images, centred and put on one
common scale, are a cloud of tokens in R^(patch^2). The law of such tokens is far from Gaussian (a
quarter of them are blank), so the closure is not exact for them, however many there are. Three
things flow to t1:

- the patches themselves;
- a surrogate cloud: Gaussian tokens, as many, with exactly the same mean and covariance;
- the closure started from these moments.

What separates surrogate and closure is the finite number of tokens; what separates patches and
closure beyond that is non-Gaussianity. Both are measured over the strength of attention, the
largest eigenvalue of Sigma A^T Sigma A, with several random draws of Q, K and V, none left out.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import core, data, figures
from translimit.experiments.castin2025.digit_claims import CLAIMS, DRAW, TOLERANCE, Config, draws_of
from translimit.experiments.castin2025.digit_clouds import Measured, covariance_error
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The clouds, with the columns of their numbers and errors in the tables.
KINDS = {
    "digits": ("digit patches", "patches", "stderr"),
    "surrogate": ("Gaussian tokens, same moments", "Gaussian tokens", "stderr (Gaussian)"),
}

#: The columns of both.
ERRORS = tuple(column for _, *columns in KINDS.values() for column in columns)


def _covariances(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Entries of the covariances of the first group, at final depth and the last strength."""
    one = found(DRAW, 0)
    covs = [cov[-1, 0, -1] for cov in (one.digits_cov, one.surrogate_cov, one.closure_cov)]
    for name, i, j in (("Sigma_11", 0, 0), ("Sigma_12", 0, 1), ("Sigma_22", 1, 1)):
        yield (name, *(float(cov[i, j]) for cov in covs))


def _draw_tokens(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """An image with its patches, and clouds at first and last depth."""
    one = found(DRAW, 0)
    image, *axes = canvas.subplots(1, 4, width_ratios=(0.8, 1, 1, 1))
    image.imshow(16 - data.load_digits().images[0], cmap="gray", extent=(0, 8, 8, 0))
    for line in range(0, 9, found.config.patch):
        image.axhline(line, color=figures.COLOURS[1], linewidth=1.2)
        image.axvline(line, color=figures.COLOURS[1], linewidth=1.2)
    image.set_title("an image and its patches", fontsize="medium")
    image.set_axis_off()
    shown = [
        Cloud(
            f"{name}, $t = {float(one.time[when]):g}$",
            one.clouds(kind).tokens[when],
            one.closure_mean[-1, 0, when],
            one.closure_cov[-1, 0, when],
        )
        for kind, when, name in (
            ("digits", 0, "patches"),
            ("digits", -1, "patches"),
            ("surrogate", -1, "surrogate"),
        )
    ]
    extent = figures.common_extent(one.digits_tokens, one.surrogate_tokens)
    draw_clouds(canvas, axes, shown, extent)


def _errors(found: ex.Found[Config]) -> Iterator[figures.Row]:
    draws = draws_of(found)
    for place, strength in enumerate(found.config.strengths):
        for index, time in enumerate(draws[0].time.tolist()):
            errors = [covariance_error(draws, kind, place, index) for kind in KINDS]
            yield (strength, time, *(part for one in errors for part in (one.value, one.stderr)))


def _over_groups(
    found: ex.Found[Config], array: Callable[[Measured], np.ndarray]
) -> list[list[float]]:
    """Mean over draws and groups of an array [point, group], with its standard error over groups.

    One row for each point, with both numbers for each kind of cloud.
    """
    columns = []
    for kind in KINDS:
        groups = np.stack([array(one.clouds(kind)) for one in draws_of(found)]).mean(axis=0)
        columns.append(groups.mean(axis=1))
        columns.append(groups.std(axis=1, ddof=1) / np.sqrt(groups.shape[1]))
    return np.column_stack(columns).tolist()


def _gaussianity(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Of the field over strengths, and of the kurtosis along depth at the last strength."""
    config = found.config
    fields = _over_groups(found, lambda one: one.field_error)
    kurtosis = _over_groups(found, lambda one: one.kurtosis[-1].T)
    times = found(DRAW, 0).time.tolist()
    for kind, places, rows in (("field", config.strengths, fields), ("kurtosis", times, kurtosis)):
        for place, row in zip(places, rows, strict=True):
            yield (kind, place, *row)


def _layers() -> tuple[figures.Layer, ...]:
    """Both kinds of clouds."""
    return tuple(
        figures.points(column, stderr, label=label, series=series, joined=True)
        for series, (label, column, stderr) in enumerate(KINDS.values())
    )


def _shown(found: ex.Found[Config], table: figures.Table) -> int:
    """All flows of a kind."""
    config = found.config
    return config.draws * config.groups * len(config.strengths)


FIGURES = (
    ex.Figure(
        name="tokens",
        title="Digit patches as tokens, before and after attention",
        caption="First two pixels of {tokens} patches of {images} images at depth 0 "
        "and {t1:g}, and of Gaussian tokens with the same initial moments; ellipses (one "
        "and two standard deviations) are the closure started from these moments. One draw of "
        "$(Q, K, V)$, one group, attention of strength {strongest:g}. Pixel values are centred and "
        "put on one common scale, so that the mean variance of a pixel is one.",
        columns=("entry at final depth", "patches", "surrogate", "closure"),
        rows=_covariances,
        draw=_draw_tokens,
        shown=lambda found, table: 1,
        size=(11.0, 3.3),
    ),
    ex.Figure(
        name="depth",
        title="How far the closure holds for real tokens",
        caption="Relative Frobenius error of the closure's covariance along depth, root mean "
        "square over {draws} draws of $(Q, K, V)$, for digit patches and for Gaussian "
        "tokens with the same moments; {groups} disjoint groups of {images} images "
        "({tokens} tokens each), bars of one jackknife standard error over groups. A "
        "value below zero is a jackknife estimate of an error that is not resolved.",
        columns=("strength", "t", *ERRORS),
        rows=_errors,
        x="t",
        panels="strength",
        titles="strength {}",
        layers=(
            *_layers(),
            figures.level(0.0, label="closure"),
            figures.level(TOLERANCE, label="tolerance", dash="1.5 2"),
        ),
        xlabel="depth $t$",
        ylabel="relative error of the covariance",
        shown=_shown,
        size=(9.5, 3.6),
    ),
    ex.Figure(
        name="gaussianity",
        title="Where the difference comes from",
        caption="Left: relative root mean square difference between the velocity of the tokens and "
        "the affine field of the Gaussian with their moments, at depth 0. Right: excess kurtosis "
        "along the first principal axis (0 for a Gaussian) along depth. Means over "
        "{draws} draws, bars of one standard error over {groups} groups.",
        columns=("quantity", "strength or depth", *ERRORS),
        rows=_gaussianity,
        x="strength or depth",
        layers=(
            figures.panel(
                "field at $t = 0$",
                *_layers(),
                where={"quantity": "field"},
                xlabel="attention strength",
                ylabel="relative error of the field",
                log="x",
                ylim=(0.0, None),
            ),
            figures.panel(
                "the last strength",
                *_layers(),
                figures.level(0.0, label="Gaussian"),
                where={"quantity": "kurtosis"},
                xlabel="depth $t$",
                ylabel="excess kurtosis, first principal axis",
            ),
        ),
        shown=_shown,
        size=(9.0, 3.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/digits",
    title="Digit patches under softmax attention, beside the closure with their moments",
    question="Does the Gaussian closure hold for real tokens?",
    summary="The Gaussian closure is exact for Gaussian tokens. Real tokens are not Gaussian: a "
    "quarter of the $2 \\times 2$ patches of handwritten digits are blank. Clouds of patches, "
    "Gaussian surrogates with the same moments and the closure flow side by side, from weak to "
    "strong attention, and the errors say how far the closure carries over.",
    citations=("castin2025", "digits", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(images=160, groups=10, draws=8, strengths=(0.1, 0.3, 1.0), steps=12),
        "paper": Config(images=224, groups=8, draws=16, strengths=(0.1, 0.3, 1.0), steps=16),
    },
    reference=core.reference("castin2025"),
    parts=(DRAW,),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "Under weak attention (strength 0.3) the closure misses the covariance of digit patches by "
        "a relative error of {0}; under strong attention (strength 1) by {1:negated}",
        ("digits-covariance-0.3", "digits-departure-1"),
    ),
)
