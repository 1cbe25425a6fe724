"""Named reproductions: one folder a paper, one file an experiment, found by the registry."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
