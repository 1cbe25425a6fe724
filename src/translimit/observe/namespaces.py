"""Arrays of NumPy and of JAX by one set of functions."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from translimit.core import AnyArray


def namespace(array: AnyArray) -> ModuleType:
    """The functions of NumPy or of JAX, by the kind of an array.

    Args:
        array: of either.
    """
    return array.__array_namespace__()


def as_array(value: AnyArray | np.generic) -> AnyArray:
    """An array: what NumPy reduced to a number, as an array without axes.

    Args:
        value: an array of either kind, or a number of NumPy.
    """
    return np.asarray(value) if isinstance(value, np.generic) else value
