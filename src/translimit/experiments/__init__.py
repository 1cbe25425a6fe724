"""Named reproductions: one folder a paper, one file an experiment, found by the registry."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
