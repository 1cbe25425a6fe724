r"""The shaped Transformer: depth and width to infinity together, in the ratio t = layers / dim.

The covariance V = X X^T / n of the tokens follows an Ito equation

    dV = b(V) dt + dM,      d<M_ab, M_cd> = Sigma_ab,cd(V) dt,

up to the time at which it explodes, which happens with positive probability.

| symbol | name here | shape |
|---|---|---|
| m | `tokens` (count) | |
| n | `dim`; one block is dt = 1 / dim | |
| V | `cov`, covariance of the tokens across the width | [tokens, tokens] |
| b | `covariance_drift` | [tokens, tokens] |
| Sigma | `diffusion` | [tokens, tokens, tokens, tokens] |
| D = V_11 + V_22 - 2 V_12 | `distance` of two tokens, squared and divided by the width | |
| zeta | `blow_up_time` | [paths] |
| sigma^2 | `linear_variance` | |

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
