r"""Softmax particles against their Gaussian closure over the number of tokens.

Final moments of Gaussian clouds (float32) are set beside the closure from the law (population: the
distance is that of sampling) and from each cloud's own moments (matched: less noise of the start).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, figures, observe
from translimit.core import Estimate
from translimit.experiments.castin2025 import one_cloud
from translimit.experiments.castin2025.canonical import (
    BLOW_UP,
    CLOSED,
    COV,
    MEAN,
    V,
    closures,
    flow_clouds,
    gaussian_clouds,
    paired,
    symbol,
)
from translimit.experiments.castin2025.pictures import RATE, RATE_COLUMNS, rate_rows, said_rate
from translimit.experiments.castin2025.wrong_closures import LAWS, carried, rival, variant_field
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    OneOf,
    Replicates,
    Sizes,
    Within,
    require_one_each,
)

#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variant: the attention of the clouds, one with a closure.
        tokens: numbers of tokens n of the clouds.
        clouds: independent clouds at each of these n.
        t1: final depth of the clouds, well before the closure's blow-up at 3.93.
        steps: Runge-Kutta steps of the clouds to t1; picture_tokens: of the cloud that is drawn.
    """

    variant: Annotated[str, OneOf(CLOSED)] = "softmax"
    tokens: Sizes = (100, 200, 400, 800)
    clouds: Replicates = (2048, 1024, 512, 400)
    t1: Annotated[float, Within(0, BLOW_UP, above=True, below=True)] = 0.8
    steps: Count = 8
    picture_tokens: Count = 1000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)

    def clouds_of(self, tokens: int) -> int:
        """How many clouds of a number of tokens there are."""
        return self.clouds[self.tokens.index(tokens)]


@dataclass(frozen=True)
class Clouds(ex.Arrays):
    """Moments of clouds at t1, and those that the closure predicts."""

    moment: Shaped[np.ndarray, " moment"]
    particles: Annotated[Float[np.ndarray, "cloud moment"], "moments of the clouds"]
    matched: Annotated[Float[np.ndarray, "law cloud moment"], "by `LAWS`, matched start"]
    shape: Annotated[Float[np.ndarray, " cloud"], "largest eigenvalue over trace, at the start"]
    population: Annotated[Float[np.ndarray, " moment"], "closure of the law"]
    discretisation: Annotated[float, "step error of the clouds"]

    def squares(self, kind: str) -> Float[np.ndarray, " cloud"]:
        """Squared distance of the moments to a closure, `population` or `matched`."""
        closure = self.population if kind == "population" else self.matched[0]
        return ((self.particles - closure) ** 2).sum(axis=1)


def compute_clouds(config: Config, tokens: int, keys: ex.Keys) -> Clouds:
    """Clouds in float32, their closures in float64."""
    import jax

    count = config.clouds_of(tokens)
    initial = gaussian_clouds(keys.own, count, tokens)
    final = np.asarray(flow_clouds(config.t1, config.steps, config.variant)(initial))
    few = slice(0, min(4, count))
    fine = np.asarray(flow_clouds(config.t1, 2 * config.steps, config.variant)(initial[few]))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    with jax.enable_x64(True):
        # The last is the law itself.
        means, covs = observe.moments(initial)
        start = np.concatenate([means, MEAN[None]]), np.concatenate([covs, COV[None]])
        closed = closures(config.t1, config.variant)(*start)
        predicted = observe.moment_vector(*map(np.asarray, closed))
    wrong = [
        carried(variant_field(config.variant, law), V, V, means, covs, config.t1)
        for law in LAWS[1:]
    ]
    return Clouds(
        moment=np.array(observe.moment_names(2)),
        particles=particles,
        matched=np.stack([predicted[:-1], *(observe.moment_vector(*one) for one in wrong)]),
        shape=observe.anisotropy(covs),
        population=predicted[-1],
        discretisation=float(step_error),
    )


def compute_picture(config: Config, at: ex.Alone, keys: ex.Keys) -> one_cloud.OneCloud:
    """In float64."""
    return one_cloud.follow(config.variant, config.picture_tokens, keys.own)


def _cost(config: Config, tokens: int) -> ex.Cost:
    """Compilation, and the pairs of tokens evaluated."""
    count = config.clouds_of(tokens)
    pairs = 6 * config.steps * tokens**2 * count
    return ex.Cost(5.0 + SECONDS_PER_PAIR * pairs, 6e8 + 64.0 * tokens * count)


