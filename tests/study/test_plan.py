"""Configurations: preset, then file, then --set; refusals name the nearest."""

import json

import pytest

from translimit.core import ConfigError
from translimit.experiments import Cell, get_experiment
from translimit.study import plan_run

ONE = "fake_experiments:EXPERIMENT"
TWO = "fake_experiments:OTHER"


@pytest.fixture(autouse=True)
def _importable(fakes):
    pass


def configs(plan):
    return {one.name: one.config for one in plan.experiments}


def test_preset_then_file_then_overrides(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('seconds = 0.5\nsize = 10\n["fake/other"]\nsize = 12\n')
    plan = plan_run([ONE, TWO], config_file=file, overrides={"seconds": "2"})
    found = configs(plan)
    assert (found["fake/means"].cells, found["fake/other"].cells) == (3, 2)
    assert (found["fake/means"].size, found["fake/other"].size) == (10, 12)
    assert found["fake/means"].seconds == found["fake/other"].seconds == 2.0
    assert [len(one.cells) for one in plan.experiments] == [3, 2]


def test_the_command_of_a_plan_makes_the_same_plan(tmp_path):
    plan = plan_run([ONE], preset="standard", seed=3, overrides={"action": "a b"}, threads=2)
    assert plan.command(tmp_path / "x y") == (
        f"translimit run {ONE} --preset standard --seed 3 --threads 2 "
        f"--set 'action=a b' --out '{tmp_path}/x y'"
    )


def test_a_device_is_part_of_the_command():
    assert plan_run([ONE], device="gpu").command(None).endswith(" --device gpu")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_digests_follow_what_fixes_the_result():
    base = plan_run([ONE, TWO])
    assert plan_run([TWO, ONE]).digest == base.digest
    others = [
        plan_run([ONE]),
        plan_run([ONE, TWO], seed=1),
        plan_run([ONE, TWO], threads=2),
        plan_run([ONE, TWO], overrides={"size": "9"}),
        plan_run([ONE, TWO], device="gpu"),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 6
    assert plan_run([ONE, TWO], device="cpu").digest == base.digest  # no GPU here
    cells = [base.cell_digest(one, cell) for one in base.experiments for cell in one.cells]
    assert len(set(cells)) == 5


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "experiment: none is named"),
        (["castin2025/particles-and-closur"], {}, "did you mean 'castin2025/particles-and-closure"),
        (["no_such_module:X"], {}, "cannot load 'no_such_module:X'"),
        (["fake_experiments:double"], {}, "is not an experiment"),
        ([ONE, ONE], {}, "named twice"),
        ([ONE], {"preset": "demoo"}, "no preset 'demoo'; did you mean 'demo'"),
        ([TWO], {"preset": "paper"}, "fake/other has no preset 'paper'; known: demo"),
        ([ONE], {"overrides": {"sise": "3"}}, "--set: unknown key 'sise'; did you mean 'size'"),
        ([ONE], {"overrides": {"size": "many"}}, "size: got 'many'; pass an integer"),
        ([ONE], {"seed": -1}, "seed: got -1"),
        ([ONE], {"threads": 0}, "threads: got 0"),
        ([ONE], {"device": "gpus"}, "device: got 'gpus'; did you mean 'gpu'"),
        ([ONE], {"config_file": "absent.toml"}, "absent.toml: cannot be read"),
    ],
)
def test_refusals(names, options, message):
    with pytest.raises(ConfigError, match=message):
        plan_run(names, **options)


def test_cells_that_cannot_be_stored_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="fake/means: has no cells, or two of one name; give ea"):
        plan_run([ONE], overrides={"cells": "0"})
    kind = type(get_experiment(ONE))
    monkeypatch.setattr(kind, "cells", lambda self, config: (Cell("a", {"x": object()}),))
    with pytest.raises(ConfigError, match=r"parameters of cell 'a' are not plain data .*; use num"):
        plan_run([ONE])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": 3}, "unknown key 'sise'; did you mean 'size'"),
        ({"fake/means": {"sise": 3}}, "unknown key 'sise'; did you mean 'size'"),
        ({"fake/mean": {"size": 3}}, "unknown key 'fake/mean'; did you mean 'fake/means'"),
        ({"fake/means": 3}, "'fake/means' is not a table"),
        ({"size": "big"}, "size: got 'big'"),
    ],
)
def test_refusals_of_files(tmp_path, values, message):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message):
        plan_run([ONE], config_file=file)
