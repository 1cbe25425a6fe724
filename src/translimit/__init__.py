"""translimit: the infinite limits of transformer dynamics, and finite networks beside them.

Rooms are loaded on first use, so that importing the package (and asking the command line for
help) costs no import of JAX. Importing changes no setting of JAX, NumPy or Matplotlib but one flag
of XLA, without which some sums are wrong on a CPU (`translimit._xla`).
"""

import lazy_loader

from translimit._version import __version__ as __version__
from translimit._xla import reduce_rightly

reduce_rightly()
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """A room or a name of the top level; of a name that lives elsewhere the error says where."""
    try:
        return _load(name)
    except AttributeError as error:
        if name.startswith("_"):
            raise
        from translimit.core.public_names import not_here

        raise AttributeError(not_here(__name__, name)) from error
