r"""Which transformer is trained: sizes, exponents and ingredients, with the heads left infinite.

Block: h <- h + beta_0 L^(-alpha_L) f(norm(h)) for attention and then an MLP, with weights of
N(0, 1) entries, scores A = N^(-alpha_A) k . q, and predictions f = w . mean_s h_s / (gamma_0 N H).

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from translimit.core import (
    NOT_NEGATIVE,
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    NoSuchLimitError,
    brief,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe import Activation


@dataclass(frozen=True)
class Architecture:
    """A residual multi-head transformer with infinitely many heads.

    Attributes:
        head_dim: N, dimension of keys, queries and values in a head; `math.inf` too.
        layers: L, blocks; `math.inf` too.
        alpha_A: scores are divided by head_dim^alpha_A; in [1/2, 1].
        alpha_L: branches are divided by layers^alpha_L; in [1/2, 1].
        beta0: branch multiplier at one layer.
        gamma0: richness: outputs are divided by it, learning rates multiplied by its square.
        attention: whether a block attends.
        mlp: activation of its MLP (width that of the stream), or None for no MLP.
        norm: "rms" or "layer" before each sub-block, or None; both have the same limit.
        causal: whether a token sees only itself and those before it.
        norm_eps: added to the mean square inside the normalisation.
        trained_gains: elementwise gains of the normalisation; refused.

    Raises:
        ArgumentError: sizes not positive, exponents outside [1/2, 1], gamma0 = 0.
        ArgumentTypeError: sizes that are not integers, ingredients of another type.
        NoSuchLimitError: trained gains, a shaped ReLU.
    """

    head_dim: int | float
    layers: int | float = 1
    alpha_A: float = 1.0
    alpha_L: float = 1.0
    beta0: float = 1.0
    gamma0: float = 1.0
    attention: bool = True
    mlp: Activation | None = None
    norm: str | None = None
    causal: bool = False
    norm_eps: float = 1e-5
    trained_gains: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("head_dim", "layers"):
            if not (isinstance(getattr(self, name), float) and math.isinf(getattr(self, name))):
                object.__setattr__(self, name, require_count(getattr(self, name), name, 1))
            elif getattr(self, name) < 0:
                raise ArgumentError(name, "got -inf", "pass a positive integer or math.inf")
        exponent = Bounds(0.5, 1.0)
        bounds = {"alpha_A": exponent, "alpha_L": exponent} | dict.fromkeys(
            ("beta0", "norm_eps", "gamma0"), NOT_NEGATIVE
        )
        for name, bound in bounds.items():
            object.__setattr__(self, name, require_real(getattr(self, name), name, bound))
        if self.gamma0 == 0:
            raise ArgumentError(
                "gamma0",
                "got 0, where the network is linear in its weights",
                "use lazy_predictions with the kernel `ntk[0]` of a solution at gamma0 > 0",
            )
        for name in ("attention", "causal", "trained_gains"):
            object.__setattr__(self, name, require_flag(getattr(self, name), name))
        if self.norm not in (None, "rms", "layer"):
            raise ArgumentTypeError(
                "norm", f"got {brief(self.norm)}", 'pass "rms", "layer" or None'
            )
        if self.mlp is not None and not isinstance(self.mlp, Activation):
            raise ArgumentTypeError(
                "mlp", f"got {brief(self.mlp)}", "pass a member of describe.Activation, or None"
            )
        if self.trained_gains:
            raise NoSuchLimitError(
                "trained_gains",
                "with trained elementwise gains residual coordinates are not Gaussian, and "
                "this solver is then wrong (by 0.1 in f where it was measured)",
                "leave the gains untrained: their function is taken by the next weights",
            )
