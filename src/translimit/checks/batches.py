"""Batches of PyTorch: how many examples they have, and the first of them."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import copy
from typing import Any, TypeVar, cast

from translimit.core import TorchTensor

Batch = TypeVar("Batch")


def examples_of(batch: object) -> int:
    """The common length of the first axes of all tensors; 0 where there is none.

    Args:
        batch: a tensor, or a tuple, list or dictionary of tensors; anything else has none.
    """
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else 0
    parts: list[Any] = []
    if isinstance(batch, MutableMapping):
        parts = list(batch.values())
    elif isinstance(batch, tuple | list):
        parts = list(batch)
    lengths = {examples_of(part) for part in parts}
    return lengths.pop() if len(lengths) == 1 else 0


def first_examples(batch: Batch, count: int) -> Batch:
    """The same batch with its first examples.

    Args:
        batch: one of which `examples_of` is at least `count`.
        count: how many.
    """
    import torch

    parts: Any = batch
    if isinstance(batch, torch.Tensor):
        parts = cast("TorchTensor", batch)[:count]
    elif isinstance(batch, MutableMapping):
        parts = copy(batch)
        for name, one in batch.items():
            parts[name] = first_examples(one, count)
    elif isinstance(batch, tuple | list):
        inside = [first_examples(one, count) for one in parts]
        parts = getattr(batch, "_make", type(batch))(inside)  # of a named tuple, or a plain one
    return parts
