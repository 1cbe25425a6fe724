"""The drawing of a verdict agrees with the verdict rule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit.core import Claim, Estimate, Rival
from translimit.report.ledger import TOLERANCE, claim_row, gauge


@given(st.floats(0, 10), st.floats(0, 3), st.floats(0.1, 5))
def test_bar_lies_where_the_verdict_says(value, stderr, tol):
    far = (Rival("far", 1e6),)
    claim = Claim("c", "s", 0.0, Estimate(value, stderr, 10), tol, rivals=far)
    drawn = gauge(claim.gap, claim.floor, claim.tol)
    assert drawn is not None
    low, high = float(drawn.low), float(drawn.high)
    match claim.verdict.value:  # positions are rounded to a tenth of a pixel
        case "supported":
            assert high <= TOLERANCE + 0.05
        case "refuted":
            assert low >= TOLERANCE - 0.05
        case _:
            assert low <= TOLERANCE + 0.05
            assert high >= TOLERANCE - 0.05


@pytest.mark.parametrize("numbers", [(math.nan, 0.1, 1.0), (0.1, math.inf, 1.0), (0.1, 0.1, 0.0)])
def test_no_drawing_without_a_scale(numbers):
    assert gauge(*numbers) is None


def test_row_of_a_claim():
    rivals = (Rival("flat", 0.0), Rival("as printed", -1.0, printed=True))
    claim = Claim("slope", "s", -0.5, Estimate(-0.51234, 0.0031, 200, 1e-5), 0.05, rivals=rivals)
    row = claim_row("paper/name", claim.to_json())
    assert row.slug == "claim-paper-name-slope"
    assert (row.prediction, row.measured) == ("−0.5", "−0.512 ± 0.003")
    assert (row.samples, row.discretisation) == (
        "200 samples",
        "1\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁵",
    )
    assert (row.gap, row.floor, row.tolerance) == ("0.0123", "0.0031", "0.05")
    assert (row.verdict, row.printed, len(row.errata)) == ("supported", "", 1)
    assert row.nearest is not None
    assert (row.nearest.name, row.nearest.excluded) == (
        "as printed",
        "excluded by 140 standard errors",
    )
