r"""LoRA under the rules: factor and rates that keep what an adapter learns as its rank grows.

A frozen layer has an adapter f B A of rank r. Under Adam every entry moves by its rate, and r of
them add up: f = a / r keeps the change of the output at rates that stay. Under SGD the gradient of
B has the factor as well: f = a / r^{1/2} at the rate of B that stays; and since f B is then of the
order 1 / r, the rate of A grows like r. For fewer ranks than distinct tokens updates add up in
part only.

Reference: documentation, "Scaling rules", LoRA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks
from translimit.core import Estimate
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    IncreasingSizes,
    Positive,
    Within,
)
from translimit.experiments.ensembles import PROCESS_BYTES
from translimit.experiments.roles.adapted_layer import Optimizer, adapting_program
from translimit.scaling import lora_rules

Quantity = Literal["output", "down"]
QUANTITIES: tuple[Quantity, ...] = ("output", "down")
SAID = {"output": "change of the output", "down": "part that $A$ learned"}


@dataclass(frozen=True)
class Adapted:
    """How adapters of all ranks are trained.

    Attributes:
        optimizer: that trains them.
        root: the factor is a / r^{1/2}, else a / r.
        kept: which rates stay, whatever the rules say.
        many: whether there are many examples.
    """

    optimizer: Optimizer
    root: bool
    kept: tuple[Literal["a", "b"], ...] = ()
    many: bool = False


#: The rules, and what is wrong or beyond them.
CASES = {
    "adam": Adapted("adam", root=False),
    "sgd": Adapted("sgd", root=True),
    "adam-root": Adapted("adam", root=True, kept=("a", "b")),
    "sgd-linear": Adapted("sgd", root=False, kept=("a", "b")),
    "sgd-kept-a": Adapted("sgd", root=True, kept=("a",)),
    "adam-many": Adapted("adam", root=False, many=True),
}
LABELS = {
    "adam": "$a / r$, rates stay",
    "sgd": "$a / r^{1/2}$, rate of $A$ grows",
    "adam-root": "$a / r^{1/2}$, rates stay",
    "sgd-linear": "$a / r$, rates stay",
    "sgd-kept-a": "$a / r^{1/2}$, rates stay",
    "adam-many": "$a / r$, many examples",
}


@dataclass(frozen=True)
class Learns:
    """What is claimed by the rules."""

    optimizer: Optimizer
    quantity: Quantity


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        ranks: r.
        width: n of the layer.
        examples: of every update, fewer than ranks.
        many: examples where they are many.
        steps: updates.
        rate: of gradient descent at the first rank.
        adam_rate: of Adam at the first rank.
        seeds: independent layers, adapters and examples.
    """

    ranks: Annotated[IncreasingSizes, Entries(3)] = (2, 4, 8, 16, 32, 64)
    width: Count = 128
    examples: Count = 2
    many: Count = 32
    steps: Annotated[int, Within(2, 100_000)] = 10
    rate: Positive = 0.003
    adam_rate: Positive = 0.001
    seeds: Annotated[int, Within(2, 100_000)] = 32


@dataclass(frozen=True)
class Learned(ex.Arrays):
    """Root mean squares of what adapters learned.

    Attributes:
        rank: r.
        output: change of the output of the layer.
        down: what A alone did to the pre-activations through the B of the end.
    """

    rank: Int[np.ndarray, " rank"]
    output: Float[np.ndarray, "rank seed"]
    down: Float[np.ndarray, "rank seed"]

    def law(self, quantity: Quantity) -> Float[np.ndarray, "rank seed"]:
        """One of `QUANTITIES`."""
        return self.output if quantity == "output" else self.down


def compute(config: Config, case: str, keys: ex.Keys) -> Learned:
    """Adapters of all ranks after some updates; all cases share their starts."""
    import jax
    import jax.numpy as jnp

    at, rows = CASES[case], []
    starts = jax.random.split(keys.shared("starts"), config.seeds)
    base = config.rate if at.optimizer == "sgd" else config.adam_rate
    for rank in config.ranks:
        made = lora_rules(
            (config.ranks[0], rank),
            optimizer=at.optimizer,
            factor="a/sqrt(r)" if at.root else "a/r",
        )
        rate_a = 1.0 if "a" in at.kept else made.a.lr
        rate_b = 1.0 if "b" in at.kept else made.b.lr
        examples = config.many if at.many else config.examples
        program = adapting_program(at.optimizer, config.width, rank, examples, config.steps)
        numbers = (made.factor, base * rate_a, base * rate_b)
        rows.append(program(starts, *map(jnp.float32, numbers)))
    output, down = (np.array([row[name] for row in rows]) for name in QUANTITIES)
    return Learned(rank=np.array(config.ranks), output=output, down=down)


def _cost(config: Config, case: str) -> ex.Cost:
    examples = config.many if CASES[case].many else config.examples
    entries = sum(config.width * (config.width * examples + rank * 8) for rank in config.ranks)
    members = config.steps * config.seeds
    memory = 4.0 * config.seeds * config.width * (config.width + 8 * max(config.ranks))
    return ex.Cost(2.0 * len(config.ranks) + 1e-9 * entries * members, PROCESS_BYTES + memory)


LEARNED = ex.Part("{case}", Learned, compute, grid=lambda config: list(CASES), cost=_cost)


def _exponent(found: ex.Found[Config], case: str, quantity: Quantity) -> Estimate:
    learned = found(LEARNED, case)
    return checks.power_law_exponent(learned.rank.tolist(), learned.law(quantity))


def _under(optimizer: Optimizer) -> Callable[[Config, Learns], bool]:
    return lambda config, at: at.optimizer == optimizer


