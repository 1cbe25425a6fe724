"""The command line: one clear line for every refusal, one document for --json, no JAX to look."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from matplotlib.figure import Figure

from translimit import __version__
from translimit.cli import main
from translimit.cli.arguments import COMMANDS
from translimit.core import CellError, StoreError
from translimit.execute import thread_limits
from translimit.experiments import all_experiments
from translimit.store import RunFolder

ONE = "fake_experiments:EXPERIMENT"
TWO = "fake_experiments:OTHER"
HEARS_INTERRUPTS = """
import os, signal, sys
# A shell lets what it starts in the background ignore interrupts, and children inherit that.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "translimit", *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def environment(fakes, monkeypatch):
    """The command line sets thread limits for its own process: undo that after each test."""
    for name, value in thread_limits(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return fakes


@pytest.fixture(scope="module")
def run(finished_run):
    """A finished run of two experiments, made by the command line in this process."""
    return finished_run(ONE, TWO)


@pytest.fixture
def no_report(monkeypatch):
    """Leave the report out, which is not what the test looks at."""
    monkeypatch.setattr(
        "translimit.report.build_report", lambda path, experiments, progress: path / "report.html"
    )


def call(capsys, *arguments):
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_run_ends_with_its_verdicts_and_its_report(run, capsys):
    status, out, err = call(capsys, "run", ONE, TWO, "--out", run)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "cells: 0 computed, 5 kept"
    assert [line[:20] for line in lines[1:3]] == ["verdict: fake/means:", "verdict: fake/other:"]
    assert all("refuted" in line for line in lines[1:3])
    assert lines[3:] == [
        "claims: 2 supported, 2 refuted, 2 underpowered; printed forms corrected: 2",
        f"report: {run / 'report.html'}",
    ]
    assert err == ""
    assert (run / "report.html").stat().st_size > 1000


def test_damaged_cells_are_told(run, capsys, no_report):
    manifest = run / "cells" / "fake-other" / "group-0" / "manifest.json"
    manifest.unlink()
    status, out, _ = call(capsys, "status", run)
    assert status == 0
    assert "damaged: 4 of 5 cells are whole" in out
    assert f"finish it with: translimit run {ONE} {TWO} --preset demo --out {run}" in out
    status, out, _ = call(capsys, "run", ONE, TWO, "--out", run, "--executor", "serial")
    assert status == 0
    assert "damaged, computed again: fake/other: group-0 (it has no manifest)" in out
    assert "cells: 1 computed, 4 kept" in out


def test_tables_and_documents(run, capsys):
    status, out, _ = call(capsys, "claims", run)
    assert status == 0
    assert all(word in out for word in ("The mean is ten.", "refuted", "supported", "±"))
    status, out, _ = call(capsys, "claims", run, "--json")
    document = json.loads(out)
    assert [c["verdict"] for c in document["experiments"]["fake/means"]] == [
        "supported",
        "refuted",
        "underpowered",
    ]
    assert document["experiments"]["fake/means"][2]["gap"] == "NaN"
    status, out, _ = call(capsys, "status", run, "--json")
    document = json.loads(out)
    assert (document["status"], document["whole"], len(document["cells"])) == ("complete", 5, 5)
    status, out, _ = call(capsys, "cite", run)
    assert [line for line in out.splitlines() if line.startswith("@")] == [
        "@misc{castin2025,",
        "@phdthesis{kidger2021,",
        "@software{jax2018,",
    ]
    status, out, _ = call(capsys, "report", run, "--from", ONE, "--from", TWO)
    assert (status, out) == (0, f"report: {run / 'report.html'}\n")


def test_list(capsys):
    status, out, _ = call(capsys, "list")
    assert status == 0
    lines = out.splitlines()
    assert "castin2025: The Transformer PDE: tokens as a measure" in lines
    names = all_experiments()
    for one in names.values():  # its line ends with its question
        told = [line for line in lines if line.startswith(f"  {one.name.partition('/')[2]} ")]
        assert sum(line.endswith(f"  {one.question}") for line in told) == 1
    rooms = {name.partition("/")[0] for name in names}
    assert len(lines) <= len(names) + 2 * len(rooms) + 2  # one line an experiment
    status, out, _ = call(capsys, "list", "--paper", "koubbi2026", "--question", "Collapse")
    assert status == 0
    assert next(line.split()[0] for line in out.splitlines() if line[:2] == "  ") == "collapse"
    assert "castin2025" not in out
    for words, known in (("--paper kobbi", "koubbi2026"), ("--question xyzzy", "xyzzy")):
        status, _, told = call(capsys, "list", *words.split())
        assert status == 2
        assert known in told
    status, out, _ = call(capsys, "list", "--json")
    listed = {one["name"]: one for one in json.loads(out)["experiments"]}
    one = listed["castin2025/particles-and-closure"]
    assert set(one["presets"]) == {"demo", "standard", "paper"}
    assert one["presets"]["demo"]["seconds"] > 0
    assert one["presets"]["demo"]["claims"]
    status, out, _ = call(capsys, "list", "noci2023/explosion")
    assert status == 0
    assert re.search(r"threshold .* checked .* checked .* checked", out)
    assert re.search(r"paths-hot +│ +│ checked", out)  # not in the demo
    assert "castin2025" not in out
    status, _, told = call(capsys, "list", "noci2023/explosoin")
    assert status == 2
    assert "noci2023/explosion" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "command: none is given; known: list"),
        ("rn", "command: unknown command 'rn'; did you mean 'run'?"),
        ("--jsn", "--jsn: is not an option of `translimit`"),
        ("run", "experiment: none is named; `translimit list` shows them"),
        ("run castin2025/particle", "did you mean 'castin2025/particles-and-closure'?"),
        (
            "run X --presett demo",
            "--presett: is not an option of `translimit run`; did you mean '--pres",
        ),
        ("run X --preset demmo", "--preset: got 'demmo'; did you mean 'demo'?"),
        ("run X --preset", "--preset: has no value"),
        ("run X --executor dask", "--executor: got 'dask'; known: pool, ray, serial, slurm"),
        (
            "run X --address auto",
            "--address: the pool executor has none; leave it out, or use --ex",
        ),
        ("run X --cpus-per-cell 2", "--cpus-per-cell: the pool executor has none"),
        ("run X --slurm time=5", "--slurm: the pool executor has none; leave it out, or use --exe"),
        ("run X --executor slurm --slurm tme=5", "--slurm: unknown key 'tme'; did you mean 'time'"),
        ("run X --executor slurm --slurm time", "--slurm: got 'time'; write key=value, and exper"),
        ("run X --executor slurm --slurm time=x", "time: got 'x'; pass an integer"),
        ("run X --executor slurm --slurm cluster=pbs", "cluster: got 'pbs'; known: local, slurm"),
        ("run X --executor slurm --slurm time=1 time=2", "--slurm: time is set twice; set it once"),
        ("run X --executor ray --gpus-per-cell 0.5 --device cpu", "--gpus-per-cell: the device is"),
        (
            "run X --executor ray --address a:1 --workers 2",
            "workers: a running cluster has its own",
        ),
        ("run X --device tpu", "--device: got 'tpu'; did you mean 'gpu'? known: auto, cpu, gpu"),
        ("run X --retries -1 --out NEW", "retries: got -1; pass at least 0"),
        ("run X --workers two", "--workers: got 'two'; pass a whole number"),
        ("run X --workers -1", "workers: got -1; pass at least 1"),
        ("run X --workers 2 --executor serial", "--workers: the serial executor has none"),
        ("run X --seed 1.5", "--seed: got '1.5'; pass a whole number"),
        ("run X --seed -1", "seed: got -1; pass at least 0"),
        ("run X --threads 0", "threads: got 0; pass at least 1"),
        ("run X --set", "--set: has no value; write key=value"),
        ("run X --set size", "--set: got 'size'; write key=value"),
        ("run X --set size=1 --set size=2", "--set: size is set twice"),
        ("run X --set sise=3", "--set: unknown key 'sise'; did you mean 'size'?"),
        ("run X --set size=big", "size: got 'big'; pass an integer"),
        ("run X --config absent.toml", "absent.toml: cannot be read"),
        (
            "run X --json",
            "--json: goes with --plan; add --plan, or look at a run with `translimit status`",
        ),
        ("run X --plan --out FILE", "is a file; choose a folder with --out"),
        ("run X --plan --out FOREIGN", "holds 'thesis.tex', which is no part of a run"),
        (
            "run X --plan --out OLD",
            f"0.0.1 (this is {__version__}); start over with --fresh",
        ),
        ("run X --set memory=1e15", "fake/means: group-0 needs about 1000000.0 GB"),
        ("run X --plan --set memory=1e15", "smaller preset or sizes, or a machine with more"),
        ("merge OLD", "--out: is missing; name the folder of the joined run"),
        ("merge OLD --out new", "RUN: got 1; name at least two"),
        ("merge OLD OLD --out OLD", "--out: OLD is one of the runs; name another folder"),
        ("merge OLD OLD --out new", f"0.0.1 (this is {__version__}); join it with "),
        ("merge OLD nowhere --out new", "nowhere: does not exist"),
        ("export OLD", "--out: is missing; name a file ending in .nc"),
        ("export OLD --out run.zip", "--out: got 'run.zip'; name a file ending in .nc"),
        ("export FOREIGN --out run.nc", "is not a run folder"),
        ("run X --out /proc/none", "/proc/none: cannot be written"),
        ("run X --out FILE", "is a file; choose a folder with --out"),
        ("run X --out FOREIGN", "holds 'thesis.tex', which is no part of a run"),
        ("run X --out FOREIGN --fresh", "holds 'thesis.tex', which is no part of a run"),
        (
            "run X --out OLD",
            f"0.0.1 (this is {__version__}); start over with --fresh, or",
        ),
        (
            "dmft",
            "CONFIG: is missing; pass a .toml or .json file; `translimit example dmft.toml` wr",
        ),
        ("dmft absent.toml", "absent.toml: cannot be read"),
        ("claims", "RUN: is missing; pass the folder that `translimit run` printed"),
        ("claims --jsn", "--jsn: is not an option of `translimit claims`; did you mean '--json'?"),
        ("claims a b", "b: one argument too many; see `translimit claims --help`"),
        ("claims nowhere", "nowhere: does not exist; pass the folder"),
        ("claims OLD", "claims.json: has not been written; finish the run:"),
        ("status FOREIGN", "is not a run folder; pass the folder"),
        ("report nowhere", "nowhere: does not exist"),
        ("cite BROKEN", "run.json: cannot be read"),
        ("list foo", "experiment: unknown experiment 'foo'"),
        ("explore foo bar", "bar: one argument too many"),
        ("predict X --tokens two", "--tokens: got 'two'; see `translimit predict --help`"),
        ("predict X --threshold half", "--threshold: got 'half'; pass a number"),
        (
            "scale --base width=8,heads=2,layers=1 --target width=8,heads=2,layers=1 "
            "--optimizer sgd --export megatron",
            "--lr: is missing; give the rate tuned at the base",
        ),
        (
            "scale --base X --target X --optimizer sgd --export megatorn",
            "--export: got 'megatorn'; did you mean 'megatron'? "
            "known: megatron, pytorch, torchtitan",
        ),
        ("scale --base X", "--target: is missing; see `translimit scale --help`"),
        ("scale --base X --target X", "--optimizer: is missing; pass one of sgd, momentum, adam"),
        ("predict", "CONFIG: is missing; pass a config.json, a name as gpt2, or sizes as heads=12"),
        (
            "scale --alpha-b 1",
            "--alpha-b: is not an option of `translimit scale`; did you mean '--alpha",
        ),
    ],
)
def test_unusable_input_is_told_in_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    for folder, file, text in [
        ("FOREIGN", "thesis.tex", ""),
        ("BROKEN", "run.json", "{"),
        (
            "OLD",
            "run.json",
            '{"format": 1, "translimit": "0.0.1", "experiments": [], '
            '"command": "translimit run x"}',
        ),
    ]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(text)
    words = [ONE if word == "X" else word for word in arguments.split()]
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert err.startswith("translimit: ")


