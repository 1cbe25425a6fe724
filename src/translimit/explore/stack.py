"""The described stack itself, block by block: the recursion of its covariance, and networks.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from translimit.core import solve, with_error
from translimit.describe import PUBLIC_MODELS, PatchEmbedding, StackReading
from translimit.explore.panel import Panel, Verified
from translimit.explore.resizing import distinct_cov
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Band, Chart, ChartAxis, Image, Line
from translimit.limits.signal import Chain, Recursion, SignalPropagation, SignalSolution
from translimit.observe import mean_overlap_of
from translimit.predict import (
    Collapse,
    Curve,
    Tokens,
    along_depth,
    covered_blocks,
    crossing,
    sampled_tokens,
)

THRESHOLD = 0.5
#: Tokens up to which networks are drawn beside the limit, and how many.
FEW, NETWORKS = 64, 8
#: Pairs of heads in the first layer of every recursion, and recursions, by the most tokens.
SAMPLES = {64: (16, 4), 256: (8, 4), 1024: (2, 2)}
#: Tokens up to which values and errors are those of `translimit predict`.
TOLD = 256
CODE = """\
import jax
import numpy as np
from translimit import solve
from translimit.explore import View
from translimit.explore.stack import entering
from translimit.limits.signal import {methods}
{imports}
reading = View.from_query({query!r}).reading()
stack, tokens = reading.stack, entering(reading, {tokens})
problem = SignalPropagation(stack=stack, initial=tokens.cov)
limit = solve(problem, Recursion({pairs}, {copies}), key=jax.random.key(0))
matrix = limit.overlaps.mean(axis=0)[{level}]  # of all pairs after layer {level}
"""
TOLD_CODE = """\
curves = along_depth(stack, tokens)  # after 0, 1, ..., {layers} layers, as translimit predict
mean, error = (np.array(getattr(curves["overlap"], one)) for one in ("value", "error"))
gradient = np.array(curves["gradient"].value)  # independent unit gradients at the top
found = Collapse.of(curves["overlap"], {threshold})
collapse = np.array([found.level, found.error], dtype=float)
"""
MANY_CODE = """\
mean, error = limit.overlap, np.zeros(0)  # after 0, 1, ..., {layers} layers
gradient = limit.grad_square**0.5  # of the stream, independent unit gradients at the top
collapse = np.array([crossing(mean, {threshold}), None], dtype=float)
"""
NETWORKS_CODE = """\
forward = SignalPropagation(stack=stack, initial=tokens.cov, top_gradient=None)
finite = solve(forward, Chain({networks}), key=jax.random.key(1))
overlaps = finite.overlaps  # {networks} networks of width {dim} [networks, levels, n, n]
"""
_SIZES = ("config", "heads", "head_dim", "layers", "tokens", "step", "score_temperature")


@dataclass(frozen=True)
class _Solved:
    """What the panel draws; the curves of `predict` only where the tokens are few."""

    entering: Tokens
    limit: SignalSolution
    curves: Mapping[str, Curve] | None
    networks: np.ndarray


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the sizes and blocks."""
    return tuple(getattr(view, name) for name in _SIZES)


def entering(reading: StackReading, tokens: int) -> Tokens:
    """The tokens that enter: those that `translimit predict` takes, where it takes so many.

    Args:
        reading: of the architecture.
        tokens: how many; of an image fewer than it has are its last patches, and attention alone
            has tokens that all differ.

    Raises:
        ArgumentError: more tokens than the context has.
    """
    embedding = reading.stack.embedding
    own = isinstance(embedding, PatchEmbedding) and tokens != embedding.tokens
    if embedding is None or own:
        cov, says = distinct_cov(reading.stack, tokens), f"{tokens} tokens, all different"
        return Tokens(cov, None, None, says, (), np.arange(len(cov)))
    return sampled_tokens(reading, tokens)


