"""The experiments on training dynamics at toy sizes: claims bind, and figures draw."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from translimit.core import Verdict, named_key
from translimit.experiments import get_experiment
from translimit.experiments.bordelon2024 import dmft_depth, dmft_heads, dmft_rich_and_lazy


@pytest.mark.slow
def test_networks_in_heads_approach_the_limit() -> None:
    experiment = get_experiment("bordelon2024/dmft-heads")
    config = dmft_heads.Config(heads=(8, 16), seeds=800, steps=8, samples=1000, populations=4)
    key = named_key(0, experiment.name)
    results: dict[str, Any] = {
        cell.name: experiment.compute(config, cell, key) for cell in experiment.cells(config)
    }
    claims = {claim.name: claim for claim in experiment.claims(config, results)}
    assert set(claims) == set(experiment.claim_names())
    assert Verdict.refuted not in {claim.verdict for claim in claims.values()}
    assert claims["response"].estimate.value > 0.04
    # A limit that trains half as fast is seen.
    spoiled = results["limit"].copy(deep=True)
    spoiled["predictions"].values[:] *= 0.5
    wrong = experiment.claims(config, {**results, "limit": spoiled})
    assert {c.name: c.verdict for c in wrong}["predictions"] is Verdict.refuted
    for spec in experiment.figures(config, results):
        figure = Figure(figsize=spec.size)
        spec.draw(figure)
        assert figure.axes
        assert all(len(row) == len(spec.table.columns) for row in spec.table.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dmft-depth", "dmft-rich-and-lazy"])
def test_what_nothing_is_sampled_in(name: str) -> None:
    experiment = get_experiment(f"bordelon2024/{name}")
    config = {
        "dmft-depth": dmft_depth.Config(layers=(16, 32, 64), cells=32),
        "dmft-rich-and-lazy": dmft_rich_and_lazy.Config(per_class=2, steps=8),
    }[name]
    key = named_key(0, experiment.name)
    results = {
        cell.name: experiment.compute(config, cell, key) for cell in experiment.cells(config)
    }
    claims = experiment.claims(config, results)
    assert {claim.name for claim in claims} == set(experiment.claim_names())
    assert Verdict.refuted not in {claim.verdict for claim in claims}
    for spec in experiment.figures(config, results):
        figure = Figure(figsize=spec.size)
        spec.draw(figure)
        assert figure.axes
