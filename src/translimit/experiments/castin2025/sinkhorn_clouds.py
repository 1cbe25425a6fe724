r"""Gaussian clouds under Sinkhorn attention, beside its closure.

Clouds flow to t1 in float32; their final moments stand beside the closure started from the law
(population) and from each cloud's own moments (matched), in float64. The mean of any cloud is
e^(tV) times its start, because the columns of the attention matrix sum to one.

Reference: Castin et al., arXiv 2501.18322; documentation, "The variants of attention side by
side", closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import attention, core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import (
    COV,
    MEAN,
    K,
    Q,
    V,
    closures,
    curves,
    flow_clouds,
    gaussian_clouds,
    symbol,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Positive,
    Replicates,
    Sizes,
    require_one_each,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOMENTS = observe.moment_names(2)
#: Clouds that are solved with finer steps too, and under other closures.
FEW = 4
#: Bound of n times the bias of a matched moment.
BIAS = 0.2
#: The two closures: labels in the figure, and columns of its table.
LABELS = {"population": "closure of the law", "matched": "closure, matched initial moments"}
COLUMNS = {
    "population": ("rms to law", "stderr"),
    "matched": ("rms to matched closure", "stderr (matched)"),
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        tokens: numbers of tokens n of the clouds.
        clouds: independent clouds at each of these n.
        t1: final depth.
        steps: Runge-Kutta steps of the clouds to t1.
    """

    tokens: Sizes = (50, 100, 200)
    clouds: Replicates = (512, 256, 128)
    t1: Positive = 0.8
    steps: Count = 8

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)

    def clouds_of(self, tokens: int) -> int:
        """How many clouds have so many tokens."""
        return self.clouds[self.tokens.index(tokens)]

    @property
    def counts(self) -> str:
        """The numbers of clouds, as a list."""
        return ", ".join(map(str, self.clouds))


@dataclass(frozen=True)
class Clouds(ex.Arrays):
    """Final moments, cloud by cloud."""

    moment: Shaped[np.ndarray, " moment"]
    particles: Annotated[Float[np.ndarray, "cloud moment"], "moments of the clouds"]
    matched: Annotated[Float[np.ndarray, "cloud moment"], "closure, matched start"]
    population: Annotated[Float[np.ndarray, " moment"], "closure of the law"]
    softmax: Annotated[Float[np.ndarray, "cloud moment"], "closure of softmax, matched start"]
    exchanged: Annotated[
        Float[np.ndarray, "few moment"], "closure with Q and K exchanged less the right one"
    ]
    start: Annotated[Float[np.ndarray, "cloud component"], "mean at the start"]
    discretisation: Annotated[float, "step error of the clouds"]

    def squares(self, closure: str) -> Float[np.ndarray, " cloud"]:
        """Squared distance of the five moments to one of the closures."""
        exact = self.population if closure == "population" else self.matched
        return ((self.particles - exact) ** 2).sum(axis=1)


def compute(config: Config, tokens: int, keys: ex.Keys) -> Clouds:
    """Clouds of one number of tokens, and their closures."""
    import jax

    initial = gaussian_clouds(keys.own, config.clouds_of(tokens), tokens)
    final = np.asarray(flow_clouds(config.t1, config.steps, "sinkhorn")(initial))
    few = slice(0, FEW)
    fine = np.asarray(flow_clouds(config.t1, 2 * config.steps, "sinkhorn")(initial[few]))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    start = observe.moments(initial)
    with jax.enable_x64(True):
        solve = closures(config.t1, "sinkhorn")
        matched = observe.moment_vector(*map(np.asarray, solve(*start)))
        law = observe.moment_vector(*map(np.asarray, solve(MEAN[None], COV[None])))[0]
        softmax = observe.moment_vector(*map(np.asarray, closures(config.t1, "softmax")(*start)))
        exchanged = _exchanged(config.t1, *start) - matched[few]
    return Clouds(
        moment=np.array(MOMENTS),
        particles=particles,
        matched=matched,
        population=law,
        softmax=softmax,
        exchanged=exchanged,
        start=start[0],
        discretisation=float(step_error),
    )


