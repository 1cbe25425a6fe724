"""From equations and a method to compressed passes: their shape, their numbers, and their cost.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.limits.dmft.compressed.cost import (
    SHARES,
    expected_rank,
    pass_bytes,
    pass_seconds,
)
from translimit.limits.dmft.compressed.directions import columns_for, least_part, places_for
from translimit.limits.dmft.compressed.entering import is_short, numbers_of_rows
from translimit.limits.dmft.compressed.growing import start
from translimit.limits.dmft.compressed.heads import Heads, LinearHeads
from translimit.limits.dmft.compressed.shape import Room, Shape, least_room
from translimit.limits.dmft.compressed.sites import AbstractSite, Neurons
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.methods import CausalSampling
from translimit.limits.dmft.plan import RESPONSES, Numbers
from translimit.limits.dmft.strides import common_times, evaluations

#: Rows of a kernel over training time; where there are more, not every evaluation is kept.
_KERNEL_ROWS = 2048
#: Evaluations between two that are kept, where the first is enough.
_NEVER = 2**62
#: Scores of a pass that are kept at most, and heads that are kept however many these are.
_SCORES_KEPT, _LEAST_KEPT = 10_000_000, 100
#: The part of the room that is expected with which a pass starts.
START = 0.5
#: Copies of kernels and scores of all passes, while means and errors are taken.
_COPIES = 2


def shape_of(
    equations: TrainingEquations, method: CausalSampling, layers: int, part: float = 1.0
) -> Shape:
    """The shape of one pass at finitely many layers or cells.

    Args:
        equations: the mathematics.
        method: how it is discretised and sampled.
        layers: of the pass.
        part: of the room that is expected. A pass starts with `START` and takes more as it needs
            it; a short one has all that it can need.
    """
    a, m, T = equations.architecture, equations.fields, equations.steps
    least = least_part(m)
    kinds = kinds_room(m, T, method.tol, part)
    sites = sites_of(equations, method, kinds)
    fresh, first = not math.isinf(a.layers), _sources(equations)
    rooms = tuple(
        replace(kinds, basis=_basis_room(site, kinds, m)).of_parts(least_room(least))
        for site in sites
    )
    innovations = layers * sum(room.p + room.x for room in rooms)
    stride = stride_of(m, T)
    shape = Shape(
        inputs=equations.inputs,
        tokens=equations.tokens,
        rows=equations.rows,
        outputs=equations.outputs,
        columns=_whitened(equations)[0].shape[1],
        loss=equations.loss,
        layers=layers,
        sites=sites,
        rooms=rooms,
        least=least,
        entering=numbers_of_rows(m, T),
        sources=columns_for(first + innovations * fresh),
        kept=-(-T // stride),
        stride=stride,
        norm=a.norm is not None,
        fresh=fresh,
        final_norm=a.final_norm,
        folded=equations.folded,
        centred=equations.centred,
        tied=equations.tied,
        momentum=equations.momentum > 0,
        omits=bool(method.omit),
    )
    expected = m * T if is_short(m, T) else math.ceil(part * expected_rank(m, T, method.tol)) + m
    return start(shape, min(m * T, expected))


def at_common_times(shape: Shape, steps: int, strides: tuple[int, ...]) -> Shape:
    """The shape of passes whose kernels are those of the times that all strides share."""
    times = common_times(steps, strides)
    base = stride_of(shape.fields, len(times))
    return replace(shape, stride=base * math.lcm(*strides), kept=-(-len(times) // base))


def without_kernels(shape: Shape) -> Shape:
    """The shape of passes whose kernels nobody asks for: one, whatever the steps."""
    return replace(shape, stride=_NEVER, kept=1)


def stride_of(fields: int, steps: int) -> int:
    """Evaluations from one that is kept for kernels to the next."""
    return max(1, -(-fields * steps // _KERNEL_ROWS))


def kinds_room(fields: int, steps: int, tol: float, part: float) -> Room:
    """Room for a part of the directions of each kind that are expected; none of a basis."""
    rank, least = part * expected_rank(fields, steps, tol), least_part(fields)
    sizes = {
        kind: places_for(min(fields * steps, math.ceil(share * rank) + fields), least)
        for kind, share in SHARES.items()
    }
    return Room(**sizes, basis=0)


def sites_of(
    equations: TrainingEquations, method: CausalSampling, kinds: Room
) -> tuple[AbstractSite, ...]:
    """The sub-blocks of a block, with room for the sources of linear ones."""
    a, m = equations.architecture, equations.fields
    heads, neurons = method.counts(a, m, equations.steps)
    size = {"inputs": equations.inputs, "tokens": equations.tokens}
    sampled = {**size, "matched": method.moment_matching, "dtype": method.precision}
    sites: list[AbstractSite] = []
    if a.attention and math.isinf(a.head_dim):
        columns = kinds.h + kinds.p + kinds.x + kinds.g + 8 * m
        columns = places_for(columns, least_room(least_part(m)).basis)
        norm = a.qk_norm is not None
        sites.append(LinearHeads(**size, columns=columns, causal=a.causal, qk_norm=norm))
    elif a.attention:
        sites.append(
            Heads(
                **sampled,
                samples=heads,
                head_dim=int(a.head_dim),
                causal=a.causal,
                qk_norm=a.qk_norm,
                rotary=a.rotary,
                group=a.queries_per_key,
                slow_keys=a.alpha_A < 1,
            )
        )
    if a.mlp is not None:
        sites.append(Neurons(**sampled, samples=neurons, activation=a.mlp, ratio=a.mlp_ratio))
    return tuple(sites)


def numbers_of(equations: TrainingEquations, method: CausalSampling, shape: Shape) -> Numbers:
    """Data and constants of one pass, in 64 bits, on white sources."""
    a, rate, layers = equations.architecture, equations.rate, shape.layers
    start, cov = _whitened(equations)
    infinite = math.isinf(a.head_dim)
    numbers = {
        "start": start,
        "source_cov": cov,
        "readout_var": equations.readout_std**2,
        "kx": equations.embedding.memory,
        "features": equations.features,
        "y": equations.targets.y,
        "error_weights": equations.schedule[:, None] * equations.weights,
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
        "tol": method.tol,
        "keep": [float(name not in method.omit) for name in RESPONSES],
    }
    with jax.enable_x64(True):
        return Numbers(**{k: jnp.asarray(v, jnp.float64) for k, v in numbers.items()})


def heads_kept(equations: TrainingEquations, method: CausalSampling, layers: int) -> int:
    """Heads whose scores are kept: as asked for, fewer where a pass would keep too many."""
    each = equations.steps * layers * equations.fields * equations.tokens
    return min(method.heads_kept, max(_LEAST_KEPT, _SCORES_KEPT // each))


def solve_bytes(equations: TrainingEquations, method: CausalSampling, layers: int) -> int:
    """Bytes of the passes that `at_once` asks for, else of one, by the ranks that are expected.

    And of what is kept of all of them: kernels and scores.
    """
    shape = shape_of(equations, method, layers)
    scores = equations.steps * layers * equations.fields * equations.tokens
    scores *= heads_kept(equations, method, layers) * bool(equations.architecture.attention)
    kept = 8 * (2 * (layers + 1) * (shape.kept * shape.fields) ** 2 + scores)
    passes = method.populations + method.check_tol
    return pass_bytes(shape) * (method.at_once or 1) + _COPIES * passes * kept


def solve_seconds(equations: TrainingEquations, method: CausalSampling, layers: int) -> float:
    """Processor seconds of all passes at a number of layers, one after another on one core."""
    shape, steps = shape_of(equations, method, layers), equations.steps
    lengths = [evaluations(steps, method.strides, stride) for stride in method.strides or (1,)]
    passes = [method.populations * length for length in lengths]
    passes[0] += method.check_tol * lengths[0]
    time = equations.rate * steps
    return sum(passes) * pass_seconds(shape, steps, method.tol, time) / steps


def _basis_room(site: AbstractSite, kinds: Room, fields: int) -> int:
    """Room for the basis of a population, or the sources of linear sites."""
    if isinstance(site, LinearHeads):
        return site.columns
    needed = site.families * (kinds.h + kinds.p) + site.written * (kinds.x + kinds.g)
    return min(needed, site.width // 2) + 2 * (site.families + site.written) * fields


def _whitened(
    equations: TrainingEquations,
) -> tuple[Float[np.ndarray, "fields columns"], Float[np.ndarray, "columns columns"]]:
    """The stream's start on white sources, and their covariance."""
    start, cov = equations.embedding.start, equations.embedding.source_cov
    if np.array_equal(cov, np.eye(len(cov))):
        return start, cov
    values, basis = np.linalg.eigh(cov)
    kept = values > 1e-15 * values[-1]
    return start @ (basis[:, kept] * np.sqrt(values[kept])), np.eye(int(kept.sum()))


def _sources(equations: TrainingEquations) -> int:
    """Sources of the embedding and of the readout."""
    outputs = 0 if equations.tied else equations.outputs
    return _whitened(equations)[0].shape[1] + outputs
