"""Traces that are kept: which bits, when they are found again, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import kept_jit, programs, traces, traces_kept


class Kind(enum.Enum):
    SINE = "sine"
    CUBE = "cube"


@dataclasses.dataclass(frozen=True)
class Law:
    """Two laws that print alike, and are not."""

    kind: Kind
    powers: tuple[float, ...] = (1.0,)
    scale: float = dataclasses.field(default=1.0, repr=False)


class Found(NamedTuple):
    value: Any
    parts: tuple[Any, ...]


X = np.linspace(0.1, 2.0, 6).reshape(2, 3)


def again(traced: list[Any]) -> Any:
    """The function as a new process has it: what was traced before is forgotten."""

    def law_of(law: Law, x: Any, found: Found) -> Found:
        traced.append(law)
        out = jnp.sin(x) if law.kind is Kind.SINE else x**3
        factor = jnp.linalg.cholesky(out @ out.T + jnp.eye(2))
        return Found(law.scale * factor * found.value, (out, *found.parts))

    return kept_jit(static=1, tuples=(Found,))(law_of)


def called(function: Any, law: Law = Law(Kind.SINE), x: Any = X) -> list[bytes]:
    found = function(law, x, Found(0.7, (x,)))
    assert isinstance(found, Found)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this process keeps programs, and traces."""
    monkeypatch.setattr(programs, "_in_use", tmp_path)
    with traces_kept():
        yield tmp_path


def test_nothing_is_kept_outside_of_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[Any] = []
    monkeypatch.setattr(programs, "_in_use", tmp_path)
    called(again(traced))
    monkeypatch.setattr(programs, "_in_use", None)
    with traces_kept():
        called(again(traced))
    assert len(traced) == 2
    assert not list(tmp_path.iterdir())


def test_a_kept_trace_gives_the_bits_of_a_fresh_one(folder: Path) -> None:
    traced: list[Any] = []
    first, second = again(traced), again(traced)
    bits = called(first)
    assert bits == called(first) == called(second)
    assert len(traced) == 1  # by the first, once
    (file,) = folder.glob("law_of-*.trace")
    assert file.stat().st_mode & 0o077 == 0 or file.parent.stat().st_mode & 0o077 == 0
    plain = first.jitted(Law(Kind.SINE), X, Found(0.7, (X,)))
    assert bits == [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(plain)]


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_file_is_written_anew(folder: Path, damage: str) -> None:
    traced: list[Any] = []
    bits = called(again(traced))
    (file,) = folder.glob("*.trace")
    whole = file.read_bytes()
    other = b"of another program, and whole"
    file.write_bytes(
        {
            "cut": whole[:-100],
            "flipped": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:],
            "foreign": hashlib.sha256(other).digest() + other,
            "empty": b"",
        }[damage]
    )
    assert called(again(traced)) == bits
    assert len(traced) == 2
    assert called(again(traced)) == bits
    assert len(traced) == 2  # it was written again


def test_what_differs_has_a_file_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    function = again(traced)
    seen = [called(function)]
    seen.append(called(function, Law(Kind.CUBE)))
    seen.append(called(function, Law(Kind.SINE, scale=2.0)))
    seen.append(called(function, x=X.astype(np.float32)))
    seen.append(called(function, x=np.vstack([X, X])[:, :2].reshape(2, 4)))
    with jax.enable_x64(True):
        seen.append(called(function))
    assert seen[0] != seen[2]
    count = len(list(folder.glob("*.trace")))
    assert count == len(seen)
    monkeypatch.setattr(traces, "_source", lambda folder: "changed")
    called(again(traced))
    assert len(list(folder.glob("*.trace"))) == count + 1


def test_transformations_go_through(folder: Path) -> None:
    function = kept_jit(static=1)(lambda power, x: jnp.sum(x**power))
    x = np.array([1.0, 2.0], np.float32)
    assert np.allclose(jax.grad(lambda x: function(3, x))(x), 3 * x**2)
    assert np.allclose(jax.vmap(lambda x: function(2, x))(x[:, None]), x**2)
    assert not list(folder.iterdir())
    assert float(function(2, x)) == 5.0
    assert len(list(folder.iterdir())) == 1


def test_what_is_no_plain_data_is_compiled_and_not_kept(folder: Path) -> None:
    function = kept_jit(static=1)(lambda of, x: of(x))
    assert float(function(jnp.sum, X)) == pytest.approx(X.sum())
    assert not list(folder.iterdir())


def test_an_error_of_the_function_is_its_own(folder: Path) -> None:
    def refuse(word: str, x: Any) -> Any:
        raise ValueError(word)

    with pytest.raises(ValueError, match="no such word"):
        kept_jit(static=1)(refuse)("no such word", X)


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    function = kept_jit(static=1)(lambda power, x: jnp.sum(x**power))
    folder.rmdir()
    assert float(function(1, np.ones(3, np.float32))) == 3.0
