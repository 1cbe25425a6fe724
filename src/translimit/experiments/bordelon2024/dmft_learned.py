r"""What the infinite network learns and finite ones only approximate: digits it has not seen.

A few digits are learned, others are only looked at: inputs of weight zero in the limit. Finite
networks scatter around what the limit says of unseen digits, and pay for it with test loss; in
the mean over networks, extrapolated in 1/H, loss and features are those of the limit.

Feature learning is measured by the alignment y^T K y / (|y|^2 |K|) of the pooled residual kernel
on the unseen digits with their labels.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import (
    Networks,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import DIGITS_PER_CLASS, two_digits
from translimit.experiments.checked import Doubled, Four, MultipleOf, Within


@dataclass(frozen=True)
class Config(Problem):
    """The problem on `inputs` digits, and what is looked at.

    Attributes:
        unseen: digits that are not trained, half of each class.
        heads: H, each twice the one before.
        seeds: networks of each.
    """

    unseen: Annotated[int, Within(2), MultipleOf(2)] = 8
    heads: Doubled = (8, 16, 32, 64)
    seeds: Four = 4000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.task != "digits":
            raise ConfigError("task", f"got {self.task!r}", "leave it at digits")
        if self.inputs + self.unseen > 2 * DIGITS_PER_CLASS:
            raise ConfigError(
                "unseen",
                f"got {self.unseen} beside inputs = {self.inputs}",
                f"pass at most {2 * DIGITS_PER_CLASS} together",
            )
        self.require_networks()
        self.require_samples(unseen=self.unseen)

    @property
    def updates(self) -> int:
        """Updates before the last evaluation."""
        return self.steps - 1

    def observed(self) -> Problem:
        """The problem of the limit, with the digits that are not trained."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(Problem)}
        return Problem(**{**own, "inputs": self.inputs + self.unseen})

    def digits(self) -> tuple[np.ndarray, np.ndarray]:
        """Digits that are trained, then those that are not, and their labels."""
        trained, new = self.inputs // 2, self.unseen // 2
        x, y = two_digits(trained + new)
        kinds = np.split(np.arange(len(y)), 2)
        order = np.concatenate([k[:trained] for k in kinds] + [k[trained:] for k in kinds])
        return x[order], y[order]


