r"""The byte model trained anew: its tokens collapse first, then training holds them apart.

While the loss is still above the entropy of single bytes, all a network has learnt is which bytes
are frequent: one direction for all tokens, and their overlap goes towards 1. Then attention finds
what tells tokens apart, and the overlap falls below that of the start. Networks of another seed
start and train anew; what is told of one run has its error over sequences.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, diagnose, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Count, Increasing, Two, Within

#: Twice 1 / D: what finite width may move the mean of a start.
WIDTH = 2 / 64
#: How far, in overlap, a collapse reaches at least, and a separation below the start.
LEAST, BELOW = 0.2, 0.05


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: whose checkpoints are looked at; the last ends training. The first is 0.
        seeds: networks that are trained.
        sequences: of the packaged text that they do not see.
        draws: networks of the start, for the spread of one.
    """

    steps: Annotated[tuple[Annotated[int, Within(0)], ...], Increasing()] = (
        *(0, 1, 3, 6, 10, 18, 30, 60, 100, 250, 450),
    )
    seeds: Count = 1
    sequences: Two = 16
    draws: Two = 16


@dataclass(frozen=True)
class Path(ex.Arrays):
    """One training run at the steps that are kept, after the last layer."""

    overlap: Annotated[Float[np.ndarray, "step sequence"], "overlap after the last layer"]
    loss: Annotated[Float[np.ndarray, "step sequence"], "loss in nats"]
    entropy: Annotated[Float[np.ndarray, " step"], "entropy of attention, second layer"]
    predicted: Annotated[float, "overlap of the start by the recursion"]
    drawn: Annotated[Float[np.ndarray, " network"], "overlap of networks drawn as the start"]
    entry: Annotated[float, "overlap of the tokens that enter at the start"]
    single: Annotated[float, "entropy of single bytes in nats"]
    step: Int[np.ndarray, " step"]


def compute(config: Config, seed: int, keys: ex.Keys) -> Path:
    """Train, and measure every checkpoint on the same sequences."""
    steps = config.steps
    kept = diagnose.train_byte_model(
        key=core.named_key(keys.own, "training"), steps=steps[-1], keep=steps
    )
    rows = list(diagnose.held_out_windows(config.sequences))
    found = []
    for step in steps:
        entries = [kept[step].embed(row) for row in rows]
        found.append(diagnose.measure(kept[step], entries, ids=rows))
    start, null = kept[steps[0]], diagnose.Null.named("matched")
    entries = [start.embed(row) for row in rows]
    few = entries[:4]
    law = diagnose.predict_null(start, null, few, key=core.named_key(keys.own, "recursion"))
    drawn = [
        diagnose.measure(
            start,
            few,
            layer_at=diagnose.DrawnNetwork(start, null, core.named_key(keys.own, "drawn", i)).layer,
        )
        for i in range(config.draws)
    ]
    counts = np.bincount(np.concatenate(rows), minlength=256) / np.size(rows)
    seen = counts[counts > 0]
    return Path(
        np.stack([one.values["overlap"][:, -1] for one in found]),
        np.stack([one.losses for one in found]),
        np.array([one.values["entropy"][:, 2].mean() for one in found]),
        float(law.values["overlap"][-1]),
        np.array([one.values["overlap"][:, -1].mean() for one in drawn]),
        float(found[0].values["overlap"][:, 0].mean()),
        float(-(seen * np.log(seen)).sum()),
        np.array(steps),
    )


RUN = ex.Part(
    "seed={seed}",
    Path,
    compute,
    grid=lambda c: tuple(range(c.seeds)),
    cost=lambda c, seed: ex.Cost(
        15.0 + 0.18 * c.steps[-1] + 0.03 * c.sequences * (len(c.steps) + c.draws)
    ),
)


def _top(data: Path) -> int:
    """The place of the largest mean overlap."""
    return int(data.overlap.mean(axis=1).argmax())


def _start(data: Path) -> Estimate:
    """The overlap of the start, over the network that is trained and others drawn like it."""
    return Estimate.from_samples(np.append(data.drawn, data.overlap[0].mean()))


