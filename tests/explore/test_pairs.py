"""Two tokens along depth: the limits that the map names hold networks, where it names them."""

import numpy as np

from translimit.explore.networks import head_overlaps, mean_and_error, mean_effect_overlaps
from translimit.explore.pairs import DIM, diffusive_pair, mean_effect_pair
from translimit.explore.registry import panel_of
from translimit.explore.view import View


def test_the_ballistic_limit_is_the_overlap_equation_of_two_tokens() -> None:
    # V = A = 1: R' = 2 (1 - R^2) w(R), w the weight of the other token; here by Runge and Kutta.
    def rate(R: float) -> float:
        return 2 * (1 - R**2) * np.exp(1.5 * R) / (np.exp(1.5) + np.exp(1.5 * R))

    R, h = 0.0, 0.001
    for _ in range(1200):
        k1 = rate(R)
        k2 = rate(R + h / 2 * k1)
        k3 = rate(R + h / 2 * k2)
        k4 = rate(R + h * k3)
        R += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    ballistic, _ = mean_effect_pair(24, 0.05, 1.5)
    assert abs(ballistic[-1] - R) < 1e-7


def test_networks_are_in_the_limit_that_the_map_names_and_not_in_the_other() -> None:
    panel = panel_of(View(panel="regimes", step=0.02, layers=24, heads=64))
    assert panel.numbers["found"] == ["FROZEN", "BALLISTIC"]
    mean, error = mean_and_error(mean_effect_overlaps(DIM, 64, 24, 0.02, 1.0))
    ballistic, _ = mean_effect_pair(24, 0.02, 1.0)
    assert abs(mean[-1] - ballistic[-1]) < 4.5 * error[-1]
    assert mean[-1] > 4.5 * error[-1]  # nothing moves: refuted here
    panel = panel_of(View(panel="regimes", step=0.5, layers=96))
    assert panel.numbers["found"] == ["DIFFUSIVE", "DISCRETE"]
    mean, error = mean_and_error(head_overlaps(2, 512, 8, 96, 0.5, 1.0))
    diffusive = diffusive_pair(512, 8, 96, 0.5, 1.0)
    assert abs(mean[-1] - diffusive[-1]) < 4.5 * error[-1]
    assert mean[-1] > 4.5 * error[-1]


def test_extreme_steps_end_and_leave_the_expansion_out() -> None:
    panel = panel_of(View(panel="regimes", step=1000.0, layers=1000))
    assert np.isnan(mean_effect_pair(1000, 1000.0, 1.0)[1]).all()
    assert diffusive_pair(512, 8, 1000, 1000.0, 1.0)[-1] == 1.0
    assert "modified" not in str(panel.figures[3])
