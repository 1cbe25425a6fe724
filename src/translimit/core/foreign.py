"""Types of PyTorch for the checker of the source.

An adapter loads the library of its arguments when it is called, and none when it is imported: at
run time the names stand for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch.nn import Module as Module
    from torch.optim import Optimizer as Optimizer
else:
    Tensor = Module = Optimizer = Any

#: Parameters of a module by name; shared tensors once.
Tensors: TypeAlias = Mapping[str, Tensor]
