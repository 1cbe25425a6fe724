"""From a run folder to one self-contained page, and numbers as a reader wants them.

A report reads stored results: it draws and formats, computes no science, starts no computation
and loads no JAX.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
