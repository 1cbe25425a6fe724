"""Real data as tokens: small sets shipped with the package, readers of large ones, minibatches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