CLOUDS = ex.Part(
    "clouds/n={tokens}",
    Clouds,
    compute_clouds,
    # The largest clouds first, so that they do not end the run alone.
    grid=lambda c: sorted(c.tokens, reverse=True),
    cost=_cost,
)
PICTURE = ex.Part(
    "picture",
    one_cloud.OneCloud,
    compute_picture,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0, 6e8),
)


def _largest(
    found: ex.Found[Config], moment: str, law: str = LAWS[0]
) -> tuple[np.ndarray, np.ndarray, float]:
    """A moment of the largest clouds, what matched closures predict, and the step error."""
    final = found(CLOUDS, max(found.config.tokens))
    predicted = final.matched[LAWS.index(law)]
    if moment == "anisotropy":
        return _shape(final.particles), _shape(predicted), final.discretisation
    place = final.moment.tolist().index(moment)
    return final.particles[:, place], predicted[:, place], final.discretisation


def _shape(moments: Float[np.ndarray, "cloud moment"]) -> Float[np.ndarray, " cloud"]:
    """The largest eigenvalue over the trace."""
    return observe.anisotropy(moments[:, [2, 3, 3, 4]].reshape(-1, 2, 2))


def _anisotropy(found: ex.Found[Config], start: bool = False) -> Estimate:
    """Of the largest clouds, with the error of its difference to the closure or to the start."""
    one, other, discretisation = _largest(found, "anisotropy")
    if start:
        other = found(CLOUDS, max(found.config.tokens)).shape
    return paired(one, other, discretisation)


def _wrong(law: str, *only: str) -> ex.Rival[Config, str]:
    """A wrong closure, for the moments (all by default) that it changes."""
    return rival(
        law,
        lambda found, at, law: _largest(found, at, law)[:2],
        lambda c, at: not only or at in only,
    )


def _rates(found: ex.Found[Config]) -> Mapping[str, core.RateFit]:
    """Fitted rates of both distances over n."""
    clouds = [found(CLOUDS, tokens) for tokens in found.config.tokens]
    return {
        kind: core.fit_rate(found.config.tokens, [np.sqrt(one.squares(kind)) for one in clouds])
        for kind in ("population", "matched")
    }


RATES = (
    ex.Rival[Config, str]("no dependence on $n$", 0.0),
    ex.Rival[Config, str]("$n^{-1/4}$", -0.25),
    ex.Rival[Config, str]("$n^{-1}$, of a bias", -1.0),
    ex.Rival[Config, str]("$n^{-2/3}$", -2 / 3),
)
KINDS = {
    "sampling": ("population", "The distance of a cloud's moments to the closure of its law"),
    "matched": ("matched", "The distance of a cloud's moments to the closure of its own start"),
}

CLAIMS = (
    ex.Claims(
        "closure-{moment}",
        lambda found, moment: (
            f"The closure predicts ${symbol(moment)}$ of a Gaussian cloud at depth "
            f"{found.config.t1:g} (n = {max(found.config.tokens)}, matched initial moments)."
        ),
        estimate=lambda found, moment: paired(*_largest(found, moment)),
        prediction=lambda found, moment: float(_largest(found, moment)[1].mean()),
        tol=0.005,
        over=lambda c: observe.moment_names(2),
        rivals=(
            _wrong("queries and keys swapped"),
            _wrong("scores times 1.1", "alpha_1", "Sigma_11"),
            _wrong("a term dropped"),
        ),
    ),
    ex.claim(
        "anisotropy",
        "The closure carries the anisotropy $\\lambda_{\\max} / \\mathrm{tr}\\,\\Sigma$ of a cloud "
        "along depth (largest clouds, matched initial moments).",
        _anisotropy,
        lambda found: float(_largest(found, "anisotropy")[1].mean()),
        0.005,
        rivals=(
            ex.Rival(
                "it stays constant",
                lambda found, at: float(found(CLOUDS, max(found.config.tokens)).shape.mean()),
                lambda found, at: _anisotropy(found, start=True),
            ),
            ex.Rival("it is 1: a line", 1.0),
            rival(
                "queries and keys swapped",
                lambda found, at, law: _largest(found, "anisotropy", law)[:2],
            ),
        ),
    ),
    ex.Claims(
        "{kind}-rate",
        lambda found, kind: f"{KINDS[kind][1]} falls like $n^{{-1/2}}$.",
        estimate=lambda found, kind: found.once(_rates)[KINDS[kind][0]].estimate(),
        prediction=-0.5,
        tol=0.06,
        over=lambda c: tuple(KINDS),
        rivals=RATES,
    ),
)


