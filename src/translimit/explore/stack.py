"""The described stack itself, block by block: the recursion of its Gram matrix, and networks.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Hashable

import jax
import numpy as np

from translimit.core import solve
from translimit.describe import PreNormArchitecture
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Line
from translimit.limits.homogenized import GramChain, GramRecursion, PreNormRecursion

THRESHOLD = 0.5
#: Independent recursions, pairs of scores in each, and networks.
COPIES, SAMPLES, NETWORKS = 4, 16, 8
CODE = """\
import jax
from translimit import solve
from translimit.explore import View
from translimit.limits.homogenized import GramChain, GramRecursion, PreNormRecursion

architecture = View.from_query({query!r}).architecture()
problem = PreNormRecursion(architecture, tokens={tokens})
limit = solve(problem, GramRecursion({samples}, {copies}), key=jax.random.key(0))
finite = solve(problem, GramChain({networks}), key=jax.random.key(1))
mean = limit.mean_overlaps.mean(axis=0)  # after 0, 1, ..., {layers} layers
networks = finite.mean_overlaps  # {networks} networks of width {dim}
"""
_SIZES = ("config", "heads", "head_dim", "layers", "tokens", "step", "temperature")


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the sizes and blocks."""
    return tuple(
        getattr(view, name) for name in ("config", "heads", "head_dim", "layers", "tokens")
    )


def panel(view: View) -> Panel:
    """What the stack does at initialisation, feed-forward block, mask and norm included."""
    architecture = view.architecture()
    problem = PreNormRecursion(architecture, tokens=view.tokens)
    limit = solve(problem, GramRecursion(SAMPLES, COPIES), key=jax.random.key(0))
    finite = solve(problem, GramChain(NETWORKS), key=jax.random.key(1))
    mean, networks = limit.mean_overlaps.mean(axis=0), finite.mean_overlaps
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
        says=f"{_blocks(architecture)}: the mean overlap of two tokens {when}; after the "
        f"last layer it is {mean[-1]:.3g}, in single networks {networks[:, -1].min():.3g} to "
        f"{networks[:, -1].max():.3g}.",
        figures=(
            _chart(
                f"Mean overlap of {view.tokens} tokens by layer, from {mean[0]:.3g} to "
                f"{mean[-1]:.3g}, with {NETWORKS} single networks around it.",
                mean,
                networks,
            ),
        ),
        assumptions=(
            "The network before training: independent centred Gaussian weights, no biases, unit "
            "gains of the norms.",
            "The line is the recursion of infinite width; the thin lines are networks of width "
            f"{architecture.dim}, exact in law.",
            "Sliders change the description: the temperature sets score_std, the step sets the "
            "first layer's Gamma / r0² = step²/heads, sizes keep D σ².",
            *architecture.assumptions,
            *(f"Ignored: {one}." for one in architecture.ignored),
        ),
        verified=(
            Verified(
                "koubbi2026/pre-norm-stacks",
                ("*-attention-*", "*-whole-block-*"),
                "networks with all weights drawn, block type by block type",
            ),
        ),
        code=CODE.format(
            query=query,
            tokens=view.tokens,
            samples=SAMPLES,
            copies=COPIES,
            networks=NETWORKS,
            layers=view.layers,
            dim=architecture.dim,
        ),
        numbers={"mean": mean, "networks": networks},
    )


def _blocks(architecture: PreNormArchitecture) -> str:
    mask = "causal attention" if architecture.causal else "attention"
    block = architecture.feed_forward
    if block is None:
        return mask.capitalize()
    return f"{mask.capitalize()} and feed-forward block ({block.activation.value})"


def _chart(alt: str, mean: np.ndarray, networks: np.ndarray) -> Chart:
    layers, last = np.arange(len(mean)), len(mean) - 1
    low = min(0.0, float(networks.min()))
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
