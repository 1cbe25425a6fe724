"""What every room stands on: errors, problems, precision, keys, estimates, claims, distances.

Nothing here knows a limit or a network. Names load on first use; `errors`, `claims`, `config`,
`estimates` and `citations` need no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
