"""What a person points at, turned into the tokens that enter a stack.

A text, ids, an image, a covariance, or a sample of the vocabulary; every file may have been written
by anybody, and is read as data or refused in one line that names the argument.

Reference: documentation, "Signal propagation".
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
