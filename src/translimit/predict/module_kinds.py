"""What a PyTorch module and its configuration are to those who read them: protocols alone.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from translimit.core import JsonObject


@runtime_checkable
class Module(Protocol):
    """What is read of a `torch.nn.Module`."""

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """Its parameters."""
        ...

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """It and the modules in it."""
        ...


@runtime_checkable
class Configuration(Protocol):
    """What Hugging Face calls a configuration."""

    def to_dict(self) -> JsonObject:
        """Its content as plain data."""
        ...


#: What tells the block of a module.
Config: TypeAlias = str | Path | JsonObject | Configuration
