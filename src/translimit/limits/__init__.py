"""The limits, one folder each; no limit knows another, and none knows a finite network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
