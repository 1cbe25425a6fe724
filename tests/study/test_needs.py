"""What a run needs before it starts: the sum of its cells, what is left, and what cannot fit."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from translimit.cli import main
from translimit.core import MemoryLimitError, config
from translimit.execute import ProcessPool, Serial
from translimit.experiments import all_experiments
from translimit.experiments.ensembles import PROCESS_BYTES
from translimit.study import forecast, plan_run, run_experiments
from translimit.study.needs import wall_seconds

ONE = "fake_experiments:EXPERIMENT"
TWO = "fake_experiments:OTHER"


@pytest.fixture(autouse=True)
def environment(fakes):
    return fakes


@pytest.mark.parametrize("name", sorted(all_experiments()))
def test_cells_cost_what_the_experiment_costs(name):
    """Every preset of every experiment says what each cell needs, and the sum is the whole."""
    experiment = all_experiments()[name]
    for preset, configuration in experiment.presets.items():
        each = experiment.costs(configuration).values()
        whole = experiment.cost(configuration)
        assert all(0 < cost.seconds < 1e9 for cost in each), preset
        assert sum(cost.seconds for cost in each) == pytest.approx(whole.seconds)
        assert max(cost.memory_bytes for cost in each) == whole.memory_bytes
        # A process that has loaded JAX and compiled something needs some hundred megabytes.
        assert 1e8 < whole.memory_bytes < 1e13


@pytest.mark.parametrize("name", ["bordelon2024/vit-sizes", "bordelon2024/lm-sizes"])
def test_memory_of_ensembles_is_that_of_training(name):
    """The count without JAX against the trainer's own, for every size of every preset."""
    from translimit import train
    from translimit.experiments.bordelon2024.vit_and_lm import bare_shape

    experiment = all_experiments()[name]
    text = name.endswith("lm-sizes")
    for c in experiment.presets.values():
        words = {"vocabulary": c.vocabulary, "causal": True, "pooled": False} if text else {}
        tokens = c.tokens if text else 8 if c.images == "digits" else 64
        outputs = c.vocabulary if text else 10
        pixels = {} if text else {"patch_dim": 8}
        optimizer = train.Optimizer("adam" if text else "momentum")
        training = train.Training(10, (0.1,), c.seeds, c.batch, optimizer)
        for cell in experiment.cells(c):
            size = cell.parameters.get("size") or tuple(cell.parameters.values())
            shape = bare_shape(size, tokens=tokens, outputs=outputs, **words, **pixels)
            need = train.memory_need(shape, training).total
            told = experiment.costs(c)[cell.name].memory_bytes
            assert need < told < 1.3 * need + 8e8


@pytest.mark.parametrize("name", ["heads", "networks", "responses"])
@pytest.mark.parametrize("preset", ["standard", "paper"])
def test_the_memory_of_a_limit_is_what_its_solver_tells(name, preset):
    config = all_experiments()[f"bordelon2024/dmft-{name}"].presets[preset]
    limit = config.limit()
    solver = limit.memory(config.method(limit))
    # Leading terms, against a solver that rounds its history up.
    assert 0.75 < (config.limit_bytes() - PROCESS_BYTES) / solver < 1.25


@pytest.mark.parametrize("name", ["heads", "networks", "learned"])
def test_the_memory_of_networks_is_what_training_tells(name):
    """A stack without gains, biases and positions, as these experiments train it."""
    from translimit import train
    from translimit.experiments.bordelon2024.vit_and_lm import bare_shape

    for c in all_experiments()[f"bordelon2024/dmft-{name}"].presets.values():
        inputs, _ = c.data()
        for heads in (8, 64):
            shape = bare_shape(
                (c.head_dim, heads, c.layers),
                tokens=inputs.shape[1],
                outputs=1,
                patch_dim=inputs.shape[2],
                positions=None,
            )
            shape = replace(shape, mlp_ratio=float(c.mlp != "none"))
            training = train.Training(c.steps, (1.0,), c.seeds, len(inputs), train.Optimizer("sgd"))
            need = train.memory_need(shape, training).total
            told = c.networks_bytes(heads, c.seeds)
            assert need < told < 1.3 * need + 8e8, (heads, need, told)


