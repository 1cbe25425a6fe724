r"""Norms of queries and keys: the exponent of the scores, and gains that heads share.

With q and k of root mean square 1 on every head, q . k = N cos: a scale N^{-1} of the scores is
alpha_A = 1, and N^{-1/2} is alpha_A = 1/2. A gain with an entry for every channel has a gradient
that falls like 1 / (N H), one that all heads share sums it over heads, 1 / N once they agree. So
under gradient descent the two need rates that are m_H apart, and under Adam an epsilon.

Reference: documentation, "Scaling rules", roles beyond the dense block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core
from translimit.core import Estimate
from translimit.describe import Size
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.roles.digit_tokens import digit_tokens
from translimit.experiments.roles.gain_cases import CASES, SAID, Config, Row, Trained
from translimit.experiments.roles.normed_attention import ROLES, learning_program
from translimit.scaling import Rules, rules


@dataclass(frozen=True)
class Learned(ex.Arrays):
    """Root mean squares along the heads.

    Attributes:
        heads: H.
        motion: of the scores by the gains alone, at the inputs of the start.
        before: the gradient of the gains at the start.
        after: the same after the updates.
    """

    heads: Int[np.ndarray, " size"]
    motion: Float[np.ndarray, "size seed"]
    before: Float[np.ndarray, "size seed"]
    after: Float[np.ndarray, "size seed"]


@dataclass(frozen=True)
class Scores(ex.Arrays):
    """Root mean squares of scores at the start, along the head dimension."""

    head_dim: Int[np.ndarray, " size"]
    scores: Float[np.ndarray, "size seed"]


def _run(
    config: Config, sizes: list[Size], at: Trained, alpha_A: float, steps: int, key: core.Key
) -> dict[str, Float[np.ndarray, "size seed"]]:
    import jax
    import jax.numpy as jnp

    images, labels = map(jnp.asarray, digit_tokens(config.images))
    starts, rows = jax.random.split(key, config.seeds), []
    for size in sizes:
        made = rules(sizes[0], size, optimizer=at.optimizer, alpha_A=alpha_A, qk_norm=True)
        rate = config.rate if at.optimizer == "sgd" else config.adam_rate
        numbers = (
            {name: made.role(role).init for name, role in ROLES.items()},
            {name: rate * value for name, value in _rates(made, at.row).items()},
            made.score_scale,
            made.readout,
        )
        program = learning_program(size, at.optimizer, steps, at.gain == "shared", sizes[0].width)
        rows.append(program(starts, *jax.tree.map(jnp.float32, numbers), images, labels))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _rates(made: Rules, row: Row) -> dict[str, float]:
    gains = dict.fromkeys(("query_gain", "key_gain"), made.role(row).lr)
    return {name: made.role(role).lr for name, role in ROLES.items()} | gains


def compute_learned(config: Config, case: str, keys: ex.Keys) -> Learned:
    """Networks of all numbers of heads after some updates; all cases share their starts."""
    sizes, key = config.along_heads(), keys.shared("starts")
    found = _run(config, sizes, CASES[case], 1.0, config.steps, key)
    return Learned(
        heads=np.array(config.heads),
        motion=found["motion"],
        before=found["gradient_before"],
        after=found["gradient_after"],
    )


def compute_scores(config: Config, alpha_A: float, keys: ex.Keys) -> Scores:
    """Networks of all head dimensions at their start."""
    sizes, key = config.along_head_dims(), keys.shared("starts")
    found = _run(config, sizes, CASES["shared"], alpha_A, 0, key)
    return Scores(head_dim=np.array(config.head_dims), scores=found["scores"])


def _learned_cost(config: Config, case: str) -> ex.Cost:
    del case
    widths = [size.width for size in config.along_heads()]
    entries = sum(width * (width + 64) for width in widths)
    updates = config.steps * config.seeds * config.images
    return ex.Cost(4.0 * len(widths) + 6e-9 * entries * updates)


def _scores_cost(config: Config, alpha_A: float) -> ex.Cost:
    del alpha_A
    return ex.Cost(4.0 * len(config.head_dims))


LEARNED = ex.Part(
    "{case}", Learned, compute_learned, grid=lambda config: list(CASES), cost=_learned_cost
)
SCORES = ex.Part(
    "scores-{alpha_A:g}", Scores, compute_scores, grid=lambda config: [0.5, 1.0], cost=_scores_cost
)


def _motion(found: ex.Found[Config], case: str) -> Estimate:
    learned = found(LEARNED, case)
    return checks.power_law_exponent(learned.heads.tolist(), learned.motion)


def _gradient(found: ex.Found[Config], case: str) -> Estimate:
    learned = found(LEARNED, case)
    return checks.power_law_exponent(learned.heads.tolist(), learned.after)


def _wrong(found: ex.Found[Config]) -> Estimate:
    one = _motion(found, "wrong-row")
    return Estimate(-one.value, one.stderr, one.count)


def _drawn(found: ex.Found[Config], alpha_A: float) -> Estimate:
    drawn = found(SCORES, alpha_A)
    return checks.power_law_exponent(drawn.head_dim.tolist(), drawn.scores)


def _is(*cases: str) -> Callable[[Config, str], bool]:
    return lambda config, case: case in cases


START = ex.Claims(
    "scores-{alpha_A:g}",
    lambda found, alpha_A: (
        f"Random scores of normalised queries and keys under a scale $N^{{-{alpha_A:g}}}$ change "
        "with the head dimension to this power."
    ),
    estimate=_drawn,
    prediction=lambda found, alpha_A: 0.5 - alpha_A,
    tol=0.05,
    over=lambda config: [0.5, 1.0],
    rivals=(
        ex.Rival(r"the other $\alpha_A$", lambda found, alpha_A: alpha_A - 1.0),
        ex.Rival(
            "products of $N$ terms that add up, as of equal signs",
            lambda found, alpha_A: 1.0 - alpha_A,
        ),
    ),
)
MOTION = ex.Claims(
    "motion-{case}",
    lambda found, case: (
        f"Exponent, along the heads, of the motion of the scores by {SAID[case]}, in "
        f"{found.config.steps} updates by the rules."
    ),
    estimate=_motion,
    prediction=0.0,
    tol=lambda config, case: 0.2 if case == "adam" else 0.3,
    over=lambda config: ["shared", "channel", "adam"],
    rivals=(
        ex.Rival("a rate that is $m_H$ too large", 1.0),
        ex.Rival("a rate that is $m_H$ too small", -1.0),
        ex.Rival("gradients of heads that stay incoherent", -0.5, when=_is("shared")),
    ),
    decided_by="standard",
)
GRADIENT = ex.Claims(
    "gradient-{case}",
    lambda found, case: (
        f"Exponent, along the heads, of the gradient of {SAID[case]}, after {found.config.steps} "
        "updates by the rules: what the epsilon of Adam follows."
    ),
    estimate=_gradient,
    prediction=lambda found, case: 0.0 if case == "shared" else -1.0,
    tol=0.2,
    over=lambda config: ["shared", "channel"],
    rivals=(
        ex.Rival("that of the other gains", lambda found, case: -1.0 if case == "shared" else 0.0),
        ex.Rival("half of it: heads that stay incoherent, as at the start", -0.5),
    ),
    decided_by="standard",
)
WRONG = ex.claim(
    "wrong-row",
    "With the row of gains of channels shared gains move the scores more with the number of heads "
    "(minus the exponent is below $-0.5$).",
    estimate=_wrong,
    prediction=-0.5,
    tol=0.0,
    one_sided=True,
    rivals=(ex.Rival("the two rows are alike for shared gains", 0.0),),
    decided_by="standard",
)


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    laws = []
    for case, said in (
        ("shared", "shared"),
        ("channel", "by channel"),
        ("wrong-row", "shared, wrong row"),
        ("adam", "shared, Adam"),
    ):
        learned = found(LEARNED, case)
        heads, expected = learned.heads.tolist(), None if case == "wrong-row" else 0.0
        laws.append(PowerLaw("motion of scores by gains", said, heads, learned.motion, expected))
    for case, said, expected in (("shared", "shared", 0.0), ("channel", "by channel", -1.0)):
        learned = found(LEARNED, case)
        heads = learned.heads.tolist()
        laws += [
            PowerLaw("gradient of gains", f"{said}, start", heads, learned.before),
            PowerLaw("gradient of gains", f"{said}, end", heads, learned.after, expected),
        ]
    return laws


def _score_laws(found: ex.Found[Config]) -> list[PowerLaw]:
    return [
        PowerLaw(
            "random scores",
            rf"scale $N^{{-{alpha_A:g}}}$",
            found(SCORES, alpha_A).head_dim.tolist(),
            found(SCORES, alpha_A).scores,
            0.5 - alpha_A,
        )
        for alpha_A in (0.5, 1.0)
    ]


FIGURES = (
    power_law_figure(
        _laws,
        name="gains",
        title="Gains of normalised queries and keys, against the number of heads",
        caption="Root mean squares after {steps} updates: what the gains alone did to the scores, "
        "at the inputs of the start, and the gradient of the gains. Means and standard errors over "
        "{seeds} seeds, fitted exponents in the legend; what is expected is dashed. One block, "
        "head dimension {head_dim}. Dimensionless.",
        xlabel="heads $H$",
        ylabel="rms",
        size=(11.0, 5.0),
        across=2,
    ),
    power_law_figure(
        _score_laws,
        name="scores",
        title="Random scores of normalised queries and keys, against the head dimension",
        caption="Root mean squares at the start, means and standard errors over {seeds} seeds; "
        "what is expected is dashed. Dimensionless.",
        xlabel="head dimension $N$",
        size=(6.4, 4.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="roles/qk-norm",
    title="Norms of queries and keys under the rules",
    question="How must gains of normalised queries and keys be scaled?",
    summary="Scores of normalised queries and keys are cosines: the scale of the module decides "
    r"$\alpha_A$. Gains that heads share sum their gradient over heads; under SGD they need a rate "
    "that is $m_H$ below that of gains of channels.",
    citations=("digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(head_dims=(8, 16, 32), seeds=16),
        "standard": Config(),
        "paper": Config(heads=(2, 4, 8, 16, 32, 64), seeds=64),
    },
    parts=(LEARNED, SCORES),
    claims=(MOTION, GRADIENT, WRONG, START),
    figures=FIGURES,
    finding=ex.Finding(
        "Gains that heads share move the scores with the exponent {0} in the number of heads by "
        "the rules; with the row of gains of channels the exponent is {1:negated}",
        ("motion-shared", "wrong-row"),
    ),
)
