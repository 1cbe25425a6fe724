"""Parameterizations: what a larger transformer must change so that tuned values carry over."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
