"""The experiments on the shaped Transformer at toy sizes: claims bind, and figures draw."""

from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import Verdict
from translimit.experiments import get_experiment
from translimit.experiments.noci2023 import (
    exact_facts,
    explosion,
    sde_and_networks,
    shaped_and_unshaped,
    starts,
    weak_error,
)


def test_real_tokens_are_starts() -> None:
    for name in starts.STARTS:
        cov = starts.initial_covariance(name)
        assert np.mean(np.diagonal(cov)) == pytest.approx(1.0)
        assert np.linalg.eigvalsh(cov).min() > -1e-12
    text = starts.initial_covariance("text")
    assert np.linalg.matrix_rank(text) < len(text)  # "It is ": the space and the i occur twice


def test_sde_and_networks() -> None:
    experiment = get_experiment("noci2023/sde-and-networks")
    config = sde_and_networks.Config(
        starts=("text",), dims=(10, 40), ratios=(0.1, 0.3), networks=300, paths=1000
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["densities", "trajectories", "distances"]
    found = verdicts(experiment, config, results)
    assert set(found) == {"text-correlation", "text-norm"}
    assert Verdict.refuted not in found.values()
    # Half the noise is another law, and is seen as one.
    limit = results["limit/text"].copy(deep=True)
    limit["correlation"].values[:] = limit["correlation"].values * 0.5
    spoiled = {**results, "limit/text": limit}
    assert verdicts(experiment, config, spoiled)["text-correlation"] is Verdict.refuted


def test_weak_error() -> None:
    experiment = get_experiment("noci2023/weak-error")
    config = weak_error.Config(dims=(8, 16), networks=3200)
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["rates"]
    found = verdicts(experiment, config, results)
    assert found["mlp-rate"] is Verdict.supported
    assert found["attention-error"] is not Verdict.refuted


def test_shaped_and_unshaped(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("shaped", "softmax")
    for table in ("CASES", "EXPECTED"):
        full = getattr(shaped_and_unshaped, table)
        monkeypatch.setattr(shaped_and_unshaped, table, {case: full[case] for case in kept})
    experiment = get_experiment("noci2023/shaped-and-unshaped")
    config = shaped_and_unshaped.Config(
        layers=20, networks=1000, gradient_dim=16, gradient_layers=4, gradient_networks=8
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["depth", "gradients"]
    found = verdicts(experiment, config, results)
    assert found["softmax-depth-5"] is Verdict.supported
    assert found["softmax-rank"] is Verdict.supported
    assert found["shaped-depth-20"] is Verdict.supported


def test_explosion() -> None:
    experiment = get_experiment("noci2023/explosion")
    config = explosion.Config(
        gamma_squares=(0.25, 0.4, 0.5),
        temperatures=(0.5, 1.0),
        cases=("one head",),
        paths=1000,
        adaptive=0.2,
        dims=(20,),
        networks=200,
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["map", "times", "growth"]
    found = verdicts(experiment, config, results)
    assert found["threshold"] is Verdict.supported
    assert found["heads-explode-more"] is Verdict.supported
    assert found["paths-one head"] is not Verdict.refuted


def test_exact_facts() -> None:
    experiment = get_experiment("noci2023/exact-facts")
    config = replace(
        exact_facts.Config(), paths=2000, steps=(0.05,), step=0.02, starts=(0.5,), horizon=15.0
    )
    results = compute(experiment, config)
    assert draw_all(experiment, config, results) == ["log-det", "alignment"]
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert found["arcsine-martingale"] is not Verdict.refuted