def test_refusals_do_not_depend_on_the_terminal(environment):
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "translimit", "run", "x", "--seed", "two"],
            env={**environment, "PYTHONIOENCODING": encoding, "COLUMNS": "30"},
            capture_output=True,
            text=True,
        )
        assert done.stderr == "translimit: --seed: got 'two'; pass a whole number\n"


def test_settings_and_names_may_be_mixed(tmp_path, capsys, no_report):
    out = tmp_path / "run"
    words = ["run", "--set", "size=4", "cells=1", ONE, "--out", out, "--executor", "serial"]
    assert call(capsys, *words)[0] == 0
    config = RunFolder.open(out).info["experiments"][0]["config"]
    assert (config["size"], config["cells"]) == (4, 1)


def test_an_experiment_beside_the_user_is_found(tmp_path, environment):
    """`module:OBJECT` may lie in the current folder, also for the workers."""
    (tmp_path / "mine.py").write_text("from fake_experiments import OTHER as EXPERIMENT\n")
    script = "import sys; from translimit.cli import main; sys.exit(main())"
    words = ["run", "mine:EXPERIMENT", "--set", "cells=1", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "report: run/report.html"


def test_a_figure_that_cannot_be_saved_is_named(tmp_path):
    from translimit.cli.output import save_figure

    path = tmp_path / "absent" / "x.png"
    with pytest.raises(StoreError, match=r"x.png: cannot be written \(No such file.*\); name"):
        save_figure(Figure(), path)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("Value error\nError parsing --rate: too fast", "--rate: too fast; see `translimit run -"),
        ("Odd\nsomething new.", "run: something new; see `translimit run --help`"),
    ],
)
def test_what_the_parser_may_say_one_day_is_passed_on(box, message):
    from translimit.cli.parse import _refusal

    assert str(_refusal("run", box)).startswith(message)


