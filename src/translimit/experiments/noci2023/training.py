r"""What trains as depth grows: shaped attention without normalisation, against pre-LN.

    shaped       h <- lam h + gamma W_O (alpha I + beta P - gamma_c U) v,   no norm, trained gains
                 for each head that start at 1, logits / (tau_0 (d n_k)^{1/2}), shaped ReLU
    pre-norm     h <- h + branch(LayerNorm h), softmax, GELU
    unshaped     the skips of the first, the attention and activation of the second, no norm

on digits with Adam and a warm-up, at a few rates each; what counts is the best. The paper's own
set-up (data, depths, rates) is not known to us; the depths of its theory are of the order of the
width.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import data, describe, figures, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
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
from translimit.experiments.noci2023.starts import REFERENCE

if TYPE_CHECKING:
    import xarray as xr

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


class ShapedTraining(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and floating-point operations at 12 a nanosecond."""
        weights = 12 * (config.head_dim * config.heads) ** 2 * cell.parameters["depth"]
        tokens = config.seeds * len(config.rates) * config.steps * config.batch * 8
        memory = ensemble_bytes(
            (config.head_dim, config.heads, cell.parameters["depth"]),
            members=config.seeds * len(config.rates),
            batch=config.batch,
            tokens=8,
            outputs=10,
            mlp_ratio=2.0,
        )
        return Cost(6 + 6 * weights * tokens / 1.2e10, memory)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each kind and depth."""
        return tuple(
            Cell(f"{kind}/L={depth}", {"kind": kind, "depth": depth})
            for kind in KINDS
            for depth in config.depths
        )

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """The three kinds at the largest depth."""
        return ("shaped-trains", "shaped-against-pre-norm", "unshaped-is-worse")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Train every seed at every rate."""
        shape, numbers = _network(config, cell.parameters["kind"], cell.parameters["depth"])
        training = train.Training(
            steps=config.steps,
            rates=config.rates,
            seeds=config.seeds,
            batch=config.batch,
            optimizer=train.Optimizer("adam", eps=1e-12),
            schedule=train.Schedule(warmup=config.steps // 10, decay="linear"),
        )
        history = train.train(shape, numbers, data.digit_patches(), training, key=key)
        return history.to_xarray().assign_attrs(reference=REFERENCE, **cell.parameters)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Losses at the largest depth, each at its best rate."""
        depth = config.depths[-1]
        shaped, pre_norm, unshaped = (_best(config, results, k, depth)[1] for k in KINDS)
        chance = float(np.log(10))

        def difference(one: np.ndarray, two: np.ndarray) -> Estimate:
            error = np.hypot(one.std(ddof=1), two.std(ddof=1)) / len(one) ** 0.5
            return Estimate(float(one.mean() - two.mean()), float(error), len(one))

        def claim(name: str, statement: str, bound: float, estimate: Estimate, tol: float) -> Claim:
            return Claim(name, statement, bound, estimate, tol, "unavailable", REFERENCE, True)

        return [
            claim(
                "shaped-trains",
                f"{depth} shaped layers without normalisation train: the loss of the last tenth "
                "of the steps is below half of that of chance.",
                chance / 2,
                Estimate.from_samples(shaped),
                0.0,
            ),
            claim(
                "shaped-against-pre-norm",
                f"At {depth} layers the shaped network ends within 0.2 nats of pre-LN, or below.",
                0.0,
                difference(shaped, pre_norm),
                0.2,
            ),
            claim(
                "unshaped-is-worse",
                f"At {depth} layers softmax attention and GELU with the same skips and no "
                "normalisation end above the shaped network.",
                0.0,
                difference(shaped, unshaped),
                0.0,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Losses against steps and against depth."""
        return [_figure(config, results)]


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


def _losses(results: Results, kind: str, depth: int) -> np.ndarray:
    """Minibatch losses [seeds, rates, steps], infinite once a member has diverged."""
    losses = results[f"{kind}/L={depth}"]["loss"].values.astype(float)
    return np.where(np.isfinite(losses), losses, np.inf)


def _best(config: Config, results: Results, kind: str, depth: int) -> tuple[int, np.ndarray]:
    """The rate with the least mean loss over the last tenth, and that loss by seed."""
    last = _losses(results, kind, depth)[:, :, -max(1, config.steps // 10) :].mean(axis=2)
    best = int(np.argmin(last.mean(axis=0)))
    return best, last[:, best]


def _figure(config: Config, results: Results) -> FigureSpec:
    rows = []
    for kind in KINDS:
        for depth in config.depths:
            index, last = _best(config, results, kind, depth)
            diverged = int((results[f"{kind}/L={depth}"]["diverged_at"].values >= 0).sum())
            error = float(last.std(ddof=1) / len(last) ** 0.5)
            rows.append((kind, depth, config.rates[index], float(last.mean()), error, diverged))

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        depth, window = config.depths[-1], max(1, config.steps // 30)
        for number, kind in enumerate(KINDS):
            losses = _losses(results, kind, depth)[:, _best(config, results, kind, depth)[0]]
            count = losses.shape[1] // window
            mean = losses[:, : count * window].reshape(len(losses), count, window).mean((0, 2))
            steps = (np.arange(count) + 0.5) * window
            left.plot(steps, mean, label=kind, **figures.marked(number, len(steps)))
            mine = [row for row in rows if row[0] == kind]
            right.errorbar(
                [row[1] for row in mine],
                [row[3] for row in mine],
                yerr=[row[4] for row in mine],
                fmt=figures.MARKERS[number] + "-",
                color=figures.COLOURS[number],
                capsize=3,
                label=kind,
            )
        for ax in (left, right):
            ax.axhline(np.log(10), color=figures.LIMIT, ls="--", lw=1, label="chance, log 10")
        right.set_xscale("log")
        right.set_xticks(config.depths, [str(depth) for depth in config.depths])
        right.minorticks_off()
        figures.finish(left, xlabel="step", ylabel="loss in nats", title=f"{depth} layers")
        figures.finish(right, xlabel="layers", ylabel="loss, last tenth", title="best rate")

    return FigureSpec(
        name="training",
        title="Training without normalisation",
        caption="Minibatch loss on digits, mean over seeds, at the best of the rates "
        f"{', '.join(f'{rate:g}' for rate in config.rates)} of Adam for each kind and depth. Left: "
        "windows of steps at the largest depth. Right: the last tenth of the steps, bars are "
        "standard errors over seeds.",
        draw=draw,
        table=Table(("network", "layers", "best rate", "loss", "stderr", "diverged"), tuple(rows)),
        shown=len(rows),
        size=(9.0, 4.0),
    )


EXPERIMENT = ShapedTraining(
    name="noci2023/training",
    title="Shaped networks without normalisation against pre-LN, trained",
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
)
