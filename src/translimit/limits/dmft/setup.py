"""From equations and a method to passes: their layers, shape, numbers and bytes.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from translimit.limits.dmft.compressed.setup import solve_bytes as compressed_bytes
from translimit.limits.dmft.compressed.setup import solve_seconds as compressed_seconds
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.heads import InfiniteHeads
from translimit.limits.dmft.histories import slots_in_chunk
from translimit.limits.dmft.memory import pass_bytes
from translimit.limits.dmft.methods import (
    CausalSampling,
    LinearAlgebra,
    Method,
    PopulationSampling,
)
from translimit.limits.dmft.neurons import LinearNeurons
from translimit.limits.dmft.plan import RESPONSES, Numbers, Plan
from translimit.limits.dmft.strides import alone, evaluations
from translimit.limits.dmft.units import AbstractUnit

#: Relative eigenvalue below which a direction of a new kernel block is null.
TOLERANCE = 1e-9


def depths_of(equations: TrainingEquations, method: Method) -> tuple[int, ...]:
    """Numbers of layers of the passes, the finest first; cells where depth is infinite."""
    if not math.isinf(equations.architecture.layers):
        return (int(equations.architecture.layers),)
    assert not isinstance(method, PopulationSampling)  # it is not for infinite depth
    cells = method.cells
    return (cells, cells // 2, cells // 4) if method.extrapolate else (cells,)


def units_of(equations: TrainingEquations, slots: int) -> tuple[AbstractUnit, ...]:
    """The sub-blocks of a block, exact."""
    a = equations.architecture
    shape = {"inputs": equations.inputs, "tokens": equations.tokens, "slots": slots}
    norm = a.qk_norm is not None
    heads = (InfiniteHeads(**shape, causal=a.causal, qk_norm=norm),) * a.attention
    return (*heads, *(LinearNeurons(**shape, ratio=a.mlp_ratio),) * (a.mlp is not None))


def plan_of(equations: TrainingEquations, layers: int) -> Plan:
    """The shape of one pass at finitely many layers or cells."""
    a = equations.architecture
    together = slots_in_chunk(equations.fields, equations.steps)
    slots = -(-equations.steps // together) * together
    return Plan(
        inputs=equations.inputs,
        tokens=equations.tokens,
        rows=equations.rows,
        outputs=equations.outputs,
        columns=equations.embedding.start.shape[1],
        loss=equations.loss,
        slots=slots,
        chunk_slots=together,
        layers=layers,
        units=units_of(equations, slots),
        norm=a.norm is not None,
        fresh=not math.isinf(a.layers),
        final_norm=a.final_norm,
        folded=equations.folded,
        centred=equations.centred,
        tied=equations.tied,
        tol=TOLERANCE,
    )


def numbers_of(equations: TrainingEquations, method: LinearAlgebra, plan: Plan) -> Numbers:
    """Data and constants of one pass, in 64 bits."""
    a, rate, layers = equations.architecture, equations.rate, plan.layers
    error_weights = np.zeros((plan.slots, equations.rows))
    error_weights[: equations.steps] = equations.schedule[:, None] * equations.weights
    infinite = math.isinf(a.head_dim)
    numbers = {
        "start": equations.embedding.start,
        "source_cov": equations.embedding.source_cov,
        "readout_var": equations.readout_std**2,
        "kx": equations.embedding.memory,
        "features": equations.features,
        "y": equations.targets.y,
        "error_weights": error_weights,
        "eps": a.beta0 * layers**-a.alpha_L,
        "c": rate * a.gamma0 * a.beta0 * layers ** (a.alpha_L - 1),
        "kappa": 1.0 if infinite else a.head_dim ** (-2 * (1 - a.alpha_A)),
        "scale": 1.0 if infinite else a.head_dim**-a.alpha_A,
        "score_gain": a.score_gain,
        "score_gain_rate": a.score_gain_rate,
        "rate": rate * a.gamma0,
        "gamma0": a.gamma0,
        "momentum": equations.momentum,
        "block_ntk": a.beta0**2 / layers,
        "norm_eps": a.norm_eps,
        "tol": plan.tol,
        "keep": [float(name not in method.omit) for name in RESPONSES],
    }
    with jax.enable_x64(True):
        return Numbers(**{k: jnp.asarray(v, jnp.float64) for k, v in numbers.items()})


def solve_bytes(equations: TrainingEquations, method: Method) -> int:
    """Bytes of the passes that `at_once` asks for, else of one."""
    layers = depths_of(equations, method)[0]
    if isinstance(method, CausalSampling):
        return compressed_bytes(equations, method, layers)
    return pass_bytes(plan_of(equations, layers))


def solve_seconds(equations: TrainingEquations, method: Method) -> float:
    """Seconds of a solve on one core, about, without compilation."""
    depths = depths_of(equations, method)
    if isinstance(method, CausalSampling):
        return sum(compressed_seconds(equations, method, layers) for layers in depths)
    assert isinstance(method, LinearAlgebra)
    strides = method.strides or (1,)
    found = 0.0
    for stride in strides:
        steps = evaluations(equations.steps, method.strides, stride)
        found += _linear_seconds(alone(equations, stride, steps), depths)
    return found


def _linear_seconds(equations: TrainingEquations, depths: tuple[int, ...]) -> float:
    """Seconds of the passes over whole histories."""
    plan = plan_of(equations, depths[0])
    blocks = plan.layers * max(1, len(plan.units))
    return sum(n / depths[0] for n in depths) * 4e-9 * blocks * plan.history**2 * plan.sources
