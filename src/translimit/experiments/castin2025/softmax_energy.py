r"""The energy of softmax attention, and the metric in which its flow is a gradient flow.

With A = A^T the energy E = 1/2 int int e^{<Ax, y>} dmu dmu changes at the rate int Z <A m, Gamma>
dmu, Z(x) = int e^{<Ax, y>} dmu(y) and m the mean of y under the softmax: V = A is the gradient flow
of E in a metric whose mobility is 1 / Z, not in the plain W_2 metric. One cloud along the flows of
four value maps, and along that of an A that is not symmetric, where both sides of the score count;
for a Gaussian a closed form. Float64.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import quadrature
from translimit.experiments.checked import CheckedConfig, Positive, Two

#: A symmetric score matrix with eigenvalues of both signs; one that is not symmetric.
A = np.array([[0.9, 0.3], [0.3, -0.5]])
GENERAL = np.array([[0.9, 0.8], [-0.4, -0.5]])
#: Value maps by name, and what the energy does along their flows: its sign.
VALUES = {
    "A": A,
    "-A": -A,
    "PA": np.array([[1.0, 0.4], [0.4, 0.6]]) @ A,
    "JA": np.array([[0.0, 1.0], [-1.0, 0.0]]) @ A,
    "general": GENERAL,
}
SIGNS = {"A": 1, "PA": 1, "-A": -1}
#: Gauss-Legendre times at which rates are integrated.
NODES = 12
#: The Gaussian: its covariance, nodes per dimension, and the step of the difference.
COV, ORDER, STEP = np.array([[0.5, 0.1], [0.1, 0.3]]), 24, 1e-4


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        tokens: of the cloud, uniform on [-1, 1]^2.
        t1: final depth.
    """

    tokens: Two = 64
    t1: Positive = 1.0


@dataclass(frozen=True)
class Energy(ex.Arrays):
    """The energy along a flow, and integrals of rates along it."""

    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    energy: Float[np.ndarray, " time"]
    rate: Annotated[float, "integral of Z <A m, Gamma>, of both sides where A is not symmetric"]
    one_side: Annotated[float, "integral of Z <A m, Gamma>"]
    plain: Annotated[float, "integral of |Gamma|^2"]
    mean_partition: Annotated[float, "integral of the mean of Z times that of <A m, Gamma>"]

    @property
    def change(self) -> float:
        """From the start to the end."""
        return float(self.energy[-1] - self.energy[0])


@dataclass(frozen=True)
class Gaussian(ex.Arrays):
    """The rate of a Gaussian's energy with V = A: measured on a quadrature cloud, and claimed."""

    measured: float
    predicted: float
    without_partition: float


def compute(config: Config, value: str, keys: ex.Keys) -> Energy:
    """The same cloud along the flow of a value map."""
    import jax

    with jax.enable_x64(True):
        shape = (config.tokens, 2)
        cloud = np.asarray(jax.random.uniform(keys.shared("cloud"), shape, np.float64, minval=-1.0))
    score = GENERAL if value == "general" else A
    layer = attention.Softmax(Q=score, K=np.eye(2), V=VALUES[value], score_scale=1.0)
    nodes, masses = np.polynomial.legendre.leggauss(NODES)
    times = np.concatenate([[0.0], (nodes + 1) / 2 * config.t1, [config.t1]])
    flow = limits.meanfield.ParticleFlow(attention=layer, initial=cloud, t1=config.t1)
    exact = limits.meanfield.AdaptiveODE(rtol=1e-10, atol=1e-12)
    paths = np.asarray(core.solve(flow, exact, save=times).tokens)
    rates = np.array([_rates(layer, score, tokens) for tokens in paths[1:-1]])
    return Energy(
        times,
        np.array([observe.softmax_energy(tokens, score) for tokens in paths]),
        *(config.t1 / 2 * masses @ rates),
    )


def _rates(layer: attention.Softmax, score: np.ndarray, tokens: np.ndarray) -> list[float]:
    """Rates at one depth: of both sides, of one, of the plain metric, and with the mean of Z."""
    velocity = np.asarray(layer(tokens, tokens))
    kernel = np.exp(tokens @ score.T @ tokens.T) / len(tokens)
    partition = kernel.sum(axis=1)
    queries, keys = kernel @ tokens @ score, kernel.T @ tokens @ score.T
    # A^T m Z, the gradient from the side of the queries; A m where A is symmetric.
    one = (queries * velocity).sum(axis=1)
    both = (one + (keys * velocity).sum(axis=1)) / 2
    side = partition * ((kernel @ tokens / partition[:, None]) @ score.T * velocity).sum(axis=1)
    return [
        float(np.mean(part))
        for part in (both, side, velocity**2 @ np.ones(2), partition.mean() * side / partition)
    ]


def compute_gaussian(config: Config, at: ex.Alone, keys: ex.Keys) -> Gaussian:
    """Central differences of the energy of a quadrature cloud along the field of a Gaussian."""
    layer = attention.Softmax(Q=A, K=np.eye(2), V=A, score_scale=1.0)
    cloud, weights = quadrature(np.zeros(2), np.linalg.cholesky(COV), ORDER)
    velocity = np.asarray(layer(cloud, cloud, weights=weights))
    ends = [
        observe.softmax_energy(cloud + sign * STEP * velocity, A, weights=weights)
        for sign in (1, -1)
    ]
    M = A @ COV @ A
    return Gaussian(
        measured=(ends[0] - ends[1]) / (2.0 * STEP),
        predicted=observe.gaussian_softmax_energy_rate(A, COV, M),
        without_partition=float(np.trace(M @ COV @ M.T)),
    )


