"""Observables: named functions of a state, the same for a finite system and for its limit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
