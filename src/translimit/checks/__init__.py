"""Is a model parameterized as the rules say? Coordinate checks and transfer sweeps, with verdicts.

One set of results for the networks of this package and for anybody's own model: exponents with
intervals, what is promised for them, verdicts, optima and drifts. A user's model is made by a
factory; PyTorch modules are observed by hooks, JAX ones by a function that returns their fields.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
