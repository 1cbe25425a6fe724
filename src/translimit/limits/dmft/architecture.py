r"""Which transformer is trained: sizes, exponents and ingredients, with the heads left infinite.

Block: h <- h + beta_0 L^(-alpha_L) f(norm(h)) for attention and then an MLP, with weights of
N(0, 1) entries, scores A = gain N^(-alpha_A) k . q, and outputs f = w . h / (gamma_0 N H) of the
last stream, its norm where the architecture has a final one.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    NoSuchLimitError,
    Record,
    brief,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe import Activation
from translimit.limits.dmft.remarks import warn_of_frozen_scores


@dataclass(frozen=True)
class Architecture(Record):
    """A residual multi-head transformer with infinitely many heads.

    Attributes:
        head_dim: N, dimension of keys, queries and values in a head; `math.inf` too.
        layers: L, blocks; `math.inf` too.
        alpha_A: scores are divided by head_dim^alpha_A; in [1/2, 1].
        alpha_L: branches are divided by layers^alpha_L; in [1/2, 1].
        beta0: branch multiplier at one layer.
        gamma0: richness: outputs are divided by it, learning rates multiplied by its square.
        attention: whether a block attends.
        mlp: activation of its MLP, or None for no MLP.
        mlp_ratio: neurons of the MLP for each coordinate of the stream.
        norm: "rms" or "layer" before each sub-block, or None; both have the same limit, but with an
            activation on the stream.
        activation_on_stream: entry by entry on what sub-blocks read, after the norm; None for none.
        final_norm: whether outputs are read from the normalised stream.
        causal: whether a token sees only itself and those before it.
        qk_norm: "rms" or "layer" of keys and queries over the head, or None.
        score_gain: factor of the scores, one number a layer, on top of head_dim^(-alpha_A).
        score_gain_rate: its rate relative to the others, eta_0 gamma_0^2 L^(2 alpha_L - 1);
            0 leaves it as it is.
        rotary: base of rotary positions (10,000 is usual), which turn pairs of coordinates of
            keys and queries; None for none.
        queries_per_key: heads of queries that share a head of keys and values (grouped queries);
            a group of them is then the unit that is sampled. 1 where none are shared.
        norm_eps: added to the mean square inside every normalisation.
        trained_gains: elementwise gains of the normalisation; refused.

    Raises:
        ArgumentError: sizes not positive, exponents outside [1/2, 1], gamma0 = 0.
        ArgumentTypeError: sizes that are not integers, ingredients of another type.
        NoSuchLimitError: trained gains, a shaped ReLU, rotary positions of infinite heads or
            grouped queries with them.

    Warns:
        FrozenScoresWarning: a normalisation that leaves keys and queries nothing to learn.
    """

    head_dim: int | float
    layers: int | float = 1
    alpha_A: float = 1.0
    alpha_L: float = 1.0
    beta0: float = 1.0
    gamma0: float = 1.0
    attention: bool = True
    mlp: Activation | None = None
    mlp_ratio: float | int = 1.0
    norm: str | None = None
    activation_on_stream: Activation | None = None
    final_norm: bool = False
    causal: bool = False
    qk_norm: str | None = None
    score_gain: float | int = 1.0
    score_gain_rate: float | int = 0.0
    rotary: float | int | None = None
    queries_per_key: int = 1
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
            ("beta0", "norm_eps", "gamma0", "score_gain_rate"), NOT_NEGATIVE
        )
        bounds |= dict.fromkeys(("mlp_ratio", "score_gain"), POSITIVE)
        for name, bound in bounds.items():
            object.__setattr__(self, name, require_real(getattr(self, name), name, bound))
        if self.gamma0 == 0:
            raise ArgumentError(
                "gamma0",
                "got 0, where the network is linear in its weights",
                "use lazy_predictions with the kernel `ntk[0]` of a solution at gamma0 > 0",
            )
        for name in ("attention", "causal", "final_norm", "trained_gains"):
            object.__setattr__(self, name, require_flag(getattr(self, name), name))
        for name in ("norm", "qk_norm"):
            if getattr(self, name) not in (None, "rms", "layer"):
                raise ArgumentTypeError(
                    name, f"got {brief(getattr(self, name))}", 'pass "rms", "layer" or None'
                )
        self._check_heads()
        for name in ("mlp", "activation_on_stream"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Activation):
                raise ArgumentTypeError(
                    name, f"got {brief(value)}", "pass a member of describe.Activation, or None"
                )
        if self.trained_gains:
            raise NoSuchLimitError(
                "trained_gains",
                "with trained elementwise gains residual coordinates are not Gaussian, and "
                "this solver is then wrong (by 0.1 in f where it was measured)",
                "leave the gains untrained: their function is taken by the next weights",
            )

    def _check_heads(self) -> None:
        """What keys and queries go through."""
        if self.qk_norm is not None and self.head_dim < 2:
            raise ArgumentError(
                "qk_norm",
                "with one coordinate a head leaves nothing but signs",
                "take head_dim of at least 2, or qk_norm=None",
            )
        if self.qk_norm == "layer" and self.head_dim == 2:
            warn_of_frozen_scores()
        require_count(self.queries_per_key, "queries_per_key", 1)
        if self.queries_per_key > 1 and math.isinf(self.head_dim):
            raise NoSuchLimitError(
                "queries_per_key",
                f"is {self.queries_per_key} with infinite head_dim: only groups of finite heads "
                "were derived and compared with networks",
                "take a finite head_dim, or 1",
            )
        if self.rotary is None:
            return
        object.__setattr__(self, "rotary", require_real(self.rotary, "rotary", POSITIVE))
        if math.isinf(self.head_dim):
            raise NoSuchLimitError(
                "rotary",
                "is not solved with infinite head_dim",
                "take a finite head_dim, or learned positions (position_std)",
            )
        if self.head_dim % 2:
            raise ArgumentError(
                "rotary", f"turns pairs, and head_dim is {self.head_dim}", "take an even head_dim"
            )