@dataclass(frozen=True)
class Limit(ex.Arrays):
    """What the limit predicts of all digits, trained ones first, and their labels."""

    predictions: Float[np.ndarray, "step sample output"]
    stderr: Float[np.ndarray, "step sample output"]
    kernel: Float[np.ndarray, "step sample sample2"]
    target: Float[np.ndarray, " sample"]
    lazy: Annotated[Float[np.ndarray, "step sample output"], "with the kernel of the start"]


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The limit; digits that are not trained have weight zero."""
    del at
    x, y = config.digits()
    weights = np.where(np.arange(len(y)) < config.inputs, 1 / config.inputs, 0.0)
    problem = limits.dmft.TrainingDynamics(
        architecture=config.limit().architecture,
        inputs=x,
        targets=y,
        steps=config.steps,
        eta0=config.eta0,
        weights=weights,
    )
    solution = core.solve(problem, config.method(problem), key=keys.own)
    lazy = limits.dmft.lazy_predictions(
        solution.ntk[0], y, steps=config.steps, eta0=config.eta0, weights=weights
    )
    return Limit(
        predictions=solution.predictions[..., None],
        stderr=solution.stderr[..., None],
        kernel=np.einsum("tptq->tpq", solution.kernel(solution.layers).mean(axis=(2, 5))),
        target=y,
        lazy=lazy[..., None],
    )


def compute_networks(config: Config, heads: int, keys: ex.Keys) -> Networks:
    """Networks of one size, trained on some digits and observed on all."""
    return train_networks(config, keys.own, heads=heads, seeds=config.seeds, shown=config.digits())


#: The limit has more inputs than are trained.
LIMIT = ex.Part(
    "limit", Limit, compute_limit, grid=ex.alone, cost=lambda c, at: c.observed().limit_cost()
)
NETWORKS = ex.Part(
    "networks/H={heads}",
    Networks,
    compute_networks,
    grid=lambda c: c.heads,
    cost=lambda c, heads: c.networks_cost(heads, c.seeds),
)


@dataclass(frozen=True)
class Unseen:
    """Networks and the limit on the digits that are not trained.

    Attributes:
        labels: of the digits.
        f: last predictions of networks, one array for each H.
        limit: those of the limit.
        stderr: its standard errors.
        alignment: of the kernel with the labels at the end, one array for each H.
        aligned: that of the limit at the start and at the end.
        lazy: last predictions where features do not move.
    """

    labels: Float[np.ndarray, " digits"]
    f: list[Float[np.ndarray, "seeds digits"]]
    limit: Float[np.ndarray, " digits"]
    stderr: Float[np.ndarray, " digits"]
    alignment: list[Float[np.ndarray, " seeds"]]
    aligned: tuple[float, float]
    lazy: Float[np.ndarray, " digits"]

    def loss(self, f: Float[np.ndarray, "*seeds digits"]) -> Float[np.ndarray, "*seeds"]:
        """Half the mean squared error."""
        return np.asarray(np.mean((self.labels - f) ** 2, axis=-1) / 2)


def unseen(found: ex.Found[Config]) -> Unseen:
    """What was found on unseen digits."""
    new = slice(found.config.inputs, None)
    limit, nets = found(LIMIT), [data for _, data in found.each(NETWORKS)]
    labels = limit.target[new]
    start, end = (float(_alignment(limit.kernel[t, new, new], labels)) for t in (0, -1))
    return Unseen(
        labels=labels,
        f=[net.predictions[:, -1, new, 0] for net in nets],
        limit=limit.predictions[-1, new, 0],
        stderr=limit.stderr[-1, new, 0],
        alignment=[_alignment(net.kernel[:, -1, new, new], labels) for net in nets],
        aligned=(start, end),
        lazy=limit.lazy[-1, new, 0],
    )


def _alignment(
    kernel: Float[np.ndarray, "*seeds digits digits"], labels: Float[np.ndarray, " digits"]
) -> Float[np.ndarray, "*seeds"]:
    norm = labels @ labels * np.sqrt(np.sum(kernel**2, axis=(-1, -2)))
    return np.asarray(np.einsum("p,...pq,q->...", labels, kernel, labels) / norm)


def _loss_gap(found: ex.Found[Config], f: np.ndarray) -> Estimate:
    """The loss of networks, extrapolated, minus that of predictions of a limit."""
    data = found.once(unseen)
    # What errors of the limit's predictions do to its loss, all in one direction.
    floor = float(np.mean(np.abs(data.labels - f) * data.stderr))
    return extrapolated([data.loss(one) for one in data.f]).estimate(float(data.loss(f)), floor)


def _alignment_gap(found: ex.Found[Config], end: bool = True) -> Estimate:
    """The alignment of networks, extrapolated, minus that of the limit at the end or the start."""
    data = found.once(unseen)
    return extrapolated(data.alignment).estimate(data.aligned[int(end)])


def _scatter(found: ex.Found[Config]) -> Estimate:
    f = found.once(unseen).f
    scatter = [np.sqrt(np.mean((one - one.mean(axis=0)) ** 2, axis=-1)) for one in f]
    return core.fit_rate(found.config.heads, scatter).estimate()


def _bias_exponent(found: ex.Found[Config]) -> Estimate:
    """Exponent in H of the mean distance from the limit towards the labels of unseen digits."""
    data, heads = found.once(unseen), found.config.heads
    bias = [Estimate.from_samples(np.mean((f - data.limit) * data.labels, 1)) for f in data.f]
    floor = float(np.mean(data.stderr))
    x = np.log(heads) - np.mean(np.log(heads))
    weights = x / np.sum(x**2)
    sizes = np.array([abs(one.value) for one in bias])
    noise = np.array([one.stderr for one in bias]) / sizes
    common = floor * np.sum(weights / sizes)
    stderr = float(np.hypot(np.sqrt(np.sum((weights * noise) ** 2)), common))
    return Estimate(float(weights @ np.log(sizes)), stderr, bias[0].count)


def _aligned(found: ex.Found[Config], at: ex.Alone) -> str:
    del at
    start, end = found.once(unseen).aligned
    return (
        f"The alignment of the residual kernel with the labels of unseen digits (limit: {start:.3f}"
        f" at the start, {end:.3f} at the end), extrapolated over networks, is that of the limit."
    )


TEST_LOSS = ex.Claims(
    "test-loss",
    lambda found, at: (
        "The loss on unseen digits, extrapolated over networks from "
        f"$H = {found.config.heads[-3:]}$, is that of the limit."
    ),
    estimate=lambda found, at: _loss_gap(found, found.once(unseen).limit),
    prediction=0.0,
    tol=0.02,
    over=ex.alone,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "features that do not move",
            estimate=lambda found, at: _loss_gap(found, found.once(unseen).lazy),
        ),
        ex.Rival[Config, ex.Alone](
            "labels are guessed",
            estimate=lambda found, at: _loss_gap(found, 0 * found.once(unseen).limit),
        ),
    ),
)
SCATTER = ex.claim(
    "scatter",
    "Predictions of unseen digits scatter over networks like $H^{-1/2}$.",
    _scatter,
    prediction=-0.5,
    tol=0.1,
    rivals=(
        ex.Rival("as the bias, exponent -1", -1.0),
        ex.Rival("exponent -1/4", -0.25),
        ex.Rival("exponent -3/4", -0.75),
    ),
)
BIAS = ex.claim(
    "bias",
    "What no ensemble averages away, the distance of the mean over networks from the limit on "
    "unseen digits, falls like $1/H$.",
    _bias_exponent,
    prediction=-1.0,
    tol=0.3,
    rivals=(
        ex.Rival("as the scatter, exponent -1/2", -0.5),
        ex.Rival("of the next order, exponent -2", -2.0),
        ex.Rival("another limit: no fall", 0.0),
    ),
    decided_by="paper",
)
ALIGNMENT = ex.Claims(
    "alignment",
    _aligned,
    estimate=lambda found, at: _alignment_gap(found),
    prediction=0.0,
    tol=0.02,
    over=ex.alone,
    rivals=(
        ex.Rival(
            "features that do not move", estimate=lambda found, at: _alignment_gap(found, end=False)
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found.once(unseen)
    panels = (
        ("loss on unseen digits", [data.loss(f) for f in data.f], float(data.loss(data.limit))),
        ("kernel alignment", data.alignment, data.aligned[1]),
    )
    for quantity, samples, limit in panels:
        for heads, values in zip(found.config.heads, samples, strict=True):
            error = 2 * float(np.std(values) / len(values) ** 0.5)
            yield (quantity, heads, float(np.mean(values)), error, limit)


UNSEEN = ex.Figure(
    name="unseen",
    title="Unseen digits: finite networks and the limit",
    caption="Means over {seeds} networks of each size with two standard errors, after {updates} "
    "updates on {inputs} digits; {unseen} others are looked at.",
    columns=("quantity", "heads", "networks", "two standard errors", "limit"),
    rows=_rows,
    x="heads",
    panels="quantity",
    layers=(
        figures.points("networks", "two standard errors", label="networks"),
        figures.level("limit", label="limit"),
    ),
    xlabel="heads $H$",
    log="x",
    ticks=True,
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-learned",
    title="Unseen digits: what finite networks only approximate",
    question="Does the limit predict digits on which it was not trained?",
    summary="The limit predicts digits it was not trained on without any scatter; finite networks "
    "scatter like $H^{-1/2}$ around it and pay with test loss. Mean loss and the alignment of "
    "features with labels, extrapolated in $1/H$, are those of the limit.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            heads=(8, 16, 32), steps=8, samples=1500, populations=4, unseen=4, seeds=6000
        ),
        "standard": Config(samples=3000, populations=6),
        "paper": Config(heads=(8, 16, 32, 64, 128), inputs=8, unseen=16, steps=16),
    },
    parts=(LIMIT, NETWORKS),
    claims=(TEST_LOSS, SCATTER, BIAS, ALIGNMENT),
    figures=(UNSEEN,),
    finding=ex.Finding(
        "On unseen digits single networks scatter with the exponent {0} in $H$, and the mean "
        "over networks leaves the limit with {1}",
        ("scatter", "bias"),
    ),
)
