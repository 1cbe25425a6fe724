"""What a finite system and its limit share: sizes, laws and blocks as data, computing nothing."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
