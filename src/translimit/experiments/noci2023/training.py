r"""What trains as depth grows: shaped attention without normalisation, against pre-LN.

    shaped       h <- lam h + gamma W_O (alpha I + beta P - gamma_c U) v,   no norm, trained gains
                 for each head that start at 1, scores / (tau_0 (d n_k)^{1/2}), shaped ReLU
    pre-norm     h <- h + branch(LayerNorm h), softmax, GELU
    unshaped     the skips of the first, the attention and activation of the second, no norm

on digits with Adam and a warm-up, at a few rates each; what counts is the best. The paper's own
set-up (data, depths, rates) is not known to us; the depths of its theory are of the order of the
width.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, data, describe, figures, train
from translimit.core import Estimate
from translimit.experiments.checked import (
    BranchWeight,
    CheckedConfig,
    Count,
    IncreasingSizes,
    Positive,
    Positives,
    Two,
)
from translimit.experiments.ensembles import ensemble_bytes

KINDS = ("shaped", "pre-norm", "unshaped")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Networks and training.

    Attributes:
        head_dim: dimension of a head.
        heads: heads.
        depths: layers, increasing.
        gamma: weight of a branch of the shaped networks.
        tau0: temperature.
        slopes: c_+ and c_- of the shaped ReLU.
        rates: of Adam.
        steps: updates, a tenth of them warm-up.
        seeds: networks at each depth, at least 2.
        batch: images of an update.
    """

    head_dim: Count = 8
    heads: Count = 4
    depths: IncreasingSizes = (4, 16, 64)
    gamma: BranchWeight = 0.2
    tau0: Positive = 1.0
    slopes: tuple[float, float] = (0.0, -1.0)
    rates: Positives = (1e-3, 3e-3, 1e-2)
    steps: Count = 300
    seeds: Two = 4
    batch: Count = 32

    @property
    def tenth(self) -> int:
        """A tenth of the steps."""
        return max(1, self.steps // 10)


@dataclass(frozen=True)
class Ensemble(ex.Arrays):
    """Networks trained from seeds at rates."""

    seed: Int[np.ndarray, " seed"]
    rate: Float[np.ndarray, " rate"]
    step: Int[np.ndarray, " step"]
    loss: Annotated[Float[np.ndarray, "seed rate step"], "minibatch loss"]
    diverged_at: Int[np.ndarray, "seed rate"]

    def best(self, count: int) -> tuple[int, np.ndarray]:
        """The rate with the least mean loss over the last steps, and that loss by seed.

        A member that has diverged has an infinite loss.
        """
        last = self.finite()[:, :, -count:].mean(axis=2)
        best = int(np.argmin(last.mean(axis=0)))
        return best, last[:, best]

    def finite(self) -> np.ndarray:
        """Losses, infinite once a member has diverged."""
        losses = self.loss.astype(float)
        return np.where(np.isfinite(losses), losses, np.inf)


def compute(config: Config, at: tuple[str, int], keys: ex.Keys) -> Ensemble:
    """Train every seed at every rate."""
    shape, numbers = _network(config, *at)
    training = train.Training(
        steps=config.steps,
        rates=config.rates,
        seeds=config.seeds,
        batch=config.batch,
        optimizer=train.Optimizer("adam", eps=1e-12),
        schedule=train.Schedule(warmup=config.steps // 10, decay="linear"),
    )
    history = train.train(shape, numbers, data.digit_patches(), training, key=keys.own)
    return Ensemble(
        seed=np.arange(config.seeds),
        rate=np.array(config.rates),
        step=np.arange(config.steps),
        loss=np.asarray(history.losses),
        diverged_at=np.asarray(history.diverged_at),
    )


def _network(
    config: Config, kind: str, depth: int
) -> tuple[describe.TransformerShape, describe.Parameterization]:
    """Shape and numbers of one kind; all weights have standard deviation (fan-in)^{-1/2}."""
    shaped = kind == "shaped"
    shape = describe.TransformerShape(
        config.head_dim,
        config.heads,
        depth,
        tokens=8,
        outputs=10,
        patch_dim=8,
        mlp_ratio=2.0,
        norm="layer" if kind == "pre-norm" else None,
        shaped=shaped,
        slopes=config.slopes if shaped else None,
    )
    numbers = describe.standard_parameterization(shape.size, pixels=8)
    if kind == "pre-norm":
        return shape, numbers
    lam = (1 - config.gamma**2) ** 0.5
    numbers = numbers.changed(skip=lam, residual=config.gamma)
    if shaped:
        scale = 1 / (config.tau0 * (shape.dim * config.head_dim) ** 0.5)
        numbers = numbers.changed(score_scale=scale)
    return shape, numbers


def _cost(config: Config, at: tuple[str, int]) -> ex.Cost:
    """Compilation, and floating-point operations at 12 a nanosecond."""
    weights = 12 * (config.head_dim * config.heads) ** 2 * at[1]
    tokens = config.seeds * len(config.rates) * config.steps * config.batch * 8
    memory = ensemble_bytes(
        (config.head_dim, config.heads, at[1]),
        members=config.seeds * len(config.rates),
        batch=config.batch,
        tokens=8,
        outputs=10,
        features=8,
        mlp_ratio=2.0,
    )
    return ex.Cost(6 + 6 * weights * tokens / 1.2e10, memory)


NETWORKS = ex.Part(
    "{kind}/L={depth}",
    Ensemble,
    compute,
    grid=lambda c: [(kind, depth) for kind in KINDS for depth in c.depths],
    cost=_cost,
)


def _last(found: ex.Found[Config], kind: str) -> np.ndarray:
    """Losses by seed of one kind at the largest depth, at its best rate."""
    return found(NETWORKS, (kind, found.config.depths[-1])).best(found.config.tenth)[1]


def _difference(found: ex.Found[Config], first: str, second: str) -> Estimate:
    """The loss of one kind minus that of another, seed by seed."""
    return Estimate.from_samples(_last(found, first) - _last(found, second))


CLAIMS = (
    ex.claim(
        "shaped-trains",
        "Shaped layers without normalisation train: at the largest depth the loss of the last "
        "tenth of the steps is below half of that of chance.",
        lambda found: Estimate.from_samples(_last(found, "shaped")),
        float(np.log(10)) / 2,
        0.0,
        one_sided=True,
        rivals=(ex.Rival("no better than chance", float(np.log(10))),),
    ),
    ex.claim(
        "shaped-against-pre-norm",
        "At the largest depth the shaped network ends within 0.2 nats of pre-LN, or below.",
        lambda found: _difference(found, "shaped", "pre-norm"),
        0.0,
        0.2,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "as the unshaped network ends",
                estimate=lambda found, at: _difference(found, "unshaped", "pre-norm"),
            ),
        ),
        decided_by="standard",
    ),
    ex.claim(
        "unshaped-is-worse",
        "At the largest depth softmax attention and GELU with the same skips and no normalisation "
        "end above the shaped network.",
        lambda found: _difference(found, "shaped", "unshaped"),
        0.0,
        0.0,
        one_sided=True,
        rivals=(ex.Rival("no difference", 0.0),),
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """The last losses by depth, and the course of the loss at the largest."""
    config = found.config
    window = max(1, config.steps // 30)
    for (kind, depth), one in found.each(NETWORKS):
        index, last = one.best(config.tenth)
        diverged = int((one.diverged_at >= 0).sum())
        error = float(last.std(ddof=1) / len(last) ** 0.5)
        yield ("last loss", kind, depth, config.rates[index], float(last.mean()), error, diverged)
        if depth == config.depths[-1]:
            losses = one.finite()[:, index, : config.steps // window * window]
            means = losses.reshape(len(losses), -1, window).mean(axis=(0, 2))
            for place, mean in enumerate(means.tolist()):
                step = (place + 0.5) * window
                yield ("course", kind, step, config.rates[index], mean, None, None)


TRAINING = ex.Figure(
    name="training",
    title="Training without normalisation",
    caption=lambda found: (
        "Minibatch loss on digits, mean over seeds, at the best of the rates "
        f"{', '.join(f'{rate:g}' for rate in found.config.rates)} of Adam for each kind and depth. "
        "Left: windows of steps at the largest depth. Right: the last tenth of the steps, bars are "
        "standard errors over seeds."
    ),
    columns=("panel", "network", "layers or step", "best rate", "loss", "stderr", "diverged"),
    rows=_rows,
    x="layers or step",
    by="network",
    layers=(
        figures.panel(
            "largest depth",
            figures.line("loss"),
            figures.level(float(np.log(10)), label="chance, log 10", dash="6 3"),
            where={"panel": "course"},
            xlabel="step",
            ylabel="loss in nats",
        ),
        figures.panel(
            "best rate",
            figures.points("loss", "stderr", joined=True),
            figures.level(float(np.log(10)), label="chance, log 10", dash="6 3"),
            where={"panel": "last loss"},
            xlabel="layers",
            ylabel="loss, last tenth",
            log="x",
            ticks=True,
        ),
    ),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/training",
    title="Shaped networks without normalisation against pre-LN, trained",
    question="Do shaped networks train without normalisation as deep as pre-LN?",
    summary="Depth sweep of trained networks: shaped attention with trained gains and a shaped "
    "ReLU without normalisation, pre-LN, and the same skips without shaping or normalisation.",
    citations=("noci2023", "digits", "jax"),
    presets={
        "demo": Config(depths=(4, 24), rates=(3e-3, 1e-2), steps=60, seeds=4),
        "standard": Config(),
        "paper": Config(
            head_dim=16, heads=8, depths=(8, 32, 128), rates=(3e-4, 1e-3, 3e-3), steps=2000
        ),
    },
    reference=core.reference("noci2023"),
    parts=(NETWORKS,),
    claims=CLAIMS,
    figures=(TRAINING,),
    finding=ex.Finding(
        "At the largest depth the shaped network ends {0} nats above pre-LN",
        ("shaped-against-pre-norm",),
    ),
)
