"""The interactive page: what each limit predicts for one architecture, as sliders move."""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
