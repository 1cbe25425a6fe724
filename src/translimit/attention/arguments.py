"""Arguments of attention variants: maps, tokens, weights and positions, checked and named.

Concrete values raise at once; traced ones are armed with `equinox.error_if`.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Floats,
    NoSuchLimitError,
    as_float,
    is_traced,
)

#: The affine field Gamma(x) = g + M (x - mean) of a Gaussian: g and M.
AffineField = tuple[Float[AnyArray, " dim"], Float[AnyArray, "dim dim"]]


def require_matrix(
    value: ArrayInput, name: str, shape: tuple[int | None, ...]
) -> Float[AnyArray, "rows columns"]:
    """A parameter matrix of the given shape (None: any), finite, in its own precision.

    Raises:
        ArgumentError: another shape, or an empty one.
    """
    return _require_shape(value, name, shape, "a matrix")


def require_stack(
    value: ArrayInput, name: str, shape: tuple[int | None, ...]
) -> Float[AnyArray, "heads rows columns"]:
    """Maps of all heads [heads, rows, columns] of the given sizes (None: any), finite.

    Raises:
        ArgumentError: another shape, or an empty one.
    """
    return _require_shape(value, name, shape, "one map per head")


def _require_shape(
    value: ArrayInput, name: str, shape: tuple[int | None, ...], what: str
) -> Floats:
    value = as_float(value, name)
    fits = value.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits or 0 in value.shape:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ArgumentError(name, f"has shape {value.shape}", f"pass {what} [{wanted}]")
    return value


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


def require_mean_and_cov(
    mean: ArrayInput, cov: ArrayInput, dim: int
) -> tuple[Float[AnyArray, " dim"], Float[AnyArray, "dim dim"]]:
    """Mean [dim] and covariance [dim, dim] as arrays of floats; definiteness is not looked at."""
    mean = as_float(mean, "mean")
    if mean.shape != (dim,):
        raise ArgumentError("mean", f"has shape {mean.shape}", f"pass a vector [{dim}]")
    return mean, require_matrix(cov, "cov", (dim, dim))


def require_tokens(tokens: Floats, name: str, dim: int) -> Float[AnyArray, "tokens dim"]:
    """Tokens [tokens, dim], at least one."""
    if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] != dim:
        raise ArgumentError(
            name, f"has shape {tokens.shape}", f"pass [tokens, {dim}] with at least one token"
        )
    return tokens


def require_positions(
    positions: ArrayInput | None,
    shape: tuple[int, ...],
    causal: bool,
    name: str,
    *,
    ordered: bool = True,
) -> Floats | None:
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


def _require_sorted(positions: Float[AnyArray, " tokens"], name: str) -> Float[AnyArray, " tokens"]:
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


def require_admissible(
    x_positions: Floats,
    positions: Float[AnyArray, " tokens"],
    weights: Float[AnyArray, " tokens"] | None,
) -> Floats:
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
