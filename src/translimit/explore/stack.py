"""The described stack itself, block by block: the recursion of its covariance, and networks.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import jax
import numpy as np

from translimit.core import solve
from translimit.explore.panel import Panel, Verified
from translimit.explore.resizing import distinct_cov
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Image, Line
from translimit.limits.signal import Chain, Recursion, SignalPropagation, SignalSolution
from translimit.observe import mean_overlap_of
from translimit.predict import covered_blocks

THRESHOLD = 0.5
#: Tokens up to which networks are drawn beside the limit, and how many.
FEW, NETWORKS = 64, 8
#: Pairs of heads in the first layer of every recursion, and recursions, by the most tokens.
SAMPLES = {64: (16, 4), 256: (8, 4), 1024: (2, 2)}
CODE = """\
import jax
from translimit import solve
from translimit.explore import View
from translimit.explore.resizing import distinct_cov
from translimit.limits.signal import {methods}

stack = View.from_query({query!r}).reading().stack
initial = distinct_cov(stack, {tokens})
problem = SignalPropagation(stack=stack, initial=initial)
limit = solve(problem, Recursion({pairs}, {copies}), key=jax.random.key(0))
mean = limit.overlap  # after 0, 1, ..., {layers} layers
gradient = limit.grad_square**0.5  # of the stream, independent unit gradients at the top
matrix = limit.overlaps.mean(axis=0)[{level}]  # of all pairs after layer {level}
"""
NETWORKS_CODE = """\
forward = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
finite = solve(forward, Chain({networks}), key=jax.random.key(1))
overlaps = finite.overlaps  # {networks} networks of width {dim} [networks, levels, n, n]
"""
_SIZES = ("config", "heads", "head_dim", "layers", "tokens", "step", "temperature")


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the sizes and blocks."""
    return tuple(getattr(view, name) for name in _SIZES)


@lru_cache(maxsize=8)
def _solved(view: View) -> tuple[SignalSolution, SignalSolution | None]:
    """The limit, and networks where the tokens are few; the view holds nothing else."""
    stack = view.reading().stack
    initial = distinct_cov(stack, view.tokens)
    problem = SignalPropagation(stack=stack, initial=initial)
    limit = solve(problem, Recursion(*_samples(view.tokens)), key=jax.random.key(0))
    if view.tokens > FEW:
        return limit, None
    forward = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
    return limit, solve(forward, Chain(NETWORKS), key=jax.random.key(1))


def _samples(tokens: int) -> tuple[int, int]:
    """Pairs of heads and recursions: of many tokens few, over which one recursion averages."""
    return next(found for most, found in SAMPLES.items() if tokens <= most)


def panel(view: View) -> Panel:
    """What the stack does at initialisation, forward and backward, all its blocks included."""
    reading = view.reading()
    stack = reading.stack
    limit, finite = _solved(View(**{name: getattr(view, name) for name in _SIZES}))
    mean = limit.overlap
    level = round((len(mean) - 1) * view.time)
    matrix = np.asarray(limit.overlaps.mean(axis=0)[level])
    networks = np.zeros((0, len(mean)))
    single = f"networks are drawn for at most {FEW} tokens"
    if finite is not None:
        networks = np.asarray(mean_overlap_of(finite.overlaps))
        ends = networks[:, -1]
        single = f"in single networks {ends.min():.3g} to {ends.max():.3g}"
    rms, gradient = np.sqrt(limit.mean_square), np.sqrt(limit.grad_square)
    above = np.flatnonzero(mean >= THRESHOLD)
    when = (
        f"is at least {THRESHOLD} from layer {above[0]} on"
        if above.size
        else f"does not reach {THRESHOLD} within the {view.layers} layers"
    )
    query = {
        name: str(getattr(view, name))
        for name in _SIZES
        if getattr(view, name) != getattr(View(), name)
    }
    return Panel(
        says=f"{'; '.join(covered_blocks(stack)).capitalize()}. The mean overlap of two tokens "
        f"{when}; after the last layer it is {mean[-1]:.3g}; {single}. "
        f"Gradients at layer 1 are "
        f"{gradient[1] / gradient[-1]:.3g} times those at the top.",
        figures=(
            _chart(
                f"Mean overlap of {view.tokens} tokens by layer, from {mean[0]:.3g} to "
                f"{mean[-1]:.3g}, with {NETWORKS} single networks around it.",
                mean,
                networks,
            ),
            _film(matrix, level),
            _sizes(rms, gradient),
        ),
        assumptions=(
            "The network before training: independent centred weights, no biases; tokens that all "
            "differ.",
            "The line is the recursion of infinite width, by sampling; the thin lines are networks "
            f"of width {stack.dim}, exact in law, for at most {FEW} tokens.",
            "Gradients are independent at the top, and independent of the weights below them.",
            "Sliders change the description: the temperature sets score_std, the step what the "
            "first attention adds, γ_A / q₀ = step²/heads, sizes keep D σ².",
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
        code=(CODE + (NETWORKS_CODE if len(networks) else "")).format(
            query=query,
            methods="Chain, Recursion, SignalPropagation"
            if len(networks)
            else "Recursion, SignalPropagation",
            tokens=view.tokens,
            pairs=_samples(view.tokens)[0],
            copies=_samples(view.tokens)[1],
            networks=NETWORKS,
            layers=view.layers,
            level=level,
            dim=stack.dim,
        ),
        numbers={"mean": mean, "gradient": gradient, "matrix": matrix},
    )


def _film(matrix: np.ndarray, level: int) -> Chart:
    """The overlap of every pair after one layer."""
    n = len(matrix)
    mean = (matrix.sum() - n) / (n * (n - 1))
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


def _chart(alt: str, mean: np.ndarray, networks: np.ndarray) -> Chart:
    layers, last = np.arange(len(mean)), len(mean) - 1
    low = min(0.0, float(networks.min(initial=0.0)), float(mean.min()))
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
            *thin,
            Line(layers, mean, INK, "infinite width", "", 2.4),
        ),
    )