def test_a_failed_cell_is_a_failure(tmp_path, capsys):
    words = ["run", ONE, "--set", "action=raise", "--out", tmp_path, "--executor", "serial"]
    status, out, err = call(capsys, *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "1 of 3 cells failed" in err
    assert "group-1 (ValueError: this cell always fails)" in err
    status, out, _ = call(capsys, "status", tmp_path)
    assert "incomplete: 2 of 3 cells are whole" in out
    assert "ValueError: this cell always fails" in out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_that_is_understood(capsys, command):
    from translimit.cli.parse import parse

    status, out, err = call(capsys, *command.split(), "--help")
    assert (status, err) == (0, "")
    example = out.split("Example: translimit ")[1].split("\n\n")[0].split("│")[0]
    assert parse(example.split())


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"{__version__}\n", "")


SCALE = "scale --base width=64,heads=4,layers=2 --target width=128,heads=4,layers=4 --optimizer sgd"
WIDER = "--base width=64,heads=4,layers=2 --target width=256,heads=4,layers=2 --optimizer adamw"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["list", "--json"],
        "claims",
        "cite",
        SCALE.split(),
        [*SCALE.split(), "--json"],
        [*SCALE.split(), "--export", "megatron", "--lr", "0.1"],
    ],
)
def test_looking_loads_no_jax(run, environment, words):
    arguments = words if isinstance(words, list) else [words, str(run)]
    program = (
        "import sys\n"
        "from translimit.cli import main\n"
        f"assert main({arguments!r}) == 0\n"
        "heavy = {'jax', 'xarray', 'zarr', 'scipy', 'matplotlib', 'torch'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            f"scale {WIDER} --batch 1:16",
            "--betas: 0.9 becomes 0.185 at a batch 16 times as large: hardly a memory; pass "
            "--memory kept, a smaller batch, or --unsafe",
        ),
        (
            f"scale {WIDER} --export megatron --lr 0.1 --alpha-a 0.5",
            "alpha_A < 1, folded scores, or grouped queries that change); split the projection, or "
            "set the scale of the module and --alpha-a 1",
        ),
        (f"scale {WIDER} --alpha-a 3", "--alpha-a: got 3.0; pass a number in [1/2, 1] (--unsafe"),
        (f"scale {WIDER} --steps 1:2 --duration soon", "--duration: got 'soon'; write keep, sqrt"),
        (
            "scale --base width=64,heads=4,layers=2,experts=4,active_experts=1 --target "
            "width=128,heads=4,layers=2,experts=4,active_experts=1 --optimizer adamw",
            "pass --facts plain_gates and keep the experts",
        ),
        (f"scale {WIDER} --facts tied", "--facts: got 'tied'"),
    ],
)
def test_remedies_are_options(capsys, words, told):
    status, _, error = call(capsys, *words.split())
    assert status == 2
    assert told in error
    assert "=True" not in error
    assert "=False" not in error


