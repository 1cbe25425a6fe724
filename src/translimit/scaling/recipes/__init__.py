"""Published recipes in one canonical form, so that they can be compared number by number."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
