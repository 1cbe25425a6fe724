"""Types of PyTorch for the checker of the source.

A function loads the library of its arguments when it is called, and none when it is imported: at
run time the names stand for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

    TorchTensor: TypeAlias = torch.Tensor
    TorchModule: TypeAlias = torch.nn.Module
    TorchOptimizer: TypeAlias = torch.optim.Optimizer
else:
    TorchTensor = Any
    TorchModule = Any
    TorchOptimizer = Any

#: Parameters of a module by name; shared tensors once.
TorchTensors: TypeAlias = Mapping[str, TorchTensor]
