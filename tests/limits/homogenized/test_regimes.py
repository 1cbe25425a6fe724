"""The classifier of regimes: every row, warnings, laws of one's own (row 1)."""

import json
import math

import pytest
from tests.limits.homogenized.cases import law_with

from translimit.describe import GaussianHeads, SampledHeads, WideHeads
from translimit.limits.homogenized import Regime, classify


def test_acceptance_1_the_classifier():
    law = GaussianHeads(dim=64, beta=1.0, sigma_v=1 / 8, sigma_a=64**-0.25)
    found = classify(law, tokens=16, layers=1000, step=0.1, heads=8)
    assert found.regime is Regime.DIFFUSIVE
    assert found.alpha == pytest.approx(0.0123047, abs=5e-8)
    assert found.noise == pytest.approx(1.23047, abs=5e-6)
    assert found.diffusive_time == pytest.approx(1.25, rel=1e-12)
    assert found.diffusive_step == pytest.approx(0.00125, rel=1e-12)
    assert (found.score_std, found.beta_operator) == pytest.approx((1.0, 8.0))
    assert found.to_json()["regime"] == "diffusive"
    hard = WideHeads(dim=64, score_std=math.inf)
    found = classify(hard, tokens=16, layers=1000, step=0.1, heads=8)
    assert found.regime is Regime.DIFFUSIVE
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["score_std"] == "infinity"


@pytest.mark.parametrize(
    ("law", "layers", "step", "heads", "regime"),
    [
        (WideHeads(dim=32, score_std=1.0), 4, 0.1, 1, Regime.FROZEN),
        (WideHeads(dim=32, score_std=1.0), 10, 0.5, 1, Regime.DISCRETE),
        (WideHeads(dim=32, score_std=1.0), 10, 0.5, 10, Regime.DIFFUSIVE),
        (law_with(1.0), 10, 0.05, 1, Regime.BALLISTIC),
        (law_with(1.0), 10, 0.1, 1, Regime.MODIFIED),
        (law_with(1.0, 1.0), 10, 0.1, 1, Regime.DIFFUSIVE),
        (law_with(1.0), 100, 0.1, 1, Regime.DISCRETE),
    ],
)
def test_every_row_of_the_classifier(law, layers, step, heads, regime):
    found = classify(law, tokens=8, layers=layers, step=step, heads=heads)
    assert found.regime is regime
    assert ("none" in found.error) == (regime is Regime.DISCRETE)


def test_warnings_of_the_classifier():
    found = classify(law_with(1.0), tokens=40, layers=300, step=0.05, heads=1)
    assert any("paper time 15" in text for text in found.warnings)
    assert any("more tokens than dimensions" in text for text in found.warnings)


def test_a_user_law_is_classified():
    law = SampledHeads(
        dim=16, beta=1.0, sampler=lambda key: (0, 0), centred=True, variance_proxy=15 / 16
    )
    found = classify(law, tokens=4, layers=100, step=0.1, heads=1)
    assert found.diffusive_time == pytest.approx(1.0)
    assert found.score_std is None
