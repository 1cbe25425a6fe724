r"""The laws of random attention heads: what the weights of a layer are drawn from.

A head is a pair (V, A) of [dim, dim] matrices, drawn afresh for every head of every layer; its
score is beta <A x, y> for the query x and the key y. For tokens of norm one two numbers compete
for the name of a temperature, so neither has it:

| symbol | name here | meaning |
|---|---|---|
| sigma_V | `sigma_v`, dim^{-1/2} by default | standard deviation of the entries of V |
| sigma_A | `sigma_a` | standard deviation of the entries of W, W' with A = W W'^T |
| d_k | `head_dim`, infinity for `WideHeads` | columns of W and W' |
| beta | `beta` | multiplies the scores |
| beta sigma_A^2 d_k^{1/2} | `score_std` | standard deviation of the score of two unit tokens |
| beta d sigma_A^2 | `beta_operator` | scale of beta |A x|, larger by (d / d_k^{1/2}) |

With finitely many tokens everything depends on (beta, sigma_a) through `score_std`, and weakly on
`head_dim`; `beta_operator` is what counts for a law of tokens with a density on the sphere. Scores
may be infinitely strong: every query then attends to its best key alone.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    ArrayInput,
    Bounds,
    Module,
    Number,
    named_key,
    require_count,
    require_number,
)


class AbstractHeads(Module):
    """A law of heads (V, A); subclasses are final."""

    dim: eqx.AbstractVar[int]
    beta: eqx.AbstractVar[Number]
    #: Whether beta is infinite, so that every query attends to its best key alone.
    hard: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One head (V, A), as JAX arrays; independent keys give independent heads."""

    @property
    @abc.abstractmethod
    def centred(self) -> bool:
        """Whether E V = 0 with V independent of A, so that heads have no mean effect."""

    @property
    @abc.abstractmethod
    def variance_proxy(self) -> Number:
        """An upper bound of E |P_x (V m - E V m)|^2 over unit x and averages m of unit tokens."""


class AbstractIsotropicHeads(AbstractHeads):
    """Heads whose law does not change when the tokens are rotated: overlaps alone are Markov.

    V has independent centred Gaussian entries, and V m given m has covariance
    sigma_v^2 |m|^2 I, so that the noise of tokens i and j has covariance sigma_v^2 s_ij I with
    s_ij = E <m_i, m_j>.
    """

    sigma_v: eqx.AbstractVar[Number]

    @property
    @abc.abstractmethod
    def score_std(self) -> Number:
        """Standard deviation of the score of two unit tokens; may be infinite."""

    @property
    @abc.abstractmethod
    def beta_operator(self) -> Number:
        """Beta times the root mean square of |A x| times (head_dim / dim)^{1/2} of a unit token.

        With W and W' square, the scale of beta |A x|.
        """

    @property
    @abc.abstractmethod
    def key_dim(self) -> int | float:
        """Columns of W and W', infinity where A has independent entries."""

    @property
    def centred(self) -> bool:
        """Always: E V = 0 and V is independent of A."""
        return True

    @property
    def variance_proxy(self) -> Number:
        """sigma_v^2 (dim - 1), attained when all tokens agree."""
        return self.sigma_v**2 * (self.dim - 1)


