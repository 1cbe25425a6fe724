"""How a family draws its weights at two sizes, by the reader of its configurations.

A class of transformers draws some matrices by numbers that depend on sizes: GPT-2 divides the ends
of branches by (2 L)^{1/2}, nanochat those of attention alone, CLIP draws by the width and the depth
both, others by fan-in. The reader of the family says the standard deviations of the target, and of
the same configuration at the sizes of the base; their ratio is what the module has already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from translimit.core import ArgumentError, NoSuchLimitError, TorchModule
from translimit.describe import (
    Attention,
    Embedding,
    Experts,
    FeedForward,
    PatchEmbedding,
    Role,
    Size,
    StackReading,
    read_stack,
    resized_config,
)
from translimit.scaling.adapters.tables import unwrapped
from translimit.scaling.reading import Configuration


@dataclass(frozen=True)
class Drawn:
    """Standard deviations by role.

    Attributes:
        base: at the base's sizes.
        target: at those of the module.
    """

    base: Mapping[Role, float]
    target: Mapping[Role, float]

    def ratio(self, role: Role) -> float:
        """Target over base; 1 where the reader says nothing of a role."""
        then, now = self.base.get(role, 0.0), self.target.get(role, 0.0)
        return now / then if then > 0 and now > 0 else 1.0


def drawn_by_family(model: TorchModule, base: Size, target: Size) -> Drawn | None:
    """What the reader of the module's family says; None without a configuration that it reads.

    Args:
        model: the target.
        base: sizes of the base.
        target: sizes of the module.
    """
    config = getattr(unwrapped(model), "config", None)
    if not isinstance(config, Configuration) or not hasattr(config, "model_type"):
        return None
    told = config.to_dict()
    try:
        now = read_stack(told)
        then = read_stack(resized_config(told, target, base))
    except (ArgumentError, NoSuchLimitError):
        return None
    return Drawn(stds_of(then), stds_of(now))


def stds_of(reading: StackReading) -> dict[Role, float]:
    """The standard deviations of a stack by role, where all layers have the same.

    Args:
        reading: the stack, and that of its readout.
    """
    found: dict[Role, set[float]] = {}
    for role, std in _told(reading):
        found.setdefault(role, set()).add(std)
    return {role: stds.pop() for role, stds in found.items() if len(stds) == 1}


def _told(reading: StackReading) -> Iterator[tuple[Role, float]]:
    of = reading.stack.embedding
    if isinstance(of, Embedding):
        yield from ((Role.TOKEN_EMBEDDING, of.std), (Role.POSITION_EMBEDDING, of.position_std))
    if isinstance(of, PatchEmbedding):
        yield from ((Role.PATCH_EMBEDDING, of.std), (Role.POSITION_EMBEDDING, of.position_std))
    if reading.readout_std is not None and not reading.tied:
        yield Role.READOUT, reading.readout_std
    for block in reading.stack.sub_blocks:
        for branch in block.branches:
            if isinstance(branch, Attention):
                yield Role.QUERY, branch.query_std
                yield Role.KEY, branch.key_std
                yield Role.VALUE, branch.value_std
                yield Role.ATTENTION_OUT, branch.out_std
            elif isinstance(branch, FeedForward):
                yield from _units(branch, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT)
            elif isinstance(branch, Experts):
                yield Role.ROUTER, branch.router_std
                yield from _units(branch.expert, Role.EXPERT_IN, Role.EXPERT_IN, Role.EXPERT_OUT)
                if branch.shared is not None:
                    yield from _units(branch.shared, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT)
            else:
                down = (Role.QUERY_DOWN, Role.QUERY_UP, Role.KEY_VALUE_DOWN, Role.KEY_VALUE_UP)
                yield from ((role, branch.std) for role in (*down, Role.QUERY))
                yield Role.ATTENTION_OUT, branch.out_std


def _units(of: FeedForward, into: Role, gate: Role, out: Role) -> Iterator[tuple[Role, float]]:
    """W_1 is the gate of gated units, and W_up reads beside it."""
    yield (gate if of.gated else into), of.in_std
    if of.gated:
        yield into, of.up_std or of.in_std
    yield out, of.out_std
