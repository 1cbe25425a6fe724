"""Designs that keep the update of a token and collapse later."""

import pytest

from translimit.describe import WideHeads
from translimit.limits.homogenized import collapse_depth
from translimit.limits.homogenized.designs import postpone_collapse, token_update


@pytest.mark.slow
def test_a_design_keeps_its_update_and_gains_depth():
    best = postpone_collapse(dim=64, tokens=8, update=0.01, score_stds=(0.0, 4.0))
    law = WideHeads(dim=64, score_std=best.score_std)
    assert float(token_update(law, tokens=8, step=best.step, heads=1)) == pytest.approx(0.01)
    hot = WideHeads(dim=64, score_std=0.0)
    step = (0.01 / float(token_update(hot, tokens=8, step=1.0, heads=1))) ** 0.5
    base = collapse_depth(hot, tokens=8, step=step, heads=1)
    assert float(best.depth.layers) > 2 * float(base.layers)
