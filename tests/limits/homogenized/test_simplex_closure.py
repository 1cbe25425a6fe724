"""The simplex closure: its equation, and without scores the logistic one (row 3)."""

import numpy as np
import pytest

from translimit import solve
from translimit.describe import GaussianHeads, WideHeads
from translimit.limits.homogenized import Dimension, SimplexClosure
from translimit.limits.homogenized.high_temperature import (
    logistic_overlap_all,
    overlap_all_drift,
)


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Dimension.EXACT, 0.248),
        pytest.param(Dimension.LARGE, 0.366, marks=pytest.mark.slow),
    ],
)
def test_acceptance_3_the_simplex_equation(dimension, value):
    law = GaussianHeads.of_score_std(1.5, dim=8)
    problem = SimplexClosure(law=law, tokens=6, t1=1.5, dimension=dimension)
    solution = solve(problem, save=[0.0, 1.5])
    assert float(solution.overlap[-1]) == pytest.approx(value, abs=2e-3)
    assert solution.overlap[0] == 0.0
    assert solution.to_xarray()["overlap"].dims == ("time",)
    assert solution.plot().lines


def test_the_closure_without_scores_is_logistic():
    """In m = gamma + (1 - gamma) / n, for large dimension: 1e-7 over the whole curve."""
    law = WideHeads(dim=8, score_std=0.0)
    problem = SimplexClosure(law=law, tokens=8, t1=6.0, dimension=Dimension.LARGE)
    solution = solve(problem)
    mean = solution.overlap + (1 - solution.overlap) / 8
    np.testing.assert_allclose(mean, logistic_overlap_all(solution.ts, 1 / 8), atol=1e-7)
    assert overlap_all_drift(0.3, 0.2, 10**9) == pytest.approx(0.3 * 0.7, rel=1e-8)
