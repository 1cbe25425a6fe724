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
    assert labels == ["step 0: +0.50 ± 0.00", "step 1: +0.50 ± 0.00"]
    assert len(second.get_legend_handles_labels()[1]) == 1  # a change of 0 has no exponent


def test_panels_of_sweeps():
    rates = (0.01, 0.02, 0.04, 0.08, 0.16)
    losses = np.exp((np.log10(rates) - np.log10([[[0.02]], [[0.08]]])) ** 2) * np.ones((2, 2, 1))
    sweep = TransferSweep("layers", (2, 4), rates, losses, 10.0)
    figure = draw_sweeps({"rules": sweep, "standard": sweep})
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title() == "rules: drift +0.60 decades"
    assert figure.axes[1].get_ylabel() == ""
