"""Finite systems: concrete networks with sizes, run beside the limits and knowing none of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
