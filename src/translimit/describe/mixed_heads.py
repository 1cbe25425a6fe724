"""Laws of heads with a mean effect, and laws that a user brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.core import (
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Floats,
    Number,
    as_float,
    brief,
    is_traced,
    require_count,
    require_flag,
    require_number,
)
from translimit.describe.heads import AbstractHeads, GaussianHeads, as_number


class ShiftedHeads(AbstractHeads):
    """V = mean_v + sigma_v V~ and A = mean_a + W W'^T, with V~, W, W' as in `GaussianHeads`.

    With sigma_v = sigma_a = 0, the default, every head is (mean_v, mean_a), and the limit is the
    self-attention flow on the sphere.

    Args:
        mean_v: mean of the value maps [dim, dim].
        mean_a: the fixed part of A [dim, dim].
        beta: multiplies the scores, not negative.
        sigma_v: standard deviation of the entries of V, not negative.
        sigma_a: standard deviation of the entries of W and W' [dim, head_dim], not negative.
        head_dim: columns of W and W'; `dim` by default.

    Raises:
        ArgumentError: matrices that are not square of one size, numbers out of range.
        ArgumentTypeError: a size that is no integer.
    """

    hard: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    mean_v: Float[AnyArray, "dim dim"]
    mean_a: Float[AnyArray, "dim dim"]
    fluctuations: GaussianHeads
    #: Whether A does not fluctuate (a traced sigma_a counts as fluctuating).
    deterministic_scores: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        mean_v: ArrayInput,
        mean_a: ArrayInput,
        beta: ArrayInput,
        sigma_v: ArrayInput = 0.0,
        sigma_a: ArrayInput = 0.0,
        head_dim: int | None = None,
    ):
        self.mean_v, self.mean_a = as_float(mean_v, "mean_v"), as_float(mean_a, "mean_a")
        dim = _require_square(self.mean_v, "mean_v")
        if self.mean_a.shape != (dim, dim):
            raise ArgumentError("mean_a", f"has shape {self.mean_a.shape}", f"pass [{dim}, {dim}]")
        self.fluctuations = GaussianHeads(
            dim=dim,
            beta=require_number(beta, "beta"),
            sigma_v=sigma_v,
            sigma_a=sigma_a,
            head_dim=head_dim,
        )
        spread = self.fluctuations.sigma_a
        self.deterministic_scores = not is_traced(spread) and float(spread) == 0.0

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Dimension of the tokens."""
        return self.fluctuations.dim

    @property
    def beta(self) -> Number:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Multiplies the scores."""
        return self.fluctuations.beta

    @property
    def centred(self) -> bool:
        """Whether mean_v vanishes (a traced one counts as not)."""
        return not is_traced(self.mean_v) and not np.any(np.asarray(self.mean_v))

    @property
    def variance_proxy(self) -> Number:
        """sigma_v^2 (dim - 1), and |mean_v|^2 (operator norm) where A fluctuates: a bound."""
        noise = self.fluctuations.variance_proxy
        if self.deterministic_scores:
            return noise
        xp = jnp if is_traced(self.mean_v) else np
        return as_number(noise + xp.linalg.norm(xp.asarray(self.mean_v), 2) ** 2)

    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One head (V, A)."""
        V, A = self.fluctuations.sample(key, dtype)
        return jnp.asarray(self.mean_v, V.dtype) + V, jnp.asarray(self.mean_a, A.dtype) + A


