r"""`PopulationSampling`: passes with M and 2 M particles, extrapolated in 1 / M.

A pass has a bias b / M + O(M^-2), like a network of that width, and noise of order M^(-1/2). Means
over independent populations of 2 F_2M - F_M leave a bias of order M^-2; what the extrapolation
adds to F_2M is told beside the standard error.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np

from translimit.core import ArgumentError, Key, Progress, named_key, require_free
from translimit.limits.dmft.conditioned import Rule
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.methods import PopulationSampling
from translimit.limits.dmft.optimizers import SGD, HeavyBall
from translimit.limits.dmft.particle_pass import particle_pass
from translimit.limits.dmft.particle_plan import ParticleNumbers, ParticlePlan
from translimit.limits.dmft.passes import Trace
from translimit.limits.dmft.plan import RESPONSES
from translimit.limits.dmft.remarks import (
    warn_of_instability,
    warn_of_sign_changes,
    warn_of_the_floor,
)
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.solver import assemble
from translimit.limits.dmft.summaries import largest_number

#: Floating-point operations of one pass in a second of one core, roughly, as measured.
_SPEED = 2e9
#: Operations of an update on an entry of a matrix.
_UPDATE = 25


@dataclass(frozen=True)
class PopulationCost:
    """What a solve needs, told before it starts.

    Attributes:
        units: M of the smaller passes; the larger ones have twice as many.
        innovations: the most that a pass may draw on each population; at most M / 2 must be
            drawn.
        bytes: at the peak.
        operations: of all passes.
        seconds: on one core, roughly, with 5 for compilation.
    """

    units: int
    innovations: dict[str, int]
    bytes: int
    operations: float
    seconds: float


def solve_populations(
    equations: TrainingEquations,
    method: PopulationSampling,
    key: Key,
    progress: Progress | None,
) -> TrainingSolution:
    """Passes with M and 2 M units for each population, extrapolated.

    Raises:
        ArgumentError: too few units for the innovations of a pass.
        MemoryLimitError: a pass does not fit into the memory that is free.

    Warns:
        EdgeOfStabilityWarning, SamplingFloorWarning, SignChangeWarning: see `remarks`.
    """
    cost = population_cost(equations, method)
    require_free(cost.bytes, "units", "particles", "take fewer units")
    sizes = (cost.units, 2 * cost.units)
    work = [size**2 for _ in range(method.populations) for size in sizes]
    pairs: list[tuple[Trace, Trace]] = []
    for number in range(method.populations):
        own = named_key(key, "population", number)
        found = []
        for place, size in enumerate(sizes):
            index = number * len(sizes) + place

            def report(fraction: float, index: int = index) -> None:
                if progress is not None:
                    progress((sum(work[:index]) + fraction * work[index]) / sum(work))

            plan = particle_plan(equations, method, size)
            numbers = particle_numbers(equations, method)
            found.append(particle_pass(plan, numbers, named_key(own, "units", size), report))
        pairs.append((found[0], found[1]))
    steps = np.stack([fine.f - coarse.f for coarse, fine in pairs])
    solution = assemble(equations, method, [[extrapolated(*pair)] for pair in pairs], [], None)
    step = np.abs(steps.mean(axis=0)).reshape(solution.predictions.shape)
    solution = replace(solution, cell_error=step, discretisation=largest_number(step))
    warn_of_instability(solution.edge_ratio, endless=equations.loss.endless)
    warn_of_the_floor(float(np.max(solution.stderr)), method.floor)
    if equations.optimizer.discontinuous:
        errors = equations.errors(solution.predictions.reshape(steps.shape[1:]))
        warn_of_sign_changes(errors)
    return solution


def extrapolated(coarse: Trace, fine: Trace) -> Trace:
    """2 F_2M - F_M of all numbers; scores over heads are those of 2 M."""
    both = {
        name: 2 * getattr(fine, name) - getattr(coarse, name)
        for name in ("f", "ntk", "key_gradient", "score_gain")
    }
    kernels = {name: 2 * x - coarse.kernels[name] for name, x in fine.kernels.items()}
    finite = fine.finite & coarse.finite
    return fine._replace(**both, kernels=kernels, finite=finite)


def particle_plan(
    equations: TrainingEquations, method: PopulationSampling, units: int
) -> ParticlePlan:
    """The shape of one pass."""
    a = equations.architecture
    momentum, optimizer = equations.momentum, equations.optimizer
    if isinstance(optimizer, SGD) and momentum > 0:
        optimizer = HeavyBall(momentum)
    return ParticlePlan(
        units=units,
        inputs=equations.inputs,
        tokens=equations.tokens,
        steps=equations.steps,
        layers=int(a.layers),
        attention=a.attention,
        mlp=a.mlp,
        head_dim=int(a.head_dim) if a.attention else 1,
        ratio=float(a.mlp_ratio),
        norm=a.norm,
        final_norm=a.final_norm,
        activation=a.activation_on_stream,
        causal=a.causal,
        qk_norm=a.qk_norm,
        rotary=a.rotary,
        loss=equations.loss,
        optimizer=optimizer,
        folded=equations.folded,
        centred=equations.centred,
        tied=equations.tied,
        columns=equations.embedding.phi.shape[1],
        outputs=equations.outputs,
        rule=Rule(method.tolerance, method.moment_matching),
        kept_heads=method.heads_kept,
    )


def particle_numbers(equations: TrainingEquations, method: PopulationSampling) -> ParticleNumbers:
    """Data and constants of a pass."""
    a, rate, optimizer = equations.architecture, equations.rate, equations.optimizer
    N, L = a.head_dim if a.attention else 1, a.layers
    kappa = N ** (-2 * (1 - a.alpha_A))
    weights, schedule = equations.weights, equations.schedule
    if optimizer.elementwise:
        outer, inner, keys = rate, rate * L ** (a.alpha_L - 1), N ** (a.alpha_A - 1)
    else:
        outer = rate * a.gamma0
        inner, keys = outer * a.beta0 * L ** (a.alpha_L - 1), kappa
        weights, schedule = schedule[:, None] * weights, np.ones(len(schedule))
    numbers = {
        "phi": equations.embedding.phi,
        "column_rates": equations.embedding.rates,
        "features": equations.features,
        "y": equations.targets.y,
        "weights": weights,
        "schedule": schedule,
        "readout_std": equations.readout_std,
        "eps": a.beta0 * L**-a.alpha_L,
        "outer_rate": outer,
        "rate": inner,
        "key_ratio": keys,
        "decay": rate * optimizer.decay,
        "scale": N**-a.alpha_A,
        "score_gain": a.score_gain,
        "gain_rate": a.score_gain_rate * inner,
        "gamma0": a.gamma0,
        "block_ntk": a.beta0**2 / L,
        "ntk_keys": kappa,
        "ntk_gain": a.score_gain_rate,
        "norm_eps": a.norm_eps,
        "keep": [float(name not in method.omit) for name in RESPONSES],
    }
    with jax.enable_x64(True):
        return ParticleNumbers(**{k: jax.numpy.asarray(v, "float64") for k, v in numbers.items()})


def population_cost(equations: TrainingEquations, method: PopulationSampling) -> PopulationCost:
    """Units, memory and time of a solve; nothing is computed."""
    units = count_units(equations, method)
    passes = [_pass_cost(particle_plan(equations, method, size)) for size in (units, 2 * units)]
    operations = method.populations * sum(one[1] for one in passes)
    plan = particle_plan(equations, method, units)
    return PopulationCost(
        units=units,
        innovations=plan.innovations,
        bytes=passes[1][0],
        operations=operations,
        seconds=5 + operations / _SPEED,
    )


def _pass_cost(plan: ParticlePlan) -> tuple[int, float]:
    """Bytes and floating-point operations of one pass."""
    M, K, m, T = plan.units, plan.history, plan.fields, plan.steps
    matrices = plan.layers * (4 * plan.attention + 2 * (plan.mlp is not None))
    room = plan.innovations
    own = plan.layers * (room.get("heads", 0) + room.get("neurons", 0))
    arrays = matrices * ((1 + plan.optimizer.slots) * M + 4 * K) + room["stream"] + own
    states = 2 * (plan.layers + 1) * K + 12 * m * matrices
    doubles = M * (arrays + states) + 4 * M**2 * (matrices > 0) + 6 * K**2
    on_entries = (4 * m + 2 * m + _UPDATE) * M**2
    bases = (room["stream"] + own / max(plan.layers, 1)) / 2
    on_directions = 2 * M * (8 * m * K + 2 * K**2 + 2 * K * bases + 8 * m * bases) + 20 * K**3
    return int(1.3 * 8 * doubles), T * matrices * (on_entries + 2 * on_directions)


def count_units(equations: TrainingEquations, method: PopulationSampling) -> int:
    """M: at least 256, and twice as many as there can be innovations, where none is given.

    Raises:
        ArgumentError: no multiple of the head dimension.
    """
    N = int(equations.architecture.head_dim) if equations.architecture.attention else 1
    if method.units is None:
        most = max(particle_plan(equations, method, N).innovations.values())
        return -(-max(256, 2 * most) // N) * N
    if method.units % N:
        raise ArgumentError(
            "units",
            f"got {method.units} with head_dim {N}",
            f"pass a multiple, like {-(-method.units // N) * N}",
        )
    return method.units
