"""The command line: thin commands over the other rooms, loaded when they are asked for."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
