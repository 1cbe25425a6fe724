r"""Networks that did not train: the law of scores over heads, and kernels of the residual stream.

With independent Gaussian keys and queries a score of a head is N^(-alpha_A) times a sum of N
products x y of independent Gaussians. E (x y)^2 = 1 and E (x y)^4 = 9, so its excess kurtosis over
heads is (9 - 3) / N = 6 / N. Kernels are means over H heads: their squared distance from the limit
H to infinity falls like 1 / H.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", head statement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.checked import Count, Entries, IncreasingSizes
from translimit.experiments.ensembles import PROCESS_BYTES, ensemble_bytes

if TYPE_CHECKING:
    from translimit.describe import Parameterization, TransformerShape
    from translimit.train import AbstractObservable

#: Bins of a score over its standard deviation.
EDGES = np.linspace(-4.5, 4.5, 46)
MIDDLE = (EDGES[1:] + EDGES[:-1]) / 2
#: Bytes of the networks that are drawn at once.
ROOM = 2e9
#: Groups of networks whose mean squared errors are fitted.
GROUPS = 16


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the networks that do not train.

    Attributes: those of `Networks`, and
        law_head_dims: N of the laws.
        law_width: N H of the networks of the laws.
        law_seeds: independent networks of each law.
        kernel_heads: H of the kernels; the last is the reference, not fitted.
        kernel_head_dim: N of the kernels.
        kernel_layers: L of the kernels.
        kernel_seeds: independent networks of each fitted H.
        reference_seeds: independent networks of the reference.
    """

    law_head_dims: IncreasingSizes = (1, 4, 16)
    law_width: Count = 256
    law_seeds: Count = 3072
    kernel_heads: Annotated[IncreasingSizes, Entries(3)] = (4, 8, 16, 32, 128)
    kernel_head_dim: Count = 4
    kernel_layers: Count = 8
    kernel_seeds: Count = 512
    reference_seeds: Count = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if any(self.law_width % n for n in self.law_head_dims):
            raise core.ConfigError(
                "law_width", f"got {self.law_width}", "pass a multiple of each of law_head_dims"
            )

    @property
    def reference_heads(self) -> int:
        """H of the reference."""
        return self.kernel_heads[-1]

    def kernel_seeds_of(self, heads: int) -> int:
        """Independent networks of one H."""
        return self.reference_seeds if heads == self.reference_heads else self.kernel_seeds


@dataclass(frozen=True)
class Law(ex.Arrays):
    """Scores of networks with one head dimension, head by head."""

    score: Float[np.ndarray, "seed head place"]


@dataclass(frozen=True)
class Kernels(ex.Arrays):
    """Residual-stream kernels, pooled over tokens, of networks with one number of heads."""

    kernel: Float[np.ndarray, "seed sample sample_2"]


def compute_law(config: Config, head_dim: int, keys: ex.Keys) -> Law:
    """Scores at 8 entries of the attention of networks of one block without an MLP."""
    shape = replace(
        networks.base_shape(config),
        head_dim=head_dim,
        heads=config.law_width // head_dim,
        layers=1,
        mlp_ratio=0.0,
    )
    tokens = shape.tokens
    law = train.AttentionLaw(tuple((s, s % tokens, (s + 3) % tokens) for s in range(8)))
    numbers = networks.standard(shape)
    return Law(_at_start(config, shape, numbers, config.law_seeds, law, "score", keys)[:, 0, 0])


def compute_kernels(config: Config, heads: int, keys: ex.Keys) -> Kernels:
    """Kernels of 16 images after the last block, by the rules from the base."""
    shape = replace(
        networks.base_shape(config),
        head_dim=config.kernel_head_dim,
        heads=heads,
        layers=config.kernel_layers,
    )
    numbers, kernel = networks.ruled(config, shape, "sgd", alpha_A=0.5), train.StreamKernel()
    seeds = config.kernel_seeds_of(heads)
    kernels = _at_start(config, shape, numbers, seeds, kernel, "stream_kernel", keys)
    return Kernels(kernels[:, 0, -1])


