"""From names to a finished run: configurations, missing cells, an executor, the store, claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
