"""Signal propagation at initialisation: covariances forward, gradients backward, block by block."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