@lru_cache(maxsize=8)
def _solved(view: View) -> _Solved:
    """The limit, and networks where the tokens are few; the view holds nothing else."""
    reading = view.reading()
    stack, tokens = reading.stack, entering(reading, view.tokens)
    problem = SignalPropagation(stack=stack, initial=tokens.cov)
    limit = solve(problem, Recursion(*_samples(view.tokens)), key=jax.random.key(0))
    curves = along_depth(stack, tokens) if tokens.count <= TOLD else None
    networks = np.zeros((0, len(limit.overlap)))
    if tokens.count <= FEW:
        forward = SignalPropagation(stack=stack, initial=tokens.cov, top_gradient=None)
        overlaps = solve(forward, Chain(NETWORKS), key=jax.random.key(1)).overlaps
        apart = tokens.groups[:, None] != tokens.groups[None, :]
        networks = np.asarray(overlaps)[..., apart].mean(axis=-1)
    return _Solved(tokens, limit, curves, networks)


def _samples(tokens: int) -> tuple[int, int]:
    """Pairs of heads and recursions: of many tokens few, over which one recursion averages."""
    return next(found for most, found in SAMPLES.items() if tokens <= most)


def panel(view: View) -> Panel:
    """What the stack does at initialisation, forward and backward, all its blocks included."""
    reading = view.reading()
    stack = reading.stack
    found = _solved(View(**{name: getattr(view, name) for name in _SIZES}))
    limit, networks = found.limit, found.networks
    mean, error = limit.overlap, np.zeros(0)
    gradient = np.sqrt(limit.grad_square)
    if found.curves is not None:
        told = found.curves["overlap"]
        mean, error = np.array(told.value), np.array(told.error)
        gradient = np.array(found.curves["gradient"].value)
        collapse = Collapse.of(told, THRESHOLD)
    else:
        collapse = Collapse(THRESHOLD, crossing(mean, THRESHOLD), None, 1.0)
    level = round((len(mean) - 1) * view.time)
    matrix = np.asarray(limit.overlaps.mean(axis=0)[level])
    single = f"networks are drawn for at most {FEW} tokens"
    if len(networks):
        ends = networks[:, -1]
        single = f"in single networks {ends.min():.3g} to {ends.max():.3g}"
    last = with_error(mean[-1], error[-1], ".3f") if len(error) else f"{mean[-1]:.3f}"
    query = View(**{name: getattr(view, name) for name in _SIZES}).query
    return Panel(
        says=f"{'; '.join(covered_blocks(stack)).capitalize()}. "
        f"{str(collapse).capitalize()}; after the last layer it is {last}; {single}. "
        f"Gradients at layer 1 are "
        f"{gradient[1] / gradient[-1]:.3g} times those at the top.",
        figures=(
            _chart(
                f"Mean overlap of {view.tokens} tokens by layer, from {mean[0]:.3g} to "
                f"{mean[-1]:.3g}, with {NETWORKS} single networks around it.",
                mean,
                error,
                networks,
            ),
            _film(matrix, level),
            _sizes(np.sqrt(limit.mean_square), gradient),
        ),
        assumptions=(
            "The network before training: independent centred weights, no biases.",
            f"What enters: {found.entering.source}.",
            "The line is the recursion of infinite width, by sampling; the thin lines are networks "
            f"of width {stack.dim}, exact in law, for at most {FEW} tokens.",
            _errors(view, len(error) > 0),
            "Gradients are independent at the top, and independent of the weights below them.",
            "Sliders change the description: the score temperature sets score_std, the step what "
            "the first attention adds, γ_A / q₀ = step²/heads, sizes keep D σ².",
            *reading.assumptions,
            *(f"Ignored: {one}." for one in reading.ignored),
        ),
        verified=(
            Verified(
                "koubbi2026/pre-norm-stacks",
                ("*-attention-*", "*-whole-block-*"),
                "networks with all weights drawn, block type by block type",
            ),
        ),
        code=_code(view, query, level, stack.dim, len(networks) > 0),
        numbers={
            "mean": mean,
            "error": error,
            "gradient": gradient,
            "matrix": matrix,
            "collapse": np.array([collapse.level, collapse.error], dtype=float),
        },
    )


