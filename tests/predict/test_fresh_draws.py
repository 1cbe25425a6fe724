"""Fresh draws of any law pass; what training, copying or orthogonal starts leave is found."""

from __future__ import annotations

import numpy as np
import pytest

from translimit.predict.fresh_draws import (
    edge,
    largest_singular_value,
    measure_draw,
    pooled_stds,
    same_entries,
)

SHAPES = [(4, 64), (16, 16), (64, 64), (300, 48), (200, 600)]


def cut_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal entries, drawn again where they are beyond two deviations."""
    entries = rng.normal(size=shape)
    while (beyond := np.abs(entries) > 2).any():
        entries[beyond] = rng.normal(size=int(beyond.sum()))
    return entries


LAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "cut": cut_normal,
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fresh_draws_of_any_law_pass(law: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        assert measure_draw(LAWS[law](rng, shape)).findings == ()


def test_the_edge_follows_the_tracy_widom_law() -> None:
    """Mean -1.2065 and deviation 1.268 (order one); 200 matrices, and n^(-1/3) for finite sizes."""
    rng = np.random.default_rng(1)
    widths = [edge(rng.normal(size=(60, 90)))[1] for _ in range(200)]
    assert abs(np.mean(widths) + 1.2065) < 4.5 * 1.268 / 200**0.5 + 60 ** (-1 / 3)
    assert 1.268 / 1.4 < np.std(widths) < 1.268 * 1.4


def test_the_iteration_finds_the_largest_singular_value() -> None:
    rng = np.random.default_rng(2)
    for shape in ((100, 300), (300, 100)):
        matrix = rng.normal(size=shape)
        assert largest_singular_value(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-5)


def test_a_spike_is_found_where_it_leaves_the_bulk() -> None:
    """A rank-one part of size t n^(1/2) has a singular value of its own from t = 1 on."""
    rng = np.random.default_rng(3)
    n = 400
    u, v = (rng.normal(size=n) for _ in range(2))
    spike = np.outer(u, v) / np.linalg.norm(u) / np.linalg.norm(v) * n**0.5
    noise = rng.normal(size=(n, n))
    assert measure_draw(noise + 0.7 * spike).findings == ()
    (found,) = measure_draw(noise + 2.0 * spike).findings
    assert "largest singular value" in found.says
    assert found.excess > 1
    # (t + 1 / t) / 2, over the entries' own size; errors of order n^(-1/2).
    spiked = (noise + 2.0 * spike) / (1 + 4 / n) ** 0.5
    assert edge(spiked)[0] == pytest.approx(1.25 / (1 + 4 / n) ** 0.5, abs=0.5 / n**0.5)


def test_rows_of_unequal_size_a_mean_and_angles_that_are_kept_are_found() -> None:
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(256, 128))
    by_row = draws * np.exp(0.2 * rng.normal(size=(256, 1)))
    assert any("sizes of its rows" in one.says for one in measure_draw(by_row).findings)
    by_column = draws * np.exp(0.2 * rng.normal(size=128))
    assert any("sizes of its columns" in one.says for one in measure_draw(by_column).findings)
    assert any("mean" in one.says for one in measure_draw(draws + 0.05).findings)
    orthogonal = np.linalg.qr(draws)[0]
    assert any("largest singular value is 0.5" in o.says for o in measure_draw(orthogonal).findings)
    assert any("singular" in one.says for one in measure_draw(np.eye(64)).findings)


def test_copies_are_found() -> None:
    rng = np.random.default_rng(5)
    one, other = (measure_draw(rng.normal(size=(64, 64))) for _ in range(2))
    assert same_entries(one, other) is None
    found = same_entries(one, one)
    assert found is not None
    assert "correlation 1 " in found.says
    assert same_entries(one, measure_draw(rng.normal(size=(64, 32)))) is None


def test_one_deviation_for_all_layers_that_agree() -> None:
    rng = np.random.default_rng(6)
    draws = [measure_draw(0.3 * rng.normal(size=(64, 64))) for _ in range(6)]
    pooled = pooled_stds(draws)
    assert len(set(pooled)) == 1
    # (2 * 6 * 64^2)^(-1/2) is the relative error of the common deviation.
    assert abs(pooled[0] / 0.3 - 1) < 4.5 / (2 * 6 * 64**2) ** 0.5
    other = measure_draw(0.33 * rng.normal(size=(64, 64)))
    apart = pooled_stds([*draws, other])
    assert apart == [one.std for one in (*draws, other)]
    assert pooled_stds([measure_draw(np.zeros((8, 8)))]) == [0.0]
    assert pooled_stds([measure_draw(np.zeros((8, 8))), draws[0]]) == [0.0, draws[0].std]
