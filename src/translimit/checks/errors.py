"""What a factory can do wrong."""

from __future__ import annotations

from translimit.core import ArgumentError


class FactoryError(ArgumentError):
    """A factory is missing, raises, or returns something that cannot be checked."""
