"""From small runs to the infinite network: loss curves at any size, and the best shape."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
