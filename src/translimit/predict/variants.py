"""Other scalings of the same architecture, and what each would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from jaxtyping import PRNGKeyArray

from translimit.core import named_key, part_of, solve
from translimit.describe import PreNormArchitecture
from translimit.limits.homogenized import GramRecursion, PreNormRecursion
from translimit.predict.curves import crossing
from translimit.predict.records import Variant

#: The residual weight for which the shaped block is told, a well-behaved one.
SHAPED_GAMMA_SQUARED = 0.25


def variants(
    architecture: PreNormArchitecture,
    tokens: int,
    threshold: float,
    key: PRNGKeyArray,
    progress: Callable[[float], object] | None = None,
) -> tuple[Variant, ...]:
    """Larger tokens, another depth scale, smaller weights, and the shaped block."""
    found = []
    scalings = list(_scalings(architecture))
    for number, (name, formula, changed) in enumerate(scalings):
        problem = PreNormRecursion(changed, tokens=tokens)
        # As many samples as the curve has: one compiled program for both.
        solution = solve(
            problem,
            GramRecursion(batches=2),
            key=named_key(key, name),
            progress=part_of(progress, number / len(scalings), (number + 1) / len(scalings)),
        )
        mean = solution.mean_overlaps.mean(axis=0)
        layer = crossing(mean, threshold)
        when = "never" if layer is None else f"at layer {layer:.2f}"
        found.append(
            Variant(
                name=name,
                formula=formula,
                overlap=float(mean[-1]),
                collapse_layer=layer,
                says=f"mean overlap {mean[-1]:.3f} after the last layer; {threshold:g} is reached "
                f"{when} (by the same recursion, without the spread between networks)",
            )
        )
    return (*found, _shaped(architecture))


def _scalings(
    architecture: PreNormArchitecture,
) -> Iterator[tuple[str, str, PreNormArchitecture]]:
    first = architecture.first_token_std
    yield (
        "tokens ten times as large",
        "r_0^2 times 100: the first steps Gamma / r_0^2 are a hundred times smaller",
        replace(
            architecture,
            token_std=10 * architecture.token_std,
            first_token_std=None if first is None else 10 * first,
        ),
    )
    scaled = architecture.out_std < 0.99 * architecture.v_std
    factor = math.sqrt(2 * architecture.layers) ** (1 if scaled else -1)
    name = "without the depth scale" if scaled else "with a depth scale"
    verb = "times" if scaled else "over"
    yield (
        f"{name} of the residual projections",
        f"W_O and W_2 {verb} (2 L)^{{1/2}}: Gamma {verb} 2 L",
        _scaled(architecture, 1.0, factor),
    )
    yield (
        "weights half as large",
        "score_std over 4, Gamma over 16 (tokens as before)",
        _scaled(architecture, 0.5, 0.5),
    )


def _scaled(architecture: PreNormArchitecture, inner: float, outer: float) -> PreNormArchitecture:
    """Weights that read times `inner`, weights that write times `outer`."""
    block = architecture.feed_forward
    if block is not None:
        block = replace(block, in_std=inner * block.in_std, out_std=outer * block.out_std)
    return replace(
        architecture,
        qk_std=inner * architecture.qk_std,
        v_std=inner * architecture.v_std,
        out_std=outer * architecture.out_std,
        feed_forward=block,
    )


def _shaped(architecture: PreNormArchitecture) -> Variant:
    time = architecture.layers / architecture.dim
    sigma_squared = SHAPED_GAMMA_SQUARED * (2 - SHAPED_GAMMA_SQUARED)
    spread = math.sqrt(sigma_squared * time)
    return Variant(
        name="shaped attention",
        formula="x <- lambda x + gamma (I + P - 1/n) x W_V, lambda^2 + gamma^2 = 1, temperature "
        "tau_0 (D d_h)^{1/2}: the covariance moves on the time T = L / D, with noise "
        "sigma^2 = gamma^2 (2 - gamma^2)",
        overlap=None,
        collapse_layer=None,
        says=f"T = {time:.3g}: overlaps of orthogonal tokens do not drift and spread by "
        f"(sigma^2 T)^{{1/2}} = {spread:.2g} at gamma^2 = {SHAPED_GAMMA_SQUARED:g}; norms stay "
        "bounded where gamma^2 <= 1/4 and squared norms over D <= tau_0 (leading order of the "
        "covariance SDE for small T; not simulated here)",
    )