def _errors(view: View, told: bool) -> str:
    """Whose numbers these are."""
    if not told:
        return (
            f"Errors are told for at most {TOLD} tokens; `translimit predict --tokens "
            f"{view.tokens}` has those of the sampling."
        )
    same = (
        "Values and errors are computed as `translimit predict` computes them: the ± and the band "
        "are one standard error of a single network."
    )
    if view.config in PUBLIC_MODELS and not view.moved_sliders:
        same += f" `translimit predict {view.config} --tokens {view.tokens}` prints the same depth."
    return same


def _code(view: View, query: dict[str, str], level: int, dim: int, networks: bool) -> str:
    """The lines that compute what is drawn."""
    told = view.tokens <= TOLD
    names = "Collapse, along_depth" if told else "crossing"
    text = CODE + (TOLD_CODE if told else MANY_CODE) + (NETWORKS_CODE if networks else "")
    return text.format(
        query=query,
        imports=f"from translimit.predict import {names}\n",
        methods=("Chain, " if networks else "") + "Recursion, SignalPropagation",
        tokens=view.tokens,
        threshold=THRESHOLD,
        pairs=_samples(view.tokens)[0],
        copies=_samples(view.tokens)[1],
        networks=NETWORKS,
        layers=view.layers,
        level=level,
        dim=dim,
    )


def _film(matrix: np.ndarray, level: int) -> Chart:
    """The overlap of every pair after one layer."""
    n = len(matrix)
    mean = float(mean_overlap_of(matrix))
    stride = -(-n // 128)  # more cells than a figure has room for say nothing
    places = np.arange(0, n, stride)
    return Chart(
        alt=f"Overlaps of all pairs of {n} tokens after layer {level}; their mean is {mean:.3g}.",
        title=f"overlaps of the limit, layer {level}",
        x=ChartAxis("token", -0.5, n - 0.5),
        y=ChartAxis("token", -0.5, n - 0.5),
        square=True,
        marks=(Image(places, places, matrix[::stride, ::stride], "dark 0 to light 1", 0.0, 1.0),),
    )


def _sizes(rms: Sequence[float] | np.ndarray, gradient: np.ndarray) -> Chart:
    levels = np.arange(len(rms))
    low = float(min(np.min(rms), gradient.min()))
    high = float(max(np.max(rms), gradient.max()))
    return Chart(
        alt=f"Rms of the stream by level, from {rms[0]:.3g} to {rms[-1]:.3g}, and rms of its "
        f"gradient, from {gradient[0]:.3g} to {gradient[-1]:.3g}.",
        x=ChartAxis("layer", 0, len(rms) - 1),
        y=ChartAxis("rms", 0.8 * low, 1.25 * high, log=True),
        marks=(
            Line(levels, rms, COLOURS[0], "stream", ""),
            Line(levels, gradient, COLOURS[1], "gradient", "6 3"),
        ),
    )


def _chart(alt: str, mean: np.ndarray, error: np.ndarray, networks: np.ndarray) -> Chart:
    layers, last = np.arange(len(mean)), len(mean) - 1
    low = min(0.0, float(networks.min(initial=0.0)), float(mean.min()))
    band = (
        (Band(layers, mean - error, mean + error, COLOURS[1], "standard error of one network"),)
        if len(error)
        else ()
    )
    thin = (
        Line(layers, one, COLOURS[0], "" if k else "single networks", "", 1.0, 0.6)
        for k, one in enumerate(networks)
    )
    return Chart(
        alt=alt,
        x=ChartAxis("layer", 0, last),
        y=ChartAxis("mean overlap of two tokens", low, 1.0),
        marks=(
            Line([0, last], [THRESHOLD, THRESHOLD], INK, f"threshold {THRESHOLD}", "2 4", 1.2),
            *band,
            *thin,
            Line(layers, mean, INK, "infinite width", "", 2.4),
        ),
    )
