"""What the limits say about one described architecture, before any training."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
