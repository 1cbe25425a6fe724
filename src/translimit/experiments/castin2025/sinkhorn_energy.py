r"""The energy of Sinkhorn attention: entropic self-transport along the flow.

With A = A^T the flow with V = A descends the self-transport OT and that with V = -A ascends it, at
the rate -2 int <A m, Gamma> d mu. OT of one cloud and of the Gaussian with its moments, along both
flows, and the integral of the rate; float64.

Reference: Sander et al., arXiv 2110.11773; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import attention, core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import COV
from translimit.experiments.checked import CheckedConfig, Count, Positive

#: A symmetric score matrix.
A = np.array(((0.7, 0.2), (0.2, -0.4)))
#: What the energy does, and the sign of V / A.
DIRECTIONS = {"falls": 1, "rises": -1}
#: V in the words of a claim.
VALUES = {"falls": "A", "rises": "-A"}
#: Nodes in time at which the rate is integrated.
NODES = 10


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        tokens: tokens of the cloud whose energy is followed.
        t1: final depth.
    """

    tokens: Count = 100
    t1: Positive = 0.8


@dataclass(frozen=True)
class Energy(ex.Arrays):
    """Self-transport along both flows."""

    direction: Shaped[np.ndarray, " direction"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    particles: Float[np.ndarray, "direction time"]
    closure: Float[np.ndarray, "direction time"]
    integral: Annotated[Float[np.ndarray, " direction"], "integral of the rate"]
    softmax_integral: Annotated[
        Float[np.ndarray, " direction"], "integral with the mean and the Z of softmax"
    ]

    def along(self, direction: str) -> Float[np.ndarray, " time"]:
        """That of the cloud, along one flow."""
        return self.particles[list(DIRECTIONS).index(direction)]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Energy:
    """One cloud, which has the moments of the Gaussian exactly, along both flows."""
    import jax

    with jax.enable_x64(True):
        noise = np.asarray(jax.random.normal(keys.own, (config.tokens, 2), dtype=np.float64))
    mean, cov = observe.moments(noise)
    whitened = (noise - mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T
    cloud = whitened @ np.linalg.cholesky(COV).T
    # Gauss-Legendre times, at which the rate is integrated, between the ends.
    nodes, masses = np.polynomial.legendre.leggauss(NODES)
    ts = np.concatenate([[0.0], (nodes + 1) / 2 * config.t1, [config.t1]])
    particles, closures, integrals, others = [], [], [], []
    for sign in DIRECTIONS.values():
        layer = attention.Sinkhorn(Q=A, K=np.eye(2), V=sign * A, tol=1e-12)
        values, rates, softmax = _along(layer, cloud, ts)
        flow = limits.meanfield.GaussianFlow(
            attention=layer, mean=[0.0, 0.0], cov=COV, t1=config.t1
        )
        gaussian = core.solve(flow, save=ts)
        particles.append(values)
        closures.append([observe.gaussian_self_transport(A, cov) for cov in gaussian.cov])
        integrals.append(config.t1 / 2 * float(masses @ rates[1:-1]))
        others.append(config.t1 / 2 * float(masses @ softmax[1:-1]))
    return Energy(
        direction=np.array(list(DIRECTIONS)),
        time=ts,
        particles=np.array(particles),
        closure=np.array(closures),
        integral=np.array(integrals),
        softmax_integral=np.array(others),
    )


def _along(
    layer: attention.Sinkhorn, cloud: np.ndarray, ts: np.ndarray
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Self-transport of a cloud along its flow, its rate, and that of softmax's energy."""
    flow = limits.meanfield.ParticleFlow(attention=layer, initial=cloud, t1=float(ts[-1]))
    exact = limits.meanfield.AdaptiveODE(rtol=1e-10, atol=1e-12)
    values, rates, softmax = [], [], []
    for tokens in core.solve(flow, exact, save=ts).tokens:
        found = layer.potentials(tokens)
        values.append(observe.self_transport(found.f, found.g))
        velocity = np.asarray(layer(tokens, tokens))
        rates.append(observe.self_transport_rate(tokens, A, found.f, found.g, velocity))
        softmax.append(-2.0 * observe.softmax_energy_rate(tokens, A, velocity))
    return values, np.array(rates), np.array(softmax)


ENERGY = ex.Part(
    "energy",
    Energy,
    compute,
    grid=ex.alone,
    # Compilation, and pairs of tokens.
    cost=lambda c, at: ex.Cost(6.0 + 3e-9 * 6000 * c.tokens**2),
)


def _change(found: ex.Found[Config], direction: str) -> Estimate:
    energy = found(ENERGY).along(direction)
    return Estimate(float(energy[-1] - energy[0]), 0.0, 1, 1e-7)


def _integral(field: str, factor: float = 1.0) -> Callable[[ex.Found[Config], str], float]:
    """A multiple of an integral along one flow."""

    def told(found: ex.Found[Config], direction: str) -> float:
        return factor * float(getattr(found(ENERGY), field)[list(DIRECTIONS).index(direction)])

    return told


def _against(sign: int) -> Callable[[ex.Found[Config], str], Estimate]:
    """Largest change against a sign times that of the direction."""

    def measured(found: ex.Found[Config], direction: str) -> Estimate:
        steps = sign * DIRECTIONS[direction] * np.diff(found(ENERGY).along(direction))
        return Estimate(float(np.max(steps)), 0.0, len(steps), 1e-9)

    return measured


CLAIMS = (
    ex.Claims(
        "energy-rate-{direction}",
        lambda found, direction: (
            f"Along the flow with $V = {VALUES[direction]}$ the self-transport changes by the "
            "integral of $-2\\int\\langle A m, \\Gamma\\rangle d\\mu$."
        ),
        estimate=_change,
        prediction=_integral("integral"),
        tol=1e-5,
        over=lambda c: tuple(DIRECTIONS),
        rivals=(
            ex.Rival("without the factor 2", _integral("integral", 0.5)),
            ex.Rival("times 1.1", _integral("integral", 1.1)),
            ex.Rival("with the Z and the mean of softmax", _integral("softmax_integral")),
        ),
    ),
    ex.Claims(
        "energy-sign-{direction}",
        lambda found, direction: (
            f"With $V = {VALUES[direction]}$ the self-transport {direction} all the way: largest "
            "change against this sign between two times kept."
        ),
        estimate=_against(1),
        prediction=0.0,
        tol=1e-7,
        one_sided=True,
        over=lambda c: tuple(DIRECTIONS),
        rivals=(ex.Rival("the other sign", estimate=_against(-1)),),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    energy = found(ENERGY)
    both = np.stack([energy.particles, energy.closure], axis=1).reshape(-1, len(energy.time))
    for t, row in zip(energy.time.tolist(), both.T.tolist(), strict=True):
        yield (t, *row)


PATHS = ex.Figure(
    name="energy",
    title="The energy of Sinkhorn attention",
    caption="Entropic self-transport of one cloud of {tokens} tokens (markers) and of the Gaussian "
    "with its first two moments (lines), along the flows with $V = A$, which descends, and "
    "$V = -A$, which ascends; $A = A^T$. The offset is the bias of a finite cloud. No error bars: "
    "one cloud.",
    columns=("t", "cloud, falls", "Gaussian, falls", "cloud, rises", "Gaussian, rises"),
    rows=_rows,
    x="t",
    layers=tuple(
        layer
        for series, (direction, value) in enumerate(VALUES.items())
        for layer in (
            figures.points(f"cloud, {direction}", label=f"cloud, $V = {value}$", series=series),
            figures.line(f"Gaussian, {direction}", label=f"Gaussian, $V = {value}$", series=series),
        )
    ),
    xlabel="depth $t$",
    ylabel="self-transport $\\mathrm{OT}(\\mu_t)$",
    shown=lambda found, table: len(DIRECTIONS),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sinkhorn-energy",
    title="The energy of Sinkhorn attention",
    question="Does Sinkhorn attention descend its energy at the predicted rate?",
    summary="With $V = A = A^T$ the flow of Sinkhorn attention must descend the entropic "
    "self-transport, and with $V = -A$ ascend it, at a known rate: that of a cloud and that of the "
    "Gaussian with its moments are followed along both.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(), "standard": Config(tokens=200), "paper": Config(tokens=1000)},
    parts=(ENERGY,),
    claims=CLAIMS,
    figures=(PATHS,),
    finding=ex.Finding(
        "With $V = A$ the self-transport changes by {0} along the flow, and by {1} with the "
        "other sign",
        ("energy-rate-falls", "energy-rate-rises"),
    ),
)
