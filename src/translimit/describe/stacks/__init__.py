"""Stacks of the models that people build, read from their `config.json`.

A reader takes every key that acts at initialisation; keys that are known to be inert there are
listed in `inert`; any other is told by name in the reading's `ignored`.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
