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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, data, figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.castin2025.digit_clouds import (
    Draw,
    Measured,
    attentions,
    closures,
    clouds,
    covariance_error,
    mean_error,
    measure,
)
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds
from translimit.experiments.checked import CheckedConfig, Count, Positive, Positives, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Seconds for one pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2.5e-9
#: The largest relative error that the claims call agreement.
TOLERANCE = 0.05
#: The clouds, with the columns of their numbers and errors in the tables.
KINDS = {
    "digits": ("digit patches", "patches", "stderr"),
    "surrogate": ("Gaussian tokens, same moments", "Gaussian tokens", "stderr (Gaussian)"),
}

#: The columns of both.
ERRORS = tuple(column for _, *columns in KINDS.values() for column in columns)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        patch: side of a patch; tokens live in R^(patch^2), and an image gives (8 / patch)^2.
        images: images in a group; its patches are one cloud.
        groups: disjoint groups, the replicates behind every error bar.
        draws: random draws of (Q, K, V).
        strengths: largest eigenvalues of Sigma A^T Sigma A; Q, K are scaled to have them.
        t1: final depth. With ||V|| = 1 the closure of centred tokens can not blow up before
            1 / (2 sqrt(strength)).
        steps: Runge-Kutta steps of the clouds to t1.
        saves: times kept, the first and the last included.
    """

    patch: Count = 2
    images: Count = 80
    groups: Annotated[int, Within(3)] = 6
    draws: Annotated[int, Within(1, 1000)] = 4
    strengths: Positives = (0.1, 0.3, 1.0)
    t1: Positive = 0.45
    steps: Count = 8
    saves: Annotated[int, Within(2)] = 5

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if 8 % self.patch:
            raise ConfigError("patch", f"{self.patch} does not divide 8", "pass 1, 2, 4 or 8")
        if self.images * self.groups > data.DIGITS:
            raise ConfigError(
                "images",
                f"{self.images} in groups = {self.groups} are more than the {data.DIGITS} digits",
                "pass fewer images or groups",
            )

    @property
    def tokens(self) -> int:
        """Tokens of one cloud."""
        return self.images * (8 // self.patch) ** 2

    @property
    def strongest(self) -> float:
        """The last strength, whose tokens are drawn."""
        return self.strengths[-1]


def compute(config: Config, draw: int, keys: ex.Keys) -> Draw:
    """All groups and strengths; the clouds are the same in every cell."""
    patches, gaussian = clouds(keys.shared("clouds"), config.groups, config.images, config.patch)
    maps = attentions(keys.own, patches, config.strengths)
    ts = np.linspace(0.0, config.t1, config.saves)
    mean, cov = closures(maps, patches, ts)
    return Draw(
        strength=np.array(config.strengths),
        time=ts,
        closure_mean=mean,
        closure_cov=cov,
        **measure(maps, patches, ts, config.steps).named("digits"),
        **measure(maps, gaussian, ts, config.steps).named("surrogate"),
    )


def _cost(config: Config, draw: int) -> ex.Cost:
    """A share of compilation, and pairs of tokens."""
    pairs = 2 * config.groups * len(config.strengths) * config.tokens**2 * 6 * config.steps
    return ex.Cost(30.0 / config.draws + SECONDS_PER_PAIR * pairs, 8e8)


DRAW = ex.Part("draw={draw}", Draw, compute, grid=lambda c: range(c.draws), cost=_cost)


def _error(found: ex.Found[Config], at: tuple[str, float]) -> Estimate:
    """At final depth."""
    name, strength = at
    draws, place = _draws(found), found.config.strengths.index(strength)
    if name == "digits-mean":
        return mean_error(draws, "digits", place, -1)
    return covariance_error(draws, name.split("-")[0], place, -1)


def _draws(found: ex.Found[Config]) -> list[Draw]:
    return [one for _, one in found.each(DRAW)]


#: What is claimed of the closure, by name; the strength of attention follows in brackets.
STATEMENTS = {
    "digits-covariance": "The closure predicts the covariance of digit patches at $t = {t1:g}$ "
    f"within {TOLERANCE:.0%} (attention of strength {{strength:g}}).",
    "digits-mean": "The closure predicts the mean of digit patches at $t = {t1:g}$ within "
    f"{TOLERANCE:.0%} of their standard deviation (strength {{strength:g}}).",
    "surrogate-covariance": "The closure predicts the covariance of as many Gaussian tokens with "
    f"the same moments within {TOLERANCE:.0%} (strength {{strength:g}}).",
}

HOLDS = ex.Claims(
    "{name}-{strength:g}",
    lambda found, at: STATEMENTS[at[0]].format(t1=found.config.t1, strength=at[1]),
    estimate=_error,
    prediction=0.0,
    tol=TOLERANCE,
    over=lambda c: [(name, strength) for strength in c.strengths for name in STATEMENTS],
)


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
    draws = _draws(found)
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
        groups = np.stack([array(one.clouds(kind)) for one in _draws(found)]).mean(axis=0)
        columns.append(groups.mean(axis=1))
        columns.append(groups.std(axis=1, ddof=1) / np.sqrt(groups.shape[1]))
    return np.column_stack(columns).tolist()


def _field_errors(found: ex.Found[Config]) -> Iterator[figures.Row]:
    errors = _over_groups(found, lambda one: one.field_error)
    for strength, row in zip(found.config.strengths, errors, strict=True):
        yield (strength, *row)


def _layers(prefix: str = "") -> tuple[figures.Layer, ...]:
    """Both kinds of clouds."""
    return tuple(
        figures.points(prefix + column, stderr, label=label, series=series, joined=True)
        for series, (label, column, stderr) in enumerate(KINDS.values())
    )


def _draw_gaussianity(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """The field over strength on the left, kurtosis along depth on the right."""
    field = figures.Layout(
        x="strength",
        xlabel="attention strength",
        ylabel="relative error of the field at $t = 0$",
        log="x",
        ylim=(0.0, None),
    ).charts(table, _layers("field error, "), "Field")
    kurtosis = _over_groups(found, lambda one: one.kurtosis[-1].T)
    times = found(DRAW, 0).time.tolist()
    rows = tuple((time, *row) for time, row in zip(times, kurtosis, strict=True))
    (shape,) = figures.Layout(
        x="t", xlabel="depth $t$", ylabel="excess kurtosis, first principal axis"
    ).charts(
        figures.Table(("t", *ERRORS), rows),
        (*_layers(), figures.level(0.0, label="Gaussian")),
        "Kurtosis",
    )
    strongest = replace(shape, title=f"strength {found.config.strongest:g}")
    figures.draw_charts([*field, strongest], canvas)


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
        columns=(
            *("strength", "field error, patches", "stderr"),
            *("field error, Gaussian tokens", "stderr (Gaussian)"),
        ),
        rows=_field_errors,
        draw=_draw_gaussianity,
        shown=_shown,
        size=(9.0, 3.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/digits",
    title="Digit patches under softmax attention, beside the closure with their moments",
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
    claims=(HOLDS,),
    figures=FIGURES,
)
