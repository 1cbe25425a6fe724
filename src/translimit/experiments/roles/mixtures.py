r"""Routers and experts under Adam: what they learn in the first updates does not depend on sizes.

Two blocks x + MoE(norm(x)) without parameters in the norms read digits as 4 tokens of 16 pixels,
mean over tokens, readout of zeros. The gates of the active experts are the softmax of their
logits, so that they sum to one. Under Adam every entry moves by its rate, and d of them add up: by
the rules router and experts take the rate 1 / m_d, once.

Reference: documentation, "Scaling rules", roles beyond the dense block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core, data
from translimit.core import ConfigError, Estimate
from translimit.describe import Size
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    IncreasingSizes,
    Positive,
    Within,
)
from translimit.experiments.roles.digit_tokens import digit_tokens
from translimit.experiments.roles.routed_network import learning_program
from translimit.scaling import rules

Axis = Literal["width", "experts"]
Quantity = Literal["router", "expert"]
QUANTITIES: tuple[Quantity, ...] = ("router", "expert")
LABELS = {"width": "width $d$", "experts": "experts $E$"}
SAID = {"router": "logits of the router", "expert": "pre-activations of the experts"}
#: The power of 1 / m_d in the rate of the router, by what a case does.
CASES = {"rules": 1.0, "without": 0.0, "twice": 2.0}
#: What a control must exceed, in the direction in which it is wrong.
BOUNDS = {"without": 0.4, "twice": 0.75}


@dataclass(frozen=True)
class At:
    """Networks along one axis, with one rate of the router."""

    axis: Axis
    case: Literal["rules", "without", "twice"]


@dataclass(frozen=True)
class Learns:
    """One quantity along one axis."""

    axis: Axis
    quantity: Quantity


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        widths: d, which is also the number of hidden units of an expert.
        experts: E.
        active: experts of a token.
        steps: updates.
        rate: at the first size.
        images: digits, all of them in every update.
        seeds: independent starts.
    """

    widths: Annotated[IncreasingSizes, Entries(3)] = (16, 32, 64, 128)
    experts: Annotated[IncreasingSizes, Entries(3)] = (4, 8, 16, 32)
    active: Count = 2
    steps: Count = 5
    rate: Positive = 0.02
    images: Annotated[int, Within(1, data.DIGITS)] = 64
    seeds: Count = 8

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if any(width % 4 for width in self.widths):
            raise ConfigError("widths", f"got {self.widths}", "pass multiples of 4, for four heads")
        if self.active > self.experts[0]:
            remedy = f"pass at most the fewest experts, {self.experts[0]}"
            raise ConfigError("active", f"got {self.active}", remedy)

    def sizes(self, axis: Axis) -> tuple[int, ...]:
        """The values of an axis."""
        return self.widths if axis == "width" else self.experts

    def size(self, axis: Axis, value: int) -> Size:
        """The size of a network: the first of the other axis, but 8 experts along the width."""
        width = value if axis == "width" else self.widths[0]
        experts = value if axis == "experts" else max(8, self.active)
        return Size(
            head_dim=width // 4,
            heads=4,
            layers=2,
            mlp_ratio=1.0,
            experts=experts,
            active_experts=self.active,
        )


@dataclass(frozen=True)
class Learned(ex.Arrays):
    """Root mean squares of what maps learned, at the inputs of the start."""

    size: Int[np.ndarray, " size"]
    router: Float[np.ndarray, "size seed"]
    expert: Float[np.ndarray, "size seed"]

    def law(self, quantity: Quantity) -> Float[np.ndarray, "size seed"]:
        """One of `QUANTITIES`."""
        return self.router if quantity == "router" else self.expert


def compute_learned(config: Config, at: At, keys: ex.Keys) -> Learned:
    """Networks of all sizes of an axis after some updates."""
    import jax
    import jax.numpy as jnp

    tokens, labels = digit_tokens(config.images)
    sizes, rows = config.sizes(at.axis), []
    starts = jax.random.split(keys.shared("starts", at.axis), config.seeds)
    base = config.size(at.axis, sizes[0])
    for value in sizes:
        size = config.size(at.axis, value)
        made = rules(base, size, optimizer="adam")
        roles = {"router": "router", "into": "expert_in", "out": "expert_out"}
        roles |= {"embedding": "patch_embedding", "readout": "readout"}
        rates = {name: config.rate * made.role(role).lr for name, role in roles.items()}
        rates["router"] *= (size.width / base.width) ** (1 - CASES[at.case])
        inits = {name: made.role(role).init for name, role in roles.items() if name != "readout"}
        program = learning_program(size, config.active, config.steps, base.width)
        numbers = (jax.tree.map(jnp.float32, inits), jax.tree.map(jnp.float32, rates))
        rows.append(program(starts, *numbers, jnp.asarray(tokens), jnp.asarray(labels)))
    router, expert = (np.array([row[part] for row in rows]) for part in range(2))
    return Learned(size=np.array(sizes), router=router, expert=expert)


