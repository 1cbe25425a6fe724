"""Where independent jobs run: in this process, in worker processes, on Ray, or on a batch system.

A job is plain data and its function is an import path, so that the same study runs anywhere. An
executor neither knows what a job computes nor where the result is stored.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