RULES = ex.Claims(
    "{optimizer}-{quantity}",
    lambda found, at: (
        f"Exponent, in the rank, of the {SAID[at.quantity]} in {found.config.steps} updates of "
        f"{'Adam' if at.optimizer == 'adam' else 'SGD'} by the rules, with {found.config.examples} "
        "examples."
    ),
    estimate=lambda found, at: _exponent(found, at.optimizer, at.quantity),
    prediction=0.0,
    tol=lambda config, at: 0.15 if at.optimizer == "adam" else 0.3,
    over=lambda config: [
        Learns(optimizer, quantity) for optimizer in ("adam", "sgd") for quantity in QUANTITIES
    ],
    rivals=(
        ex.Rival("entries add up at random, as the root of $r$", -0.5, when=_under("adam")),
        ex.Rival("the factor should be $a / r^{1/2}$ for both", 0.5, when=_under("adam")),
        ex.Rival("rates of both optimisers should stay", -1.0, when=_under("sgd")),
        ex.Rival("the rates should be those of $a / r$", 1.0, when=_under("sgd")),
    ),
    decided_by="standard",
)
ROOT = ex.claim(
    "adam-root",
    "Under Adam with $a / r^{1/2}$ at rates that stay, the change of the output grows with the "
    "rank to this power.",
    estimate=lambda found: _exponent(found, "adam-root", "output"),
    prediction=0.5,
    tol=0.15,
    rivals=(
        ex.Rival("the factor does not matter", 0.0),
        ex.Rival("as the sum of $r$ entries", 1.0),
    ),
    decided_by="standard",
)
KEPT = ex.claim(
    "sgd-kept-a",
    "Under SGD with $a / r^{1/2}$ and a rate of $A$ that stays, what $A$ learns falls with the "
    "rank to this power: its rate must grow like $r$.",
    estimate=lambda found: _exponent(found, "sgd-kept-a", "down"),
    prediction=-1.0,
    tol=0.3,
    rivals=(
        ex.Rival("the rate of $A$ may stay", 0.0),
        ex.Rival("it must grow like $r^{1/2}$", -0.5),
    ),
    decided_by="standard",
)
LINEAR = ex.claim(
    "sgd-linear",
    "Under SGD with $a / r$ at rates that stay, the change of the output falls with the rank, with "
    "an exponent below $-0.7$.",
    estimate=lambda found: _exponent(found, "sgd-linear", "output"),
    prediction=-0.7,
    tol=0.0,
    one_sided=True,
    rivals=(
        ex.Rival("as under Adam", 0.0),
        ex.Rival("as the root", -0.5),
    ),
    decided_by="standard",
)
MANY = ex.claim(
    "adam-many",
    "With many examples, more than most ranks, updates of Adam add up in part: with $a / r$ the "
    "change of the output falls, with an exponent below $-0.15$.",
    estimate=lambda found: _exponent(found, "adam-many", "output"),
    prediction=-0.15,
    tol=0.0,
    one_sided=True,
    rivals=(ex.Rival("examples do not matter", 0.0),),
    decided_by="standard",
)


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    places: tuple[tuple[str, Quantity, float | None], ...] = (
        ("adam", "output", 0.0),
        ("adam-root", "output", 0.5),
        ("adam-many", "output", None),
        ("sgd", "output", 0.0),
        ("sgd-linear", "output", None),
        ("adam", "down", 0.0),
        ("sgd", "down", 0.0),
        ("sgd-kept-a", "down", -1.0),
    )
    return [
        PowerLaw(
            f"{SAID[quantity]}, {'Adam' if CASES[case].optimizer == 'adam' else 'SGD'}",
            LABELS[case],
            found(LEARNED, case).rank.tolist(),
            found(LEARNED, case).law(quantity),
            expected,
        )
        for case, quantity, expected in places
    ]


FIGURE = power_law_figure(
    _laws,
    name="adapters",
    title="What adapters of low rank learn, against the rank",
    caption="Root mean squares after {steps} updates, means and standard errors over {seeds} "
    "seeds; fitted exponents in the legend, what is expected dashed. A frozen layer of width "
    "{width}, {examples} examples (many: {many}). The part that $A$ learned is that of the "
    "pre-activations. Dimensionless.",
    xlabel="rank $r$",
    ylabel="size of the change",
    size=(11.0, 8.4),
    across=2,
)

EXPERIMENT = ex.Experiment(
    name="roles/lora",
    title="LoRA under the rules",
    question="How must rates of LoRA change with its rank?",
    summary="Under Adam the product of LoRA takes the factor $a / r$ at rates that stay; under SGD "
    "$a / r^{1/2}$, with a rate of $A$ that grows like the rank. What an adapter learns then does "
    "not depend on its rank, as long as there are fewer distinct tokens than ranks.",
    citations=("jax",),
    reference='documentation, "Scaling rules"; arXiv 2106.09685 (LoRA), 2312.03732 (the root)',
    presets={
        "demo": Config(ranks=(2, 8, 32), seeds=24),
        "standard": Config(),
        "paper": Config(ranks=(2, 4, 8, 16, 32, 64, 128), width=256, seeds=96),
    },
    parts=(LEARNED,),
    claims=(RULES, ROOT, KEPT, LINEAR, MANY),
    figures=(FIGURE,),
    finding=ex.Finding(
        "With two examples the change of the output goes with the exponent {0} in the rank under "
        "Adam with $a / r$, and {1} with $a / r^{{1/2}}$; under SGD with $a / r^{{1/2}}$ it is {2}",
        ("adam-output", "adam-root", "sgd-output"),
    ),
)
