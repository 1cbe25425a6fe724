"""translimit: the infinite limits of transformer dynamics, and finite networks beside them.

Rooms are loaded on first use, so that importing the package (and asking the command line for
help) costs no import of JAX. Importing changes no setting of JAX, NumPy or Matplotlib but one flag
of XLA, without which some sums are wrong on a CPU (`translimit._xla`).
"""

from translimit._version import __version__ as __version__
from translimit._xla import reduce_rightly
from translimit.core import room

reduce_rightly()
__getattr__, __dir__, __all__ = room(__name__, __file__)
