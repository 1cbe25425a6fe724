"""Lowest points, regrets and their errors, on planted valleys whose answers are known."""

import numpy as np
import pytest

from translimit.checks import TransferSweep, read_at, valleys
from translimit.core import Verdict

GRID = np.array([-1.8, -1.5, -1.2, -0.9])


def sweep(*logs, grid=GRID):
    """A sweep with the given log losses [sizes][seeds, rates]."""
    return TransferSweep(
        "layers", tuple(2 * 2**i for i in range(len(logs))), tuple(10**grid), np.exp(logs), 10.0
    )


@pytest.mark.parametrize(("own", "base"), [(-1.35, -1.5), (-1.5, -1.65)])
def test_regret_has_no_error_of_reading_on_a_parabola(own, base):
    """Lines between points and the lowest grid point would give 0 and 0.135 here."""
    logs = [np.tile(3 * (GRID - place) ** 2, (6, 1)) for place in (base, own)]
    found = sweep(*logs)
    assert found.regret(4).value == pytest.approx(3 * (own - base) ** 2, abs=1e-9)
    assert found.optimum_drift_at(4).value == pytest.approx(own - base, abs=1e-9)
    assert found.curvature(4) == pytest.approx(6, abs=1e-9)
    assert found.regret(4).stderr == pytest.approx(0, abs=1e-9)


def test_a_vertex_is_that_of_three_points_also_on_uneven_grids():
    grid = np.array([-2.0, -1.7, -1.5, -1.0])
    own = np.array([-1.62, -1.4])
    logs = 2.5 * (grid - own[:, None]) ** 2 - 0.3
    found = valleys(grid, logs)
    np.testing.assert_allclose(found.place, own, atol=1e-12)
    np.testing.assert_allclose(found.depth, -0.3, atol=1e-12)
    np.testing.assert_allclose(
        read_at(grid, logs, np.array([-1.9, -1.05])),
        2.5 * (np.array([-1.9, -1.05]) - own) ** 2 - 0.3,
    )


def test_joint_errors_are_smaller_where_seeds_move_both_sizes():
    """A shift of the optimum that all sizes share is no error of the drift; own shifts are."""
    rng = np.random.default_rng(3)
    common, own = rng.normal(0, 0.1, (12, 1)), rng.normal(0, 0.03, (2, 12, 1))
    grid = np.arange(-3.0, -0.4, 0.3)
    logs = 1.5 * (grid + 1.7 - common - own) ** 2
    drift = sweep(*logs, grid=grid).optimum_drift_at(4)
    expected = np.hypot(*own.std(axis=1, ddof=1)[:, 0]) / 12**0.5
    assert drift.stderr == pytest.approx(expected, rel=0.4)
    assert drift.stderr < 0.5 * common.std(ddof=1) / 12**0.5


def planted(drift, curvature, noise=0.02, seeds=8):
    rng = np.random.default_rng(0)
    grid = np.arange(-3.0, -0.4, 0.3)
    own = rng.normal(0, noise, (2, seeds, 1))
    places = np.array([-1.7, -1.7 + drift])[:, None, None] + own
    return sweep(*(0.5 * curvature * (grid - places) ** 2), grid=grid)


@pytest.mark.parametrize(
    ("drift", "curvature", "noise", "verdict"),
    [
        (-0.05, 4.0, 0.02, Verdict.supported),  # it stays
        (-0.4, 0.2, 0.02, Verdict.supported),  # it moves in a flat valley: it costs .016
        (-0.4, 4.0, 0.02, Verdict.refuted),  # it moves, and costs .32
        (-0.25, 4.0, 0.2, Verdict.underpowered),  # beyond the tolerance by two errors only
    ],
)
def test_verdicts(drift, curvature, noise, verdict):
    assert planted(drift, curvature, noise).verdict() is verdict


def test_few_seeds_decide_nothing():
    for seeds in (1, 2, 5):
        assert planted(-0.02, 4.0, seeds=seeds).verdict() is Verdict.underpowered
        assert planted(-0.8, 4.0, seeds=seeds).verdict() is Verdict.underpowered
    one = planted(-0.02, 4.0, seeds=1)
    assert np.isinf(one.regret(4).stderr)
    assert np.isinf(one.optimum_drift_at(4).stderr)


def test_an_optimum_beyond_the_grid_refutes_where_it_must():
    """The target's optimum lies below the grid: it moved by at least so much, at such a price."""
    found = planted(-2.0, 4.0)
    assert found.optimum_drift_bound_at(4) == "at most"
    assert found.verdict() is Verdict.refuted
    assert np.isnan(found.optimum_drift_at(4).stderr)
    assert found.regret(4).value > 1


def test_resamples_whose_minimum_is_at_an_end_are_told():
    rng = np.random.default_rng(1)
    grid = np.arange(-2.7, -0.8, 0.3)
    near = grid[0] + 0.2 + rng.normal(0, 0.25, (8, 1))
    logs = [1.5 * (grid + 1.8) ** 2 * np.ones((8, 1)), 1.5 * (grid - near) ** 2]
    found = sweep(*logs, grid=grid)
    assert found.censored(4) > 0.05
    assert found.verdict() is Verdict.underpowered
    assert found.to_json()["sizes"][1]["censored"] == found.censored(4)