def _exchanged(t1: float, means: np.ndarray, covs: np.ndarray) -> np.ndarray:
    """Moments of the first clouds' closures with queries and keys exchanged."""
    layer = attention.Sinkhorn(Q=K, K=Q, V=V)
    found = []
    for mean, cov in zip(means[:FEW], covs[:FEW], strict=True):
        flow = limits.meanfield.GaussianFlow(attention=layer, mean=mean, cov=cov, t1=t1)
        end = core.solve(flow, save=[t1])
        found.append(observe.moment_vector(np.asarray(end.mean[-1]), np.asarray(end.cov[-1])))
    return np.array(found)


def _cost(config: Config, tokens: int) -> ex.Cost:
    """Compilation, and pairs of tokens in two passes of eight rounds for each evaluation."""
    pairs = 7 * config.steps * 8 * 2 * tokens**2 * config.clouds_of(tokens)
    return ex.Cost(6.0 + 3e-9 * pairs)


CLOUDS = ex.Part(
    "clouds/n={tokens}", Clouds, compute, grid=lambda c: sorted(c.tokens, reverse=True), cost=_cost
)


def _final(found: ex.Found[Config], moment: str) -> Estimate:
    """A moment of the largest clouds; its error is that of the difference to the closure."""
    data, place = found(CLOUDS, max(found.config.tokens)), MOMENTS.index(moment)
    particles = data.particles[:, place]
    error = Estimate.from_samples(particles - data.matched[:, place]).stderr
    return Estimate(float(particles.mean()), error, len(particles), data.discretisation)


def _predicted(found: ex.Found[Config], moment: str) -> float:
    matched = found(CLOUDS, max(found.config.tokens)).matched
    return float(matched[:, MOMENTS.index(moment)].mean())


def _softmax(found: ex.Found[Config], moment: str) -> float:
    """A moment of the closure of softmax, of the same clouds."""
    return float(found(CLOUDS, max(found.config.tokens)).softmax[:, MOMENTS.index(moment)].mean())


def _swapped(found: ex.Found[Config], moment: str) -> Estimate:
    """A moment of the closure with queries and keys exchanged, by what that changes in a few."""
    change = found(CLOUDS, max(found.config.tokens)).exchanged[:, MOMENTS.index(moment)]
    mean = Estimate.from_samples(change)
    return Estimate(_predicted(found, moment) + mean.value, mean.stderr, mean.count)


def _first(found: ex.Found[Config], moment: str) -> float:
    """A moment at the start, of the law."""
    return float(observe.moment_vector(MEAN, COV)[MOMENTS.index(moment)])


