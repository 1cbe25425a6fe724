r"""Products of two narrow matrices: latents of attention with a norm between, and LoRA.

**Latents** (multi-head latent attention): y = U norm(D x), D of shape r x d and U of n x r. With
q = m_N^{alpha_A - 1} for what makes queries and 1 else, the two counts of
`translimit.scaling.counts` give, in ratios target / base,

| | init | Adam: rate, epsilon | SGD: rate |
|---|---|---|---|
| down D | m_d^{-1/2} | q m_L^{alpha_L - 1} / m_d, m_L^{-alpha_L} / (q m_r) | q^2 (m_r / m_d)^{1/2} m_L^{2 alpha_L - 1} |
| up U | m_r^{-1/2} | q m_L^{alpha_L - 1} / m_r, m_L^{-alpha_L} / (q m_n) | q^2 (m_n / m_r) m_L^{2 alpha_L - 1} |
| gain between | 1 | q m_L^{alpha_L - 1}, m_L^{-alpha_L} / (q m_r) | q^2 m_r m_L^{2 alpha_L - 1} |

and Muon the rates q m_L^{alpha_L - 1} (m_r / m_d)^{1/2} and q m_L^{alpha_L - 1} (m_n / m_r)^{1/2}: an
update of spectral norm eta changes |y| by eta |x| where its rows span x, which takes tokens of fewer
directions than the rank. At a fixed rank the same holds. The gradient of D returns through a random
U: under SGD its rate takes the root.

**LoRA**: dW = (a / r) B A with A (r x n) drawn and B (m x r) at zero. Under Adam every entry moves by
its rate, and r of them add up: a / r keeps the change of the output at rates that do not depend on r.
Under SGD the gradient of B has the factor as well, so that a / r needs rates m_r, and a / r^{1/2} the
rate 1 of B. Both forms are one move of B apart. The epsilon is 1 / m_r.

Reference: Hu et al., arXiv 2106.09685; Kalajdzievski, arXiv 2312.03732 (a / r^{1/2}); DeepSeek-V2,
arXiv 2405.04434 (latents). Rows along the width of LoRA's maps are counted, not measured.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from translimit.core import ArgumentError, nearest
from translimit.describe import (
    Axis,
    OptimizerKind,
    OptimizerName,
    RoleRule,
    Update,
    optimizer_kind,
)
from translimit.scaling.counts import shape_factor
from translimit.scaling.engine import Rules
from translimit.scaling.errors import UnsupportedModuleError
from translimit.scaling.moves import moved

#: What latents are for.
LatentPart = Literal["query", "key_value"]
#: How a product of LoRA is divided.
LoraFactor = Literal["a/r", "a/sqrt(r)"]


@dataclass(frozen=True)
class LatentRules:
    """Ratios target / base of the maps of one latent.

    Attributes:
        down: from the stream to the latent.
        gain: of the norm between.
        up: from the latent to queries, or to keys and values.
        warnings: what was not measured.
    """

    down: RoleRule
    gain: RoleRule
    up: RoleRule
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LoraRules:
    """Ratios target / base of an adapter of low rank.

    Attributes:
        factor: of the product B A, at a fixed a.
        a: the map that is drawn, r x n.
        b: the map that starts at zero.
        warnings: what was not measured.
    """

    factor: float
    a: RoleRule
    b: RoleRule
    warnings: tuple[str, ...]


def latent_rules(rules: Rules, rank: tuple[int, int], part: LatentPart = "query") -> LatentRules:
    """What the maps of a latent with a norm take.

    Args:
        rules: of the model around it, in canonical or folded style.
        rank: of the latent in base and target.
        part: what the latent becomes; one of keys and values has one rate for both.

    Returns:
        ratios of start, rate, epsilon and decay.

    Raises:
        ArgumentError: a rank below 1, or an unknown part.
        UnsupportedModuleError: a style with multipliers, or keys and values that need two rates.
    """
    m_r = _ratio(rank, "rank")
    if part not in get_args(LatentPart):
        raise ArgumentError("part", f"got {part!r}", nearest(str(part), get_args(LatentPart)))
    question = rules.question
    if question.style not in ("canonical", "folded"):
        raise UnsupportedModuleError(
            "style",
            f"{question.style!r} gives every tensor a multiplier of its own",
            "use style='folded' or 'canonical'",
        )
    factor = question.m_N ** (question.alpha_A - 1)
    if part == "key_value" and factor != 1:
        raise UnsupportedModuleError(
            "part",
            "one latent makes keys and values, whose rates differ at alpha_A < 1 as the head "
            "dimension grows",
            "use alpha_A=1, or keep the head dimension",
        )
    q, depth = factor, question.m_L ** (question.alpha_L - 1)
    back, m_d = question.m_L**-question.alpha_L, question.m_d
    target, base = question.target, question.base
    # Of keys and values the number of entries that share the latent is that of key/value heads.
    grows = question.m_N * (
        target.heads / base.heads if part == "query" else target.groups / base.groups
    )
    kind = question.kind
    read, made_of = Axis.STREAM, Axis.QUERIES if part == "query" else Axis.KEYS_AND_VALUES

    def shaped(down: bool) -> float:
        """What Muon's implementation multiplies the update by, target over base."""
        told = []
        for size, r in ((base, rank[0]), (target, rank[1])):
            ends = (read.length(size), float(r)) if down else (float(r), made_of.length(size))
            told.append(shape_factor(question.muon_adjust, *ends))
        return told[1] / told[0]

    def made(
        n_in: float, n_out: float, returns: float, matrix: bool = True, built_in: float = 1.0
    ) -> RoleRule:
        movement, gradient = q * depth / n_in, back / (q * n_out)
        beside = kind if matrix or kind.beside is None else optimizer_kind(kind.beside)
        update = beside.update
        lr = {
            Update.GRADIENT: movement * q * returns / back,
            Update.ORTHOGONAL: movement * (n_in * n_out) ** 0.5 / built_in,
        }.get(update, movement)
        eps = gradient if update is Update.ADAM else None
        return RoleRule(1.0, n_in**-0.5 if matrix else 1.0, lr, eps, 1 / lr)

    said = [
        "rows of latents were measured along the rank; under Muon also along the width, at a rank"
    ]
    if part == "key_value":
        said.append(
            "rotary key rows that share the tensor of this down map skip the norm: give them the "
            "row of a key (derived)"
        )
    return LatentRules(
        down=made(m_d, m_r, (m_d * m_r) ** 0.5, built_in=shaped(True)),
        gain=made(1.0, m_r, m_r, matrix=False),
        up=made(m_r, grows, grows, built_in=shaped(False)),
        warnings=tuple(said),
    )


