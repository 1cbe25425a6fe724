"""Figures of checks and sweeps: a panel for what was recorded, a legend that tells exponents."""

import numpy as np

from translimit.checks import CoordinateCheck, TransferSweep
from translimit.figures import draw_check, draw_sweeps


def test_panels_of_a_check():
    sizes, steps = (4, 8, 16), (0, 1)
    power = np.array(sizes, float)[:, None, None] ** 0.5 * np.ones((1, 2, 3))
    values = {"stream": power, "stream_change": power * np.array([0.0, 1.0])[:, None]}
    check = CoordinateCheck("heads", sizes, steps, values, {("stream", 0): 0.0})
    figure = draw_check(check)
    first, second = figure.axes
    assert first.get_xlabel() == "heads $H$"
    labels = first.get_legend_handles_labels()[1]
    assert labels == ["step 0: +0.50", "step 1: +0.50"]
    assert len(second.get_legend_handles_labels()[1]) == 1  # a change of 0 has no exponent


def test_panels_of_sweeps():
    rates = (0.01, 0.02, 0.04, 0.08, 0.16)
    losses = np.exp((np.log10(rates) - np.log10([[[0.02]], [[0.08]]])) ** 2) * np.ones((2, 2, 1))
    sweep = TransferSweep("layers", (2, 4), rates, losses, 10.0)
    figure = draw_sweeps({"rules": sweep, "standard": sweep})
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title() == "rules: drift +0.60 decades"
    assert figure.axes[1].get_ylabel() == ""


def lengths(ax):
    """Lengths of all bars of an axes that are drawn."""
    segments = [s for bars in ax.containers for part in bars[2] for s in part.get_segments()]
    return [np.ptp(s, axis=0).max() for s in segments if np.all(np.isfinite(s)) and len(s)]


def test_there_is_no_bar_where_there_is_no_error():
    """One seed, and optima at the edge of the grid, beside three seeds and optima within."""
    rates, sizes = tuple(2.0 ** np.arange(-8, 1)), (2, 4)
    shifts = np.array([-0.1, 0.0, 0.1])
    for optima, seeds, drawn in (
        ((-1.2, -1.0), 3, 2),
        ((-1.2, -1.0), 1, 0),
        ((-1.2, 3.0), 3, 1),
        ((-9.0, 3.0), 3, 0),
    ):
        distance = np.log10(rates) - np.array(optima)[:, None, None] - shifts[:seeds, None]
        sweep = TransferSweep("heads", sizes, rates, np.exp(distance**2), 10.0)
        (ax,) = draw_sweeps({"rules": sweep}).axes
        assert len(lengths(ax)) == drawn
        labels = ax.get_legend_handles_labels()[1]
        assert sum("pm" in label for label in labels) == drawn
        assert sum("one seed: no error" in label for label in labels) == (2 if seeds == 1 else 0)
        assert sum("at " in label for label in labels) == sum(abs(o) > 2.5 for o in optima)
    power = np.array([2.0, 4.0, 8.0])[:, None, None] * np.exp(0.1 * shifts)
    for seeds in (3, 1):
        check = CoordinateCheck("heads", (2, 4, 8), (0,), {"stream": power[..., :seeds]}, {})
        (ax,) = draw_check(check).axes
        assert len(lengths(ax)) == (3 if seeds > 1 else 0)
        (label,) = ax.get_legend_handles_labels()[1]
        assert ("one seed: no error" in label) == (seeds == 1)
