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
from collections.abc import Sequence
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention.arguments import (
    AffineField,
    require_admissible,
    require_positions,
    require_tokens,
)
from translimit.attention.products import matmul
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    Floats,
    Module,
    Outcome,
    SolveError,
    as_float,
    following_inputs,
    is_traced,
    require_weights,
)

#: What is computed with on the host, and answered in NumPy.
HostInput = np.ndarray | Sequence[Any] | float


class AbstractAttention(Module):
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
    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
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
        g, M = self.gaussian_field(mean, matmul(factor, factor.T))
        return jnp.asarray(g), jnp.asarray(M)

    @overload
    def __call__(
        self,
        x: HostInput,
        cloud: HostInput,
        *,
        weights: HostInput | None = None,
        x_positions: HostInput | None = None,
        positions: HostInput | None = None,
    ) -> Float[np.ndarray, "*points dim"]: ...
    @overload
    def __call__(
        self,
        x: ArrayInput,
        cloud: ArrayInput,
        *,
        weights: ArrayInput | None = None,
        x_positions: ArrayInput | None = None,
        positions: ArrayInput | None = None,
    ) -> Float[AnyArray, "*points dim"]: ...
    def __call__(
        self,
        x: ArrayInput,
        cloud: ArrayInput,
        *,
        weights: ArrayInput | None = None,
        x_positions: ArrayInput | None = None,
        positions: ArrayInput | None = None,
    ) -> Float[AnyArray, "*points dim"]:
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
        x, cloud = as_float(x, "x"), require_tokens(as_float(cloud, "cloud"), "cloud", self.dim)
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
        if x_positions is not None and positions is not None and np.size(x_positions):
            x_positions = require_admissible(x_positions, positions, weights)
        velocity, outcome = following_inputs(
            _batched_velocity, (x, cloud, weights, x_positions, positions), self
        )
        if not is_traced(velocity) and not np.isfinite(np.asarray(velocity)).all():
            raise ArgumentError(
                "cloud",
                f"gives scores, or sums of their exponentials, that are beyond {dtype}",
                "measure the tokens in other units, or pass a smaller score_scale",
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


def require_converged(
    value: Floats, outcome: Outcome | None, name: str, result: object = None
) -> Floats:
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


def _in_precision(dtype: np.dtype, value: Floats | None) -> Floats | None:
    """The array in the precision of the tokens; that of weights and positions decides nothing."""
    if value is None or isinstance(value, np.ndarray):
        return None if value is None else value.astype(dtype, copy=False)
    return value.astype(jax.dtypes.canonicalize_dtype(dtype))


@eqx.filter_jit
def _batched_velocity(
    data: tuple[Array, Array, Array | None, Array | None, Array | None],
    attention: AbstractAttention,
) -> tuple[Array, Outcome | None]:
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
