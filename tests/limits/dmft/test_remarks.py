"""What a solution remarks upon: divergence, heavy tails."""

import re

import numpy as np
import pytest
from tests.limits.dmft.cases import ring4

from translimit.core import (
    Outcome,
    SolveError,
    solve,
)
from translimit.limits import dmft
from translimit.limits.dmft import (
    remarks,
)


def test_a_diverging_run_says_where_and_warns() -> None:
    problem = ring4(beta0=2.0, gamma0=2.0, steps=12, eta0=1e3)  # same compiled shape as `base`
    with pytest.warns(
        dmft.EdgeOfStabilityWarning,
        match=r"1 at the edge of stability\), first above at evaluation 0",
    ):
        solution = solve(problem, throw=False)
    assert solution.outcome == Outcome.non_finite
    assert re.fullmatch(
        r"evaluation \d+, (layer 0, attention, (for|back)ward|readout)", solution.failed_at
    )
    assert np.isnan(solution.predictions[-1]).all()
    with pytest.warns(dmft.EdgeOfStabilityWarning), pytest.raises(SolveError, match="infinite or"):
        solve(problem)


def test_heavy_tails_are_told() -> None:
    with pytest.warns(dmft.HeavyTailWarning, match=r"reaches 50 .evaluation 1, layer 0.*quantiles"):
        remarks.warn_of_heavy_tails(np.array([[3.0], [50.0]]))
    remarks.warn_of_heavy_tails(np.array([[3.0]]))


def test_losses_without_a_minimum_are_told_at_the_edge() -> None:
    over = np.array([0.5, 1.5])
    for endless, words in ((True, r"Outputs of separable data.*smoothing"), (False, r"compare$")):
        with pytest.warns(dmft.EdgeOfStabilityWarning, match=words):
            remarks.warn_of_instability(over, endless=endless)
    remarks.warn_of_instability(over - 1, endless=True)
