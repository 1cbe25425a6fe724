"""What rules of latents need: one rate for keys and values, one for all rows of the map down.

The rows are those of `translimit.scaling.low_rank`. One latent makes keys and values, whose rates
part at alpha_A < 1. Keys that turn are read from the stream by rows of the map down (DeepSeek): the
row of a key with a fixed number of entries, whose start and rate under Adam are those of the map
down and whose epsilon is so at a fixed rank. Muon moves all rows of the map down together, in one
update of one size.

Reference: DeepSeek-V2, arXiv 2405.04434; documentation, "Scaling rules".
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from translimit.describe import OptimizerKind, Size, Update
from translimit.scaling.errors import ShapeMismatchError, UnsupportedModuleError


@runtime_checkable
class Asked(Protocol):
    """What is read of a question of the rules; see `translimit.scaling.question`."""

    @property
    def base(self) -> Size:
        """Where rates were tuned."""
        ...

    @property
    def target(self) -> Size:
        """Where they go."""
        ...

    @property
    def alpha_A(self) -> float:
        """Exponent of the scores."""
        ...

    @property
    def style(self) -> str:
        """Where factors go."""
        ...

    @property
    def fold_scores(self) -> bool:
        """Whether the scale of scores goes into queries."""
        ...

    @property
    def kind(self) -> OptimizerKind:
        """The optimiser."""
        ...

    @property
    def m_d(self) -> float:
        """By how much the width grows."""
        ...

    @property
    def m_N(self) -> float:
        """By how much the head dimension grows."""
        ...


def require_latents(question: Asked) -> None:
    """Refuse what has no one rule for a latent.

    Args:
        question: of the rules.

    Raises:
        ShapeMismatchError: a latent in one of base and target, or rotary entries that change.
        UnsupportedModuleError: a style with multipliers; folded scores behind a latent; keys
            and values, or the rows of the map down, that need two rates.
    """
    base, target = question.base, question.target
    for name in ("kv_rank", "query_rank", "rope_dim"):
        small, large = getattr(base, name), getattr(target, name)
        if (small is None) != (large is None) or (name == "rope_dim" and small != large):
            raise ShapeMismatchError(
                name, f"is {small} in the base and {large} in the target", "tell it in both alike"
            )
    if base.kv_rank is None or target.kv_rank is None:
        return
    if question.style not in ("canonical", "folded"):
        raise UnsupportedModuleError(
            "style",
            f"{question.style!r} gives every tensor a multiplier of its own",
            "use style='folded' or 'canonical'",
        )
    if question.fold_scores:
        raise UnsupportedModuleError(
            "fold_scores",
            "queries behind a latent have no matrix of their own to fold a scale into",
            "set the scale of the module",
        )
    if question.m_N ** (question.alpha_A - 1) != 1:
        raise UnsupportedModuleError(
            "alpha_A",
            "one latent makes keys and values, whose rates differ at alpha_A < 1 as the head "
            "dimension grows",
            "use alpha_A=1, or keep the head dimension",
        )
    down = (target.kv_rank / base.kv_rank / question.m_d) ** 0.5
    if (
        question.kind.update is Update.GRADIENT
        and target.rope_dim
        and not math.isclose(down, 1 / question.m_d)
    ):
        raise UnsupportedModuleError(
            "optimizer",
            f"under {question.kind.name!r} the rows of keys that turn need the rate "
            f"{1 / question.m_d:g} and those of the latent {down:g}, in one tensor",
            "use adamw, keep width and rank, or make the groups by hand with `latent_rules`",
        )
