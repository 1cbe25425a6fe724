"""Steps and loops that the mathematics demands, around diffrax: saving, blow-up, progress."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
