"""Run folders: cells stored whole or not at all, strict JSON, one writer at a time.

`RunFolder.open` reads a run; `writing` is the one way to change one. Nothing here knows what an
experiment is: a run is named configurations, cells of labelled arrays and claims as plain data.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
