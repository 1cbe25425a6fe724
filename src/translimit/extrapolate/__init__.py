"""From small runs to the infinite network: loss curves at any size, and the best shape."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
