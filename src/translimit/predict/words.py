"""What a prediction covers, what decides it, what it assumes, and which limits do not apply.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from translimit.describe import (
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Stack,
    StackReading,
    attentions,
    effective_dim,
    feed_forwards,
    score_std,
)
from translimit.predict.changes import placement
from translimit.predict.curves import Curve

#: The largest sizes at which networks with drawn weights were compared with the recursion.
VERIFIED = {"dim": 4096, "layers": 48, "tokens": 197, "score_std": 3.28}
#: n / D_eff above which the mean over networks is asked for.
LARGE_RATIO = 0.1
#: A shift of the mean overlap that is told.
LARGE_SHIFT = 0.02
#: A step of attention below this counts as small.
SMALL_STEP = 0.05


@dataclass(frozen=True)
class Quantity:
    """One number that decides.

    Attributes:
        name: as the documentation calls it.
        symbol: as the formula writes it.
        value: the number; of the first layer, and of the last where it differs.
        says: what it does.
    """

    name: str
    symbol: str
    value: tuple[float, ...]
    says: str


def covered_blocks(stack: Stack) -> tuple[str, ...]:
    """The terms that the numbers take into account, in words.

    Args:
        stack: the stack.
    """
    mask = "causal attention" if stack.causal else "attention without a mask"
    found = list(_counted([_attention(one) for one in attentions(stack)], mask))
    found += _counted([_units(one) for one in _blocks(stack)], "")
    parallel = any(len(block.branches) > 1 for block in stack.sub_blocks)
    if parallel:
        found.append("parallel branches: both read the same tokens")
    kinds = {one.kind for block in stack.sub_blocks for one in block.norms}
    names = " and ".join(sorted(kind.value for kind in kinds)) or "no norm"
    found.append(f"{placement(stack) or 'mixed placement'}: {names}")
    gains = {one.gain for block in stack.sub_blocks for one in block.norms} - {1.0}
    if gains:
        found.append(f"gains of norms {', '.join(f'{one:g}' for one in sorted(gains))}")
    scales = {block.branch for block in stack.sub_blocks} | {
        block.residual for block in stack.sub_blocks
    }
    if scales != {1.0}:
        told = ", ".join(f"{one:.4g}" for one in sorted(scales))
        found.append(f"multipliers of branches and stream {told}")
    return tuple(found)


def quantities(stack: Stack, cov: np.ndarray, curves: Mapping[str, Curve]) -> tuple[Quantity, ...]:
    """The numbers that decide.

    Args:
        stack: the stack.
        cov: C of the tokens that enter [n, n].
        curves: of these tokens.
    """
    scores = [score_std(one, stack.dim) for one in attentions(stack)]
    found = []
    if scores:
        says = "deviation of the score of two unit tokens: above 1 attention concentrates"
        found.append(Quantity("score_std", "beta_s", _ends(scores), says))
    found += [
        Quantity(
            "initial_square",
            "q_0",
            (float(np.diagonal(cov).mean()),),
            "mean square of an entry of the tokens that enter",
        ),
        Quantity(
            "attention_share",
            "tr b^2 U / tr C",
            _ends(curves["attention_share"].value),
            "share of the mean square after a layer that its attention adds",
        ),
        Quantity(
            "units_share",
            "tr b^2 U / tr C",
            _ends(curves["units_share"].value),
            "share that its hidden units add",
        ),
        Quantity(
            "effective_dim",
            "D_eff",
            (effective_dim(stack),),
            "networks differ from infinite width like n / D_eff",
        ),
    ]
    return tuple(found)


def inapplicable(stack: Stack, curves: Mapping[str, Curve]) -> tuple[tuple[str, str], ...]:
    """Limits that do not apply, and why.

    Args:
        stack: the stack.
        curves: of its tokens.
    """
    found = [
        (
            "the Transformer PDE (many tokens, weights smooth along depth)",
            "weights are drawn independently for every layer and centred: their mean effect is "
            "zero, and what remains is noise",
        ),
        (
            "the covariance SDE of shaped attention",
            "attention is not centred, has no identity of its own and no temperature that grows "
            "with the width: a layer changes overlaps by more than O(1 / D)",
        ),
        (
            "the training dynamics of infinite width (DMFT)",
            "the numbers here are of the network before its first step of training",
        ),
    ]
    steps = curves["attention_share"].value
    if steps[0] > SMALL_STEP:
        small = next((i for i, one in enumerate(steps) if one <= SMALL_STEP), None)
        where = "in no layer" if small is None else f"from layer {small + 1} on"
        found.append(
            (
                "the SDE with common noise on the sphere",
                f"the first layer's attention makes {steps[0]:.3g} of the stream; its share is "
                f"below {SMALL_STEP:g} {where}",
            )
        )
    why = []
    if stack.causal:
        why.append("the mask tells positions apart")
    if any(True for _ in feed_forwards(stack)):
        why.append("there are hidden units")
    if why:
        found.append(("the scalar closures (simplex, high temperature)", "; ".join(why)))
    return tuple(found)


def assumptions(reading: StackReading) -> tuple[str, ...]:
    """What every number assumes, then what this architecture's numbers assume.

    Args:
        reading: what was read.
    """
    removes = "remove the mean" if reading.stack.centred else "keep the mean"
    return (
        "the network at initialisation: nothing here speaks of trained weights",
        f"independent centred weights, biases at zero, no dropout; the norms {removes}",
        "gradients independent of the weights that they pass (true of losses that are read through "
        "a fresh or an embedding matrix)",
        *reading.assumptions,
    )


def warnings(
    reading: StackReading, tokens: int, curves: Mapping[str, Curve], networks: int
) -> tuple[str, ...]:
    """What lies outside of what was verified, and what is large.

    Args:
        reading: what was read.
        tokens: how many enter.
        curves: of these tokens.
        networks: how many were simulated.
    """
    stack = reading.stack
    widest = max((score_std(one, stack.dim) for one in attentions(stack)), default=0.0)
    sizes = {
        "dim": stack.dim,
        "layers": len(stack.layers),
        "tokens": tokens,
        "score_std": widest,
    }
    found = [
        f"{name} {value:.4g} lies beyond {VERIFIED[name]:g}, the largest at which the recursion "
        "was compared with networks with drawn weights"
        for name, value in sizes.items()
        if value > VERIFIED[name]
    ]
    ratio, shift = tokens / effective_dim(stack), max(curves["overlap"].width)
    if not networks and (ratio > 1 or (ratio > LARGE_RATIO and shift > LARGE_SHIFT)):
        found.append(
            f"{tokens} tokens are many for an effective width of {effective_dim(stack):.0f}: the "
            f"mean over networks may lie {shift:.2g} from infinite width: --networks 2 "
            "(networks=2) tells it"
        )
    worst = max(curves["overlap"].error)
    if worst > SMALL_STEP:
        found.append(
            f"one network's overlap differs from the limit by up to {worst:.2g} (one standard "
            "error)"
        )
    latent = any(isinstance(one, LatentAttention) for one in attentions(stack))
    if latent and not networks:
        found.append(
            "the spread over networks is not told for latent attention: --networks 2 tells it"
        )
    found += [f"ignored: {text}" for text in reading.ignored]
    return tuple(found)


def left_out(tokens: int, *, whole: bool, networks: int) -> tuple[str, ...]:
    """What is not told of so many tokens unless it is asked for.

    Args:
        tokens: how many enter.
        whole: whether all is told.
        networks: how many were simulated.
    """
    if whole:
        return ()
    spread = "" if networks else "the spread over networks (so errors are those of a mean over "
    spread = spread and f"{spread}networks), "
    return (
        f"of {tokens} tokens these are left out: {spread}tokens that all differ, a gradient that "
        "all tokens share; --whole (whole=True) tells them",
    )


def _attention(one: Attention | LatentAttention) -> tuple[str, ...]:
    told = []
    if isinstance(one, LatentAttention):
        told.append(f"latents of {one.kv_rank}")
    else:
        if one.key_heads != one.heads:
            told.append(f"{one.key_heads} key/value heads for {one.heads} heads")
        if one.qk_norm is not None:
            told.append(
                f"norm of queries and keys of {one.qk_norm.over} heads".replace(
                    "of head heads", "of every head"
                )
            )
    if one.rotary is not None:
        told.append(f"rotary positions ({one.rotary.dims} of {one.head_dim} entries)")
    scores = one.scores
    if scores.score_scale is not None and not math.isclose(scores.score_scale, one.head_dim**-0.5):
        told.append(f"score scale {scores.score_scale:.4g}")
    if scores.softcap is not None:
        told.append(f"soft cap {scores.softcap:g}")
    if scores.window is not None:
        told.append(f"window {scores.window}")
    if scores.chunk is not None:
        told.append(f"chunks of {scores.chunk}")
    if scores.slopes:
        told.append("linear biases (ALiBi)")
    if scores.bias_std:
        told.append("relative biases (T5)")
    if scores.sink:
        told.append("sinks")
    return tuple(told)


def _units(one: FeedForward | Experts) -> tuple[str, ...]:
    inner = one.expert if isinstance(one, Experts) else one
    gated = "gated " if inner.gated else ""
    block = f"{gated}feed-forward block ({inner.activation.value})"
    if isinstance(one, FeedForward):
        return (block,)
    gate = " behind a gate" if one.shared_gate_std is not None else ""
    shared = f", one shared{gate}" if one.shared is not None else ""
    return (f"{one.active} of {one.count} experts{shared}: {block}",)


def _blocks(stack: Stack) -> Iterator[FeedForward | Experts]:
    for block in stack.sub_blocks:
        for branch in block.branches:
            if isinstance(branch, (FeedForward, Experts)):
                yield branch


def _counted(kinds: list[tuple[str, ...]], name: str) -> Iterator[str]:
    """What all share once; what some have, with how many."""
    if name and kinds:
        yield name
    for text in dict.fromkeys(text for kind in kinds for text in kind):
        count = sum(text in kind for kind in kinds)
        yield text if count == len(kinds) else f"{text} in {count} of {len(kinds)} layers"


def _ends(values: Iterable[float]) -> tuple[float, ...]:
    """The first number, and the last where it differs."""
    told = list(values)
    return (told[0],) if math.isclose(told[0], told[-1]) else (told[0], told[-1])
