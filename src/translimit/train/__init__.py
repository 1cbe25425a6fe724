"""Training finite transformers: ensembles, observables, coordinate checks, transfer sweeps."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
