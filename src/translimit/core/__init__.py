"""What every room stands on: errors, problems, precision, keys, estimates, claims, distances.

Nothing here knows a limit or a network. Names load on first use; `errors`, `claims`, `config`,
`estimates` and `citations` need no JAX.
"""

from translimit.core.showing import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