def _distances(found: ex.Found[Config]) -> Iterator[figures.Row]:
    sizes = found.config.tokens
    for kind, fit in found.once(_rates).items():
        errors = [np.sqrt(found(CLOUDS, tokens).squares(kind)) for tokens in sizes]
        for row in rate_rows(sizes, errors, fit, -0.5):
            yield (kind, *row)


FIGURES = (
    ex.Figure(
        name="picture",
        title="A cloud of tokens and the Gaussian that predicts it",
        caption="One cloud of {picture_tokens} tokens under {variant} attention "
        "(points) and the Gaussian closure started from the law they were drawn from (ellipses of "
        "one and two standard deviations), at four depths $t$. Nothing is fitted. Components are "
        "dimensionless.",
        columns=("t", *observe.moment_names(2)),
        rows=lambda found: found(PICTURE).laws(),
        draw=lambda canvas, table, found: one_cloud.draw_picture(canvas, found(PICTURE)),
        shown=lambda found, table: 1,
        size=(10.0, 3.4),
    ),
    ex.Figure(
        name="moments",
        title="The mean and the shape of a cloud along depth",
        caption="The cloud of the picture, {picture_tokens} tokens (markers), and the "
        "closure of the law it was drawn from (lines): the mean $\\alpha(t)$, and the share of the "
        "largest eigenvalue in the trace of the covariance, 1/2 if isotropic and 1 on a line. One "
        "cloud, without error bars. Dimensionless.",
        columns=one_cloud.MOMENTS,
        rows=lambda found: found(PICTURE).moments(),
        x="t",
        layers=one_cloud.MOMENT_PANELS,
        xlabel="depth $t$",
        shown=lambda found, table: 1,
        size=(9.0, 3.8),
    ),
    ex.Figure(
        name="tokens",
        title="From finite clouds to the Transformer PDE",
        caption=lambda found: (
            "Root mean square over clouds of the Euclidean distance between the five moments "
            f"(mean and covariance) of a cloud at depth $t = {found.config.t1:g}$ and the Gaussian "
            "closure, against the number of tokens; "
            f"{', '.join(map(str, found.config.clouds))} independent clouds a point, bars of one "
            "standard error. Left: the closure of the law, right: that of each cloud's own start. "
            f"Dashed: fitted rates {', '.join(map(said_rate, found.once(_rates).values()))}; "
            "solid: -1/2. Moments are dimensionless."
        ),
        columns=("kind", "tokens", *RATE_COLUMNS),
        rows=_distances,
        x="tokens",
        panels="kind",
        layers=RATE,
        xlabel="tokens $n$",
        ylabel="rms distance of the moments",
        log="xy",
        size=(9.0, 4.2),
        shown=lambda found, table: sum(found.config.clouds),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/particles-and-closure",
    title="Softmax particles and their Gaussian closure",
    question="How many tokens until a cloud follows its Gaussian closure?",
    summary="Gaussian tokens that attend to each other by softmax attention stay Gaussian in the "
    "limit of many tokens, and mean and covariance obey a small closed system. Clouds of $n$ "
    "tokens are set beside that closure, and their distance is fitted against $n$.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            tokens=(100, 200, 400, 800, 1600, 3200),
            clouds=(2048, 2048, 1024, 512, 192, 64),
            picture_tokens=3000,
        ),
        "paper": Config(
            tokens=(100, 200, 400, 800, 1600, 3200, 6400, 12800),
            clouds=(4096, 4096, 2048, 1024, 512, 256, 128, 64),
            picture_tokens=3000,
        ),
    },
    reference=core.reference("castin2025"),
    parts=(CLOUDS, PICTURE),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "In the largest clouds $\\Sigma_{{11}}$ is {0}; distances go like tokens to the power {1}",
        ("closure-Sigma_11", "sampling-rate"),
    ),
)