def _mean_gap(flow: Callable[[float], np.ndarray]) -> Callable[..., Estimate]:
    """The largest distance of a mean from a linear map of its start, over all clouds."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        matrix = flow(found.config.t1)
        every = [one.particles[:, :2] - one.start @ matrix.T for _, one in found.each(CLOUDS)]
        gap = max(float(np.abs(one).max()) for one in every)
        return Estimate(gap, 0.0, sum(found.config.clouds), 1e-5)

    return measured


def _exact(t: float) -> np.ndarray:
    from scipy.linalg import expm

    return expm(t * V)


def _fit(found: ex.Found[Config], closure: str) -> core.RateFit:
    """The fitted rate over n of the distance to a closure."""
    tokens = found.config.tokens
    rows = [np.sqrt(found(CLOUDS, n).squares(closure)) for n in tokens]
    return core.fit_rate(tokens, rows)


CLOSURE = ex.Claims(
    "closure-{moment}",
    lambda found, moment: (
        f"The Sinkhorn closure predicts ${symbol(moment)}$ of a Gaussian cloud at depth "
        f"{found.config.t1:g} (n = {max(found.config.tokens)}, matched initial moments)."
    ),
    estimate=_final,
    prediction=_predicted,
    tol=lambda config, moment: BIAS / max(config.tokens),
    over=lambda c: MOMENTS,
    rivals=(
        ex.Rival("the closure of softmax", _softmax),
        # The mean does not know the scores.
        ex.Rival("queries and keys exchanged", _swapped, when=lambda c, m: "Sigma" in m),
        ex.Rival("at rest", _first),
    ),
)
MEAN_EXACT = ex.claim(
    "mean-exact",
    "The mean of any cloud is $e^{tV}$ times its start: largest error over all clouds.",
    _mean_gap(_exact),
    prediction=0.0,
    tol=1e-3,
    rivals=(
        ex.Rival("a constant mean", estimate=_mean_gap(lambda t: np.eye(2))),
        ex.Rival("1 + tV", estimate=_mean_gap(lambda t: np.eye(2) + t * V)),
        ex.Rival("V transposed", estimate=_mean_gap(lambda t: _exact(t).T)),
    ),
    one_sided=True,
)


def _sampling_rate(found: ex.Found[Config]) -> Estimate:
    return _fit(found, "population").estimate()


SAMPLING = ex.claim(
    "sampling-rate",
    "The distance of a cloud's moments to the closure of its law falls like $n^{-1/2}$.",
    _sampling_rate,
    prediction=-0.5,
    tol=0.1,
    rivals=tuple(ex.Rival(f"exponent {rate:g}", rate) for rate in (-0.25, -1.0, 0.0)),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for n in found.config.tokens:
        row: list[float] = []
        for closure in LABELS:
            mean = Estimate.from_samples(found(CLOUDS, n).squares(closure))
            root = float(np.sqrt(mean.value))
            row += [root, mean.stderr / (2 * root)]
        yield (n, *row)


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    ax = canvas.subplots()
    for series, (closure, label) in enumerate(LABELS.items()):
        figures.plot_convergence(
            *curves(table, "tokens", *COLUMNS[closure], xlabel="tokens $n$"),
            ax,
            fit=_fit(found, closure),
            predicted_rate=None if series else -0.5,
            series=series,
            label=label,
            ylabel="rms distance of the moments",
        )


DISTANCES = ex.Figure(
    name="clouds",
    title="From finite clouds to the Sinkhorn closure",
    caption="Root mean square over clouds of the Euclidean distance between the five moments of a "
    "cloud at depth $t = {t1:g}$ and the closure, against the number of tokens; {counts} "
    "independent clouds a point, bars of one standard error. Dashed: fitted power laws with 95 % "
    "intervals; solid: the predicted rate of the upper one. With matched moments the mean is "
    "exact, and what remains is the covariance's.",
    columns=("tokens", *COLUMNS["population"], *COLUMNS["matched"]),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: sum(found.config.clouds),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sinkhorn-clouds",
    title="From finite clouds to the Sinkhorn closure",
    question="Does Sinkhorn attention of a finite cloud follow its closure?",
    summary="Sinkhorn attention sends Gaussians to Gaussians, and moves the mean of any cloud by "
    "the value matrix alone. Finite clouds are set beside the closure of their law and beside that "
    "of their own moments, at growing numbers of tokens.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=(50, 100, 200, 400), clouds=(1024, 512, 256, 128)),
        "paper": Config(
            tokens=(50, 100, 200, 400, 800, 1600), clouds=(4096, 4096, 2048, 1024, 256, 64)
        ),
    },
    parts=(CLOUDS,),
    claims=(CLOSURE, MEAN_EXACT, SAMPLING),
    figures=(DISTANCES,),
    finding=ex.Finding(
        "The moments of finite clouds approach the Sinkhorn closure with the exponent {0} in "
        "$n$; the mean misses $e^{{tV}}$ times its start by {1}",
        ("sampling-rate", "mean-exact"),
    ),
)