CLAIMS = (
    ex.Claims[Config, int](
        "start/seed={seed}",
        "Before training the overlap after the last layer is that of the recursion, on average "
        "over starts.",
        estimate=lambda found, seed: _start(found(RUN, seed)),
        prediction=lambda found, seed: found(RUN, seed).predicted,
        tol=2 * WIDTH,
        over=lambda c: tuple(range(c.seeds)),
        rivals=(
            ex.Rival(
                "that of the tokens that enter",
                prediction=lambda found, seed: found(RUN, seed).entry,
            ),
        ),
    ),
    ex.Claims[Config, int](
        "collapse/seed={seed}",
        "Tokens collapse in the first steps: the overlap falls short of its largest value at the "
        "start by a fifth or more (minus the rise).",
        estimate=lambda found, seed: Estimate.from_samples(
            found(RUN, seed).overlap[0] - found(RUN, seed).overlap[_top(found(RUN, seed))]
        ),
        prediction=-LEAST,
        tol=0.0,
        over=lambda c: tuple(range(c.seeds)),
        one_sided=True,
        rivals=(ex.Rival("training separates tokens from the first step on", 0.0),),
    ),
    ex.Claims[Config, int](
        "separation/seed={seed}",
        "Then training holds tokens apart: at the end the overlap is below that of the start by "
        "0.05 or more (end minus start).",
        estimate=lambda found, seed: Estimate.from_samples(
            found(RUN, seed).overlap[-1] - found(RUN, seed).overlap[0]
        ),
        prediction=-BELOW,
        tol=0.0,
        over=lambda c: tuple(range(c.seeds)),
        one_sided=True,
        rivals=(
            ex.Rival("tokens go back to where they started", 0.0),
            ex.Rival(
                "tokens stay collapsed",
                prediction=lambda found, seed: float(
                    (
                        found(RUN, seed).overlap[_top(found(RUN, seed))]
                        - found(RUN, seed).overlap[0]
                    ).mean()
                ),
            ),
        ),
    ),
    ex.Claims[Config, int](
        "loss/seed={seed}",
        "Where the overlap is largest the loss is above the entropy of single bytes (that entropy "
        "minus the loss).",
        estimate=lambda found, seed: Estimate.from_samples(
            found(RUN, seed).single - found(RUN, seed).loss[_top(found(RUN, seed))]
        ),
        prediction=0.0,
        tol=0.0,
        over=lambda c: tuple(range(c.seeds)),
        one_sided=True,
        rivals=(
            ex.Rival(
                "where training ends",
                prediction=lambda found, seed: float(
                    found(RUN, seed).single - found(RUN, seed).loss[-1].mean()
                ),
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for seed, data in found.each(RUN):
        for place, step in enumerate(data.step.tolist()):
            rows, losses = data.overlap[place], data.loss[place]
            yield (
                seed,
                step + 1,
                float(rows.mean()),
                float(core.standard_error(rows)),
                data.predicted,
                float(losses.mean()),
                data.single,
            )


OVERLAP = ex.Figure(
    name="overlap",
    title="Collapse, then separation",
    caption="Overlap after the last layer of the byte model against the step of training plus one "
    "(mean over {sequences} sequences that it does not see, bars of one standard error), and below "
    "it the loss in nats. Dashed: the recursion before training, and the entropy of single bytes.",
    columns=("seed", "step + 1", "overlap", "stderr", "recursion", "loss", "single bytes"),
    rows=_rows,
    x="step + 1",
    by="seed",
    log="x",
    layers=(
        figures.panel(
            "overlap",
            figures.line("recursion", series=None, dash="6 3", label="start, recursion"),
            figures.points("overlap", "stderr", joined=True, label="seed {}"),
            ylabel="overlap",
        ),
        figures.panel(
            "loss",
            figures.line("single bytes", by="", series=None, dash="6 3", label="single bytes"),
            figures.points("loss", joined=True, label="seed {}"),
            ylabel="loss in nats",
        ),
    ),
)

EXPERIMENT = ex.Experiment(
    name="checkpoints/training",
    title="What training does to the tokens of a byte model",
    question="When in training do the tokens of a byte model collapse?",
    summary="A small GPT is trained on bytes, and its checkpoints are measured on text that it "
    "does not see. Its path is not monotone: tokens collapse while only frequencies are learnt, "
    "and separate when attention starts to tell them apart.",
    citations=("jax",),
    reference='documentation, "Diagnosing a checkpoint"',
    presets={
        "demo": Config(),
        "standard": Config(steps=(0, 1, 3, 6, 10, 18, 30, 60, 100, 250, 500, 1000), seeds=3),
        "paper": Config(
            steps=(0, 1, 3, 6, 10, 18, 30, 60, 100, 250, 500, 1000), seeds=8, sequences=64
        ),
    },
    parts=(RUN,),
    claims=CLAIMS,
    figures=(OVERLAP,),
    finding=ex.Finding(
        "Early in training the overlap rises by {0:negated}; it ends {1:negated} below its start",
        ("collapse/seed=0", "separation/seed=0"),
    ),
)
