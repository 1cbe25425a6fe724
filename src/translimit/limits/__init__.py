"""The limits, one folder each; no limit knows another, and none knows a finite network."""

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """A limit's folder; of a name that lives in one, or elsewhere, the error says where."""
    try:
        return _load(name)
    except AttributeError as error:
        if name.startswith("_"):
            raise
        from translimit.core import not_here

        raise AttributeError(not_here(__name__, name)) from error