class FiniteHeads(AbstractHeads):
    """One of finitely many given heads, each equally likely.

    It stands for a law by a fixed sample (`FiniteHeads.drawn_from`), so that an ordinary
    differential equation sees common random numbers in every evaluation of its field.

    Args:
        V: value maps [heads, dim, dim].
        A: score maps [heads, dim, dim].
        beta: multiplies the scores, not negative.

    Raises:
        ArgumentError: shapes that do not match, no head, numbers out of range.
    """

    hard: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    V: Float[AnyArray, "heads dim dim"]
    A: Float[AnyArray, "heads dim dim"]
    beta: Number

    def __init__(self, *, V: ArrayInput, A: ArrayInput, beta: ArrayInput):
        self.V, self.A = as_float(V, "V"), as_float(A, "A")
        if self.V.ndim != 3 or self.V.shape[0] == 0 or self.V.shape[1] != self.V.shape[2]:
            raise ArgumentError("V", f"has shape {self.V.shape}", "pass [heads, dim, dim]")
        if self.A.shape != self.V.shape:
            raise ArgumentError(
                "A", f"has shape {self.A.shape}", f"pass the shape of V, {self.V.shape}"
            )
        self.beta = require_number(beta, "beta")

    @classmethod
    def drawn_from(cls, law: AbstractHeads, samples: int, *, key: PRNGKeyArray) -> FiniteHeads:
        """`samples` heads of a law, of its mean effect to an error of samples^{-1/2}."""
        count = require_count(samples, "samples", 1)
        keys = jax.vmap(lambda head: jax.random.fold_in(key, head))(jnp.arange(count))
        V, A = jax.vmap(law.sample)(keys)
        return cls(V=V, A=A, beta=law.beta)

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Dimension of the tokens."""
        return self.V.shape[-1]

    @property
    def centred(self) -> bool:
        """Never: V and A are dependent, so a mean effect remains whatever the mean of V."""
        return False

    @property
    def variance_proxy(self) -> Number:
        """The mean of |V|^2 (operator norms): a bound."""
        xp = jnp if is_traced(self.V) else np
        return as_number(xp.mean(xp.linalg.norm(xp.asarray(self.V), 2, axis=(1, 2)) ** 2))

    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One of the heads."""
        index = jax.random.randint(key, (), 0, self.V.shape[0])
        return jnp.asarray(self.V, dtype)[index], jnp.asarray(self.A, dtype)[index]


class SampledHeads(AbstractHeads):
    """A law that is given by its sampler.

    Args:
        dim: dimension of the tokens, at least 2.
        beta: multiplies the scores, not negative.
        sampler: a traceable function of a key that returns V and A, both [dim, dim].
        centred: whether E V = 0 with V independent of A. It can not be told from the sampler, and
            decides the regime.
        variance_proxy: an upper bound of E |V m - E V m|^2 over averages m of unit tokens.

    Raises:
        ArgumentError: numbers out of range.
        ArgumentTypeError: a size that is no integer, a sampler that can not be called, a `centred`
            that is no bool.
    """

    hard: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    dim: int = eqx.field(static=True)
    sampler: Callable[[PRNGKeyArray], tuple[Array, Array]] = eqx.field(static=True)
    mean_free: bool = eqx.field(static=True)
    beta: Number
    proxy: Number

    def __init__(
        self,
        *,
        dim: int,
        beta: ArrayInput,
        sampler: Callable[[PRNGKeyArray], tuple[Array, Array]],
        centred: bool,
        variance_proxy: ArrayInput,
    ):
        if not callable(sampler):
            raise ArgumentTypeError("sampler", f"got {brief(sampler)}", "pass a function of a key")
        self.dim = require_count(dim, "dim", 2)
        self.beta = require_number(beta, "beta")
        self.sampler, self.mean_free = sampler, require_flag(centred, "centred")
        self.proxy = require_number(variance_proxy, "variance_proxy")

    @property
    def centred(self) -> bool:
        """As given."""
        return self.mean_free

    @property
    def variance_proxy(self) -> Number:
        """As given."""
        return self.proxy

    def sample(
        self, key: PRNGKeyArray, dtype: DTypeLike | None = None
    ) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
        """One head (V, A)."""
        V, A = self.sampler(key)
        return jnp.asarray(V, dtype), jnp.asarray(A, dtype)


def _require_square(matrix: Floats, name: str) -> int:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise ArgumentError(
            name, f"has shape {matrix.shape}", "pass a square matrix [dim, dim] with dim >= 2"
        )
    return matrix.shape[0]
