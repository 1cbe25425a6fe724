"""Fields of several blocks as lists of tensors: stacked where alike, compared, measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def detached(value: object) -> object:
    """A copy of a tensor without its graph; whatever else a module takes or gives, as it is."""
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def same(one: Tensor, other: object) -> bool:
    """Whether the other is a tensor with the same bits."""
    import torch

    return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)


def alike(values: Sequence[Tensor]) -> bool:
    """Whether all have one shape, type and device."""
    return len({(one.shape, one.dtype, one.device) for one in values}) <= 1


def stacked(values: list[Tensor]) -> list[Tensor]:
    """Tensors of several blocks as one, where they are alike: less to call."""
    import torch

    return [torch.stack(values)] if len(values) > 1 and alike(values) else values


def changes(new: Sequence[Tensor], old: Sequence[Tensor]) -> Iterator[Tensor]:
    """Differences of pairs."""
    return (after - before for after, before in zip(new, old, strict=True))


def rms(fields: Iterable[Tensor]) -> float:
    """Root mean square over all entries of several tensors."""
    import torch

    total, entries = 0.0, 0
    for field in fields:
        total += float(torch.linalg.vector_norm(field)) ** 2
        entries += field.numel()
    return math.sqrt(total / entries) if entries else math.nan