class GaussianHeads(AbstractIsotropicHeads):
    """V with independent N(0, sigma_v^2) entries, A = W W'^T with N(0, sigma_a^2) entries.

    Args:
        dim: dimension of the tokens, at least 2.
        beta: multiplies the scores, not negative; infinity for attention to the best key alone.
        sigma_v: standard deviation of the entries of V, not negative; dim^{-1/2} by default, the
            standard scaling, at which one layer advances the unit diffusive time by step^2 / heads.
        sigma_a: standard deviation of the entries of W and W' [dim, head_dim], not negative.
        head_dim: columns of W and W', at least 1; `dim` by default, as in the paper.

    Raises:
        ArgumentError: a size below its bound, a negative or non-finite number, an infinite beta
            with sigma_a = 0.
        ArgumentTypeError: a size that is no integer.

    Examples:
        >>> heads = GaussianHeads(dim=64, beta=2.0, sigma_a=64**-0.25, head_dim=16)
        >>> [round(float(x), 6) for x in (heads.score_std, heads.beta_operator, heads.sigma_v)]
        [1.0, 16.0, 0.125]

    Reference: arXiv 2604.01978, condition (G).
    """

    dim: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    hard: bool = eqx.field(static=True)
    beta: Number
    sigma_v: Number
    sigma_a: Number

    def __init__(
        self,
        *,
        dim: int,
        beta: ArrayInput,
        sigma_v: ArrayInput | None = None,
        sigma_a: ArrayInput,
        head_dim: int | None = None,
    ):
        self.dim = require_count(dim, "dim", 2)
        self.head_dim = self.dim if head_dim is None else require_count(head_dim, "head_dim", 1)
        self.beta, self.hard = require_strength(beta, "beta")
        self.sigma_v = require_number(self.dim**-0.5 if sigma_v is None else sigma_v, "sigma_v")
        self.sigma_a = require_number(sigma_a, "sigma_a", POSITIVE if self.hard else NOT_NEGATIVE)

    @classmethod
    def of_score_std(
        cls,
        score_std: ArrayInput,
        *,
        dim: int,
        sigma_v: ArrayInput | None = None,
        head_dim: int | None = None,
    ) -> GaussianHeads:
        """Heads of the given standard deviation of the scores, at sigma_a = 1; may be infinite."""
        columns = dim if head_dim is None else require_count(head_dim, "head_dim", 1)
        beta = require_strength(score_std, "score_std")[0] / math.sqrt(columns)
        return cls(dim=dim, beta=beta, sigma_v=sigma_v, sigma_a=1.0, head_dim=head_dim)

    @property
    def key_dim(self) -> int:
        """`head_dim`."""
        return self.head_dim

    @property
    def score_std(self) -> Number:
        """Beta sigma_a^2 head_dim^{1/2}."""
        return self.beta * self.sigma_a**2 * math.sqrt(self.head_dim)

    @property
    def beta_operator(self) -> Number:
        """Beta dim sigma_a^2."""
        return self.beta * self.dim * self.sigma_a**2

    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One head (V, A)."""
        V = _normal(key, "V", (self.dim, self.dim), dtype) * self.sigma_v
        shape = (self.dim, self.head_dim)
        W, W_prime = (_normal(key, name, shape, dtype) for name in ("W", "W'"))
        return V, (W * self.sigma_a**2) @ W_prime.T


class WideHeads(AbstractIsotropicHeads):
    """The limit head_dim to infinity of `GaussianHeads` at fixed `score_std`.

    A has independent N(0, (score_std / beta)^2) entries, so that scores are Gaussian.

    Args:
        dim: dimension of the tokens, at least 2.
        score_std: standard deviation of the score of two unit tokens, not negative; infinity for
            attention to the best key alone (A has entries of variance one, and beta is infinite).
        sigma_v: as in `GaussianHeads`.

    Raises:
        ArgumentError: a size below its bound, a negative or non-finite number.
        ArgumentTypeError: a size that is no integer.

    Examples:
        >>> float(WideHeads(dim=64, score_std=1.5).sigma_v)
        0.125
    """

    dim: int = eqx.field(static=True)
    hard: bool = eqx.field(static=True)
    beta: Number
    sigma_v: Number
    scale: Number

    def __init__(self, *, dim: int, score_std: ArrayInput, sigma_v: ArrayInput | None = None):
        self.dim = require_count(dim, "dim", 2)
        strength, self.hard = require_strength(score_std, "score_std")
        self.beta = np.float64(math.inf if self.hard else 1.0)
        self.sigma_v = require_number(self.dim**-0.5 if sigma_v is None else sigma_v, "sigma_v")
        self.scale = np.float64(1.0) if self.hard else strength

    @property
    def key_dim(self) -> float:
        """Infinity."""
        return math.inf

    @property
    def score_std(self) -> Number:
        """As given: beta is one and A has entries of this deviation, or beta is infinite."""
        return np.float64(math.inf) if self.hard else self.scale

    @property
    def beta_operator(self) -> Number:
        """score_std dim^{1/2}, the scale of beta |A x|."""
        return self.score_std * math.sqrt(self.dim)

    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One head (V, A)."""
        V = _normal(key, "V", (self.dim, self.dim), dtype) * self.sigma_v
        return V, _normal(key, "A", (self.dim, self.dim), dtype) * self.scale


def require_strength(value: ArrayInput, name: str) -> tuple[Number, bool]:
    """A number of at least 0 that may be infinite (where it is not traced), and whether it is.

    Raises:
        ArgumentError: not a scalar, NaN, or negative.
    """
    if isinstance(value, float | np.floating) and math.isinf(value) and value > 0:
        return np.float64(math.inf), True
    return require_number(value, name), False


def require_cosine(value: ArrayInput, name: str, low: float = -1.0, *, ends: bool = True) -> Number:
    """An overlap of unit tokens: one number in [low, 1], or in (low, 1); armed when traced.

    Raises:
        ArgumentError: not a scalar, not finite, or outside.
    """
    return require_number(value, name, Bounds(low, 1.0, "[]" if ends else "()"))


def as_number(value: Number | np.floating) -> Number:
    """A NumPy number of less than double precision as an array of shape []; others as they are."""
    return value if isinstance(value, float | int | np.ndarray | jax.Array) else np.asarray(value)


def _normal(key: PRNGKeyArray, name: str, shape: tuple[int, int], dtype: DTypeLike | None) -> Array:
    return jax.random.normal(named_key(key, name), shape, dtype or jnp.result_type(float))
