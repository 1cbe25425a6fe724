"""Coordinate checks and transfer sweeps on the command line: a user's factory, kept and resumed."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: no factory of its is run")

from translimit.cli import main  # noqa: E402
from translimit.scaling import read_horizons  # noqa: E402

TOY = Path(__file__).parents[1] / "checks"
BASE = ["--base", "head_dim=8,heads=2,layers=2,mlp_ratio=2"]
CHECK = ["coord-check", "toy:toy", *BASE, "--axis", "head_dim", "--multiples", "1", "2", "4"]
CHECK += ["--steps", "1", "2", "--seeds", "2"]
SWEEP = ["transfer", "toy:toy", *BASE, "--multiples", "1", "2", "--steps", "3", "--seeds", "1"]
SWEEP += ["--log2-rates", "-8", "-6"]


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    import toy

    return toy


def call(capsys, *arguments):
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_check_is_a_table_a_plot_a_document_and_is_resumed(place, capsys, monkeypatch, tmp_path):
    status, out, err = call(capsys, *CHECK, "--plot", "check.png")
    assert status == 0
    assert re.fullmatch(r"translimit: head_dim: takes about \d+ s\n", err)
    assert "learned key change" in out
    said = out[out.rindex("head_dim: ") :]
    assert said.startswith(("head_dim: supported", "head_dim: inconclusive with 2 seeds"))
    assert (tmp_path / "check.png").stat().st_size > 10_000
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("coord-check-toy-toy-")
    cells = sorted((folder / "cells").glob("*.json"))
    assert len(cells) == 3 * 2

    made = []
    right = place.toy
    monkeypatch.setattr(place, "toy", lambda trial: made.append(trial) or right(trial))
    cells[0].unlink()
    status, out, _ = call(capsys, *CHECK, "--json")
    assert (status, len(made)) == (0, 1)  # only what was missing
    document = json.loads(out)
    assert document["verdict"] in ("supported", "underpowered")
    (check,) = document["checks"]
    assert check["sizes"] == [8, 16, 32]
    assert check["findings"] == []
    assert {"coordinate", "exponent", "interval", "expected", "verdict"} <= set(check["rows"][0])
    call(capsys, *CHECK, "--json", "--fresh")
    assert len(made) == 1 + 6
    status, _, err = call(capsys, *CHECK, "--rate", "0.5", "--out", folder)
    assert status == 2
    assert "holds another check or sweep" in err


def test_a_refuted_check_is_a_result(place, capsys):
    status, out, _ = call(capsys, *CHECK, "--standard", "--seeds", "1")
    assert status == 0
    assert "head_dim: refuted" in out
    assert "one seed: no error" in out.replace("\n", "")
    assert not {"inf", "nan", "±"} & set(re.findall(r"[\w±]+", out))
    assert "blocks.*.attention.query.weight" in out.replace("\n", "")


def test_what_is_not_a_number_is_a_verdict(place, capsys, monkeypatch):
    right = place.toy
    nan = lambda model, examples: place.loss(model, examples) * np.nan  # noqa: E731
    monkeypatch.setattr(place, "toy", lambda trial: replace(right(trial), loss=nan))
    status, out, _ = call(capsys, *CHECK, "--json")
    assert status == 0
    assert json.loads(out)["verdict"] == "refuted"


def test_a_sweep(capsys, tmp_path):
    status, out, err = call(capsys, *SWEEP, "--plot", "sweep.svg")
    assert status == 0
    assert re.fullmatch(r"translimit: 12 networks in all; what is left takes about .*s\n", err)
    assert "head_dim, rules, 3 updates at a constant rate: drift" in out
    assert "head_dim, standard, 3 updates at a constant rate: drift" in out
    assert "at head dimension 16 your tuned rate costs" in out
    assert "inconclusive with one seed" in out.replace("\n", " ")
    assert "lies at the edge of the grid" in out
    assert "one seed: no error" in out
    assert not {"inf", "nan", "±"} & set(out.split())
    assert re.search(r"drift (at (least|most) [-+]\d\.\d\d decades|unknown: both optima)", out)
    assert (tmp_path / "sweep.svg").is_file()
    document = json.loads(call(capsys, *SWEEP, "--json")[1])
    assert [one["parameterization"] for one in document["sweeps"]] == ["rules", "standard"]
    assert len(document["sweeps"][0]["losses"][0][0]) == 3


def test_several_horizons_are_one_run_at_a_constant_rate(place, capsys, monkeypatch, tmp_path):
    made = []
    right = place.toy
    monkeypatch.setattr(place, "toy", lambda trial: made.append(trial) or right(trial))
    words = [*SWEEP, "--rules-only", "--steps", "2", "8", "--json"]
    document = json.loads(call(capsys, *words)[1])
    assert [one["steps"] for one in document["sweeps"]] == [2, 8]
    short, long = (one["rates"] for one in document["sweeps"])
    assert [2 * rate for rate in long] == short  # 2^-1 for four times as many updates
    # A pilot for each size, the four rates of both grids, and one to be asked for its rules.
    assert len(made) == 2 + 2 * 4 + 1
    call(capsys, *words)
    assert len(made) == 11 + 1
    cosine = json.loads(call(capsys, *words, "--schedule", "cosine")[1])
    assert len(made) == 12 + 2 + 2 * 3 * 2 + 1  # every horizon is a run of its own
    assert cosine["schedule"] == "cosine"
    assert [one["rates"] for one in cosine["sweeps"]] == [short, short]
    for folder in (tmp_path / "runs").iterdir():
        told = read_horizons(folder / "horizons.json")
        assert {one.optimizer for one in told} <= {"adamw", "momentum", "sgd"}


def broken(trial):
    raise RuntimeError("no model\nat all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coord-check"], "FACTORY: is missing; write module:function"),
        (["transfer"], "FACTORY: is missing; write module:function"),
        (["coord-check", "toy"], "factory: got 'toy'; write module:function"),
        (["coord-check", "absent_module:f"], "'absent_module' cannot be imported"),
        (["coord-check", "toy:tooy"], "'toy' has no 'tooy'; did you mean 'toy'?"),
        (["coord-check", "toy:BASE"], "is not a function"),
        (["coord-check", "toy:batch", *BASE], "factory: "),
        (["coord-check", "toy:toy", "--base", "heads=x"], "x"),
        ([*CHECK, "--plot", "check.doc"], "--plot: got 'check.doc'"),
        ([*CHECK, "--multiples", "1", "2"], "sizes: got (8, 16); pass at least 3"),
        ([*CHECK, "--multiples", "0", "1", "2"], "--multiples: got 0 1 2"),
        ([*CHECK, "--seeds", "0"], "seeds: got 0"),
        ([*CHECK, "--axis", "width"], "--axis"),
        ([*CHECK, "--rate", "fast"], "--rate"),
        ([*SWEEP, "--log2-rates", "-3", "-3"], "--log2-rates: got -3 -3"),
        ([*SWEEP, "--log2-rates", "-3"], "--log2-rates: has fewer than 2 values; see `translim"),
        ([*SWEEP, "--log2-rates", "x", "y"], "--log2-rates: got 'x y'; see `translimit trans"),
        ([*CHECK, "--multiples", "x"], "--multiples: got 'x'; see `translimit coord-check"),
        ([*SWEEP, "--rate", "1"], "--rate"),
        ([*SWEEP, "--points", "0"], "--points: got 0"),
        ([*SWEEP, "--steps", "0", "3"], "steps: got (0, 3); pass increasing counts from 1"),
        ([*SWEEP, "--schedule", "cosin"], "--schedule"),
    ],
)
def test_unusable_input_is_told_in_one_line(capsys, words, message):
    status, out, err = call(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("translimit: ")
    assert message in err


def test_a_factory_that_raises_is_told_in_one_line(place, capsys, monkeypatch):
    monkeypatch.setattr(place, "toy", broken)
    status, out, err = call(capsys, *CHECK)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "factory: raised RuntimeError: no model at all; call it by hand" in err
