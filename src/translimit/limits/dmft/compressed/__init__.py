r"""Histories without T^2: matrices known by the orthonormal directions they were applied to.

A matrix of the network is used forward, y = W x, and transposed, z = W^T g. Everything that it
does to past fields is known once the images of a few orthonormal directions are, because fields
are smooth in training time: with directions q of x and p of g,

    y = <x q> (W q),    z = <g p> (W^T p),

and gradient descent moves images alone, W q += c sum_a <x_a q> g_a. Without truncation this is
the same sum over the past as that of histories, written in another basis.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
