"""Adam in configurations and in the experiment on it."""

from pathlib import Path

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit import train
from translimit.cli import main
from translimit.core import ConfigError, Verdict
from translimit.describe import Activation, Role
from translimit.experiments import get_experiment
from translimit.experiments.bordelon2024.adam_problem import Config
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.limits import dmft
from translimit.store import RunFolder

NAME = "bordelon2024/dmft-adam"


def test_a_configuration_says_what_updates_are() -> None:
    own = OwnProblem(task="ring", inputs=2, axis="none", optimizer="adam", b1=0.5, eps=0.05)
    problem = own.limit()
    assert problem.optimizer == dmft.Adam(0.5, 0.999, 0.05)
    assert isinstance(own.method(problem), dmft.PopulationSampling)
    assert own.limit_seconds() > 0
    assert own.limit_bytes() > 0
    decayed = OwnProblem(axis="none", optimizer="adamw", weight_decay=0.1)
    assert decayed.update == dmft.AdamW(0.9, 0.999, 1e-3, 0.1)
    gelu = OwnProblem(axis="none", activation_on_stream="gelu")
    assert gelu.limit().architecture.activation_on_stream is Activation.GELU
    assert isinstance(gelu.method(gelu.limit()), dmft.PopulationSampling)
    assert OwnProblem().limit().optimizer == dmft.SGD()
    with_networks = OwnProblem(optimizer="adamw", b1=0.5, eps=0.05, weight_decay=0.1)
    trained = train.Optimizer("adamw", b1=0.5, b2=0.999, eps=0.05, weight_decay=0.1)
    assert with_networks.network_optimizer == trained
    assert OwnProblem(activation_on_stream="gelu").shape(8).stream_activation is Activation.GELU
    for change, message in (
        ({"axis": "none", "weight_decay": 0.1}, "weight_decay: got 0.1 with optimizer 'sgd'"),
        ({"axis": "none", "optimizer": "sign", "momentum": 0.5}, "momentum: got 0.5 with sign"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}"):
            OwnProblem(**change)


def test_networks_have_the_rates_and_epsilons_of_the_limit() -> None:
    config = Config(gamma0=2.0, beta0=1.5)
    shape = config.shape(8)
    n, rate = 16, config.eta0
    numbers = config.numbers(shape, "adam")
    for role in (Role.PATCH_EMBEDDING, Role.READOUT):
        rule = numbers.role(role)
        # The hat weight is n^(1/2) times the raw one: it moves by eta_0.
        assert rule.lr * n**0.5 == pytest.approx(rate)
        assert rule.init * n**0.5 == pytest.approx(1.0)
        # The raw gradient is n^(1/2) times that of the hat weight, G / (gamma_0 n).
        assert rule.eps == pytest.approx(n**0.5 / (2.0 * n))
    for role in (Role.QUERY, Role.KEY, Role.VALUE):
        rule = numbers.role(role)
        assert rule.lr == pytest.approx(rate * n**-0.5)
        assert rule.eps == pytest.approx(1.5 / (2.0 * n**1.5))


@pytest.mark.slow
def test_networks_under_adam_approach_their_limit() -> None:
    experiment = get_experiment(NAME)
    config = Config(heads=(8, 16, 32), seeds=(1500, 1500, 1000), units=256, populations=4)
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    assert Verdict.refuted not in found.values()
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    rivals = {rival.name: rival for rival in claims["predictions-adam"].rivals}
    assert all(abs(rival.estimate.value) > 0.03 for rival in rivals.values())
    draw_all(experiment, config, results)


@pytest.mark.slow
def test_the_command_line_solves_adam(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "adam.toml", tmp_path / "run"
    file.write_text(
        'task = "ring"\ninputs = 2\naxis = "none"\noptimizer = "adam"\nb1 = 0.5\nb2 = 0.8\n'
        'eps = 0.05\neta0 = 0.1\nbeta0 = 1.0\ngamma0 = 1.0\nnorm = "rms"\nsteps = 4\n'
        "populations = 2\nunits = 128\n"
    )
    assert main(["dmft", str(file), "--out", str(out), "--executor", "serial"]) == 0
    capsys.readouterr()
    f = (
        RunFolder.open(out)
        .read_cell("bordelon2024/dmft-networks", "limit")["predictions"]
        .values[:, :, 0]
    )
    np.testing.assert_allclose(f[1], [0.228, -0.24], atol=0.03)