def test_workers_take_cells_in_order():
    # By hand: two workers start 5 and 1; the second takes 2 (until 3), then 4 (until 7).
    assert wall_seconds([5.0, 1.0, 2.0, 4.0], 2) == 7
    assert wall_seconds([5.0, 1.0, 2.0, 4.0], 1) == 12
    assert wall_seconds([5.0, 1.0, 2.0, 4.0], 9) == 5
    assert wall_seconds([], 2) == 0
    assert wall_seconds([5.0], None) is None


def test_what_is_whole_is_not_counted(tmp_path, capsys):
    out = tmp_path / "run"
    plan = plan_run([ONE, TWO])
    before = forecast(plan, ProcessPool(workers=2), out=out)
    assert not out.exists()  # nothing is written
    # 1 s for three cells of the one, 1 s for two of the other; in order: 1/3, 1/3, 1/3, 1/2, 1/2.
    assert before.seconds == pytest.approx(2.0)
    assert before.wall_seconds == pytest.approx(2 / 3 + 1 / 2)

    run_experiments([ONE, TWO], out=out, executor=Serial(), progress=False)
    (out / "cells" / "fake-means" / "group-1" / "manifest.json").unlink()
    stored = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    after = forecast(plan, ProcessPool(workers=2), out=out)
    assert [(cell.cell, cell.state) for cell in after.left] == [("group-1", "damaged")]
    assert after.seconds == pytest.approx(1 / 3)
    assert forecast(plan, Serial(), out=out, fresh=True).seconds == pytest.approx(2.0)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stored

    assert main(["run", ONE, TWO, "--out", str(out), "--plan", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["cells"], document["whole"]) == (5, 4)
    assert document["experiments"][1]["seconds"] == 0
    assert main(["run", ONE, TWO, "--out", str(out), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "1 of 5 cells are to be computed: about 0 s on one core" in said
    assert f"start it with: translimit run {ONE} {TWO} --preset demo --out {out}" in said


def test_what_cannot_fit_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("translimit.study.needs.available_host_memory", lambda: 1e9)
    out = tmp_path / "run"
    options = {"out": out, "progress": False, "overrides": {"memory": "6e8"}}
    reason = r"memory: fake/means: group-0 needs about 0.6 GB, and 1.0 GB are free here, a share"
    with pytest.raises(MemoryLimitError, match=rf"{reason} of 0.5 GB .*; run with --workers 1$"):
        run_experiments(ONE, executor=ProcessPool(workers=2), **options)
    assert not out.exists()
    # Alone it fits; what is whole then need not fit again.
    run_experiments(ONE, executor=Serial(), **options)
    again = run_experiments(ONE, executor=ProcessPool(workers=2), **options)
    assert again.computed == ()
    many = plan_run([ONE], overrides={"memory": "2e9"})
    with pytest.raises(MemoryLimitError, match="all that is free; choose a smaller preset"):
        forecast(many, Serial(), out=tmp_path / "other").require_fits()


def test_planning_loads_no_jax(environment):
    program = (
        "import sys\n"
        "from translimit.cli import main\n"
        "assert main(['run', 'castin2025/variants', '--plan', '--preset', 'paper']) == 0\n"
        "heavy = {'jax', 'xarray', 'zarr', 'scipy', 'torch'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    # 20 or more cells are told in groups: one row for the experiment, a few below it.
    rows = [line for line in done.stdout.splitlines() if re.search(r"\(\d+\)", line)]
    assert 0 < len(rows) <= 12


def test_list_says_the_same(capsys):
    assert main(["list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["experiments"]}
    plan = plan_run(["bordelon2024/transfer"], preset="standard")
    told = listed["bordelon2024/transfer"]["presets"]["standard"]
    assert told["cells"] == len(plan.experiments[0].cells)
    assert told["claims"] == list(
        plan.experiments[0].experiment.claim_names(plan.experiments[0].config)
    )
    made = forecast(plan, Serial(), fresh=True)
    assert told["seconds"] == pytest.approx(made.seconds)
    assert config.to_json(plan.experiments[0].config)["seeds"] == 8
