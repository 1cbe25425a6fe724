"""Keys by name: the same everywhere, and different for different names."""

import os
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError, named_key, stack_keys

PATHS: list[tuple[str | int, ...]] = [
    (),
    ("cloud",),
    ("cloud", 0),
    ("cloud", 1),
    ("cloud", "1"),
    (0, "cloud"),
    ("cloud", 0, 1),
    ("cloud", 1, 0),
    (3,),
    ("3",),
    ("",),
    ("é",),
]


def bits(*arguments: str | int) -> tuple[int, ...]:
    seed, *path = arguments
    assert isinstance(seed, int)
    return tuple(np.asarray(jax.random.key_data(named_key(seed, *path))).tolist())


def test_different_names_indices_orders_and_seeds_give_different_keys() -> None:
    keys = {bits(seed, *path) for seed in (0, 1, 2**32 - 1) for path in PATHS}
    assert len(keys) == 3 * len(PATHS)


def test_a_word_is_never_an_index() -> None:
    # Words are folded in by their digest: an index that equals it must give another key.
    word = next(word for word in map(str, range(100)) if zlib.crc32(word.encode()) < 2**30)
    assert bits(0, word) != bits(0, zlib.crc32(word.encode()))


def test_indices_of_one_name_give_different_keys() -> None:
    assert len({bits(0, "step", i) for i in range(200)}) == 200


def test_keys_do_not_depend_on_the_order_of_calls() -> None:
    forward = [bits(5, *path) for path in PATHS]
    assert [bits(5, *path) for path in reversed(PATHS)] == forward[::-1]


def test_deriving_in_steps_is_deriving_at_once() -> None:
    in_steps = named_key(named_key(named_key(7, "digits"), "cloud"), 3)
    assert bool(in_steps == named_key(7, "digits", "cloud", 3))


def test_keys_do_not_depend_on_the_64_bit_mode() -> None:
    without = [bits(seed, "cloud", 3) for seed in (0, 2**31, 2**32 - 1)]
    with jax.enable_x64(True):
        assert [bits(seed, "cloud", 3) for seed in (0, 2**31, 2**32 - 1)] == without


def test_numpy_integers_are_indices_and_seeds() -> None:
    assert bool(named_key(np.int64(4), "cloud", np.int32(2)) == named_key(4, "cloud", 2))


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "import jax; from translimit.core import named_key; "
        "print(jax.random.key_data(named_key(11, 'digits', 'cloud', 3)).tolist())"
    )
    expected = str(list(bits(11, "digits", "cloud", 3)))
    for hash_seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        printed = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.strip() == expected


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("part", [1.0, True, None, b"cloud", ("a",)])
def test_a_path_of_anything_else_is_refused(part: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"path: got .*words and non-negative integers"):
        named_key(0, part)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("seed", [0.5, True, "0", None, np.zeros(2, dtype=np.uint32)])
def test_a_seed_of_anything_else_is_refused(seed: object) -> None:
    with pytest.raises(ArgumentTypeError, match="seed: got"):
        named_key(seed, "cloud")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**30)])
def test_integers_out_of_range_are_refused(seed: int, index: int) -> None:
    with pytest.raises(ArgumentError, match="pass an integer from 0 to"):
        named_key(seed, index)


@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5, 2**32 - 1])
@pytest.mark.parametrize("wide", [False, True])
def test_keys_are_those_of_jax(seed: int, wide: bool) -> None:
    """Words are folded in after their marker, indices as they are, by JAX's own generator."""
    with jax.enable_x64(wide):
        own = named_key(seed, "cloud", 3, 2**30 - 1)
        key = jax.random.fold_in(jax.random.key(np.uint32(seed)), 0x6E616D65)
        for number in (zlib.crc32(b"cloud"), 3, 2**30 - 1):
            key = jax.random.fold_in(key, number)
        assert bool(own == key)
        assert own.dtype == key.dtype
        inside = jax.jit(lambda key: jax.random.key_data(named_key(key, "cloud", 3, 2**30 - 1)))
        assert np.array_equal(inside(jax.random.key(np.uint32(seed))), jax.random.key_data(own))
        constant = jax.jit(lambda: jax.random.key_data(named_key(seed, "cloud", 3, 2**30 - 1)))
        assert np.array_equal(constant(), jax.random.key_data(own))


def test_keys_of_another_generator_stay_with_it() -> None:
    key = jax.random.key(3, impl="rbg")
    assert bool(named_key(key, 4) == jax.random.fold_in(key, 4))


def test_stacked_keys_are_those_of_jax() -> None:
    for impl in ("threefry2x32", "rbg"):
        root = jax.random.key(3, impl=impl)
        keys = [named_key(root, "start", seed) for seed in range(3)]
        told, plain = stack_keys(keys), jnp.stack(keys)
        assert jax.random.key_impl(told) == jax.random.key_impl(plain)
        assert (jax.random.key_data(told) == jax.random.key_data(plain)).all()


def test_keys_are_stacked_without_a_program(caplog: pytest.LogCaptureFixture) -> None:
    many = [named_key(0, seed) for seed in range(301)]
    with jax.log_compiles():
        assert stack_keys(many).shape == (301,)
        assert not caplog.records
        jnp.stack(many[:7])  # a program with an operand for each, which takes minutes for thousands
        assert any("stack" in one.getMessage() for one in caplog.records)
