"""Activations of feed-forward blocks, under the names that configurations use."""

from __future__ import annotations

import enum
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Activation(enum.Enum):
    """An activation; calling it applies it entrywise.

    The value is the name that `config.json` files use first. `LINEAR` is the identity, which makes
    an MLP a deep linear network. `CLAMPED_SWISH` is x sigmoid(1.702 x) of min(x, 7), the gate of
    gpt-oss. `XIELU` is that of Apertus with the numbers that it starts with: 0.8 x^2 + x / 2 above
    0, 0.8 (e^x - 1 - x) + x / 2 below.
    """

    GELU = "gelu"
    GELU_TANH = "gelu_new"
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"
    LINEAR = "linear"
    RELU_SQUARED = "relu2"
    QUICK_GELU = "quick_gelu"
    CLAMPED_SWISH = "clamped_swish"
    SIGMOID = "sigmoid"
    XIELU = "xielu"

    def __call__(self, x: T) -> T:
        """The activation of every entry of an array of any shape.

        Args:
            x: the array, of JAX or NumPy.
        """
        # Reading a configuration loads nothing numerical.
        from translimit.describe.activation_functions import FUNCTIONS

        return cast("T", FUNCTIONS[self.value](cast("Any", x)))
