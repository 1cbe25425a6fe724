"""Attention as a velocity field: one file a variant, one row per query and one column per key."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
