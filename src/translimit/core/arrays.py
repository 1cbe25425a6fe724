"""Arrays that users have, as NumPy arrays: the one place that converts, without loading JAX.

A tensor of PyTorch is its values, on whatever device and with whatever gradient. NumPy has no
bfloat16, and half precision is for storage: such tensors become float32, which holds them exactly.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from translimit.core.errors import ArgumentTypeError, brief


def as_numpy(value: Any, name: str, *, keep_precision: bool = False) -> np.ndarray:
    """A NumPy array of whatever holds real numbers, NaN and infinity included.

    Args:
        value: an array of NumPy, JAX or PyTorch, a number, nested lists and tuples of them.
        name: how the message calls it.
        keep_precision: leave floats in their own precision; by default all become float64, as
            what holds no floats does in any case.

    Raises:
        ArgumentTypeError: the value is not numeric.
    """
    try:
        array = np.asarray(_without_torch(value))
        if not np.issubdtype(array.dtype, np.floating):
            array = array.astype(np.float64, casting="safe" if array.size else "unsafe")
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            name, f"got {brief(value)}", "pass real numbers, in rows of equal length"
        ) from error
    return array if keep_precision else np.asarray(array, dtype=np.float64)


def _without_torch(value: Any) -> Any:
    """A tensor, or the tensors of a list, as NumPy arrays; everything else as it is."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "Tensor"):
        return value  # not loaded, or not to the end
    if isinstance(value, (list, tuple)):
        return [_without_torch(part) for part in value]
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().to("cpu").resolve_conj().resolve_neg()
    # NumPy has no bfloat16, and half precision is for storage: float32 holds both exactly.
    half = value.dtype in (torch.bfloat16, torch.float16)
    return (value.float() if half else value).numpy()
