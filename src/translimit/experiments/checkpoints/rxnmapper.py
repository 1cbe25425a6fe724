r"""rxnmapper: attention reads two moments of its tokens, the MLP reads more.

rxnmapper is one post-LN layer, iterated twelve times, without a mask. Tokens are replaced by
rotations of each other that keep mean and covariance: the Gaussian closure with finitely many keys,
softmax and all. The covariance that attention leaves is that of such surrogates, in every layer;
that which the MLP leaves is not, in any. Special tokens are kept and left out of covariances.

How much a query's weights concentrate follows from the variance of its scores alone, I_n(sigma) for
n independent Gaussian scores.

The checkpoint ships inside a package; only its files are read.

Reference: Castin et al., arXiv 2501.18322 (Gaussian closures); documentation, "Diagnosing a
checkpoint".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, diagnose, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Increasing, Within

PARTS: tuple[Literal["attention", "mlp"], ...] = ("attention", "mlp")
#: Standard errors within which a median z is that of surrogates, and beyond which it is not.
WITHIN, BEYOND = 3.0, 7.0


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        layers: that are tested, from 1.
        reactions: sequences, at most eight.
        surrogates: of every sequence and sub-block.
    """

    layers: Annotated[tuple[Annotated[int, Within(1, 12)], ...], Increasing()] = (
        *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    )
    reactions: Annotated[int, Within(4, 8)] = 8
    surrogates: Annotated[int, Within(4)] = 12


@dataclass(frozen=True)
class Layer(ex.Arrays):
    """One layer: z of the covariances, and how much weights concentrate."""

    attention: Annotated[Float[np.ndarray, " reaction"], "z of attention"]
    mlp: Annotated[Float[np.ndarray, " reaction"], "z of the MLP"]
    measured: Annotated[Float[np.ndarray, " reaction"], "sum of squared weights"]
    predicted: Annotated[Float[np.ndarray, " reaction"], "I_n of the variances of scores"]
    uniform: Annotated[Float[np.ndarray, " reaction"], "one over the number of keys"]


def compute(config: Config, layer: int, keys: ex.Keys) -> Layer:
    """All reactions in one layer."""
    folder = diagnose.packaged_checkpoint("rxnmapper")
    model = diagnose.read_checkpoint(folder)
    own, rows = model.layers[layer - 1], diagnose.reaction_rows(folder)[: config.reactions]
    z: dict[str, list[float]] = {part: [] for part in PARTS}
    measured, predicted, uniform = [], [], []
    for place, row in enumerate(rows):
        x = diagnose.stream_of(model, row)[layer - 1]
        passed = diagnose.in_layer(own, x)
        assert passed.middle is not None
        for part, tokens in zip(PARTS, (x, np.asarray(passed.middle)), strict=True):
            key = core.named_key(keys.own, part, place)
            found = diagnose.surrogate_test(
                own, tokens, part, key=key, draws=config.surrogates, atoms=(0, -1)
            )
            z[part].append(found.z)
        weights = np.asarray(passed.attention)
        measured.append(float((weights**2).sum(axis=-1).mean()))
        predicted.append(diagnose.gaussian_concentration(own, x))
        uniform.append(1 / len(x))
    told = (np.array(z["attention"]), np.array(z["mlp"]))
    return Layer(*told, np.array(measured), np.array(predicted), np.array(uniform))


LAYER = ex.Part(
    "layer={layer}",
    Layer,
    compute,
    grid=lambda c: c.layers,
    cost=lambda c, layer: ex.Cost(1.0 + 0.02 * c.reactions * c.surrogates),
)


def _median(rows: np.ndarray) -> Estimate:
    """A median over reactions, with the error of one (1.25 times that of the mean)."""
    error = 1.2533 * float(core.standard_error(rows))
    return Estimate(float(np.median(rows)), error)


def _concentration(found: ex.Found[Config], layer: int, *, uniform: bool = False) -> Estimate:
    data = found(LAYER, layer)
    law = data.uniform if uniform else data.predicted
    return Estimate.from_samples(law / data.measured - 1.0)


CLAIMS = (
    ex.Claims[Config, int](
        "attention/{layer}",
        "The covariance that attention leaves is that of rotated surrogates (median z, at most).",
        estimate=lambda found, layer: _median(found(LAYER, layer).attention),
        prediction=WITHIN,
        tol=0.0,
        over=lambda c: c.layers,
        one_sided=True,
        rivals=(
            ex.Rival(
                "as far off as the MLP",
                prediction=lambda found, layer: float(np.median(found(LAYER, layer).mlp)),
            ),
        ),
    ),
    ex.Claims[Config, int](
        "mlp/{layer}",
        "The covariance that the MLP leaves is not that of rotated surrogates (minus arsinh of z, "
        "which is right-skewed, at most).",
        estimate=lambda found, layer: Estimate.from_samples(-np.arcsinh(found(LAYER, layer).mlp)),
        prediction=-math.asinh(BEYOND),
        tol=0.0,
        over=lambda c: c.layers,
        one_sided=True,
        rivals=(ex.Rival("as near as attention is", -math.asinh(WITHIN)),),
    ),
    ex.Claims[Config, int](
        "concentration/{layer}",
        "Weights concentrate as those of independent Gaussian scores of their variance, to a fifth "
        "(the law over the measurement, less one).",
        estimate=_concentration,
        prediction=0.0,
        tol=0.2,
        over=lambda c: c.layers,
        rivals=(
            ex.Rival(
                "uniform attention",
                prediction=0.0,
                estimate=lambda found, layer: _concentration(found, layer, uniform=True),
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for layer, data in found.each(LAYER):
        for part, rows in (("attention", data.attention), ("MLP", data.mlp)):
            one = _median(rows)
            yield (part, layer, one.value, one.stderr, 0.0)


SCORES = ex.Figure(
    name="scores",
    title="How far covariances are from those of rotated tokens",
    caption="Median z over {reactions} reactions of the covariance that a sub-block leaves, "
    "against {surrogates} surrogates with the same mean and covariance (bars of one standard "
    "error); the line is what one more surrogate has.",
    columns=("sub-block", "layer", "z", "stderr", "surrogates"),
    rows=_rows,
    x="layer",
    by="sub-block",
    layers=(
        figures.line("surrogates", by="", series=None, label="surrogates"),
        figures.points("z", "stderr", joined=True, label="{}"),
    ),
    ylabel="median z",
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/rxnmapper",
    title="What the sub-blocks of rxnmapper read of their tokens",
    question="Do the sub-blocks of rxnmapper read more than two moments of their tokens?",
    summary="A trained encoder of chemical reactions, one layer iterated, against tokens that are "
    "rotated among each other so that mean and covariance stay. What attention leaves is then the "
    "Gaussian closure with finitely many keys; the MLP reads more than two moments.",
    citations=("castin2025",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(surrogates=24),
        "paper": Config(surrogates=96),
    },
    parts=(LAYER,),
    claims=CLAIMS,
    figures=(SCORES,),
    finding=ex.Finding(
        "In the last layer attention leaves a covariance {0} deviations from that of surrogates, "
        "and arsinh of that of the MLP is {1:negated}",
        ("attention/12", "mlp/12"),
    ),
)
