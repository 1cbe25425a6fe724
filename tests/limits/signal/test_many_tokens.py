"""Products of triangles, which many tokens take under a mask, are those of whole matrices."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from translimit.describe import Attention
from translimit.limits.signal import attention

N, DIM = 150, 32
LOOK = Attention(2, 16, 0.3, 0.3, 0.3, 0.3)


def answers(few: int, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    monkeypatch.setattr(attention, "FEW_TOKENS", few)
    rng = np.random.default_rng(0)
    x, slopes = rng.normal(size=(N, DIM)), rng.normal(size=(2, N, N))
    cov, slopes = x @ x.T / DIM, slopes + slopes.swapaxes(1, 2)
    with jax.enable_x64(True):
        key = jax.random.key(0)
        mixed = jax.jit(functools.partial(attention.mix, LOOK, DIM, True))(cov, key, 2)
        pulled = functools.partial(attention.pull_average, LOOK, DIM, True)
        return [np.asarray(mixed.out), np.asarray(jax.jit(pulled)(cov, slopes, key, 2, 1))]


def test_triangles_give_the_averages_of_whole_products(monkeypatch: pytest.MonkeyPatch) -> None:
    triangles, whole = answers(128, monkeypatch), answers(N, monkeypatch)
    for one, other in zip(triangles, whole, strict=True):
        assert np.allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())
        assert np.allclose(one, one.swapaxes(-1, -2))
    assert not np.array_equal(triangles[0], whole[0])  # they are other programs
    # Of two slopes one has joined.
    assert np.abs(triangles[1][0]).max() > 0
    assert np.all(triangles[1][1] == 0)
