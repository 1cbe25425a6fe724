"""Real data as tokens: small sets shipped with the package, readers of large ones, minibatches."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
