r"""Many layers of random heads: a stochastic equation with noise common to all tokens.

On the unit diffusive clock, in the sense of Ito,

    dx_i = P_{x_i} dW_i - (d - 1) / (2 d) s_ii x_i dtau,     Cov(dW_i, dW_j) = s_ij I dtau / d,

with s_ij = E <m_i, m_j> of the current tokens: a limit without layers and heads. The drift is
what keeps the norms, and a normalised step supplies it. No Stratonovich conversion is needed.

`OverlapSDE` follows the tokens up to rotation, whatever the dimension; `TokenSDE` follows the
tokens themselves. Heads with a mean effect besides are those of `ModifiedSDE`.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from translimit.attention import (
    gram_factor,
    head_weights,
    mean_root,
    narrow,
    noise_update,
    require_gram,
    require_isotropic,
)
from translimit.core import (
    POSITIVE,
    SPHERE,
    ArrayInput,
    Number,
    Outcome,
    following_inputs,
    named_key,
    require_flag,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads
from translimit.limits.homogenized.schedule import SphereEuler
from translimit.limits.homogenized.token_paths import (
    AbstractTokenPaths,
    AbstractTokenSDE,
    clock,
    follow,
    kept_bytes,
)


class OverlapSolution(AbstractTokenPaths):
    """Paths of tokens under common noise.

    Attributes:
        ts: the times kept, on the unit diffusive clock [times].
        tokens: unit tokens [paths, times, tokens, width]; of `OverlapSDE` up to a rotation of
            every path at every time, in as many coordinates as they need.
        dim: dimension of the tokens.
        step: the largest step taken.
        discretisation: size of the error of the steps in the mean and the mean square of the mean
            overlap of a path, the larger, with the standard error of its estimate added.
        outcome: how the solve ended.
    """

    ts: Any
    tokens: Any
    dim: int = eqx.field(static=True)
    step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome

    @property
    def slow_ts(self) -> Any:
        """The same times on the slow clock, ts / dim [times]."""
        return self.ts / self.dim

    def clocks(self) -> dict[str, Any]:
        """The unit diffusive and the slow clock."""
        return {
            "time": clock(self.ts, r"unit diffusive time $\tau$", "unit diffusive time"),
            "slow_time": clock(self.slow_ts, r"slow time $\tau / d$", "slow time"),
        }


class OverlapSDE(AbstractTokenSDE):
    """Overlaps of tokens under the common noise of random heads.

    Cost: O(samples tokens^3) per step and path, whatever dim and head_dim. Runs in the precision
    of `initial`.

    Args:
        law: of the heads: `GaussianHeads` or `WideHeads`; sigma_v does not matter on this clock.
        initial: overlaps of unit tokens [tokens, tokens].
        t1: final time on the unit diffusive clock, positive.
        causal: whether a token sees only itself and the tokens before it.

    Raises:
        ArgumentError: overlaps that are no correlation matrix, or of a rank beyond dim; t1 not
            positive.
        ArgumentTypeError: a law that is not invariant under rotations.

    Examples:
        >>> import jax, numpy as np
        >>> from translimit import solve
        >>> from translimit.limits.homogenized import GaussianHeads, OverlapSDE, SphereEuler
        >>> law = GaussianHeads(dim=64, beta=0.0, sigma_a=1.0)
        >>> problem = OverlapSDE(law=law, initial=np.eye(2), t1=4.0)
        >>> solution = solve(problem, SphereEuler(step=0.1, paths=8), key=jax.random.key(0))
        >>> solution.overlaps.shape
        (8, 101, 2, 2)

    Reference: arXiv 2604.01978.
    """

    law: AbstractIsotropicHeads
    initial: Any
    t1: Any
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractIsotropicHeads,
        initial: ArrayInput,
        t1: ArrayInput,
        causal: bool = False,
    ):
        self.law = require_isotropic(law)
        self.initial = require_gram(initial, "initial", law.dim)
        self.t1 = require_number(t1, "t1", POSITIVE)
        self.causal = require_flag(causal, "causal")

    def _bytes(self, method: SphereEuler, times: int) -> float:
        """Bytes of the factors of overlaps that are kept (see `kept_bytes`)."""
        tokens, dim = self.initial.shape[0], self.law.dim
        width = tokens if dim >= 2 * tokens else dim  # see `gram_factor`
        return kept_bytes(method, times, tokens * width, self.initial.dtype)

    def run(
        self,
        method: SphereEuler,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> OverlapSolution:
        """All paths from the same overlaps."""
        dim = self.law.dim
        start = following_inputs(_Factor(dim), self.initial)
        return _solve(_advance_overlaps, self, start, method, ts, key, progress)


class TokenSDE(AbstractTokenSDE):
    """Tokens under the common noise of random heads.

    Cost: O(samples tokens^3 + tokens^2 dim) per step and path. Runs in the precision of `initial`.

    Args:
        law: as in `OverlapSDE`.
        initial: unit tokens [tokens, dim].
        t1: final time on the unit diffusive clock, positive.
        causal: whether a token sees only itself and the tokens before it.
        normalize: scale the tokens to norm one instead of refusing other norms.

    Raises:
        ArgumentError: tokens of another dimension or norm, t1 not positive.
        ArgumentTypeError: a law that is not invariant under rotations.

    Reference: arXiv 2604.01978.
    """

    law: AbstractIsotropicHeads
    initial: Any
    t1: Any
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractIsotropicHeads,
        initial: ArrayInput,
        t1: ArrayInput,
        causal: bool = False,
        normalize: bool = False,
    ):
        self.law = require_isotropic(law)
        self.initial = SPHERE.require(initial, "initial", law.dim, normalize=normalize)
        self.t1 = require_number(t1, "t1", POSITIVE)
        self.causal = require_flag(causal, "causal")

    def _bytes(self, method: SphereEuler, times: int) -> float:
        """Bytes of the tokens that are kept (see `kept_bytes`)."""
        return kept_bytes(method, times, self.initial.size, self.initial.dtype)

    def run(
        self,
        method: SphereEuler,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> OverlapSolution:
        """All paths from the same tokens."""
        return _solve(_advance_tokens, self, self.initial, method, ts, key, progress)


class _Factor(eqx.Module):
    dim: int = eqx.field(static=True)

    def __call__(self, overlaps: Array, parameters: Any) -> Array:
        return gram_factor(overlaps, self.dim)


def _solve(
    advance: Callable[..., Any],
    problem: OverlapSDE | TokenSDE,
    start: Any,
    method: SphereEuler,
    ts: Any,
    key: Any,
    progress: Any,
) -> OverlapSolution:
    found = follow(advance, start, (problem.law, problem.causal), method, ts, key, progress)
    return OverlapSolution(
        ts=ts,
        tokens=found.tokens,
        dim=problem.law.dim,
        step=found.step,
        discretisation=found.discretisation,
        outcome=found.outcome,
    )


def _root(parameters: Any, factor: Array, size: Array, key: Any) -> Array:
    """Q with Q Q^T = S size / dim, S from fresh heads."""
    (law, causal), method = parameters
    weights = head_weights(law, factor, method.samples, named_key(key, "heads"), causal=causal)
    return jnp.sqrt(size / law.dim) * mean_root(weights, factor)


def _advance_overlaps(parameters: Any, factor: Array, size: Array, key: Any) -> Array:
    (law, _), method = parameters
    root = _root(parameters, factor, size, key)
    wide, update = noise_update(factor, root, law.dim, named_key(key, "noise"))
    return narrow(SPHERE.retract(wide, update, method.retraction), factor.shape[1])


def _advance_tokens(parameters: Any, tokens: Array, size: Array, key: Any) -> Array:
    _, method = parameters
    count, dim = tokens.shape
    factor = narrow(tokens, min(count, dim))
    root = _root(parameters, factor, size, key)
    _, update = noise_update(tokens, root, dim, named_key(key, "noise"))
    return SPHERE.retract(tokens, update, method.retraction)
