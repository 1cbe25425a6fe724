r"""The shaped block: what the finite shaped Transformer and its covariance SDE have in common.

One block takes tokens X [tokens, dim] (rows) to

    X <- lam X + gamma A X W_V / sqrt(n),      A = I + softmax(Y / tau) - 1 1^T / m,
    Y = (X W_Q / sqrt(n)) (X W_K / sqrt(n))^T, tau = tau0 sqrt(n n_k),

with fresh N(0, 1) weights, and then, where it has one, through the shaped MLP.

| symbol | name here | meaning |
|---|---|---|
| m | `tokens` | number of tokens |
| n | `dim` | width of the residual stream |
| n_k, n_v | `head_dim`, `value_dim` | per head |
| n_h | hidden width, `hidden_ratio` = n_h / n | of the MLP |
| lambda, gamma | `lam`, `gamma` | weights of the skip connection and of the branch |
| tau_0 | `tau0` | temperature |
| kappa | `growth_rate` | lam^2 + gamma^2 = 1 + kappa / n |
| c_+, c_- | `c_plus`, `c_minus` | slopes 1 + c / sqrt(n) of the shaped ReLU |
| alpha, beta, gamma_c | `ShapedGains.identity`, `.attention`, `.centring` | gains of A |

Reference: Noci et al., arXiv 2306.17759; gains: He and Hofmann, arXiv 2311.01906.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import equinox as eqx

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    Module,
    require_count,
    require_flag,
    require_real,
)

#: How far lam^2 + gamma^2 may be from 1 without a stated growth_rate.
CRITICAL_TOLERANCE = 1e-8


class ShapedGains(eqx.Module):
    """Gains of the attention matrix A = identity I + attention P - centring U, U uniform.

    The covariance SDE exists for `centring` equal to `attention`; networks run with any.

    Attributes:
        identity: alpha.
        attention: beta.
        centring: gamma_c.
    """

    identity: float = 1.0
    attention: float = 1.0
    centring: float = 1.0

    def __check_init__(self):
        for name in ("identity", "attention", "centring"):
            require_real(getattr(self, name), f"shaped_gains.{name}")


class ShapedMLP(Module):
    """The shaped MLP: X <- lam X + gamma sqrt(c / n_h) phi_s(X W_1 / sqrt(n)) W_2.

    phi_s(x) = s_+ max(x, 0) + s_- min(x, 0) with s_pm = 1 + c_pm / sqrt(n), and
    c = 2 / (s_+^2 + s_-^2) unless `normalised` is off, where c = 1.

    Args:
        gamma: weight of the branch.
        c_plus: c_+.
        c_minus: c_-.
        lam: weight of the skip connection; sqrt(1 - gamma^2) by default.
        growth_rate: kappa in lam^2 + gamma^2 = 1 + kappa / dim, at which the covariance grows.
        hidden_ratio: n_h / n, hidden width over width.
        normalised: divide by the second moment of phi_s. Without it the drift is of order
            sqrt(n), and there is no limit, unless c_plus + c_minus = 0.

    Raises:
        ArgumentError: gamma outside (0, 1], weights off criticality without a stated growth_rate, a
            ratio that is not positive, numbers that are not finite.
    """

    gamma: float
    c_plus: float
    c_minus: float
    lam: float
    growth_rate: float
    hidden_ratio: float
    normalised: bool = eqx.field(static=True)
    lam_follows_dim: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        gamma: float,
        c_plus: float = 0.0,
        c_minus: float = -1.0,
        lam: float | None = None,
        growth_rate: float = 0.0,
        hidden_ratio: float = 1.0,
        normalised: bool = True,
    ):
        self.gamma, self.lam, self.growth_rate = _mixing(gamma, lam, growth_rate, 1.0)
        self.lam_follows_dim = lam is None
        self.c_plus = require_real(c_plus, "c_plus")
        self.c_minus = require_real(c_minus, "c_minus")
        self.hidden_ratio = require_real(hidden_ratio, "hidden_ratio", POSITIVE)
        self.normalised = require_flag(normalised, "normalised")

    def lam_at(self, dim: int) -> float:
        """The weight of the skip connection in a network of this width."""
        return _lam_at(self, dim)


class Block(Module):
    """A shaped attention block, and the shaped MLP block behind it where there is one.

    Args:
        gamma: weight of the branch, in (0, 1] with the default `lam`.
        tau0: temperature, positive; infinity leaves the linear part alone.
        lam: weight of the skip connection; sqrt(1 - gamma^2) by default.
        growth_rate: kappa in lam^2 + gamma^2 = 1 + kappa / dim, at which the covariance grows. With
            the default `lam` a network of finite width takes sqrt(1 - gamma^2 + kappa / dim); a
            `lam` that is given is taken as it is.
        heads: independent heads H.
        projection: whether an output projection mixes the heads; without one they are
            concatenated.
        value_ratio: heads times value_dim over dim, which only a projection lets differ from 1.
        mlp: the shaped MLP that follows, or None.
        causal: a token attends to itself and to those before it, centred over them.
        shaped_gains: of identity, attention and centring.

    Raises:
        ArgumentError: gamma outside (0, 1], tau0 not positive, weights off criticality (lam^2 +
            gamma^2 = 1, or lam^2 + identity^2 gamma^2 = 1) without a stated growth_rate, heads
            below 1, a value_ratio other than 1 without projection, numbers that are not finite.
        ArgumentTypeError: heads that is no integer, an mlp that is no `ShapedMLP`.

    Examples:
        >>> from translimit.limits.shaped import Block
        >>> Block(gamma=0.6, tau0=1.0).lam
        0.8

    Reference: Noci et al., arXiv 2306.17759.
    """

    gamma: float
    tau0: float
    lam: float
    growth_rate: float
    heads: int = eqx.field(static=True)
    projection: bool = eqx.field(static=True)
    value_ratio: float
    mlp: ShapedMLP | None
    causal: bool = eqx.field(static=True)
    shaped_gains: ShapedGains
    lam_follows_dim: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        gamma: float,
        tau0: float,
        lam: float | None = None,
        growth_rate: float = 0.0,
        heads: int = 1,
        projection: bool = False,
        value_ratio: float = 1.0,
        mlp: ShapedMLP | None = None,
        causal: bool = False,
        shaped_gains: ShapedGains | None = None,
    ):
        gains = ShapedGains() if shaped_gains is None else shaped_gains
        self.gamma, self.lam, self.growth_rate = _mixing(gamma, lam, growth_rate, gains.identity)
        self.lam_follows_dim = lam is None
        tau0 = require_real(tau0, "tau0", Bounds(0.0, math.inf, "(]"))
        heads = require_count(heads, "heads")
        if mlp is not None and not isinstance(mlp, ShapedMLP):
            raise ArgumentTypeError("mlp", f"got {type(mlp).__name__}", "pass a ShapedMLP")
        self.tau0, self.heads = tau0, heads
        self.projection = require_flag(projection, "projection")
        self.value_ratio = require_real(value_ratio, "value_ratio", POSITIVE)
        if not projection and self.value_ratio != 1.0:
            raise ArgumentError(
                "value_ratio",
                f"got {self.value_ratio:g} without projection",
                "concatenated heads fill the width: leave it at 1, or set projection=True",
            )
        self.mlp, self.causal, self.shaped_gains = mlp, require_flag(causal, "causal"), gains

    def lam_at(self, dim: int) -> float:
        """The weight of the skip connection in a network of this width."""
        return _lam_at(self, dim)


def _mixing(
    gamma: float, lam: float | None, growth_rate: float, identity: float
) -> tuple[float, float, float]:
    """Validated gamma, lam and growth rate."""
    gamma = require_real(gamma, "gamma")
    growth_rate = require_real(growth_rate, "growth_rate")
    if not 0 < gamma <= 1:
        raise ArgumentError(
            "gamma", f"got {gamma:g}", "pass a branch weight in (0, 1], with lam^2 = 1 - gamma^2"
        )
    if lam is None:
        return gamma, math.sqrt(1 - gamma**2), growth_rate
    lam = require_real(lam, "lam")
    defects = (lam**2 + gamma**2 - 1, lam**2 + (identity * gamma) ** 2 - 1)
    if growth_rate == 0 and min(map(abs, defects)) > CRITICAL_TOLERANCE:
        raise ArgumentError(
            "lam",
            f"got {lam:g}: lam^2 + gamma^2 = {lam**2 + gamma**2:g}, not 1",
            "weights off criticality scale the covariance in every layer: take "
            "lam = sqrt(1 - gamma^2), the default, or state "
            "growth_rate = dim (lam^2 + gamma^2 - 1)",
        )
    return gamma, lam, growth_rate


def _lam_at(part: Block | ShapedMLP, dim: int) -> float:
    if not part.lam_follows_dim:
        return part.lam
    square = part.lam**2 + part.growth_rate / dim
    if square < 0:
        raise ArgumentError(
            "growth_rate",
            f"got {part.growth_rate:g}: lam^2 = 1 - gamma^2 + growth_rate / {dim} = {square:g} "
            "is negative",
            "pass a larger growth_rate or width",
        )
    return math.sqrt(square)


#: The shaped matrix with parts left out; none of these has an SDE limit.
ABLATIONS: Mapping[str, ShapedGains] = MappingProxyType(
    {
        "shaped": ShapedGains(),
        "softmax": ShapedGains(identity=0.0, attention=1.0, centring=0.0),
        "no_centring": ShapedGains(identity=1.0, attention=1.0, centring=0.0),
        "no_identity": ShapedGains(identity=0.0, attention=1.0, centring=1.0),
    }
)