def test_what_only_python_had_is_an_option(capsys):
    words = f"scale {WIDER} --batch 1:16 --steps 10:20 --unsafe --duration -0.3 --dataset 100"
    status, out, _ = call(capsys, *words.split())
    assert status == 0
    assert "the rate falls like the examples seen to the power -0.3: as fitted" in out
    assert "the target sees its data 3.2 times: more than one epoch" in out
    words = (
        "scale --base width=64,heads=4,layers=2,experts=4,active_experts=1 --target width=128,"
        "heads=4,layers=2,experts=4,active_experts=1 --optimizer adamw --facts plain_gates"
    )
    assert call(capsys, *words.split())[0] == 0


def test_recipes_tell_their_own_optimizer_their_horizon_and_what_is_not_compared(capsys):
    assert call(capsys, "recipes", "show", "nanochat")[0] == 0
    status, out, _ = call(capsys, "recipes", "diff", "mup", "nanogpt-mup")
    assert status == 0
    assert (
        "note: not compared, for nanogpt-mup has no such row: mlp_gate, position_embedding," in out
    )
    _, out, _ = call(capsys, "scale", *WIDER.split(), "--recipe", "megatron")
    assert "horizon: no verified horizon; the ledger has none of megatron" in out
    _, out, _ = call(capsys, "scale", *WIDER.split(), "--recipe", "completep")
    _, own, _ = call(capsys, "scale", *WIDER.split())
    assert [one for one in out.splitlines() if one.startswith("horizon: ")] == [
        one for one in own.splitlines() if one.startswith("horizon: ")
    ]