def _at_start(
    config: Config,
    shape: TransformerShape,
    numbers: Parameterization,
    seeds: int,
    observable: AbstractObservable,
    name: str,
    keys: ex.Keys,
) -> np.ndarray:
    """What is observed of networks that do not train, as many at once as memory allows."""
    size = (shape.head_dim, shape.heads, shape.layers)
    parts = math.ceil(seeds / _at_once(config, size, shape.mlp_ratio))
    each = math.ceil(seeds / parts)
    optimizer = networks.optimizer("sgd")
    found = [
        train.train(
            shape,
            numbers,
            networks.images(config.images),
            train.Training(steps=0, rates=(1.0,), seeds=each, batch=1, optimizer=optimizer),
            key=keys.shared("starts", part),
            observe=(observable,),
            observe_at=(0,),
            probe=16,
        )[name][0]
        for part in range(parts)
    ]
    return np.concatenate(found)[:seeds]


def _bytes(config: Config, size: Sequence[int], count: int, mlp_ratio: float) -> float:
    """Of so many networks at once."""
    tokens, features = networks.patches(config.images)
    return ensemble_bytes(
        size,
        members=count,
        batch=1,
        tokens=tokens,
        outputs=10,
        features=features,
        mlp_ratio=mlp_ratio,
        slots=0,
    )


