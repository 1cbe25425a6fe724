"""Attention as a velocity field: one file a variant, one row per query and one column per key."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
