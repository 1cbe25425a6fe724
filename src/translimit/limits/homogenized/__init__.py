r"""Homogenized transformers: many layers of random heads on the unit sphere, with common noise.

| symbol in the paper | name here | shape |
|---|---|---|
| d, n, H, L | `dim`, `tokens`, `heads`, `layers` | counts |
| eta | `step`, the residual step | number |
| t = l eta | `paper_time` | |
| tau (noise kernel s_ij I / d) | `diffusive_time`, unit diffusive time; `ts`, `t1` | [times] |
| tau / d | `slow_time` | |
| R = X X^T | `overlaps` | [..., tokens, tokens] |
| s_ij = E <m_i, m_j> | `s`, overlaps of attention outputs | [tokens, tokens] |
| beta sigma_A^2 d_k^{1/2} | `score_std` | |
| beta d sigma_A^2 | `beta_operator` | |
| common off-diagonal overlap gamma | `overlap` | |
| kappa | `drift_coefficient`, coefficient of the slow equation | |

Problems, methods and solutions stand here, with `classify` and `collapse_depth`; what can be had
without solving, and the parts of the equations, in modules by topic: `overlaps` (drift, covariation
and kernel of the overlaps), `simplex` (all overlaps equal), `moebius` (exact samples without
scores), `two_tokens`, `high_temperature`, `low_temperature`, `circle` (the density of infinitely
many tokens), `chaos` (finitely many beside them), `drifts` (heads with a mean effect), `designs`
(layers that postpone collapse). Laws of heads are in `translimit.describe`.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
