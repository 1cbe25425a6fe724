r"""Training dynamics: how a multi-head transformer with infinitely many heads learns.

At any head dimension N and depth L, and at N or L = infinity where a limit exists, full-batch
gradient descent on a residual multi-head transformer becomes, as heads -> infinity, a closed
causal system for kernels over training time. `TrainingDynamics` is that system, `LinearAlgebra`
solves it where nothing is random, `CausalSampling` samples heads and neurons and nothing else.

| symbol of the paper | name here | shape |
|---|---|---|
| P, S, m = P S | inputs, tokens, fields | |
| N, H, L | `head_dim`, heads (infinite), `layers` | |
| t = 0 .. T - 1 | evaluations; parameters at t have received t updates | `steps` of them |
| f | `predictions` | [steps, inputs], or with outputs, or of every token |
| H(t, t') | `kernel(layer)` | [steps, inputs, tokens] twice |
| G(t, t') | `gradient_kernel(layer)` | the same |
| A over heads | `score_law(layer)` | [steps, heads, inputs, query, key] |
| K^NTK(t) | `ntk` | [steps, rows, rows] |
| alpha_A, alpha_L, beta_0, gamma_0, eta_0 | the same in Latin letters | |

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from translimit.core import room

__getattr__, __dir__, __all__ = room(__name__, __file__)
