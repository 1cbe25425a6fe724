"""Families of transformers, one record each: readers of configurations, names of parameters.

A reader takes every key that acts at initialisation; keys that are known to be inert there are
listed in `inert`; any other is told by name in the reading's `ignored`.

A family is added by its reader (an entry of `decoder_families.DECODERS`, or a function), its names
of parameters where they are known, and its record in `known.FAMILIES`. Predictions, scaling rules,
adapters and checks ask the record and hold no list of their own.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
