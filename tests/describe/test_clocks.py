"""The clocks of random heads."""

import numpy as np
import pytest

from translimit.describe import (
    Clocks,
    GaussianHeads,
    diffusive_step,
)


def test_clocks():
    law = GaussianHeads(dim=64, beta=1.0, sigma_v=0.5, sigma_a=1.0)
    assert float(diffusive_step(law, step=0.1, heads=8)) == pytest.approx(64 * 0.25 * 0.01 / 8)
    clocks = Clocks.of_layers([0, 1000], law, step=0.1, heads=8)
    np.testing.assert_allclose(clocks.paper_time, [0, 100])
    np.testing.assert_allclose(clocks.diffusive_time, [0, 20])
    np.testing.assert_allclose(clocks.slow_time, [0, 20 / 64])
