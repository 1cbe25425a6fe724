"""From names to a finished run: configurations, missing cells, an executor, the store, claims."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
