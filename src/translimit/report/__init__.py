"""From a run folder to one self-contained page, and numbers as a reader wants them.

A report reads stored results: it draws and formats, computes no science, starts no computation
and loads no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
