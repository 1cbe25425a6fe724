"""From equations and a method to passes: their layers, shape, numbers and bytes.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.heads import InfiniteHeads, SampledHeads
from translimit.limits.dmft.histories import slots_in_chunk
from translimit.limits.dmft.memory import pass_bytes
from translimit.limits.dmft.methods import CausalSampling, Method
from translimit.limits.dmft.neurons import LinearNeurons, SampledNeurons
from translimit.limits.dmft.plan import RESPONSES, Numbers, Plan
from translimit.limits.dmft.units import AbstractUnit

#: Relative eigenvalue below which a direction of a new kernel block is null.
TOLERANCE = {"float64": 1e-9, "float32": 1e-6}


def depths_of(equations: TrainingEquations, method: Method) -> tuple[int, ...]:
    """Numbers of layers of the passes, the finest first; cells where depth is infinite."""
    if not math.isinf(equations.architecture.layers):
        return (int(equations.architecture.layers),)
    cells = method.cells
    return (cells, cells // 2, cells // 4) if method.extrapolate else (cells,)


def units_of(
    equations: TrainingEquations, method: Method, chunk_slots: int, slots: int
) -> tuple[AbstractUnit, ...]:
    """The sub-blocks of a block: sampled where the method samples them, else exact."""
    a, P, S = equations.architecture, equations.inputs, equations.tokens
    shape = {"inputs": P, "tokens": S, "slots": slots}
    if not isinstance(method, CausalSampling):
        heads = (_infinite_heads(a, shape),) * a.attention
        neurons = (LinearNeurons(**shape, ratio=a.mlp_ratio),) * (a.mlp is not None)
        return (*heads, *neurons)
    units: list[AbstractUnit] = []
    count, neurons = method.counts(a, equations.fields, equations.steps)
    matched, rows, dtype = method.moment_matching, chunk_slots * equations.fields, method.precision
    if a.attention and math.isinf(a.head_dim):
        units.append(_infinite_heads(a, shape))
    elif a.attention:
        units.append(
            SampledHeads(
                **shape,
                samples=count,
                matched=matched,
                rows=rows,
                dtype=dtype,
                head_dim=int(a.head_dim),
                causal=a.causal,
                qk_norm=a.qk_norm,
                rotary=a.rotary,
            )
        )
    if a.mlp is not None:
        units.append(
            SampledNeurons(
                **shape,
                samples=neurons,
                matched=matched,
                rows=rows,
                dtype=dtype,
                activation=a.mlp,
                ratio=a.mlp_ratio,
            )
        )
    return tuple(units)


def _infinite_heads(a: Architecture, shape: dict[str, int]) -> InfiniteHeads:
    return InfiniteHeads(**shape, causal=a.causal, qk_norm=a.qk_norm is not None)


def plan_of(equations: TrainingEquations, method: Method, layers: int) -> Plan:
    """The shape of one pass at finitely many layers or cells."""
    a = equations.architecture
    together = slots_in_chunk(equations.fields, equations.steps)
    slots = -(-equations.steps // together) * together
    precision = method.precision if isinstance(method, CausalSampling) else "float64"
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
        units=units_of(equations, method, together, slots),
        norm=a.norm is not None,
        fresh=not math.isinf(a.layers),
        final_norm=a.final_norm,
        folded=equations.folded,
        centred=equations.centred,
        tied=equations.tied,
        tol=TOLERANCE[precision],
    )


def numbers_of(equations: TrainingEquations, method: Method, plan: Plan) -> Numbers:
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
        "keep": [float(name not in method.omit) for name in RESPONSES],
    }
    with jax.enable_x64(True):
        return Numbers(**{k: jnp.asarray(v, jnp.float64) for k, v in numbers.items()})


def solve_bytes(equations: TrainingEquations, method: Method) -> int:
    """Bytes of the passes that `at_once` asks for, else of one."""
    plan = plan_of(equations, method, depths_of(equations, method)[0])
    together = method.at_once if isinstance(method, CausalSampling) else None
    return pass_bytes(plan) * (together or 1)
