r"""What every attention variant is: a velocity field of a measure of tokens.

| symbol | name here | shape |
|---|---|---|
| x | `x`, where the velocity is wanted | [..., dim] |
| mu = sum_j w_j delta_{y_j} | `cloud`, `weights` | [tokens, dim], [tokens] |
| s_j in [0, 1] | `positions` (causal variants: a key is seen from its position on) | [tokens] |
| Gamma_mu(x) | the returned velocity | [..., dim] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import abc
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    NoSuchLimitError,
    Outcome,
    SolveError,
    as_float,
    brief,
    following_inputs,
    is_traced,
)

#: Products of matrices up to this size are written out: over many members side by side, XLA on CPUs
#: vectorises that, nine times faster than a batch of 5 x 5 products.
_UNROLLED = 8


class AbstractAttention(eqx.Module):
    """A velocity field Gamma_mu(x); subclasses are final, one file each."""

    causal: eqx.AbstractVar[bool]

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Dimension of the tokens."""

    @property
    def bounded(self) -> bool:
        """Whether |Gamma(x)| is at most a multiple of the largest token, plus a constant.

        It is for an average of the cloud. No finite cloud then blows up, and flows do not look for
        it.
        """
        return False

    @abc.abstractmethod
    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """The velocity as a pure function of JAX arrays of one precision; nothing is checked."""

    @abc.abstractmethod
    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
        """The affine field of a Gaussian: Gamma(x) = g + M (x - mean), as the pair (g, M).

        Args:
            mean: mean of the Gaussian [dim].
            cov: its covariance [dim, dim].

        Returns:
            g [dim] and M [dim, dim].

        Raises:
            NoSuchLimitError: the variant's field of a Gaussian is not affine.
        """

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T) as a pure function of JAX arrays; nothing is checked.

        Closures follow F. A variant in which a Gaussian can grow without bound makes M from K F
        and Q F and never from F F^T, where the rounding of a direction that diverges buries the
        directions that do not, unless the axes happen to keep them apart.

        Raises:
            NoSuchLimitError: as `gaussian_field`.
        """
        return self.gaussian_field(mean, matmul(factor, factor.T))

    def __call__(
        self,
        x: ArrayInput,
        cloud: ArrayInput,
        *,
        weights: ArrayInput | None = None,
        x_positions: ArrayInput | None = None,
        positions: ArrayInput | None = None,
    ) -> Any:
        """The velocity at the points x in the weighted cloud.

        Args:
            x: points [..., dim].
            cloud: tokens [tokens, dim].
            weights: non-negative, summing to one [tokens]; equal weights by default.
            x_positions: positions of the points [...]; required when causal, refused otherwise.
            positions: positions of the tokens [tokens], in increasing order, ties allowed; required
                when causal, refused otherwise.

        Returns:
            Velocities [..., dim] in the precision of x and cloud: NumPy when all arguments are,
            JAX otherwise.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite entries, weights that are
                negative or do not sum to one, positions of tokens that are not sorted, a point with
                no token (of positive weight) at or before its position, tokens so large that
                scores, or sums of their exponentials, are beyond the precision.
            ArgumentTypeError: positions missing where the variant is causal, or given where not.
            SolveError: an inner iteration of the variant did not converge.
        """
        x, cloud = as_float(x, "x"), as_float(cloud, "cloud")
        require_tokens(cloud, "cloud", self.dim)
        if x.ndim < 1 or x.shape[-1] != self.dim:
            raise ArgumentError("x", f"has shape {x.shape}", f"pass points [..., {self.dim}]")
        dtype = np.result_type(x.dtype, cloud.dtype)
        weights = _in_precision(dtype, require_weights(weights, cloud.shape[0]))
        positions = require_positions(positions, cloud.shape[:1], self.causal, "positions")
        positions = _in_precision(dtype, positions)
        x_positions = require_positions(
            x_positions, x.shape[:-1], self.causal, "x_positions", ordered=False
        )
        x_positions = _in_precision(dtype, x_positions)
        if x_positions is not None and np.size(x_positions):
            x_positions = require_admissible(x_positions, positions, weights)
        velocity, outcome = following_inputs(
            _batched_velocity, (x, cloud, weights, x_positions, positions), self
        )
        if not is_traced(velocity) and not np.isfinite(np.asarray(velocity)).all():
            raise ArgumentError(
                "cloud",
                f"gives scores, or sums of their exponentials, that are beyond {dtype}",
                "measure the tokens in other units, or pass a smaller scale",
            )
        return require_converged(velocity, outcome, type(self).__name__)


class AbstractIterativeAttention(AbstractAttention):
    """A variant whose velocity needs an inner iteration; subclasses are final.

    An iteration that fails leaves no field, and is never silent: a direct call raises a
    `SolveError`; a flow carries the failure beside its state and ends with the outcome
    `not_converged`; any other compiled use (`velocity` inside somebody's program) raises at run
    time.

    The velocity must be `bounded`.
    """

    @property
    def bounded(self) -> bool:
        """Always."""
        return True

    @abc.abstractmethod
    def velocity_and_outcome(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> tuple[Float[Array, "queries dim"], Outcome]:
        """The velocity from the last iterate, and whether the iteration converged.

        The velocity is finite where the iteration merely ran out of rounds: a solver can carry it
        on to where it stops.
        """

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """The velocity; a run-time error if the iteration does not converge."""
        velocity, outcome = self.velocity_and_outcome(x, cloud, log_weights, x_positions, positions)
        return outcome.error_if(velocity, outcome != Outcome.successful)


def velocity_and_outcome(
    attention: AbstractAttention,
    x: Float[Array, "queries dim"],
    cloud: Float[Array, "tokens dim"],
    log_weights: Float[Array, " tokens"],
    x_positions: Float[Array, " queries"] | None,
    positions: Float[Array, " tokens"] | None,
) -> tuple[Float[Array, "queries dim"], Outcome | None]:
    """The velocity of any variant, with how its inner iteration ended; None if it has none."""
    if isinstance(attention, AbstractIterativeAttention):
        return attention.velocity_and_outcome(x, cloud, log_weights, x_positions, positions)
    return attention.velocity(x, cloud, log_weights, x_positions, positions), None


def require_converged(value: Any, outcome: Outcome | None, name: str, result: Any = None) -> Any:
    """The value if the iteration behind it converged.

    Traced values are armed with `error_if`.

    Raises:
        SolveError: the iteration of the variant called `name` failed; it carries `result`.
    """
    if outcome is None:
        return value
    failed = outcome != Outcome.successful
    if is_traced(failed):
        return outcome.error_if(value, failed)
    if bool(failed):
        raise SolveError(f"{name}: {Outcome[outcome]}", result)
    return value


def _in_precision(dtype: Any, value: Any) -> Any:
    """The array in the precision of the tokens; that of weights and positions decides nothing."""
    if value is None or isinstance(value, np.ndarray):
        return None if value is None else value.astype(dtype, copy=False)
    return value.astype(jax.dtypes.canonicalize_dtype(dtype))


@eqx.filter_jit
def _batched_velocity(data: Any, attention: AbstractAttention) -> tuple[Array, Outcome | None]:
    x, cloud, weights, x_positions, positions = data
    log_weights = log_of_weights(weights, cloud)
    flat = x.reshape(-1, x.shape[-1])
    flat_positions = None if x_positions is None else x_positions.reshape(-1)
    velocity, outcome = velocity_and_outcome(
        attention, flat, cloud, log_weights, flat_positions, positions
    )
    return velocity.reshape(x.shape), outcome


def log_of_weights(weights: Array | None, cloud: Array) -> Array:
    """Logarithms of the weights [tokens]; -inf where a weight is zero, -log n by default.

    The derivative in a weight that is exactly zero is NaN: it does not pass through the logarithm.
    """
    if weights is None:
        return jnp.full(cloud.shape[0], -jnp.log(cloud.shape[0]), dtype=cloud.dtype)
    return jnp.log(weights).astype(cloud.dtype)


def require_matrix(value: ArrayInput, name: str, shape: tuple[int | None, int | None]) -> Any:
    """A parameter matrix of the given shape (None: any), finite, in its own precision."""
    value = as_float(value, name)
    fits = value.ndim == 2 and all(
        want is None or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits or 0 in value.shape:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ArgumentError(name, f"has shape {value.shape}", f"pass a matrix [{wanted}]")
    return value


def require_positive(value: ArrayInput, name: str) -> Any:
    """A positive finite number (an array of shape []); traced ones are armed with `error_if`."""
    value = as_float(value, name)
    if value.ndim != 0:
        raise ArgumentError(name, f"has shape {value.shape}", "pass one positive number")
    if is_traced(value):
        right = (value > 0) & jnp.isfinite(value)
        return eqx.error_if(value, ~right, f"{name}: pass a positive number")
    if not value > 0:
        raise ArgumentError(name, f"got {float(value):g}", "pass a positive number")
    return value


def require_maps(Q: Any, K: Any, V: Any, scale: Any) -> tuple[Any, Any, Any, Any]:
    """The maps of one head, of shapes that match, and a positive scale."""
    Q = require_matrix(Q, "Q", (None, None))
    K = require_matrix(K, "K", Q.shape)
    return Q, K, require_matrix(V, "V", (Q.shape[1], Q.shape[1])), require_positive(scale, "scale")


def require_bool(value: Any, name: str) -> bool:
    """A Python (or NumPy) bool: it chooses the program that is compiled."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentTypeError(name, f"got {brief(value)}", "pass True or False")
    return bool(value)


def refuse_causal_closure(causal: bool) -> None:
    """Raise `NoSuchLimitError` for a causal form, whose prefix laws are mixtures."""
    if causal:
        raise NoSuchLimitError(
            "causal",
            "the causal field of a Gaussian is not affine unless the law is the same at every "
            "position (the law of the tokens at or before a position is a mixture)",
            "use causal=False, whose closure also governs a causal system that starts with "
            "one Gaussian law at every position",
        )


def require_mean_and_cov(mean: Any, cov: Any, dim: int) -> tuple[Any, Any]:
    """Mean [dim] and covariance [dim, dim] as arrays of floats; definiteness is not looked at."""
    mean = as_float(mean, "mean")
    if mean.shape != (dim,):
        raise ArgumentError("mean", f"has shape {mean.shape}", f"pass a vector [{dim}]")
    return mean, require_matrix(cov, "cov", (dim, dim))


def matmul(left: Any, right: Any) -> Any:
    """The product left @ right in full precision, in NumPy if both factors are NumPy arrays."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left @ right
    # Converted first, with the type written out: eager conversions of NumPy float64 were seen to
    # come out rounded to float32 after the 64-bit mode had been switched.
    dtype = jnp.result_type(left, right)
    left, right = (
        side if isinstance(side, jax.Array) else jnp.asarray(np.array(side), dtype=dtype)
        for side in (left, right)
    )
    small = left.ndim == right.ndim == 2 and max(*left.shape, *right.shape) <= _UNROLLED
    if small and left.shape[1] == right.shape[0] > 0:
        terms = [left[:, k, None] * right[k] for k in range(left.shape[1])]
        return functools.reduce(jnp.add, terms)
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def require_tokens(tokens: Any, name: str, dim: int) -> Any:
    """Tokens [tokens, dim], at least one."""
    if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] != dim:
        raise ArgumentError(
            name, f"has shape {tokens.shape}", f"pass [tokens, {dim}] with at least one token"
        )
    return tokens


def require_weights(weights: ArrayInput | None, tokens: int) -> Any:
    """Weights [tokens] that are non-negative and sum to one to 1e-6, or None."""
    if weights is None:
        return None
    weights = as_float(weights, "weights")
    if weights.shape != (tokens,):
        raise ArgumentError(
            "weights", f"has shape {weights.shape}", f"pass one per token [{tokens}]"
        )
    if is_traced(weights):
        # Here the sum runs in the precision of the weights, and rounds more than one in float64.
        tolerance = max(1e-6, 100 * float(jnp.finfo(weights.dtype).eps))
        right = jnp.all(weights >= 0) & (jnp.abs(weights.sum() - 1) <= tolerance)
        return eqx.error_if(weights, ~right, "weights: pass non-negative weights that sum to one")
    if np.min(weights) < 0 or abs(float(np.sum(weights, dtype=np.float64)) - 1) > 1e-6:
        raise ArgumentError(
            "weights",
            f"have least entry {np.min(weights):.3g} and sum {np.sum(weights):.8g}",
            "pass non-negative weights that sum to one",
        )
    return weights


def require_positions(
    positions: ArrayInput | None,
    shape: tuple[int, ...],
    causal: bool,
    name: str,
    *,
    ordered: bool = True,
) -> Any:
    """Positions where the variant is causal, None where it is not.

    Those of tokens must be `ordered`: out of order, they are more often a mistake than meant.
    """
    if positions is None:
        if causal:
            raise ArgumentTypeError(
                name, "is missing, and a causal field needs it", "pass one position per token"
            )
        return None
    if not causal:
        raise ArgumentTypeError(
            name, "is given, and the field is not causal", "leave it out or set causal=True"
        )
    positions = as_float(positions, name)
    if positions.shape != shape:
        raise ArgumentError(name, f"has shape {positions.shape}", f"pass shape {shape}")
    return _require_sorted(positions, name) if ordered else positions


def _require_sorted(positions: Any, name: str) -> Any:
    """Positions [tokens] that do not decrease."""
    if is_traced(positions):
        wrong = jnp.any(positions[1:] < positions[:-1])
        return eqx.error_if(positions, wrong, f"{name}: are not sorted")
    at = np.asarray(positions)
    late = np.flatnonzero(at[1:] < at[:-1])
    if late.size:
        i = int(late[0])
        raise ArgumentError(
            name,
            f"are not sorted: token {i + 1} at {at[i + 1]:g} comes after token {i} at {at[i]:g}",
            "sort the tokens (and their weights) by position",
        )
    return positions


def require_admissible(x_positions: Any, positions: Any, weights: Any) -> Any:
    """The positions of the points, if a token of positive weight lies at or before each of them."""
    if is_traced(x_positions, positions, weights):
        seen = positions if weights is None else jnp.where(weights > 0, positions, jnp.inf)
        return eqx.error_if(
            x_positions,
            ~(jnp.min(x_positions) >= jnp.min(seen)),
            "x_positions: a point lies before every token of positive weight",
        )
    seen = np.asarray(positions)
    first = np.min(seen if weights is None else seen[np.asarray(weights) > 0])
    if np.min(x_positions) < first:
        raise ArgumentError(
            "x_positions",
            f"the position {np.min(x_positions):g} lies before every token of positive weight",
            f"pass positions of at least {first:g}",
        )
    return x_positions
