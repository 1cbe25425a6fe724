r"""Language models in the number of heads against their limit: loss and accuracy by position.

Every token has outputs of its own, and the gradient at a token carries no factor 1 / S. Three small
language models, each a causal decoder with learned positions, an MLP and a norm before its readout:

- "markov": sentences of a Markov chain of bytes, of which every next byte is predicted,
- "markov-qk": the same with keys and queries normalised over the head, and scores twice as large,
- "recall": sentences that say a block of words twice, where the second time is predicted.

Networks are trained seed by seed; what they predict, extrapolated in 1 / H, is the limit, at every
position. A limit whose errors are divided by the number of tokens, as where outputs are pooled, or
whose features do not move, misses.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.class_losses import (
    by_position,
    losses,
    row_accuracies,
    row_losses,
)
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.language_models import (
    DIVIDED,
    LIMIT,
    MODELS,
    NETWORKS,
    Config,
    Ensemble,
    Model,
    divided,
    models,
)
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    distances,
    extrapolated_gap,
)


def _networks(found: ex.Found[Config], at: Model) -> list[Networks]:
    return [found(NETWORKS, Ensemble(at.model, heads)) for heads in found.config.sizes]


def _rate(found: ex.Found[Config], at: Model) -> Estimate:
    """The exponent in H of the distance of one network's outputs from the limit."""
    limit = found(LIMIT, at)
    rows = [distances(one, limit) for one in _networks(found, at)]
    return core.fit_rate(found.config.sizes, rows).estimate()


def _gap(found: ex.Found[Config], at: Model, theory: Limit) -> Estimate:
    return extrapolated_gap(_networks(found, at), theory, "predictions")


def _loss_gap(
    found: ex.Found[Config], at: Model, f: Float[np.ndarray, "step sample output"]
) -> Estimate:
    """The loss of networks, extrapolated, minus that of outputs of a theory; mean over updates."""
    labels = found.config.problem(at.model).data()[1]
    floor = float(np.abs(found(LIMIT, at).predictions_stderr[1:]).mean())
    samples = [one.loss[:, 1:].mean(axis=1) for one in _networks(found, at)]
    return extrapolated(samples).estimate(float(losses(f, labels)[1:].mean()), floor)


def _profile(
    found: ex.Found[Config], at: Model, f: Float[np.ndarray, "*any sample output"]
) -> Float[np.ndarray, "*any"]:
    """Losses by position at the end, along those of the limit: 1 is the limit, 0 no difference."""
    labels = found.config.problem(at.model).data()[1]
    own = by_position(row_losses(found(LIMIT, at).predictions[-1], labels))
    along = own - own.mean()
    return by_position(row_losses(f, labels)) @ along / np.sum(along**2)


def _positions(found: ex.Found[Config], at: Model) -> Estimate:
    """The same of networks, extrapolated."""
    samples = [_profile(found, at, one.predictions[:, -1]) for one in _networks(found, at)]
    return extrapolated(samples).estimate()


