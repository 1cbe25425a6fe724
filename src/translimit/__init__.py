"""translimit: the infinite limits of transformer dynamics, and finite networks beside them.

Rooms are loaded on first use, so that importing the package (and asking the command line for
help) costs no import of JAX; importing changes no setting of JAX, NumPy or Matplotlib.
"""

import lazy_loader

from translimit._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
