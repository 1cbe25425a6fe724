"""Programs are forgotten before a process runs out of memory mappings."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from translimit.core import drop_programs, mappings

OWN = Path("/proc/self/maps")


@pytest.mark.skipif(not OWN.exists(), reason="the system tells no mappings")
def test_programs_are_dropped_when_there_are_many() -> None:
    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        for _ in range(6):
            x = jnp.sin(x @ x.T) @ x + jnp.linalg.cholesky(x @ x.T + jnp.eye(len(x))) @ x
        return x

    def count() -> int:
        with OWN.open() as lines:
            return sum(1 for _ in lines)

    def all_sizes() -> list[bytes]:
        return [bytes(step(jnp.ones((n, n + 1)))) for n in range(3, 11)]

    before = count()
    first = all_sizes()
    many = count()
    assert many > before + 50
    assert not drop_programs(most=10 * many)
    assert step._cache_size() == 8  # pyright: ignore[reportFunctionMemberAccess]
    assert drop_programs(most=before)
    assert step._cache_size() == 0  # pyright: ignore[reportFunctionMemberAccess]
    assert count() < many
    assert all_sizes() == first


def test_a_system_without_mappings_keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "_OWN", Path("/nowhere"))
    assert not drop_programs(most=0)
