"""Experiments on signal propagation at toy sizes: cells, claims and figures."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.signal import (
    depth_exponents,
    families,
    gradient_independence,
    random_energy,
    spread,
    stacks,
    trainability,
)

TOYS = {
    "signal/families": replace(families.Config(), dim=64, layers=2, tokens=4, networks=4, copies=2),
    "signal/gradient-independence": replace(
        gradient_independence.Config(), dim=64, layers=2, tokens=4, networks=12
    ),
    "signal/random-energy": replace(random_energy.Config(), keys=(64, 512), scores=2_000_000),
    "signal/depth-exponents": replace(
        depth_exponents.Config(),
        gains=(0.1, 1.2),
        variances=(1.0,),
        tokens=6,
        depths=(3,),
        dim=64,
        networks=12,
    ),
    "signal/spread": replace(spread.Config(), dim=64, layers=2, tokens=4, networks=24, pairs=4),
    "signal/trainability": replace(
        trainability.Config(),
        gains=(0.1, 1.2),
        variances=(0.5, 3.0),
        depths=(3, 6),
        drawn_depth=6,
        tokens=4,
        dim=64,
        networks=6,
    ),
}


def test_softmax_of_drawn_scores_has_the_exact_mean() -> None:
    name = "signal/random-energy"
    experiment, config = get_experiment(name), TOYS[name]
    results = compute(experiment, config)
    claims = experiment.check(config, results)
    assert len(claims) == 6
    for claim in claims:
        assert claim.gap < 4.5 * claim.floor
        assert all(claim.gap_of(rival) > 0.1 for rival in claim.rivals)
    assert draw_all(experiment, config, results) == ["sizes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TOYS if "random" not in name])
def test_claims_and_figures(name: str) -> None:
    experiment, config = get_experiment(name), TOYS[name]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    assert len(draw_all(experiment, config, results)) == len(experiment.figures)
    if name == "signal/depth-exponents":  # no sampling error, and no size in the map
        assert {found["angle"], found["gradient"]} == {Verdict.supported}
    if name == "signal/spread":  # the tokens alone are far from the whole noise
        assert Verdict.refuted not in found.values()
    if name == "signal/gradient-independence":
        assert found["squares-post-LN"] is Verdict.supported


def test_regions_of_the_trainability_map() -> None:
    region, far = trainability.region, 1.01 * np.log(10.0)
    assert [region(0.2, far), region(0.2, -far), region(0.95, far)] == [
        "exploding",
        "vanishing",
        "exploding",
    ]
    assert [region(0.91, 0.0), region(0.2, -1.0)] == ["collapsed", "trainable"]
    assert set(trainability.REGIONS) == {"exploding", "vanishing", "collapsed", "trainable"}


def test_families_leave_out_what_they_say() -> None:
    for name in stacks.FAMILIES:
        stack = stacks.family(name, 64, 2, 0.05)
        assert stack.causal == (name != "bert")
        cov = stack.initial_cov(stacks.ids(8))
        assert cov.shape == (8, 8)
        assert len(stacks.without(stack, "attention").layers[0]) == 1
        bare = stacks.without(stack, "norms")
        assert not any(one.norm_out or one.norm_post for one in bare.sub_blocks)
    heads = stacks.without(stacks.family("qwen3", 64, 2, 0.05), "norms of heads")
    assert heads.layers[1][0].branches[0].qk_norm is None  # pyright: ignore[reportAttributeAccessIssue]
    assert stacks.mean_overlaps(np.full((3, 2, 2), 0.5) + 0.5 * np.eye(2)) == pytest.approx(0.5)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="dim"):
        families.Config(dim=100)
    with pytest.raises(ConfigError, match="strengths"):
        random_energy.Config(strengths=(0.0,))
