"""A trained checkpoint beside its null model, the limit and the closures with its own weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