RATE = ex.Claims(
    "rate-{model}",
    lambda found, at: (
        f"{MODELS[at.model]}: the distance of the outputs of one network from the limit falls like "
        "$H^{-1/2}$."
    ),
    estimate=_rate,
    prediction=-0.5,
    tol=0.1,
    over=models,
    rivals=(
        ex.Rival("as the bias alone, exponent -1", -1.0),
        ex.Rival("exponent -3/4", -0.75),
        ex.Rival("exponent -1/4", -0.25),
    ),
)
OUTPUTS = ex.Claims(
    "predictions-{model}",
    lambda found, at: (
        f"{MODELS[at.model]}: outputs, extrapolated from $H$ in {found.config.sizes[-3:]}, are "
        "those of the limit (mean over evaluations, tokens and words, with the signs of the "
        "limit's last ones)."
    ),
    estimate=lambda found, at: _gap(found, at, found(LIMIT, at)),
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=models,
    rivals=(
        ex.Rival[Config, Model](
            "features that do not move",
            estimate=lambda found, at: _gap(found, at, found(LIMIT, at).frozen()),
        ),
        ex.Rival[Config, Model](
            "errors divided by the number of tokens",
            estimate=lambda found, at: _gap(found, at, found(DIVIDED, at)),
            when=lambda config, at: at in divided(config),
        ),
    ),
    decided_by="standard",
)
LOSS = ex.Claims(
    "loss-{model}",
    lambda found, at: (
        f"{MODELS[at.model]}: the loss of networks, extrapolated alike, is that of the limit (mean "
        "over evaluations after the first)."
    ),
    estimate=lambda found, at: _loss_gap(found, at, found(LIMIT, at).predictions),
    prediction=0.0,
    tol=0.01,
    over=models,
    rivals=(
        ex.Rival[Config, Model](
            "features that do not move",
            estimate=lambda found, at: _loss_gap(found, at, found(LIMIT, at).lazy),
        ),
        ex.Rival[Config, Model](
            "errors divided by the number of tokens",
            estimate=lambda found, at: _loss_gap(found, at, found(DIVIDED, at).predictions),
            when=lambda config, at: at in divided(config),
        ),
    ),
    decided_by="standard",
)
POSITIONS = ex.Claims(
    "positions-{model}",
    lambda found, at: (
        f"{MODELS[at.model]}: at the end the loss of networks differs from position to position as "
        "that of the limit does: its part along the limit's differences, extrapolated alike."
    ),
    estimate=_positions,
    prediction=1.0,
    tol=0.15,
    over=models,
    rivals=(
        ex.Rival("the same loss at every position", 0.0),
        ex.Rival("twice the differences", 2.0),
    ),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Loss and accuracy at the end, by position."""
    for at in models(found.config):
        labels = found.config.problem(at.model).data()[1]
        places = np.flatnonzero((labels >= 0).any(axis=0))
        largest = _networks(found, at)[-1].predictions[:, -1]
        for quantity, measure in (("loss", row_losses), ("accuracy", row_accuracies)):
            theory = by_position(measure(found(LIMIT, at).predictions[-1], labels))
            values = by_position(measure(largest, labels))
            error = 2 * values.std(axis=0, ddof=1) / len(values) ** 0.5
            columns = (places, values.mean(axis=0), error, theory)
            for place, *numbers in zip(*columns, strict=True):
                yield (f"{quantity}, {at.model}", int(place), *map(float, numbers))


PLACES = ex.Figure[Config](
    name="positions",
    title="Loss and accuracy at every position after training",
    caption=lambda found: (
        f"Means over networks of $H = {found.config.sizes[-1]}$ with two standard errors, and the "
        "limit of infinitely many heads; nothing is extrapolated. Where a block is said twice, "
        "words have targets from its last word on."
    ),
    columns=("quantity", "position", "networks", "two standard errors", "limit"),
    rows=_rows,
    x="position",
    panels="quantity",
    across=2,
    layers=(
        figures.points("networks", "two standard errors", label="networks"),
        figures.line("limit", label="limit", series=None, joined=True),
    ),
    xlabel="position",
    size=lambda c: (9.0, 3.2 * len(c.models)),
)


def _courses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at in models(found.config):
        labels = found.config.problem(at.model).data()[1]
        theory = losses(found(LIMIT, at).predictions, labels)
        lazy = losses(found(LIMIT, at).lazy, labels)
        largest = _networks(found, at)[-1].loss
        for t, values in enumerate(largest.T):
            error = 2 * float(values.std(ddof=1)) / len(values) ** 0.5
            yield (at.model, t, float(values.mean()), error, float(theory[t]), float(lazy[t]))


COURSE = ex.Figure[Config](
    name="loss",
    title="Loss of language models and of their limits",
    caption=lambda found: (
        f"Means over networks of $H = {found.config.sizes[-1]}$ with two standard errors, the "
        "limit, and the limit whose features do not move (dashed)."
    ),
    columns=("model", "updates", "networks", "two standard errors", "limit", "lazy"),
    rows=_courses,
    x="updates",
    panels="model",
    layers=(
        figures.points("networks", "two standard errors", label="networks"),
        figures.line("limit", label="limit", series=None, joined=True),
        figures.line("lazy", label="features that do not move", series=None, dash="4 3"),
    ),
    ylabel="cross-entropy in nats",
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment[Config](
    name="bordelon2024/dmft-tokens",
    title="Language models of growing numbers of heads, and their limit token by token",
    question="Does the limit hold for language models, token by token?",
    summary="A Markov chain of bytes, and blocks of words that are said twice: causal decoders of "
    "$H$ heads predict the next word at every token. The limit, solved in one causal pass, has "
    "their outputs and their loss at every position, with and without a norm of keys and queries.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            samples=1800,
            sizes=(8, 16, 32),
            seeds=300,
            recall_seeds=100,
            tol=0.04,
        ),
        "standard": Config(tol=0.01),
        "paper": Config(
            sentences=8,
            tokens=8,
            bytes=8,
            steps=12,
            samples=4000,
            neurons=8000,
            sizes=(16, 32, 64, 128),
            at_once=100,
            tol=0.01,
        ),
    },
    parts=(LIMIT, DIVIDED, NETWORKS),
    claims=(RATE, OUTPUTS, LOSS, POSITIONS),
    figures=(PLACES, COURSE),
    finding=ex.Finding(
        "The loss of networks of a language model, extrapolated in $1/H$, lies {0} from that of "
        "the limit, and the distance of one network falls like a power of $H$ with the exponent "
        "{1}",
        ("loss-*", "rate-*"),
    ),
)