def lora_rules(
    rank: tuple[int, int],
    *,
    optimizer: OptimizerName | OptimizerKind,
    factor: LoraFactor | None = None,
    fan_in: tuple[int, int] = (1, 1),
    fan_out: tuple[int, int] = (1, 1),
) -> LoraRules:
    """What the maps of a LoRA adapter take at another rank, and another width.

    Args:
        rank: r in base and target.
        optimizer: of the adapter.
        factor: how the product is divided; a / r by default, under SGD a / r^{1/2}.
        fan_in: entries that A reads, in base and target.
        fan_out: entries that B writes.

    Returns:
        ratios of factor, start, rate, epsilon and decay.

    Raises:
        ArgumentError: a number below 1, or an unknown factor.
        UnsupportedModuleError: an optimiser that orthogonalises: B starts at zero, and the rank of
            its update is r whatever it should be.
    """
    m_r, n_in, n_out = _ratio(rank, "rank"), _ratio(fan_in, "fan_in"), _ratio(fan_out, "fan_out")
    kind = optimizer_kind(optimizer)
    if kind.update is Update.ORTHOGONAL:
        raise UnsupportedModuleError(
            "optimizer", f"{kind.name!r} has no row for LoRA", "train the adapter with adamw"
        )
    sgd = kind.update is Update.GRADIENT
    known = get_args(LoraFactor)
    chosen = factor if factor is not None else known[1] if sgd else known[0]
    if chosen not in known:
        raise ArgumentError("factor", f"got {factor!r}", nearest(str(factor), known))
    eps = (lambda value: value) if kind.update is Update.ADAM else (lambda value: None)
    if sgd:
        rate_a, rate_b = m_r / n_in, m_r * n_out
    else:
        rate_a, rate_b = 1 / n_in, 1.0
    a = RoleRule(1.0, n_in**-0.5, rate_a, eps(1 / m_r), 1 / rate_a)
    b = RoleRule(1.0, 1.0, rate_b, eps(1 / (m_r * n_out)), 1 / rate_b)
    share = 1 / m_r
    if chosen == "a/sqrt(r)":
        share = m_r**-0.5
        b = moved(b, m_r**0.5, kind.update)
        b = RoleRule(1.0, 1.0, b.lr, b.eps, b.wd)
    said = [
        "counted for ranks above the number of distinct tokens of a batch: below it the truth lies "
        "between a / r and a / r^(1/2)"
    ]
    if (n_in, n_out) != (1, 1):
        said.append("the rows along the width are counted, not measured")
    return LoraRules(share, a, b, tuple(said))


def _ratio(sizes: tuple[int, int], name: str) -> float:
    if min(sizes) < 1:
        raise ArgumentError(name, f"got {sizes}", "pass two numbers of at least 1")
    return sizes[1] / sizes[0]
