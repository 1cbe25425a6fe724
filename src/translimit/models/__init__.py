"""Finite systems: concrete networks with sizes, run beside the limits and knowing none of them."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
