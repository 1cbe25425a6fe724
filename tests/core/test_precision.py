"""Precision: decided by the rules of the room, never by a global setting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    PrecisionError,
    as_float,
    as_float64,
    following_inputs,
    in_float64,
    require_finite,
)


@jax.jit
def third(x: jax.Array) -> jax.Array:
    return x / 3


@jax.jit
def scaled(data: jax.Array, parameters: jax.Array) -> jax.Array:
    return data * parameters


@pytest.fixture(autouse=True)
def x64_is_off_before_and_after():
    assert not jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    assert not jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("make", [np.float64, np.float32, jnp.asarray, np.array])
def test_a_float64_limit_computes_in_64_bits_with_the_mode_off(make) -> None:
    result = in_float64(third, make(1.0))
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float64
    assert result == 1 / 3  # a float32 third differs by 1e-8


def test_a_float64_limit_traced_with_the_mode_off_says_what_to_do() -> None:
    limit = lambda x: in_float64(third, x)  # noqa: E731
    for transform in (jax.jit, jax.grad, jax.vmap):
        x = jnp.ones(2) if transform is jax.vmap else jnp.ones(())
        with pytest.raises(PrecisionError, match=r"with jax.enable_x64\(True\)"):
            transform(limit)(x)
    # Constants inside somebody's jit are staged, so the same holds for them.
    with pytest.raises(PrecisionError, match="float64"):
        jax.jit(lambda: limit(np.float64(1.0)))()


def test_a_float64_limit_traced_with_the_mode_on_stays_traced_and_64_bit() -> None:
    limit = lambda x: in_float64(third, x)  # noqa: E731
    with jax.enable_x64(True):
        assert jax.jit(limit)(np.float64(1.0)) == 1 / 3
        assert jax.grad(limit)(1.0) == 1 / 3
        np.testing.assert_array_equal(jax.vmap(limit)(np.arange(3.0)), np.arange(3.0) / 3)


def test_numpy_in_numpy_out_in_the_precision_of_the_data() -> None:
    parameters = np.array([1 / 3], dtype=np.float64)
    for dtype in (np.float32, np.float64):
        result = following_inputs(scaled, np.ones(1, dtype=dtype), parameters)
        assert isinstance(result, np.ndarray)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, parameters.astype(dtype))


def test_jax_in_jax_out_under_the_rules_of_jax() -> None:
    result = following_inputs(scaled, jnp.ones(1), np.array([1 / 3]))
    assert isinstance(result, jax.Array)
    assert result.dtype == jnp.float32
    with jax.enable_x64(True):
        assert following_inputs(scaled, jnp.ones(1), np.array([1 / 3])).dtype == jnp.float64


def test_following_inputs_can_be_traced() -> None:
    slope = jax.jit(jax.grad(lambda x: following_inputs(scaled, x, np.array([2.0]))[0]))
    assert slope(1.0) == 2.0


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], np.float64),
        ([1.5], np.float64),
        (3, np.float64),
        (np.arange(2), np.float64),
        (np.ones(2, dtype=np.float32), np.float32),
        (np.ones(2, dtype=np.float16), np.float16),
    ],
)
def test_numbers_become_floats_and_floats_keep_their_precision(value, dtype) -> None:
    assert as_float(value, "x").dtype == dtype
    assert isinstance(as_float(value, "x"), np.ndarray)
    assert as_float64(value, "x").dtype == np.float64


def test_jax_integers_become_floats_concrete_and_traced() -> None:
    # Left as integers they would have cast the parameters of a velocity field to integers.
    assert as_float(jnp.arange(2), "x").dtype == jnp.float32
    assert jax.jit(lambda x: as_float(x, "x"))(jnp.arange(2)).dtype == jnp.float32
    assert as_float64(jnp.arange(2), "x").dtype == np.float64


@pytest.mark.parametrize("value", ["text", [1j], object(), [[1.0], [1.0, 2.0]], jnp.array([1j])])
def test_what_is_no_array_of_real_numbers_is_refused(value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^tokens: "):
        as_float(value, "tokens")


@pytest.mark.parametrize("make", [np.array, jnp.asarray, list])
def test_nan_and_infinity_are_counted(make) -> None:
    with pytest.raises(ArgumentError, match=r"^tokens: has NaN or infinity in 2 of 3 entries"):
        as_float(make([1.0, np.nan, np.inf]), "tokens")
    with pytest.raises(ArgumentError, match="tokens: has NaN or infinity in 2 of 3"):
        require_finite(make([1.0, np.nan, -np.inf]), "tokens")
