"""Optima, drifts and flags of transfer sweeps on planted losses, whose optima are known."""

import numpy as np
import pytest

from translimit import checks
from translimit.core import ArgumentError
from translimit.train import Training, ensemble_transfer_sweep

RATES = tuple(2.0 ** np.arange(-12, -3))


def planted(optima, noise=0.0, cap=10.0):
    """Log losses that are parabolas of the log rate, with a shift of the optimum for each seed."""
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, noise, (len(optima), 6, 1)) if noise else np.zeros((len(optima), 6, 1))
    distance = np.log10(RATES) - np.array(optima)[:, None, None] - seeds
    sizes = tuple(4 * 2**i for i in range(len(optima)))
    return checks.TransferSweep("head_dim", sizes, RATES, np.exp(0.7 * distance**2 - 1), cap)


def test_the_vertex_of_a_parabola_is_found_and_its_drift():
    sweep = planted([-2.5, -2.65, -2.9], noise=0.05)
    for size, optimum in zip(sweep.sizes, (-2.5, -2.65, -2.9), strict=True):
        found = sweep.optimum(size)
        assert abs(found.value - optimum) < 4.5 * 0.05 / 6**0.5
        assert 0.005 < found.stderr < 0.06
    assert abs(sweep.optimum_drift.value + 0.4) < 4.5 * sweep.optimum_drift.stderr
    assert abs(sweep.optimum_drift.value + 0.6) > 4.5 * sweep.optimum_drift.stderr
    assert any("grows with size" in said for said in sweep.warnings())


def test_the_loss_at_the_base_rate_lies_on_the_line_between_grid_points():
    sweep = planted([-2.5, -2.65, -2.9])
    between = 0.7 * (np.log10(2) / 2) ** 2  # how far a chord lies above the parabola at most
    ratio = sweep.loss_at_base_rate(16).value / np.exp(0.7 * 0.4**2 - 1)
    assert 1 <= ratio <= np.exp(between)


def test_edges_and_second_minima_are_flagged():
    steep = planted([-2.5, -9.0])
    assert steep.bound(8) == "at most"
    assert steep.bound(4) == ""
    losses = planted([-2.5, -2.5]).losses.copy()
    losses[1, :, -1] = 0.1
    double = checks.TransferSweep("heads", (4, 8), RATES, losses, 10.0)
    assert double.minima(8) == 2
    said = double.warnings()
    assert any("edge" in one for one in said)
    assert any("2 separate minima" in one for one in said)


@pytest.mark.parametrize(
    ("optima", "bound", "said"),
    [
        ((-2.5, -2.9), "", "-0.40 ± "),
        ((-2.5, -9.0), "at most", "at most -1."),
        ((-2.5, 3.0), "at least", "at least +1."),
        ((-9.0, -2.5), "at least", "at least +1."),
        ((3.0, -2.5), "at most", "at most -1."),
        ((-9.0, 3.0), "at least", "at least +2.4"),
        ((3.0, -9.0), "at most", "at most -2.4"),
        ((-9.0, -9.0), None, "unknown: both optima at one edge"),
        ((3.0, 3.0), None, "unknown: both optima at one edge"),
    ],
)
def test_the_edge_of_a_grid_gives_a_bound_without_an_error(optima, bound, said):
    """The drift of an optimum that may lie beyond the grid is known on one side, or not at all."""
    sweep = planted(optima, noise=0.02)
    assert sweep.optimum_drift_bound == bound
    assert sweep.optimum_drift_in_words().startswith(said)
    assert bool(bound == "") == np.isfinite(sweep.optimum_drift.stderr)
    for size, optimum in zip(sweep.sizes, optima, strict=True):
        inside = np.log10(RATES[0]) < optimum < np.log10(RATES[-1])
        assert inside == np.isfinite(sweep.optimum(size).stderr) == (sweep.bound(size) == "")
    true = optima[1] - optima[0]
    if bound:
        assert (
            true <= sweep.optimum_drift.value
            if bound == "at most"
            else true >= sweep.optimum_drift.value
        )


def test_one_seed_has_no_error():
    many = planted([-2.5, -2.9], noise=0.02)
    one = checks.TransferSweep("head_dim", many.sizes, RATES, many.losses[:, :1], 10.0)
    assert one.optimum_drift_in_words().endswith("decades (one seed: no error)")
    for size in one.sizes:
        for found in (one.optimum(size), one.loss_at_optimum(size), one.loss_at_base_rate(size)):
            assert np.isinf(found.stderr)
            assert "one seed: no error" in str(found)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentError, match="sizes"):
        ensemble_transfer_sweep(None, "heads", (4,), None, None, Training(1, RATES), key=None)
    with pytest.raises(ArgumentError, match="rates"):
        ensemble_transfer_sweep(
            None, "heads", (4, 8), None, None, Training(1, (0.1, 0.2)), key=None
        )
