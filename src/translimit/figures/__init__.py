"""Drawing of labelled data: functions of data and an `Axes` that return the `Axes`.

Nothing here computes, touches Matplotlib's global state, or shows a window. Finite systems are
points with error bars, limits are lines; colours are those of Okabe and Ito, told apart also by
marker, dash or hatch so that they survive greyscale.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
