"""A trained checkpoint beside its null model, the limit and the closures with its own weights."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
