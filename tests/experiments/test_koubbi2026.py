"""The experiments on random heads at small sizes: runs, verdicts that must not flip, refusals."""

import dataclasses

import pytest
from tests.experiments.checks import compute, drawn

from translimit.core import ConfigError, Verdict
from translimit.experiments import PRESETS, get_experiment

SMALL = {
    "regimes": {"steps": (0.1, 0.05, 0.025), "replicas": 4000},
    "simplex": {"layers": 8000, "dims": (16, 32, 64), "replicas": 40, "plain": 3000},
    "moebius": {"samples": 400, "collapses": 200, "replicas": 16},
    "concentration": {"dims": (32, 64, 128), "replicas": 60, "scored": 30},
    "trade-offs": {"replicas": 16, "small": 300, "scored": 16},
    "low-temperature": {"dim": 16, "replicas": 150, "samples": 50_000},
    "drift-and-noise": {"replicas": 1000},
    "collapse": {"cases": ((64, 16, 0.0, 1, 0.2), (64, 16, 2.0, 1, 0.3)), "replicas": 40},
    "slow-motion": {"replicas": 2000, "networks": 100},
    "settling": {"dim": 16, "replicas": 100, "samples": 50_000},
}
#: Verdicts that a small run must reach too: the errata, and what they correct.
EXPECTED = {
    "regimes": {
        "ballistic-order": Verdict.supported,
        "modified-order-corrected": Verdict.supported,
        "tangent-order": Verdict.supported,
    },
    "drift-and-noise": {"order-corrected": Verdict.supported},
    "simplex": {"drift-at-0": Verdict.supported, "mean-without-scores-d=16": Verdict.supported},
    "low-temperature": {"square-limit": Verdict.supported},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_run_is_whole(name):
    experiment = get_experiment(f"koubbi2026/{name}")
    config = dataclasses.replace(experiment.presets["demo"], **SMALL[name])
    results = compute(experiment, config)
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    for claim, verdict in EXPECTED.get(name, {}).items():
        assert claims[claim].verdict is verdict, claims[claim].estimate
    assert tuple(claims) == experiment.claim_names(config)
    for spec in experiment.drawings(config, results):
        figure = drawn(spec)
        figure.canvas.draw()
    assert experiment.cost(config).seconds > 0


@pytest.mark.parametrize("name", SMALL)
def test_every_preset_has_cells_and_a_cost(name):
    experiment = get_experiment(f"koubbi2026/{name}")
    assert set(experiment.presets) == set(PRESETS)
    costs = [experiment.cost(experiment.presets[preset]).seconds for preset in PRESETS]
    assert costs == sorted(costs)
    for preset in PRESETS:
        cells = experiment.cells(experiment.presets[preset])
        assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("name", "changes", "argument"),
    [
        ("overlaps", {"replicas": 3}, "replicas"),
        ("overlaps", {"layers": 1500}, "layers"),
        ("simplex", {"dims": (4, 16, 32)}, "dims"),
        ("concentration", {"dims": (16, 32, 64)}, "dims"),
        ("trade-offs", {"scored": 2}, "scored"),
        ("moebius", {"replicas": 4}, "replicas"),
        ("low-temperature", {"dim": 8}, "dim"),
        ("collapse", {"replicas": 4}, "replicas"),
        ("collapse", {"cases": ()}, "cases"),
        ("drift-and-noise", {"replicas": 10}, "replicas"),
    ],
)
def test_sizes_that_the_claims_can_not_use(name, changes, argument):
    experiment = get_experiment(f"koubbi2026/{name}")
    with pytest.raises(ConfigError) as caught:
        experiment.cells(dataclasses.replace(experiment.presets["demo"], **changes))
    assert caught.value.argument == argument
