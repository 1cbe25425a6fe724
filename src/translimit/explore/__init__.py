"""The interactive page: what each limit predicts for one architecture, as sliders move."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
