"""Which precision a computation runs in, decided in one place and never by a global setting.

Two rules hold in the whole library:

- **Float64 limits** (closures, covariances, Cholesky factors) run their compiled part in 64 bits
  whatever the calling program has set, and return NumPy float64 arrays. Called on traced values
  (inside somebody's `jit`, `vmap` or `grad`) they can not change the precision any more: with
  64-bit mode on they return traced float64 arrays, with it off they raise `PrecisionError`.
- **Everything else follows its inputs**: NumPy arrays in, NumPy arrays of the same precision out;
  JAX arrays in, JAX arrays out, under JAX's own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from translimit.core.arrays import as_numpy
from translimit.core.blas import call_with_blas
from translimit.core.errors import ArgumentError, ArgumentTypeError, PrecisionError
from translimit.core.sharding import to_numpy


@runtime_checkable
class SupportsArray(Protocol):
    """What NumPy can read: a tensor of PyTorch, a column of a table."""

    def __array__(self) -> Any: ...


#: What a user may pass as an array: arrays of NumPy, JAX and PyTorch, numbers, nested lists and
#: tuples.
ArrayInput = ArrayLike | Sequence[Any] | SupportsArray


def is_traced(*trees: Any) -> bool:
    """Whether any leaf of the trees is a tracer of jit, vmap or grad."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def under_jit() -> bool:
    """Whether the caller is being traced by jit, where even constants become traced values."""
    return isinstance(jnp.add(0, 0), Tracer)


def as_float(value: Any, name: str) -> np.ndarray | Array:
    """An array of floats for a field called `name`; lists and integers become NumPy float64.

    Floating NumPy and JAX arrays keep their precision, integer JAX arrays take JAX's default one,
    tracers of floats pass through. A tensor of PyTorch, of whatever device and with whatever
    gradient, is its values, as NumPy array of its precision; of half a precision, as float32.

    Raises:
        ArgumentTypeError: the value is not numeric.
        ArgumentError: a concrete value is NaN or infinite.
    """
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise ArgumentTypeError(name, f"has dtype {value.dtype}", "pass real numbers")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            value = value.astype(jnp.result_type(float))
        if isinstance(value, Tracer):
            return value
    else:
        value = as_numpy(value, name, keep_precision=True)
    return require_finite(value, name)


def as_float64(value: Any, name: str) -> np.ndarray | Array:
    """Like `as_float`, but concrete values become NumPy float64 (exactly: widening only)."""
    value = as_float(value, name)
    return value if isinstance(value, Tracer) else np.asarray(value, dtype=np.float64)


def require_finite(value: Any, name: str) -> Any:
    """The value, or an `ArgumentError` that counts the NaN and infinite entries."""
    host = np.asarray(value)
    bad = int(np.size(host) - np.count_nonzero(np.isfinite(host)))
    if bad and not host.ndim:
        raise ArgumentError(name, f"got {float(host):g}", "pass a finite number")
    if bad:
        raise ArgumentError(
            name, f"has NaN or infinity in {bad} of {np.size(host)} entries", "pass finite numbers"
        )
    return value


def in_float64(function: Callable[..., Any], *args: Any) -> Any:
    """Run a compiled function in 64 bits; concrete arguments give NumPy float64 results.

    Inside somebody's `jit` even constants are traced, so there the rule for traced values holds.

    Args:
        function: a jitted function of pytrees of arrays.
        args: its arguments; array leaves are converted to float64 JAX arrays.

    Raises:
        PrecisionError: called on traced values, or inside jit, with JAX's 64-bit mode off.
    """
    if is_traced(args) or under_jit():
        if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise PrecisionError(
                "this limit needs float64, and was called on traced values (inside jit, vmap or "
                "grad) with JAX's 64-bit mode off; wrap the outermost call in "
                "`with jax.enable_x64(True):` or set jax.config.update('jax_enable_x64', True)"
            )
        return function(*jax.tree.map(_floats_to_64, args))
    with jax.enable_x64(True):
        return _to_numpy(call_with_blas(function, *jax.tree.map(_floats_to_64, args)))


def following_inputs(function: Callable[..., Any], data: Any, parameters: Any = ()) -> Any:
    """Run `function(data, parameters)` in the precision of `data`.

    Args:
        function: a jitted function of two pytrees.
        data: a pytree of arrays; its highest precision decides, and whether the result is NumPy
            (all concrete leaves NumPy) or JAX.
        parameters: a pytree whose floating leaves are cast to that precision.

    Returns:
        The result, NumPy for NumPy data and JAX otherwise.
    """
    leaves = [leaf for leaf in jax.tree.leaves(data) if leaf is not None]
    staged = is_traced(data, parameters) or under_jit()
    if staged or any(isinstance(leaf, jax.Array) for leaf in leaves):
        dtype = jnp.result_type(*leaves)
        inputs = jax.tree.map(jnp.asarray, data), _cast(parameters, dtype)
        return function(*inputs) if staged else call_with_blas(function, *inputs)
    dtype = np.result_type(*leaves)
    with jax.enable_x64(bool(dtype == np.float64)):
        inputs = _cast(data, dtype), _cast(parameters, dtype)
        return _to_numpy(call_with_blas(function, *inputs))


def _is_floating(leaf: Any) -> bool:
    # Python floats (tolerances, say) are traced as well, so that another value compiles nothing.
    dtype = getattr(leaf, "dtype", None)
    return isinstance(leaf, float) if dtype is None else jnp.issubdtype(dtype, jnp.floating)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype=dtype) if _is_floating(leaf) else leaf, tree
    )


def _floats_to_64(leaf: Any) -> Any:
    return jnp.asarray(leaf, dtype=jnp.float64) if _is_floating(leaf) else leaf


def _to_numpy(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: to_numpy(leaf) if isinstance(leaf, jax.Array) else leaf, tree)