def test_the_module_is_the_command(environment):
    done = subprocess.run(
        [sys.executable, "-m", "translimit", "rn"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("translimit: command: unknown command 'rn'")


def test_a_reader_that_leaves_early(environment):
    program = f"{sys.executable} -m translimit list --json | head -c 1"
    done = subprocess.run(program, shell=True, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


def test_an_interrupt_is_told_and_the_run_can_be_finished(tmp_path, environment):
    # So many cells that the interrupt comes before the last one on a machine with other work.
    words = ["run", ONE, "--set", "cells=400", "--set", "seconds=0.1", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_INTERRUPTS, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 180
    # `group-*`, because a `*` of pathlib also names the folder of a cell that is being written.
    while not list(tmp_path.glob("cells/*/group-*/manifest.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err == "translimit: interrupted; the same command finishes it\n"
    run = RunFolder.open(tmp_path)
    assert run.info["status"] == "interrupted"
    assert 0 < sum(state.whole for state in run.states()) < 400
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_gallery_says_which_cells_failed(tmp_path):
    from translimit.cli.gallery import make_gallery

    def compute(source, path):
        raise CellError("1 of 1 cells failed", {"fake/means: group-1": "traceback"})

    with pytest.raises(CellError, match=r"^cells failed: fake/means: group-1$"):
        make_gallery(tmp_path, (ONE,), False, compute)


def test_a_gallery_is_made_once_and_shown_again(capsys, tmp_path):
    arguments = ["gallery", ONE, "--preset", "demo", "--out", tmp_path, "--workers", "1"]
    status, out, _ = call(capsys, *arguments)
    assert status == 0
    assert out.splitlines()[-1] == f"gallery: {tmp_path / 'index.html'}"
    status, out, _ = call(capsys, *arguments)
    assert "cells: 0 computed" in out
    status, out, _ = call(capsys, *arguments, "--only-page")
    assert out == f"gallery: {tmp_path / 'index.html'}\n"
    status, _, err = call(capsys, "gallery", "--only-page", "--out", tmp_path / "none")
    assert status == 2
    assert "there is no run in" in err


def test_citing_without_a_run_names_the_four_papers(capsys):
    status, out, _ = call(capsys, "cite")
    assert status == 0
    for eprint in ("2405.15712", "2501.18322", "2306.17759", "2604.01978"):
        assert eprint in out
