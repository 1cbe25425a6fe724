"""The truncated series: the weights of its estimate, its two errors, how often they hold."""

import numpy as np
import pytest

from translimit.extrapolate import Series, noise_of_means


def drawn(rng: np.random.Generator, how: str) -> tuple[np.ndarray, np.ndarray]:
    """One synthetic ladder of seven times, and the truth at 24: documentation, "Coverage"."""
    t = np.arange(1, 8) / 7
    a, b = 0.3 * rng.normal(), 0.15 * rng.normal()
    each = (6, 7) if how == "at every time" else (6, 1)

    def curve(n: float) -> np.ndarray:
        return -t + a * t * (2 / n) + b * t**2 * (2 / n) ** 2

    common = rng.normal(size=each)
    sizes = (2, 3, 4, 6)
    values = [curve(n) + 0.03 * t * (common + rng.normal(size=each)) for n in sizes]
    return np.array(values), curve(24)


def series(values: np.ndarray, sizes=(2, 3, 4, 6), power: float = 1.0) -> Series:
    noise = noise_of_means(values)
    return Series(np.array(sizes, float)[:, None], values.mean(axis=1), noise, power)


@pytest.mark.parametrize(
    ("how", "covered", "spread"),
    [("at every time", (0.766, 0.969), 0.015), ("once", (0.745, 0.965), 0.026)],
)
def test_two_errors_cover_what_they_say_and_the_seed_part_does_not(how, covered, spread):
    rng = np.random.default_rng(1)
    z, seeds, misses, of_largest = [], [], [], []
    for _ in range(600):
        values, truth = drawn(rng, how)
        told = series(values).at(np.array([24.0]))
        z.append((told.value - truth) / told.error)
        seeds.append((told.value - truth) / told.seed_error)
        misses.append(told.value - truth)
        of_largest.append(values[-1].mean(axis=0) - truth)
    z, seeds = abs(np.array(z)), abs(np.array(seeds))
    assert (z < 1).mean() == pytest.approx(covered[0], abs=2 * spread + 0.01)
    assert (z < 2).mean() == pytest.approx(covered[1], abs=spread)
    if how == "at every time":
        assert (seeds < 1).mean() == pytest.approx(0.650, abs=0.03)
        assert (seeds < 2).mean() == pytest.approx(0.924, abs=0.025)
        assert np.square(misses).mean() ** 0.5 == pytest.approx(0.026, abs=0.003)
        assert np.square(of_largest).mean() ** 0.5 == pytest.approx(0.049, abs=0.005)


def test_the_estimate_is_that_of_the_dense_gaussian_model():
    """Another route: condition the joint Gaussian of y and y_inf, the latter nearly free."""
    values, _ = drawn(np.random.default_rng(3), "at every time")
    one = series(values)
    f = one.x(np.array([[24.0]]))[0, 0] ** np.arange(1, 7)
    for step in (0, 6):
        free = 1e4
        K = (one.design * one.variances[step]) @ one.design.T + one.noise[step] + free
        cross = (one.design * one.variances[step]) @ f + free
        value = cross @ np.linalg.solve(K, one.means[:, step])
        variance = f**2 @ one.variances[step] + free - cross @ np.linalg.solve(K, cross)
        told = one.at(np.array([24.0]))
        assert told.value[step] == pytest.approx(value, abs=1e-5)
        assert told.error[step] == pytest.approx(variance**0.5, rel=1e-3)


def test_an_exact_series_without_noise_is_recovered():
    n = np.array([2.0, 3, 4, 6, 8])
    means = (1 + 0.5 / n)[:, None] * np.ones(3)
    one = Series(n[:, None], means, np.zeros((3, 5, 5)), 1.0)
    told = one.at(np.array([np.inf]))
    assert told.value == pytest.approx(1.0, abs=2e-3)
    assert np.all(abs(told.value - 1) < told.error)
    assert told.seed_error == pytest.approx(0.0)
    assert one.excess(0).value == pytest.approx(0.25, abs=2e-3)
    weights = one.weights(np.zeros(6), 1.0)
    assert weights.sum(axis=1) == pytest.approx(1.0)


def test_two_axes_add_and_cross():
    n, m = np.array([(a, b) for a in (2.0, 4.0, 8.0) for b in (1.0, 2.0, 4.0)]).T
    means = (0.7 + 0.4 / n + 0.3 / m + 0.2 / (n * m))[:, None]
    one = Series(np.stack([n, m], axis=1), means, 1e-10 * np.eye(9)[None], 1.0)
    told = one.at(np.array([np.inf, np.inf]))
    assert told.value[0] == pytest.approx(0.7, abs=3 * told.error[0])
    assert told.error[0] < 0.08
    assert one.excess(0).value[0] * 2 == pytest.approx(0.4, abs=0.05)
    assert one.excess(1).value[0] == pytest.approx(0.3, abs=0.05)


def test_unpaired_seeds_and_missing_ones():
    values, _ = drawn(np.random.default_rng(0), "at every time")
    alone = noise_of_means(values, paired=False)
    assert np.all(alone[:, ~np.eye(4, dtype=bool)] == 0)
    assert np.all(noise_of_means(values)[:, 0, 1] > 0)
    fewer = values.copy()
    fewer[0, 3:] = np.nan
    own = noise_of_means(fewer, paired=False)[:, 0, 0]
    means = np.array([fewer[0, :3].var(axis=0, ddof=1) / 3, *values[1:].var(axis=1, ddof=1) / 6])
    assert own == pytest.approx((means[0] + means.mean(axis=0)) / 2)