def _cases(config: Config) -> list[At]:
    del config
    return [At("width", case) for case in ("rules", "without", "twice")] + [At("experts", "rules")]


def _cost(config: Config, at: At) -> ex.Cost:
    """Compilation, and updates whose price grows with the entries of the experts."""
    sizes = [config.size(at.axis, value) for value in config.sizes(at.axis)]
    entries = sum(size.width**2 * (size.experts or 1) for size in sizes)
    return ex.Cost(3.0 * len(sizes) + 2e-7 * entries * config.steps * config.seeds)


LEARNED = ex.Part("{axis}-{case}", Learned, compute_learned, grid=_cases, cost=_cost)


def _exponent(found: ex.Found[Config], at: At, quantity: Quantity) -> Estimate:
    learned = found(LEARNED, at)
    return checks.power_law_exponent(learned.size.tolist(), learned.law(quantity))


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    return [
        PowerLaw(
            f"{SAID[quantity]}, along {LABELS[at.axis]}",
            {"rules": "rules", "without": "without $1/m_d$", "twice": "$1/m_d$ twice"}[at.case],
            found(LEARNED, at).size.tolist(),
            found(LEARNED, at).law(quantity),
            0.0 if at.case == "rules" else None,
        )
        for quantity in QUANTITIES
        for at in _cases(found.config)
        if quantity == "router" or at.case == "rules"
    ]


def _along(axis: Axis) -> Callable[[Config, Learns], bool]:
    return lambda config, at: at.axis == axis


def _learned(config: Config) -> Sequence[Learns]:
    del config
    return [Learns(axis, quantity) for axis in ("width", "experts") for quantity in QUANTITIES]


def _signed(found: ex.Found[Config], case: str) -> Estimate:
    """The exponent of a control, negative in the direction in which it is wrong."""
    at = At("width", "without" if case == "without" else "twice")
    one = _exponent(found, at, "router")
    sign = -1.0 if case == "without" else 1.0
    return Estimate(sign * one.value, one.stderr, one.count)


RULES = ex.Claims(
    "{axis}-{quantity}",
    lambda found, at: (
        f"Exponent, along {LABELS[at.axis]}, of what the {SAID[at.quantity]} learn in "
        f"{found.config.steps} updates of Adam by the rules."
    ),
    estimate=lambda found, at: _exponent(found, At(at.axis, "rules"), at.quantity),
    prediction=0.0,
    tol=lambda config, at: 0.3 if at == Learns("width", "router") else 0.2,
    over=_learned,
    rivals=(
        ex.Rival("a rate that does not fall with the width", 1.0, when=_along("width")),
        ex.Rival("the factor of the width twice", -1.0, when=_along("width")),
        ex.Rival("an expert learns from its share of the tokens", -1.0, when=_along("experts")),
        ex.Rival("or from the root of it", -0.5, when=_along("experts")),
    ),
    decided_by="standard",
)
CONTROLS = ex.Claims(
    "router-{case}",
    lambda found, case: (
        "Without $1/m_d$ in its rate the logits of the router learn more with the width (minus "
        "the exponent is below $-0.4$)."
        if case == "without"
        else "With $1/m_d$ in rate and multiplier they learn less (the exponent is below $-0.75$)."
    ),
    estimate=_signed,
    prediction=lambda found, case: -BOUNDS[case],
    tol=0.0,
    over=lambda config: list(BOUNDS),
    rivals=(ex.Rival("the factor of the router does not matter", 0.0),),
    one_sided=True,
    decided_by="standard",
)
FIGURE = power_law_figure(
    _laws,
    name="mixtures",
    title="What routers and experts learn, against width and number of experts",
    caption="Root mean squares of changes at the inputs of the start after {steps} updates of "
    "Adam, means and standard errors over {seeds} seeds, fitted exponents in the legend; by the "
    "rules they are 0 (dashed). {active} active experts. Dimensionless.",
    xlabel="size",
    ylabel="size of the change",
    size=(11.0, 6.4),
    across=2,
)

EXPERIMENT = ex.Experiment(
    name="roles/mixtures",
    title="Routers and experts under the rules",
    question="How must the rate of a router change with width and number of experts?",
    summary="Under Adam a router takes the factor $1/m_d$ once, in its rate; what it and the "
    "experts learn then depends neither on the width nor on the number of experts.",
    citations=("digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(widths=(16, 32, 64), experts=(4, 8, 16), seeds=6),
        "standard": Config(seeds=12),
        "paper": Config(widths=(16, 32, 64, 128, 256), experts=(4, 8, 16, 32, 64), seeds=24),
    },
    parts=(LEARNED,),
    claims=(RULES, CONTROLS),
    figures=(FIGURE,),
    finding=ex.Finding(
        "What a router learns goes with the exponent {0} in the width by the rules; without "
        "$1/m_d$ in its rate the exponent is {1:negated}",
        ("width-router", "router-without"),
    ),
)
