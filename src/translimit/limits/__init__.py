"""The limits, one folder each; no limit knows another, and none knows a finite network."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