FLOWS = ex.Part(
    "flow/{value}",
    Energy,
    compute,
    grid=lambda c: tuple(VALUES),
    cost=lambda c, value: ex.Cost(5.0 + 2e-6 * c.tokens**2),
)
GAUSSIAN = ex.Part(
    "gaussian", Gaussian, compute_gaussian, grid=ex.alone, cost=lambda c, at: ex.Cost(4.0)
)


def _moves(config: Config, value: str) -> bool:
    return value != "JA"


def _told(field: Callable[[Energy], float]) -> Callable[[ex.Found[Config], str], float]:
    """An integral along a flow."""
    return lambda found, value: float(field(found(FLOWS, value)))


def _against(sign: int) -> Callable[[ex.Found[Config], str], Estimate]:
    """The largest change against a sign times that of the value map."""

    def measured(found: ex.Found[Config], value: str) -> Estimate:
        steps = np.diff(found(FLOWS, value).energy)
        return Estimate(float((-sign * SIGNS[value] * steps).max()), 0.0, len(steps), 1e-10)

    return measured


def _only(*values: str) -> Callable[[Config, str], bool]:
    return lambda config, value: value in values


CLAIMS = (
    ex.Claims(
        "rate-{value}",
        lambda found, value: (
            "$A$ and $V = A$ not symmetric: the energy changes by the integral of both sides, "
            "$\\frac12\\int\\langle Z A^T m + Z' A m', \\Gamma\\rangle d\\mu$."
            if value == "general"
            else f"$V = {value}$: the energy changes by the integral of $\\int Z\\langle A m, "
            "\\Gamma\\rangle d\\mu$."
        ),
        estimate=lambda found, value: Estimate(found(FLOWS, value).change, discretisation=1e-8),
        prediction=_told(lambda energy: energy.rate),
        tol=1e-6,
        over=lambda c: tuple(VALUES),
        rivals=(
            ex.Rival(
                "plain W_2 metric",
                lambda found, value: SIGNS.get(value, 1) * found(FLOWS, value).plain,
            ),
            ex.Rival("the mean of Z", _told(lambda e: e.mean_partition), when=_moves),
            ex.Rival("half the rate", _told(lambda e: e.rate / 2), when=_moves),
            ex.Rival("one side alone", _told(lambda e: e.one_side), when=_only("general")),
        ),
    ),
    ex.Claims(
        "sign-{value}",
        lambda found, value: (
            f"$V = {value}$: the energy {'rises' if SIGNS[value] > 0 else 'falls'} all the way "
            "(largest change against this between two times kept)."
        ),
        estimate=_against(1),
        prediction=0.0,
        tol=1e-7,
        over=lambda c: tuple(SIGNS),
        rivals=(ex.Rival("the other sign", estimate=_against(-1)),),
        one_sided=True,
    ),
    ex.claim(
        "gaussian-rate",
        "A Gaussian, $V = A$: $\\dot E = 2E\\,\\mathrm{tr}(A\\Sigma A(\\Sigma^{-1} - A\\Sigma "
        "A)^{-1}A\\Sigma A)$ (measured on a quadrature cloud).",
        lambda found: Estimate(found(GAUSSIAN).measured, discretisation=1e-8),
        lambda found: found(GAUSSIAN).predicted,
        1e-6,
        rivals=(
            ex.Rival("without Z", lambda found, at: found(GAUSSIAN).without_partition),
            ex.Rival("half the rate", lambda found, at: found(GAUSSIAN).predicted / 2),
            ex.Rival("times 1.1", lambda found, at: 1.1 * found(GAUSSIAN).predicted),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for value, one in found.each(FLOWS):
        for t, energy in zip(one.time.tolist(), one.energy.tolist(), strict=True):
            name = "A not symmetric" if value == "general" else f"V = {value}"
            yield (name, t, energy - float(one.energy[0]))


PATHS = ex.Figure(
    name="energy",
    title="The energy of softmax attention",
    caption="Change of $E = \\frac12\\int\\int e^{{\\langle Ax, y\\rangle}} d\\mu d\\mu$ along "
    "flows of one cloud of {tokens} tokens, uniform on $[-1, 1]^2$: $V = A$ symmetric, $-A$, $PA$ "
    "with $P$ positive definite, $JA$ with $J$ skew, which conserves it; and an $A$ that is not "
    "symmetric. Dimensionless; one cloud, without error bars.",
    columns=("value map", "t", "change of E"),
    rows=_rows,
    x="t",
    by="value map",
    layers=(figures.points("change of E", joined=True),),
    xlabel="depth $t$",
    ylabel="change of the energy",
)

EXPERIMENT = ex.Experiment(
    name="castin2025/softmax-energy",
    title="The energy of softmax attention in its twisted metric",
    question="In which metric is softmax attention a gradient flow?",
    summary="With a symmetric score matrix softmax attention has an energy, which rises for $V = "
    "A$ and falls for $V = -A$ at the rate of a metric with the mobility $1/Z$, not of the plain "
    "Wasserstein metric. The energy of a cloud is followed along five value maps and compared with "
    "the integral of the rate.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(), "standard": Config(tokens=256), "paper": Config(tokens=1024)},
    parts=(FLOWS, GAUSSIAN),
    claims=CLAIMS,
    figures=(PATHS,),
    finding=ex.Finding(
        "Along the flow the energy of softmax attention changes by {0} with $V = A$, and by {1}"
        " with $V = -A$",
        ("rate-A", "rate--A"),
    ),
)
