"""Steps and loops that the mathematics demands, around diffrax: saving, blow-up, progress."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
