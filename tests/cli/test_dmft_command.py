"""`translimit dmft`: a file of one's own becomes a run with its ledger and report."""

import json
from pathlib import Path

import numpy as np
import pytest

import translimit
from translimit.cli import main
from translimit.core import config
from translimit.execute import thread_limits
from translimit.experiments import get_experiment
from translimit.store import RunFolder
from translimit.study import plan_run

EXAMPLE = Path(translimit.__file__).parent / "examples" / "dmft.toml"
NAME = "bordelon2024/dmft-networks"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in thread_limits(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_the_committed_example_is_understood():
    planned = plan_run([NAME], config_file=EXAMPLE).experiments[0]
    assert planned.config.sizes == (8, 16, 32)
    assert planned.cells[0].name == "limit"
    words = (EXAMPLE).read_text()
    given = set(config.read_file(EXAMPLE))
    assert given <= set(config.to_json(get_experiment(NAME).presets["demo"]))
    assert words.startswith("# translimit dmft dmft.toml")


def test_unknown_keys_are_refused_with_the_known_ones(tmp_path, capsys):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"head": 2}))
    assert main(["dmft", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"translimit: {path}: unknown key 'head'; did you mean 'head_dim'? ")
    for key in ("task", "axis", "sizes", "gamma0", "seeds"):
        assert key in said.partition("known: ")[2]
    path.write_text(json.dumps({"sizes": [8, 12]}))
    assert main(["dmft", str(path)]) == 2
    assert "each twice the one before" in capsys.readouterr().err


@pytest.mark.slow
def test_two_outputs_of_a_file_are_compared_and_finished_when_interrupted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        inputs=rng.standard_normal((3, 2, 6)),
        targets=np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]),
    )
    own = {
        "task": str(tmp_path / "data.npz"),
        "inputs": 3,
        "head_dim": 2,
        "mlp": "tanh",
        "steps": 6,
        "eta0": 0.06,
        "sizes": [8, 16],
        "seeds": 600,
        "samples": 500,
        "neurons": 1000,
        "populations": 2,
        "tol": 0.05,
    }
    path, out = tmp_path / "own.json", tmp_path / "run"
    path.write_text(json.dumps(own))
    command = ["dmft", str(path), "--out", str(out), "--executor", "serial"]
    assert main(command) == 2  # as many outputs as tokens
    assert "readout: is missing" in capsys.readouterr().err
    path.write_text(json.dumps({**own, "readout": "pooled"}))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "cells: 3 computed, 0 kept" in said
    assert "refuted" in said
    run = RunFolder.open(out)
    claims = {claim["name"]: claim for claim in run.claims()[NAME]}
    assert set(claims) == {"rate", "predictions", "kernel", "attention"}
    assert claims["predictions"]["verdict"] != "refuted"
    assert (out / "report.html").exists()
    # The same command finishes it, and other data are computed anew.
    assert main(command) == 0
    assert "cells: 0 computed, 3 kept" in capsys.readouterr().out
    np.savez(tmp_path / "data.npz", inputs=rng.standard_normal((3, 2, 6)), targets=np.zeros((3, 2)))
    assert main(command) == 0
    assert "cells: 3 computed, 0 kept" in capsys.readouterr().out
