"""Observables: named functions of a state, the same for a finite system and for its limit."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
