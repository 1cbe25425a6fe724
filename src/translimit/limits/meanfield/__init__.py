r"""The Transformer PDE: many tokens and infinite depth.

d mu_t / dt + div(mu_t Gamma_{mu_t}) = 0, with characteristics x' = Gamma_{mu_t}(x).

| symbol in the paper | name here | shape |
|---|---|---|
| n | `tokens` (count), `particles` where a cloud samples a law | |
| d | `dim` | |
| t in [0, T] | `ts`, `t1` | [times] |
| x_i(t) | `tokens` | [times, tokens, dim] |
| alpha(t) | `mean` | [times, dim] |
| Sigma(t) | `cov`, covariance of the law of the tokens | [times, dim, dim] |
| A = c K^T Q | `attention.A`, with c = `score_scale` | [dim, dim] |
| t* | `blow_up_time` | |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322.
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