def _at_once(config: Config, size: Sequence[int], mlp_ratio: float) -> int:
    """Networks that are drawn at once."""
    return max(1, int(ROOM // (_bytes(config, size, 1, mlp_ratio) - PROCESS_BYTES)))


def _cost(
    config: Config, seconds: float, size: Sequence[int], seeds: int, mlp_ratio: float
) -> ex.Cost:
    count = min(seeds, _at_once(config, size, mlp_ratio))
    return ex.Cost(seconds, _bytes(config, size, count, mlp_ratio))


LAW = ex.Part(
    "law/N={head_dim}",
    Law,
    compute_law,
    grid=lambda c: c.law_head_dims,
    cost=lambda c, N: _cost(
        c, 5.0 + 0.02 * c.law_seeds, (N, c.law_width // N, 1), c.law_seeds, mlp_ratio=0.0
    ),
)
KERNELS = ex.Part(
    "kernels/H={heads}",
    Kernels,
    compute_kernels,
    grid=lambda c: c.kernel_heads,
    cost=lambda c, heads: _cost(
        c,
        6.0 + 2e-5 * c.kernel_seeds_of(heads) * heads**2,
        (c.kernel_head_dim, heads, c.kernel_layers),
        c.kernel_seeds_of(heads),
        c.mlp_ratio,
    ),
)


def kurtosis(law: Law, head_dim: int) -> Estimate:
    """Fourth over squared second moment, divided by 3 + 6 / N; groups of seeds, jackknifed."""
    scores = law.score.astype(np.float64)
    groups = np.array_split(scores, min(16, len(scores)))
    second = np.array([np.mean(g**2, axis=(0, 1)) for g in groups])
    fourth = np.array([np.mean(g**4, axis=(0, 1)) for g in groups])

    def ratio(chosen: np.ndarray) -> float:
        moments = fourth[chosen].mean(axis=0) / second[chosen].mean(axis=0) ** 2
        return float(moments.mean() / (3 + 6 / head_dim))

    return core.jackknife(ratio, len(groups))


def _kurtosis(found: ex.Found[Config], head_dim: int) -> Estimate:
    return kurtosis(found(LAW, head_dim), head_dim)


def _kernel_laws(found: ex.Found[Config]) -> list[PowerLaw]:
    """Squared errors against the mean of the last kernels; means over groups of networks."""
    *kernels, reference = (one.kernel for _, one in found.each(KERNELS))
    limit = reference.mean(axis=0)
    errors = np.array([np.mean((kernel - limit) ** 2, axis=(1, 2)) for kernel in kernels])
    groups = min(GROUPS, errors.shape[1])
    rows = np.stack([[group.mean() for group in np.array_split(row, groups)] for row in errors])
    return [PowerLaw("", "networks", found.config.kernel_heads[:-1], rows, -1.0)]


CLAIMS = (
    ex.Claims(
        "kurtosis-{head_dim}",
        lambda found, head_dim: (
            "The law of a score over heads has excess kurtosis $6 / N$, "
            f"$N = {head_dim}$ (the estimate is relative to $3 + 6 / N$)."
        ),
        estimate=_kurtosis,
        prediction=1.0,
        # Half of the way to half of it.
        tol=lambda config, head_dim: 1 / (head_dim + 2) / 2,
        over=lambda c: c.law_head_dims,
        rivals=(
            ex.Rival("Gaussian", lambda found, head_dim: 3 / (3 + 6 / head_dim)),
            ex.Rival("$3 / N$", lambda found, head_dim: (3 + 3 / head_dim) / (3 + 6 / head_dim)),
        ),
    ),
    ex.claim(
        "kernel-rate",
        "The squared error of residual-stream kernels goes like $1/H$.",
        lambda found: _kernel_laws(found)[0].exponent,
        prediction=-1.0,
        tol=0.2,
        rivals=(ex.Rival("$H^{-1/2}$", -0.5), ex.Rival("$H^{-2}$", -2.0)),
    ),
)


def _excess(found: ex.Found[Config], head_dim: int) -> tuple[float, float]:
    """The excess kurtosis and its standard error."""
    normal, ratio = 3 + 6 / head_dim, _kurtosis(found, head_dim)
    return normal * ratio.value - 3, normal * ratio.stderr


def _law_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Densities of scores over their standard deviations, and the kurtosis of each."""
    for head_dim, law in found.each(LAW):
        scores = law.score.ravel()
        counts, _ = np.histogram(scores / scores.std(), EDGES)
        density = counts / (len(scores) * np.diff(EDGES))
        excess = _excess(found, head_dim)
        name = f"$N$ = {head_dim}: excess kurtosis {core.with_error(*excess)} ({6 / head_dim:.2f})"
        for x, y in zip(MIDDLE.tolist(), density.tolist(), strict=True):
            normal = float(np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5)
            yield name, x, y, normal, *excess, 6 / head_dim


FIGURES = (
    ex.Figure(
        name="laws",
        title="Law of a score over heads at the start",
        caption="Histograms over heads of {law_seeds} networks of width {law_width} with attention "
        "alone, 8 entries; in the legend the excess kurtosis with one standard error and, in "
        "brackets, $6/N$. Dimensionless.",
        columns=("law", "score", "density", "Gaussian", "excess_kurtosis", "stderr", "predicted"),
        rows=_law_rows,
        x="score",
        by="law",
        layers=(
            figures.steps("density"),
            figures.line("Gaussian", by="", series=None, label="$N$ to infinity: Gaussian"),
        ),
        xlabel="score over its standard deviation",
        ylabel="density",
        log="y",
    ),
    power_law_figure(
        _kernel_laws,
        name="kernels",
        title="Convergence of the initial residual-stream kernel in heads",
        caption="Mean squared difference of the pooled kernel of 16 images after the last block "
        "from the mean over {reference_seeds} networks with {reference_heads} heads, "
        "$(N, L) = ({kernel_head_dim}, {kernel_layers})$; bars: standard errors over groups "
        "of seeds; fitted exponent in the legend, $-1$ dashed. Dimensionless.",
        xlabel=networks.AXIS_LABELS["heads"],
        ylabel="squared error",
        size=(7.0, 4.2),
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/initial-laws",
    title="Scores over heads, and kernels, of networks that did not train",
    question="Before training, which law do scores have over heads?",
    summary="At the start the law of a score over heads has excess kurtosis $6/N$: it is not "
    "Gaussian at $N = 1$ and becomes so as $N$ grows. Kernels of the residual stream converge like "
    "$1/H$ in square.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        # The exponent of 32 networks of each size has an error near 0.18, of 512 a quarter of it.
        "demo": Config(law_head_dims=(1, 4), law_seeds=128, kernel_heads=(4, 8, 16, 64)),
        "standard": Config(),
        "paper": replace(Config(**PAPER), kernel_heads=(4, 8, 16, 32, 64, 256)),
    },
    parts=(LAW, KERNELS),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "Before training the squared error of residual-stream kernels goes with the exponent "
        "{0} in $H$",
        ("kernel-rate",),
    ),
)
