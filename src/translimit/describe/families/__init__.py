"""Families of transformers, one record each: readers of configurations, names of parameters.

A reader takes every key that acts at initialisation; keys that are known to be inert there are
listed in `inert`; any other is told by name in the reading's `ignored`.

A family is one record (`family.Family`): reader, names of parameters, classes, aliases. It
stands with those of its kind (`gpt_families`, `llama_families`, ...), or in a file of its own that
`known` names. Predictions, scaling rules, adapters, checks and diagnoses ask the record and hold no
list of their own.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
