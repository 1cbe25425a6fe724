"""`translimit extrapolate`: what it prints, its one document, its refusals, and no JAX."""

import json
import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from translimit.cli import main
from translimit.cli.extrapolate_demo import SIZES, STEPS, write_losses
from translimit.extrapolate import Curves, read_runs

RUNS = str(files("translimit") / "examples" / "runs.csv")


def call(capsys, *arguments):
    capsys.readouterr()
    status = main(["extrapolate", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_answer_has_two_errors_a_backtest_and_a_range(capsys):
    status, out, err = call(capsys, RUNS, "--axis", "heads", "--target", "24")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("heads 2, 3, 4, 6; 6 paired seeds; 7 steps up to 64; lr 0.01562")
    runs = read_runs(RUNS)
    rate = next(place for place, lr in enumerate(runs.rates) if f"{lr:.4g}" == "0.01562")
    last = np.log(runs.losses[:, :, rate, -1]).mean(axis=1)
    measured = f"backtest, heads = 6 from the others: measured {np.exp(last[-1]):.4g}; 1/n: "
    assert lines[1].startswith(measured)
    told = re.match(
        r"heads = 24 after 64 steps: loss (\S+), at two errors (\S+) to (\S+)$", lines[2]
    )
    assert told
    loss, low, high = map(float, told.groups())
    assert low < loss < high
    # Beyond the largest size, on the way of the two largest: a straight line in 1 / n through them.
    line = np.exp(last[-1] + (last[-2] - last[-1]) / (1 / 4 - 1 / 6) * (1 / 24 - 1 / 6))
    assert low < line < high
    assert loss < np.exp(last[-1])
    assert "of seeds" in lines[3]
    assert "of the law" in lines[3]
    assert "heads = ∞ after 64 steps" in out
    assert "log10 of the best rate at infinite heads" in out
    assert "collapse: sizes differ" in out


def test_one_document(capsys, tmp_path):
    plot = tmp_path / "band.png"
    words = ("--target", 24, "--at-step", 32, "--lr", 0.015625, "--json", "--plot", plot)
    status, out, _ = call(capsys, RUNS, *words)
    document = json.loads(out)
    assert (status, document["step"], document["lr"]) == (0, 32, 0.015625)
    told, limit = document["predictions"]
    assert told["sizes"] == {"heads": 24}
    assert limit["sizes"] == {"heads": "Infinity"}
    assert told["range"][0] < told["loss"] < told["range"][1]
    assert [one["rate"] for one in told["rates"]] == [1, 0.5]
    assert document["backtest"]["passes"]
    assert set(document) > {"optimum", "collapse", "coefficients", "chi_square", "notes"}
    assert plot.stat().st_size > 10_000


def test_another_recipe_is_compared_in_pairs(capsys, tmp_path):
    curves = read_runs(RUNS)
    better = tmp_path / "better.csv"
    heads = {"heads": curves.sizes[:, 0]}
    losses = curves.losses * 0.9
    write_losses(Curves.from_arrays(heads, losses, curves.steps, rates=curves.rates), better)
    status, out, _ = call(capsys, RUNS, "--target", 24, "--against", better)
    assert status == 0
    assert "heads = 24 after 64 steps: the first is worse (+11 % in loss" in out
    document = json.loads(call(capsys, better, "--target", 24, "--against", RUNS, "--json")[1])
    assert document["against"]["decision"] == "better"
    status, out, _ = call(capsys, better, "--target", 24, "--against", RUNS, "--unpaired")
    assert "the first is undecided" in out


def test_no_value_is_given_beyond_three_errors(capsys, tmp_path):
    curves = read_runs(RUNS)
    path = tmp_path / "broken.csv"
    losses = curves.losses.copy()
    losses[-1] *= 4
    heads = {"heads": curves.sizes[:, 0]}
    write_losses(Curves.from_arrays(heads, losses, curves.steps, rates=curves.rates), path)
    status, out, _ = call(capsys, path, "--target", 24)
    assert status == 0  # it did its work, and this is the answer
    assert "no value: the others miss the largest size by" in out
    assert "heads = 24 after" not in out
    assert json.loads(call(capsys, path, "--target", 24, "--json")[1])["predictions"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "RUNS: is missing; pass a CSV file, or --demo"),
        (("absent.csv",), "absent.csv: cannot be read"),
        ((RUNS, "--axis", "params"), "params: the number of parameters is no axis"),
        ((RUNS, "--target", "x"), "--target: got 'x'; pass a size for heads"),
        ((RUNS, "--target", "1,2"), "--target: got '1,2'; pass a size for heads"),
        ((RUNS, "--lr", "fast"), "--lr: got 'fast'; pass a learning rate of the runs, or best"),
        ((RUNS, "--lr", "0.5"), "lr: no run has 0.5; pass one of 0.00390625, 0.0078125"),
        ((RUNS, "--at-step", "1000"), "at_step: no curve has step 1000"),
        ((RUNS, "--rate", "2"), "--rate: got '2'; "),
        ((RUNS, "--plot", "band.txt"), "--plot: got 'band.txt'; name a .png, .pdf or .svg file"),
        ((RUNS, "--against", RUNS), "--target: is missing; name the size at which to compare"),
        ((RUNS, "--parameters", "1e6"), "axis: got heads; a shape needs head_dim, heads, layers"),
        ((RUNS, "--demo"), "runs.csv is there already; name another file"),
    ],
)
def test_refusals_are_one_line(capsys, arguments, message):
    status, out, err = call(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_no_jax_is_loaded():
    code = (
        "import sys\n"
        "from translimit.cli import main\n"
        f"main(['extrapolate', {RUNS!r}, '--target', '24', '--json'])\n"
        "print('jax' in sys.modules, 'matplotlib' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False False\n"


def test_what_the_demo_writes_is_what_is_read(tmp_path):
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=(len(SIZES), 3, 2, len(STEPS))))
    curves = Curves.from_arrays({"heads": SIZES}, losses, STEPS, rates=(0.01, 0.02))
    write_losses(curves, tmp_path / "runs.csv")
    again = read_runs(tmp_path / "runs.csv")
    assert again.losses == pytest.approx(losses, rel=1e-5)
    assert (again.rates, again.seeds, again.axes) == ((0.01, 0.02), ("0", "1", "2"), ("heads",))
    assert again.notes == ()


@pytest.mark.slow
def test_the_demo_trains_what_the_example_holds(capsys, tmp_path):
    path = tmp_path / "demo.csv"
    status, out, _ = call(capsys, path, "--demo", "--target", "24")
    assert status == 0
    assert "heads = 24 after 64 steps" in out
    assert read_runs(path).losses == pytest.approx(read_runs(RUNS).losses, rel=1e-2)
