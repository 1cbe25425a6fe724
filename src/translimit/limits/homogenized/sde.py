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

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

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
    AnyArray,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    following_inputs,
    named_key,
    require_flag,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads
from translimit.limits.homogenized.schedule import Advance, SphereEuler
from translimit.limits.homogenized.token_paths import (
    AbstractTokenPaths,
    AbstractTokenSDE,
    Clock,
    clock,
    follow,
    kept_bytes,
)


@final
class OverlapSolution(AbstractTokenPaths):
    """Paths of tokens under common noise.

    Attributes:
        ts: the times kept, on the unit diffusive clock [times].
        tokens: unit tokens [paths, times, tokens, width]; of `OverlapSDE` up to a rotation of
            every path at every time, in as many coordinates as they need.
        dim: dimension of the tokens.
        max_step: the largest step taken.
        discretisation: size of the error of the steps in the mean and the mean square of the mean
            overlap of a path, the larger, with the standard error of its estimate added.
        outcome: how the solve ended.
        samples: paths.
    """

    ts: Times
    tokens: Float[AnyArray, "paths kept tokens width"]
    dim: int = eqx.field(static=True)
    max_step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True)

    @property
    def slow_ts(self) -> Times:
        """The same times on the slow clock, ts / dim [times]."""
        return self.ts / self.dim

    def clocks(self) -> Clock:
        """The unit diffusive and the slow clock."""
        return {
            "time": clock(self.ts, r"unit diffusive time $\tau$", "unit diffusive time"),
            "slow_time": clock(self.slow_ts, r"slow time $\tau / d$", "slow time"),
        }


@final
class OverlapSDE(AbstractTokenSDE[OverlapSolution]):
    """Overlaps of tokens under the common noise of random heads.

    Cost: O(heads_per_step tokens^3) per step and path, whatever dim and head_dim. Runs in the
    precision of `initial`.

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
        >>> from translimit.describe import GaussianHeads
        >>> from translimit.limits.homogenized import OverlapSDE, SphereEuler
        >>> law = GaussianHeads(dim=64, beta=0.0, sigma_a=1.0)
        >>> problem = OverlapSDE(law=law, initial=np.eye(2), t1=4.0)
        >>> solution = solve(problem, SphereEuler(max_step=0.1, paths=8), key=jax.random.key(0))
        >>> solution.overlaps.shape
        (8, 101, 2, 2)

    Reference: arXiv 2604.01978.
    """

    state: ClassVar[str] = (
        "unit tokens [tokens, width] of one path, up to a rotation, width as they need"
    )

    law: AbstractIsotropicHeads
    initial: Float[AnyArray, "tokens tokens"]
    t1: Number
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
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> OverlapSolution:
        """All paths from the same overlaps."""
        dim = self.law.dim
        start = following_inputs(_Factor(dim), self.initial)
        return _solve(_advance_overlaps, self, start, method, ts, key, keep, progress)


@final
class TokenSDE(AbstractTokenSDE[OverlapSolution]):
    """Tokens under the common noise of random heads.

    Cost: O(heads_per_step tokens^3 + tokens^2 dim) per step and path. Runs in the precision of
    `initial`.

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

    state: ClassVar[str] = "unit tokens [tokens, dim] of one path"

    law: AbstractIsotropicHeads
    initial: Float[AnyArray, "tokens dim"]
    t1: Number
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
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> OverlapSolution:
        """All paths from the same tokens."""
        return _solve(_advance_tokens, self, self.initial, method, ts, key, keep, progress)


class _Factor(eqx.Module):
    dim: int = eqx.field(static=True)

    def __call__(
        self, overlaps: Float[Array, "tokens tokens"], parameters: tuple[()]
    ) -> Float[Array, "tokens width"]:
        return gram_factor(overlaps, self.dim)


def _solve(
    advance: Advance,
    problem: OverlapSDE | TokenSDE,
    start: Float[AnyArray, "tokens width"],
    method: SphereEuler,
    ts: Times,
    key: Key | None,
    keep: Keep,
    progress: Progress | None,
) -> OverlapSolution:
    assert key is not None  # `solve` requires it
    parameters = problem.law, problem.causal
    found = follow(advance, start, parameters, method, ts, key, keep, progress)
    return OverlapSolution(
        ts=ts,
        tokens=found.tokens,
        dim=problem.law.dim,
        max_step=found.max_step,
        discretisation=found.discretisation,
        outcome=found.outcome,
        samples=method.paths,
        observed=found.observed,
        states_kept=keep.states,
    )


#: Law and mask, and the method.
_Parameters = tuple[tuple[AbstractIsotropicHeads, bool], SphereEuler]


def _root(
    parameters: _Parameters, factor: Float[Array, "tokens width"], size: Float[Array, ""], key: Key
) -> Float[Array, "tokens rank"]:
    """Q with Q Q^T = S size / dim, S from fresh heads."""
    (law, causal), method = parameters
    weights = head_weights(
        law, factor, method.heads_per_step, named_key(key, "heads"), causal=causal
    )
    return jnp.sqrt(size / law.dim) * mean_root(weights, factor)


def _advance_overlaps(
    parameters: _Parameters, factor: Float[Array, "tokens width"], size: Float[Array, ""], key: Key
) -> Float[Array, "tokens width"]:
    (law, _), method = parameters
    root = _root(parameters, factor, size, key)
    wide, update = noise_update(factor, root, law.dim, named_key(key, "noise"))
    return narrow(SPHERE.retract(wide, update, method.retraction), factor.shape[1])


def _advance_tokens(
    parameters: _Parameters, tokens: Float[Array, "tokens dim"], size: Float[Array, ""], key: Key
) -> Float[Array, "tokens dim"]:
    _, method = parameters
    count, dim = tokens.shape
    factor = narrow(tokens, min(count, dim))
    root = _root(parameters, factor, size, key)
    _, update = noise_update(tokens, root, dim, named_key(key, "noise"))
    return SPHERE.retract(tokens, update, method.retraction)
